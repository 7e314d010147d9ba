-- One row per message sent to a workflow; kept after it was consumed.
CREATE TABLE lockstep.notifications (
    message_id text NOT NULL DEFAULT lockstep._generate_id(),
    destination_id text NOT NULL,
    topic text NOT NULL DEFAULT '',
    message jsonb NOT NULL,
    idempotency_key text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    consumed_at timestamptz,
    consumed_by_step int,

    CONSTRAINT notifications_pkey PRIMARY KEY (message_id),

    CONSTRAINT notifications_names_have_a_length_check CHECK (
        length(message_id) BETWEEN 1 AND 512
        AND length(destination_id) BETWEEN 1 AND 512
        AND length(topic) <= 512
        AND length(idempotency_key) BETWEEN 1 AND 512
    ),
    CONSTRAINT notifications_consumed_by_a_step_check CHECK (
        (consumed_at IS NULL) = (consumed_by_step IS NULL)
    )
);

-- receive_messages() takes the oldest waiting message of a topic from it
CREATE INDEX notifications_unconsumed_idx
ON lockstep.notifications (destination_id, topic, created_at, message_id)
WHERE consumed_at IS NULL;

-- restart_workflow() and purge_workflows() find what a workflow has received
CREATE INDEX notifications_consumed_idx
ON lockstep.notifications (destination_id)
WHERE consumed_at IS NOT NULL;

-- a key names one message of one workflow: the same key to another workflow is another message
CREATE UNIQUE INDEX notifications_idempotency_idx
ON lockstep.notifications (destination_id, idempotency_key)
WHERE idempotency_key IS NOT NULL;

COMMENT ON TABLE lockstep.notifications IS
    'One row per message sent to a workflow.';
COMMENT ON COLUMN lockstep.notifications.message_id IS
    'Identifies the message; generated ids are time-ordered UUIDs.';
COMMENT ON COLUMN lockstep.notifications.destination_id IS
    'Workflow that the message is for.';
COMMENT ON COLUMN lockstep.notifications.topic IS
    'Topic that the workflow receives it by; empty for a message without one.';
COMMENT ON COLUMN lockstep.notifications.message IS
    'What was sent.';
COMMENT ON COLUMN lockstep.notifications.idempotency_key IS
    'At most one message per destination has a given one.';
COMMENT ON COLUMN lockstep.notifications.created_at IS
    'When the message was sent; messages of a topic are received in this order.';
COMMENT ON COLUMN lockstep.notifications.consumed_at IS
    'When a step received the message; NULL while it waits.';
COMMENT ON COLUMN lockstep.notifications.consumed_by_step IS
    'Step of the destination that received the message.';
