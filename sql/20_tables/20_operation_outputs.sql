-- One row per finished step, and one per step that waits for a retry, a wake-up
-- or a timeout: completed_at tells them apart.
CREATE TABLE lockstep.operation_outputs (
    workflow_id text NOT NULL,
    step_id int NOT NULL,
    step_name text NOT NULL,
    output jsonb,
    error jsonb,
    attempts int NOT NULL DEFAULT 1,
    started_at timestamptz NOT NULL,
    completed_at timestamptz,
    available_at timestamptz,
    child_workflow_id text,

    CONSTRAINT operation_outputs_pkey PRIMARY KEY (workflow_id, step_id),

    CONSTRAINT operation_outputs_step_id_is_positive_check CHECK (step_id > 0),
    CONSTRAINT operation_outputs_step_name_has_a_length_check CHECK (
        length(step_name) BETWEEN 1 AND 512
    ),
    CONSTRAINT operation_outputs_attempts_not_negative_check CHECK (attempts >= 0),
    CONSTRAINT operation_outputs_either_output_or_error_check CHECK (
        output IS NULL OR error IS NULL
    ),
    CONSTRAINT operation_outputs_unfinished_waits_check CHECK (
        completed_at IS NOT NULL OR output IS NULL
    )
);

COMMENT ON TABLE lockstep.operation_outputs IS
    'One row per finished step of a workflow, and one per step that waits to go on.';
COMMENT ON COLUMN lockstep.operation_outputs.workflow_id IS
    'Workflow that the step belongs to.';
COMMENT ON COLUMN lockstep.operation_outputs.step_id IS
    'Position of the step in the order in which the workflow calls its steps, from 1; '
    'concurrent branches count from 65536 up (docs/internals.md).';
COMMENT ON COLUMN lockstep.operation_outputs.step_name IS
    'Name of the step; replay compares it with the name that the code calls now.';
COMMENT ON COLUMN lockstep.operation_outputs.output IS
    'Value that the step returned; NULL also when it returned nothing.';
COMMENT ON COLUMN lockstep.operation_outputs.error IS
    'Why the step failed, or why its latest attempt did while it waits for the next.';
COMMENT ON COLUMN lockstep.operation_outputs.attempts IS
    'Attempts made so far.';
COMMENT ON COLUMN lockstep.operation_outputs.started_at IS
    'When the recorded attempt began, or the wait.';
COMMENT ON COLUMN lockstep.operation_outputs.completed_at IS
    'When the outcome was recorded; NULL while the step waits to go on.';
COMMENT ON COLUMN lockstep.operation_outputs.available_at IS
    'When a waiting step goes on: its next attempt, its wake-up or its timeout; NULL without one.';
COMMENT ON COLUMN lockstep.operation_outputs.child_workflow_id IS
    'Workflow that the step started or waits for.';
