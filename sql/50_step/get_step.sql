-- Reads the recorded outcome of a step, for a worker that cannot know whether
-- its own COMMIT arrived. No row while the step is not finished.
CREATE OR REPLACE FUNCTION lockstep.get_step(
    workflow_id text,
    step_id int,
    OUT step_name text,
    OUT output jsonb,
    OUT error jsonb
)
RETURNS SETOF record
LANGUAGE sql
STABLE
SECURITY DEFINER
BEGIN ATOMIC
    SELECT o.step_name, o.output, o.error
    FROM lockstep.operation_outputs AS o
    WHERE o.workflow_id = get_step.workflow_id
        AND o.step_id = get_step.step_id
        AND o.completed_at IS NOT NULL;
END;
COMMENT ON FUNCTION lockstep.get_step(text, int) IS
    'Reads the recorded outcome of a step.';
