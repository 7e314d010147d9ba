-- Starts the durable timers of steps: a sleep, or the pause before a retry.
--
-- timers: [{"workflow_id", "attempt", "step_id", "step_name",
-- "delay": seconds, "attempts": failed attempts so far, "error": the last
-- one's}, …]. Returns the seconds that each still runs. A timer that runs
-- already for the same attempts goes on unchanged, so neither a crash nor a
-- call sent twice restarts it. Workflows that the executor had lost are left
-- out of the answer.
--
-- Lock order: the executor row (FOR KEY SHARE).
CREATE OR REPLACE FUNCTION lockstep.start_timers(executor_id text, timers jsonb)
RETURNS TABLE (workflow_id text, step_id int, remaining double precision)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '500ms'
AS $$
#variable_conflict use_column
DECLARE
    v_now constant timestamptz := clock_timestamp();
BEGIN
    PERFORM lockstep._hold_executor(start_timers.executor_id);

    RETURN QUERY
    WITH started AS (
        INSERT INTO lockstep.operation_outputs AS o (
            workflow_id, step_id, step_name, error, attempts, started_at, available_at
        )
        SELECT
            t.workflow_id, t.step_id, t.step_name, t.error, coalesce(t.attempts, 0),
            v_now, v_now + make_interval(secs => t.delay)
        FROM jsonb_to_recordset(start_timers.timers) AS t (
            workflow_id text, attempt int, step_id int, step_name text,
            delay double precision, attempts int, error jsonb
        )
        INNER JOIN lockstep.workflow_status AS w ON w.workflow_id = ANY (ARRAY[t.workflow_id])
        WHERE (w.status, w.executor_id, w.attempts)
            IS NOT DISTINCT FROM ('PENDING', start_timers.executor_id, t.attempt)
        ON CONFLICT (workflow_id, step_id) DO UPDATE
        SET
            error = excluded.error,
            attempts = excluded.attempts,
            available_at = CASE
                WHEN o.attempts < excluded.attempts THEN excluded.available_at
                ELSE o.available_at
            END
        WHERE o.completed_at IS NULL
        RETURNING o.workflow_id, o.step_id, o.available_at
    )

    SELECT s.workflow_id, s.step_id, greatest(extract(EPOCH FROM s.available_at - v_now), 0)::double precision
    FROM started AS s;
END
$$;
COMMENT ON FUNCTION lockstep.start_timers(text, jsonb) IS
    'Starts the durable timers of steps; returns the seconds that each still runs.';
