-- Limits of a queue. A queue without a row exists too, unlimited.
CREATE TABLE lockstep.queue (
    queue_name text NOT NULL,
    concurrency int,
    partition_concurrency int,
    is_paused boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),

    CONSTRAINT queue_pkey PRIMARY KEY (queue_name),

    CONSTRAINT queue_name_has_a_length_check CHECK (length(queue_name) BETWEEN 1 AND 512),
    CONSTRAINT queue_limits_are_positive_check CHECK (
        concurrency >= 1 AND partition_concurrency >= 1
    )
);

COMMENT ON TABLE lockstep.queue IS
    'Limits of a queue; a queue without a row exists too, unlimited.';
COMMENT ON COLUMN lockstep.queue.queue_name IS
    'Name of the queue.';
COMMENT ON COLUMN lockstep.queue.concurrency IS
    'Workflows of the queue that may run at once, over all workers.';
COMMENT ON COLUMN lockstep.queue.partition_concurrency IS
    'Workflows of one queue_partition_key that may run at once, over all workers.';
COMMENT ON COLUMN lockstep.queue.is_paused IS
    'Whether workers leave the queue alone.';
COMMENT ON COLUMN lockstep.queue.created_at IS
    'When the queue was created.';
