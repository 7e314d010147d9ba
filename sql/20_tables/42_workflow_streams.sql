-- Append-only values that a workflow published under a key, for readers to follow.
CREATE TABLE lockstep.workflow_streams (
    workflow_id text NOT NULL,
    key text NOT NULL,
    "offset" bigint NOT NULL,
    value jsonb,
    is_end boolean NOT NULL DEFAULT false,
    written_at timestamptz NOT NULL DEFAULT clock_timestamp(),

    CONSTRAINT workflow_streams_pkey PRIMARY KEY (workflow_id, key, "offset"),

    CONSTRAINT workflow_streams_key_has_a_length_check CHECK (length(key) BETWEEN 1 AND 512),
    CONSTRAINT workflow_streams_offset_not_negative_check CHECK ("offset" >= 0),
    CONSTRAINT workflow_streams_only_end_lacks_a_value_check CHECK ((value IS NULL) = is_end)
);

COMMENT ON TABLE lockstep.workflow_streams IS
    'Append-only values that a workflow published under a key.';
COMMENT ON COLUMN lockstep.workflow_streams.workflow_id IS
    'Workflow that wrote the value.';
COMMENT ON COLUMN lockstep.workflow_streams.key IS
    'Name of the stream.';
COMMENT ON COLUMN lockstep.workflow_streams."offset" IS
    'Position in the stream, from 0.';
COMMENT ON COLUMN lockstep.workflow_streams.value IS
    'What was written; NULL only in the row that closes the stream.';
COMMENT ON COLUMN lockstep.workflow_streams.is_end IS
    'Whether the row closes the stream.';
COMMENT ON COLUMN lockstep.workflow_streams.written_at IS
    'When it was written.';
