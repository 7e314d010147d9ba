-- Records the outcomes of steps, in one statement however many there are.
--
-- steps: [{"workflow_id", "attempt", "step_id", "step_name", "output" or
-- "error", "attempts", "duration": seconds}, …]. Returns the ids of workflows
-- that the executor had lost, whose steps are not recorded. A step recorded
-- before stays as it is, so a call whose answer was cut off can be sent again.
--
-- Lock order: the executor row (FOR KEY SHARE). The workflow rows are read, not
-- locked: the executor's lease keeps takeovers out, and a cancellation that
-- commits at the same moment is met at the next step. Not so where an undo step is
-- registered: the cancellation must come before, and the record fails, or after, and
-- find what to undo (_enqueue_compensations()). There the rows are locked FOR SHARE.
CREATE OR REPLACE FUNCTION lockstep.record_steps(executor_id text, steps jsonb)
RETURNS SETOF text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '500ms'
AS $$
#variable_conflict use_column
DECLARE
    v_now constant timestamptz := clock_timestamp();
    v_recorded_count int;
BEGIN
    PERFORM lockstep._hold_executor(record_steps.executor_id);

    IF record_steps.steps @> '[{"step_name": "compensate"}]' THEN
        PERFORM
        FROM lockstep.workflow_status AS w
        WHERE w.workflow_id = ANY (
            ARRAY(
                SELECT s.workflow_id
                FROM jsonb_to_recordset(record_steps.steps) AS s (workflow_id text, step_name text)
                WHERE s.step_name = 'compensate'
            )
        )
        ORDER BY w.workflow_id
        FOR SHARE;
    END IF;

    INSERT INTO lockstep.operation_outputs AS o (
        workflow_id, step_id, step_name, output, error, attempts, started_at, completed_at
    )
    SELECT
        s.workflow_id, s.step_id, s.step_name, s.output, s.error, coalesce(s.attempts, 1),
        v_now - make_interval(secs => coalesce(s.duration, 0)), v_now
    FROM jsonb_to_recordset(record_steps.steps) AS s (
        workflow_id text, attempt int, step_id int, step_name text,
        output jsonb, error jsonb, attempts int, duration double precision
    )
    INNER JOIN lockstep.workflow_status AS w ON w.workflow_id = ANY (ARRAY[s.workflow_id])
    WHERE (w.status, w.executor_id, w.attempts)
        IS NOT DISTINCT FROM ('PENDING', record_steps.executor_id, s.attempt)
    ON CONFLICT (workflow_id, step_id) DO UPDATE
    SET
        output = excluded.output,
        error = excluded.error,
        attempts = excluded.attempts,
        -- a sleep began with its timer, which made no attempt
        started_at = CASE WHEN o.attempts = 0 THEN o.started_at ELSE excluded.started_at END,
        completed_at = excluded.completed_at
    WHERE o.completed_at IS NULL;

    GET DIAGNOSTICS v_recorded_count = ROW_COUNT;

    IF v_recorded_count < jsonb_array_length(record_steps.steps) THEN
        RETURN QUERY
        SELECT DISTINCT s.workflow_id
        FROM jsonb_to_recordset(record_steps.steps) AS s (workflow_id text, attempt int)
        WHERE NOT lockstep._is_held(record_steps.executor_id, s.workflow_id, s.attempt);
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep.record_steps(text, jsonb) IS
    'Records the outcomes of steps; returns the ids of workflows that the executor had lost.';
