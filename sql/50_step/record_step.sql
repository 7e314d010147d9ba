-- Records the outcome of one step inside the transaction that did its work.
--
-- The writes of the step and its checkpoint commit together: exactly once,
-- whatever crashes when. Call it last, just before COMMIT. Raises WF001 when
-- the workflow is another executor's now, WF002 when it was cancelled, and
-- WF004 when the step is recorded already (read it with get_step()); each of
-- them rolls the step's writes back.
--
-- Locks the new row, and the workflow row FOR KEY SHARE, which only restart_workflow()
-- and purge_workflows() wait for or skip: they delete steps, and must not miss one. So a
-- client that stops before its COMMIT does not hold up recovery, and lets the server
-- end the transaction when the COMMIT does not come within five seconds. The primary
-- key closes the race with a successor: of two transactions that record one step, the
-- second waits here for the first and then fails.
CREATE OR REPLACE FUNCTION lockstep.record_step(
    executor_id text,
    workflow_id text,
    attempt int,
    step_id int,
    step_name text,
    output jsonb DEFAULT NULL,
    attempts int DEFAULT 1,
    duration double precision DEFAULT 0
)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- the plan must stay at the primary keys, also if it was made when the tables were empty
SET enable_seqscan = off
SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    v_now constant timestamptz := clock_timestamp();
    v_status text;
BEGIN
    -- only COMMIT follows: a client that stops before it must not hold up its successor
    PERFORM set_config('idle_in_transaction_session_timeout', '5s', true);

    INSERT INTO lockstep.operation_outputs AS o (
        workflow_id, step_id, step_name, output, attempts, started_at, completed_at
    )
    SELECT
        w.workflow_id, record_step.step_id, record_step.step_name, record_step.output,
        record_step.attempts, v_now - make_interval(secs => record_step.duration), v_now
    FROM lockstep.workflow_status AS w
    INNER JOIN lockstep.executor AS e ON e.executor_id = w.executor_id
    WHERE w.workflow_id = record_step.workflow_id
        AND (w.status, w.executor_id, w.attempts)
        IS NOT DISTINCT FROM ('PENDING', record_step.executor_id, record_step.attempt)
        AND lockstep._is_alive(e)
    FOR KEY SHARE OF w
    ON CONFLICT (workflow_id, step_id) DO UPDATE
    SET
        output = excluded.output,
        error = NULL,
        attempts = excluded.attempts,
        started_at = excluded.started_at,
        completed_at = excluded.completed_at
    WHERE o.completed_at IS NULL;

    IF FOUND THEN
        RETURN;
    END IF;

    IF lockstep._is_held(record_step.executor_id, record_step.workflow_id, record_step.attempt)
        AND EXISTS (
            SELECT
            FROM lockstep.executor AS e
            WHERE e.executor_id = record_step.executor_id
                AND lockstep._is_alive(e)
        )
    THEN
        RAISE EXCEPTION 'step % of workflow "%" is recorded already', record_step.step_id, record_step.workflow_id
            USING ERRCODE = 'WF004',
                  HINT = 'Roll back and take the recorded outcome from get_step().';
    END IF;

    SELECT w.status
    INTO v_status
    FROM lockstep.workflow_status AS w
    WHERE w.workflow_id = record_step.workflow_id;

    IF v_status = 'CANCELLED' THEN
        RAISE EXCEPTION 'workflow "%" was cancelled', record_step.workflow_id
            USING ERRCODE = 'WF002', HINT = 'Roll back and drop the workflow.';
    END IF;

    RAISE EXCEPTION 'executor "%" has lost workflow "%"', record_step.executor_id, record_step.workflow_id
        USING ERRCODE = 'WF001',
              DETAIL = format('The workflow is %s.', coalesce(v_status, 'gone')),
              HINT = 'Roll back and drop the workflow.';
END
$$;
COMMENT ON FUNCTION lockstep.record_step(text, text, int, int, text, jsonb, int, double precision) IS
    'Records the outcome of one step inside the transaction that did its work.';
