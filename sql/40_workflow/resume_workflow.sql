-- Enqueues a workflow again that was cancelled, failed or in the dead letter.
--
-- It keeps its recorded steps and goes on after them; steps whose failure
-- ended the workflow run again. Attempts count on from where they were, with
-- room for as many more as before, failures count anew, and a deadline that has
-- passed is lifted. A workflow that has not ended is left alone: returns false. One
-- that was compensated cannot go on from steps that were undone: 55000.
--
-- Locks the workflow row. An attempt of a cancelled workflow that still runs
-- somewhere cannot write any more: the next claim counts one attempt higher.
CREATE OR REPLACE FUNCTION lockstep.resume_workflow(workflow_id text)
RETURNS boolean
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    v_now constant timestamptz := clock_timestamp();
    v_problem text[];
    r_workflow record;
BEGIN
    SELECT w.status, w.queue_name
    INTO r_workflow
    FROM lockstep.workflow_status AS w
    WHERE w.workflow_id = resume_workflow.workflow_id
    FOR NO KEY UPDATE;

    IF NOT FOUND THEN
        PERFORM lockstep._refuse_unknown_workflow(resume_workflow.workflow_id);
    ELSIF r_workflow.status IN ('ENQUEUED', 'DELAYED', 'PENDING', 'WAITING') THEN
        RETURN false;
    ELSIF r_workflow.status = 'SUCCESS' THEN
        RAISE EXCEPTION 'workflow "%" is SUCCESS and cannot become ENQUEUED', resume_workflow.workflow_id
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'restart_workflow() runs it again from its beginning.';
    END IF;

    v_problem := lockstep._rerun_problem(resume_workflow.workflow_id, true);
    IF v_problem IS NOT NULL THEN
        RAISE EXCEPTION '%', v_problem[2]
            USING ERRCODE = v_problem[1], DETAIL = v_problem[3], HINT = v_problem[4];
    END IF;

    IF r_workflow.status = 'ERROR' THEN
        PERFORM lockstep._forget_failures(ARRAY[resume_workflow.workflow_id]);
    END IF;

    UPDATE lockstep.workflow_status AS w
    SET
        status = 'ENQUEUED',
        executor_id = NULL,
        error = NULL,
        failures = 0,
        completed_at = NULL,
        available_at = v_now,
        max_attempts = least(w.attempts::bigint + w.max_attempts, 2147483647),
        deadline_at = CASE WHEN w.deadline_at > v_now THEN w.deadline_at END
    WHERE w.workflow_id = resume_workflow.workflow_id;

    PERFORM lockstep._ring_doorbell(ARRAY[r_workflow.queue_name]);
    RETURN true;
END
$$;
COMMENT ON FUNCTION lockstep.resume_workflow(text) IS
    'Enqueues a workflow again that was cancelled, failed or in the dead letter.';
