-- Changes the priority of a workflow that waits: 0 runs first, then 1, 2 and so on.
--
-- Returns true; false if it has that priority already. One that runs, or has ended,
-- is refused with 55000.
--
-- Locks the workflow row: a claim that came first has made it PENDING and the call
-- fails; one that comes later skips the row and finds it at its new place.
CREATE OR REPLACE FUNCTION lockstep.set_priority(workflow_id text, priority int)
RETURNS boolean
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r_workflow record;
BEGIN
    IF set_priority.priority IS NULL OR set_priority.priority < 0 THEN
        RAISE EXCEPTION 'priority must be 0 or greater'
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = format('It is %s.', coalesce(set_priority.priority::text, 'null')),
                  HINT = '0 runs first, then 1, 2 and so on.';
    END IF;

    SELECT w.status, w.priority
    INTO r_workflow
    FROM lockstep.workflow_status AS w
    WHERE w.workflow_id = set_priority.workflow_id
    FOR NO KEY UPDATE;

    IF NOT FOUND THEN
        PERFORM lockstep._refuse_unknown_workflow(set_priority.workflow_id);
    ELSIF r_workflow.status NOT IN ('ENQUEUED', 'DELAYED', 'WAITING') THEN
        PERFORM lockstep._refuse_state(
            set_priority.workflow_id, r_workflow.status, 'its priority cannot change',
            'Only a workflow that is ENQUEUED, DELAYED or WAITING can change its priority.'
        );
    ELSIF r_workflow.priority = set_priority.priority THEN
        RETURN false;
    END IF;

    UPDATE lockstep.workflow_status AS w
    SET priority = set_priority.priority
    WHERE w.workflow_id = set_priority.workflow_id;

    RETURN true;
END
$$;
COMMENT ON FUNCTION lockstep.set_priority(text, int) IS
    'Changes the priority of a workflow that waits; false if it has that priority already.';
