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
AS $$
DECLARE
    v_now constant timestamptz := clock_timestamp();
    v_rival_id text;
    r_workflow record;
BEGIN
    SELECT w.status, w.queue_name, w.deduplication_id
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

    SELECT w.workflow_id
    INTO v_rival_id
    FROM lockstep.workflow_status AS w
    WHERE w.parent_workflow_id = resume_workflow.workflow_id
        AND w.workflow_name = 'lockstep.compensate';

    IF FOUND THEN
        RAISE EXCEPTION 'workflow "%" was compensated: % cannot become ENQUEUED',
            resume_workflow.workflow_id, r_workflow.status
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = format('Workflow "%s" undoes its steps.', v_rival_id),
                  HINT = 'restart_workflow() runs it again from its beginning.';
    END IF;

    SELECT w.workflow_id
    INTO v_rival_id
    FROM lockstep.workflow_status AS w
    WHERE w.queue_name = r_workflow.queue_name
        AND w.deduplication_id = r_workflow.deduplication_id
        AND w.completed_at IS NULL;

    IF FOUND THEN
        RAISE EXCEPTION 'queue "%" has an unfinished workflow with deduplication_id "%"',
            r_workflow.queue_name, r_workflow.deduplication_id
            USING ERRCODE = 'unique_violation',
                  DETAIL = format('It is workflow "%s".', v_rival_id),
                  HINT = 'Resume this one when that one has ended.';
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
