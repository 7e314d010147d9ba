-- Cancels a workflow that has not ended, and its children that have not.
--
-- A running one stops at its next step boundary: the executor's next write for
-- it is refused. Returns true; false if the workflow was cancelled already.
--
-- Locks the workflow row, then those of its descendants; a finish_workflows() that
-- came first wins and the call fails with 55000, so CANCELLED never becomes
-- SUCCESS, nor the reverse.
CREATE OR REPLACE FUNCTION lockstep.cancel_workflow(workflow_id text)
RETURNS boolean
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    v_status text;
BEGIN
    SELECT w.status
    INTO v_status
    FROM lockstep.workflow_status AS w
    WHERE w.workflow_id = cancel_workflow.workflow_id
    FOR NO KEY UPDATE;

    IF NOT FOUND THEN
        PERFORM lockstep._refuse_unknown_workflow(cancel_workflow.workflow_id);
    ELSIF v_status = 'CANCELLED' THEN
        RETURN false;
    ELSIF v_status IN ('SUCCESS', 'ERROR', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED') THEN
        RAISE EXCEPTION 'workflow "%" is % and cannot become CANCELLED', cancel_workflow.workflow_id, v_status
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Only a workflow that has not ended can be cancelled.';
    END IF;

    PERFORM lockstep._cancel_tree(ARRAY[cancel_workflow.workflow_id]);
    RETURN true;
END
$$;
COMMENT ON FUNCTION lockstep.cancel_workflow(text) IS
    'Cancels a workflow that has not ended, and its children; false if it was cancelled already.';
