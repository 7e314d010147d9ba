-- State machines of application tables: the versions of each, and what each allows.

-- A version of a state machine. The newest is what new rows follow.
CREATE TABLE lockstep.state_machine (
    machine_name text NOT NULL,
    version int NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_by text NOT NULL DEFAULT current_user,

    CONSTRAINT state_machine_pkey PRIMARY KEY (machine_name, version),

    CONSTRAINT state_machine_name_has_a_length_check CHECK (length(machine_name) BETWEEN 1 AND 512),
    CONSTRAINT state_machine_version_is_positive_check CHECK (version >= 1)
);

-- A move that a version of a state machine allows; without from_state, a way in.
CREATE TABLE lockstep.state_transition (
    machine_name text NOT NULL,
    version int NOT NULL,
    from_state text,
    event text NOT NULL,
    to_state text NOT NULL,
    workflow_name text,
    queue_name text,

    CONSTRAINT state_transition_names_have_a_length_check CHECK (
        int4range '[1,512]' @> ALL (ARRAY[ -- noqa: CP03, LT01, LT06
            length(machine_name), length(from_state), length(event), length(to_state),
            length(workflow_name), length(queue_name)
        ])
    ),
    CONSTRAINT state_transition_leads_elsewhere_check CHECK (from_state <> to_state),
    CONSTRAINT state_transition_queue_of_a_workflow_check CHECK (
        (queue_name IS NULL) = (workflow_name IS NULL)
    )
);

-- an event leads from a state to one other
CREATE UNIQUE INDEX state_transition_event_idx
ON lockstep.state_transition (machine_name, version, from_state, event)
WHERE from_state IS NOT NULL;

-- and each state is entered by one event
CREATE UNIQUE INDEX state_transition_entry_idx
ON lockstep.state_transition (machine_name, version, to_state)
WHERE from_state IS NULL;

-- a table without a primary key: or a publication for all tables refuses to let go of its rows
ALTER TABLE lockstep.state_transition REPLICA IDENTITY FULL;

COMMENT ON TABLE lockstep.state_machine IS
    'A version of a state machine; the newest is what new rows follow.';
COMMENT ON COLUMN lockstep.state_machine.machine_name IS
    'Name of the state machine.';
COMMENT ON COLUMN lockstep.state_machine.version IS
    'Counts the versions of the machine from 1.';
COMMENT ON COLUMN lockstep.state_machine.created_at IS
    'When the version was created.';
COMMENT ON COLUMN lockstep.state_machine.created_by IS
    'Role that created the version.';

COMMENT ON TABLE lockstep.state_transition IS
    'A move that a version of a state machine allows.';
COMMENT ON COLUMN lockstep.state_transition.machine_name IS
    'Name of the state machine.';
COMMENT ON COLUMN lockstep.state_transition.version IS
    'Version of the state machine.';
COMMENT ON COLUMN lockstep.state_transition.from_state IS
    'State that is left; NULL if rows may be inserted in to_state.';
COMMENT ON COLUMN lockstep.state_transition.event IS
    'What happens to a row that makes this move.';
COMMENT ON COLUMN lockstep.state_transition.to_state IS
    'State that is reached.';
COMMENT ON COLUMN lockstep.state_transition.workflow_name IS
    'Workflow that the move starts, if any.';
COMMENT ON COLUMN lockstep.state_transition.queue_name IS
    'Queue of that workflow.';
