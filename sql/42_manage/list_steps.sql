-- Lists the recorded steps of a workflow in the order of its code.
--
-- status is SUCCESS or ERROR for a step that has finished, TIMED_OUT for a wait that
-- ended with nothing; RETRYING for one that waits for its next attempt, WAITING for
-- one that waits for anything else: a moment, a message, an event, a child. A step
-- that runs has no row yet. A branch of concurrent steps comes right after the step
-- of the main branch at which it began: step_id % 65536 is that place.
CREATE OR REPLACE FUNCTION lockstep.list_steps(workflow_id text)
RETURNS TABLE (
    step_id int,
    step_name text,
    status text,
    output jsonb,
    error jsonb,
    attempts int,
    started_at timestamptz,
    completed_at timestamptz,
    available_at timestamptz,
    child_workflow_id text
)
LANGUAGE plpgsql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT
        o.step_id, o.step_name, lockstep._step_status(o), o.output, o.error, o.attempts,
        o.started_at, o.completed_at, o.available_at, o.child_workflow_id
    FROM lockstep.operation_outputs AS o
    WHERE o.workflow_id = list_steps.workflow_id
    ORDER BY o.step_id % 65536, o.step_id;

    IF NOT FOUND AND NOT EXISTS (
        SELECT
        FROM lockstep.workflow_status AS w
        WHERE w.workflow_id = list_steps.workflow_id
    ) THEN
        PERFORM lockstep._refuse_unknown_workflow(list_steps.workflow_id);
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep.list_steps(text) IS
    'Lists the recorded steps of a workflow in the order of its code.';
