-- One row per who waits for another workflow: for its end, an event or a stream of it.
--
-- A waiter adds its row and then looks; who ends a workflow, or publishes a value,
-- takes the rows away and wakes them. suspend_workflows() says why none is missed.
CREATE TABLE lockstep.waiter (
    awaited_id text NOT NULL,
    awaited_what text NOT NULL DEFAULT '',
    is_client boolean NOT NULL,
    waiter text NOT NULL,

    CONSTRAINT waiter_pkey PRIMARY KEY (awaited_id, awaited_what, is_client, waiter)
);

COMMENT ON TABLE lockstep.waiter IS
    'One row per who waits for the end, an event or a stream of a workflow.';
COMMENT ON COLUMN lockstep.waiter.awaited_id IS
    'Workflow that is waited for.';
COMMENT ON COLUMN lockstep.waiter.awaited_what IS
    'What of it: empty for its end, else "event:" or "stream:" with the key.';
COMMENT ON COLUMN lockstep.waiter.is_client IS
    'Whether a client waits, to be notified, or a workflow, to be made claimable.';
COMMENT ON COLUMN lockstep.waiter.waiter IS
    'Channel on which the client listens, or id of the workflow that waits.';
