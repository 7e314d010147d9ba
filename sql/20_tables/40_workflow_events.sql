-- One row per value that a workflow published under a key: the last one wins.
CREATE TABLE lockstep.workflow_events (
    workflow_id text NOT NULL,
    key text NOT NULL,
    value jsonb NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),

    CONSTRAINT workflow_events_pkey PRIMARY KEY (workflow_id, key),

    CONSTRAINT workflow_events_key_has_a_length_check CHECK (length(key) BETWEEN 1 AND 512)
);

COMMENT ON TABLE lockstep.workflow_events IS
    'One row per value that a workflow published under a key.';
COMMENT ON COLUMN lockstep.workflow_events.workflow_id IS
    'Workflow that published the value.';
COMMENT ON COLUMN lockstep.workflow_events.key IS
    'Name under which it was published.';
COMMENT ON COLUMN lockstep.workflow_events.value IS
    'The value published last.';
COMMENT ON COLUMN lockstep.workflow_events.updated_at IS
    'When it was published.';
