-- The moves that rows of application tables made, their insertion and deletion among them.
CREATE TABLE lockstep.state_history (
    transition_id text NOT NULL DEFAULT lockstep._generate_id(),
    table_name text NOT NULL,
    key jsonb NOT NULL,
    machine_name text NOT NULL,
    version int NOT NULL,
    from_state text,
    event text,
    to_state text,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed_by text NOT NULL DEFAULT current_user,
    transaction_id xid8 NOT NULL DEFAULT pg_current_xact_id(), -- noqa: CP05
    workflow_id text,

    CONSTRAINT state_history_pkey PRIMARY KEY (transition_id),

    CONSTRAINT state_history_key_is_an_object_check CHECK (jsonb_typeof(key) = 'object'),
    CONSTRAINT state_history_has_a_state_check CHECK (num_nonnulls(from_state, to_state) > 0)
);

-- finds the moves of a row; a hash, because keys may be longer than what a B-tree takes
CREATE INDEX state_history_key_idx
ON lockstep.state_history USING hash (key);

COMMENT ON TABLE lockstep.state_history IS
    'The moves that rows of application tables made, their insertion and deletion among them.';
COMMENT ON COLUMN lockstep.state_history.transition_id IS
    'Identifies the move; a time-ordered UUID.';
COMMENT ON COLUMN lockstep.state_history.table_name IS
    'Table of the row, with its schema, as it was called then.';
COMMENT ON COLUMN lockstep.state_history.key IS
    'Primary key of the row: an object with one element per column.';
COMMENT ON COLUMN lockstep.state_history.machine_name IS
    'State machine that allowed the move.';
COMMENT ON COLUMN lockstep.state_history.version IS
    'Version of the state machine.';
COMMENT ON COLUMN lockstep.state_history.from_state IS
    'State that was left; NULL if the row was inserted.';
COMMENT ON COLUMN lockstep.state_history.event IS
    'What happened to the row; NULL if it was deleted, or inserted where no event is declared.';
COMMENT ON COLUMN lockstep.state_history.to_state IS
    'State that was reached; NULL if the row was deleted.';
COMMENT ON COLUMN lockstep.state_history.changed_at IS
    'When the row was written.';
COMMENT ON COLUMN lockstep.state_history.changed_by IS
    'Role that wrote the row.';
COMMENT ON COLUMN lockstep.state_history.transaction_id IS
    'Transaction that wrote the row; moves of one transaction share it.';
COMMENT ON COLUMN lockstep.state_history.workflow_id IS
    'Workflow that the move started, if any; its id is that of the move.';

-- Rows whose key an UPDATE of a partitioned table changes: Postgres may delete such a row and
-- insert it into another partition. Empty but for open transactions.
CREATE TABLE lockstep.state_move (
    transaction_id xid8 NOT NULL DEFAULT pg_current_xact_id(), -- noqa: CP05
    table_name text NOT NULL,
    previous_key jsonb NOT NULL,
    key jsonb NOT NULL,

    CONSTRAINT state_move_keys_are_objects_check CHECK (
        jsonb_typeof(previous_key) = 'object' AND jsonb_typeof(key) = 'object'
    )
);

CREATE INDEX state_move_key_idx
ON lockstep.state_move USING hash (key);

-- a table without a primary key: or a publication for all tables refuses to let go of its rows
ALTER TABLE lockstep.state_move REPLICA IDENTITY FULL;

COMMENT ON TABLE lockstep.state_move IS
    'Rows that may be on their way to another partition; empty but for open transactions.';
COMMENT ON COLUMN lockstep.state_move.transaction_id IS 'Transaction that updates the row.';
COMMENT ON COLUMN lockstep.state_move.table_name IS 'Partitioned table of the row, with its schema.';
COMMENT ON COLUMN lockstep.state_move.previous_key IS 'Primary key before the update.';
COMMENT ON COLUMN lockstep.state_move.key IS 'Primary key after it.';
