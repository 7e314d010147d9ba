-- Enqueues a workflow that has ended again, to run from its beginning.
--
-- It keeps its id, arguments and created_at. What it recorded is deleted: steps, events
-- and streams; the messages that it received are unread again, and come first. Attempts
-- count on from where they were, with room for as many more as before: they are part of
-- the fence, so an attempt that still runs somewhere cannot write any more. Failures count
-- anew; a timeout runs from the new start, and a deadline that has passed is lifted.
-- Children that were started under a generated id are started anew; those with an id
-- of their own are found, with the result they have.
--
-- Refuses with 55000 a workflow that has not ended, or whose compensation has not; with
-- 23505 one whose deduplication id is taken.
--
-- Locks the workflow row FOR UPDATE, which waits for record_step() (FOR KEY SHARE), and
-- then waits for the other writes of its executor (_await_writes()). So no step of the old
-- run appears after the steps were deleted.
CREATE OR REPLACE FUNCTION lockstep.restart_workflow(workflow_id text)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_problem text[];
    r_workflow record;
BEGIN
    SELECT w.status, w.completed_at, lockstep._is_cancelled_here(w) AS is_cancelled_here
    INTO r_workflow
    FROM lockstep.workflow_status AS w
    WHERE w.workflow_id = restart_workflow.workflow_id
    FOR UPDATE;

    IF NOT FOUND THEN
        PERFORM lockstep._refuse_unknown_workflow(restart_workflow.workflow_id);
    ELSIF r_workflow.completed_at IS NULL THEN
        PERFORM lockstep._refuse_state(
            restart_workflow.workflow_id, r_workflow.status, 'cannot become ENQUEUED',
            'Only a workflow that has ended can be restarted; cancel it first.'
        );
    ELSIF r_workflow.is_cancelled_here THEN
        PERFORM lockstep._refuse_state(
            restart_workflow.workflow_id, r_workflow.status,
            'cannot become ENQUEUED in the transaction that cancelled it while it ran',
            'Commit, then restart it.'
        );
    END IF;

    v_problem := lockstep._rerun_problem(restart_workflow.workflow_id, false);
    IF v_problem IS NOT NULL THEN
        RAISE EXCEPTION '%', v_problem[2]
            USING ERRCODE = v_problem[1], DETAIL = v_problem[3], HINT = v_problem[4];
    END IF;

    PERFORM lockstep._restart(restart_workflow.workflow_id);
END
$$;
COMMENT ON FUNCTION lockstep.restart_workflow(text) IS
    'Enqueues a workflow that has ended again, to run from its beginning.';
