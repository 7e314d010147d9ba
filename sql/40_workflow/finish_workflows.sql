-- Finishes workflows of an executor with their output or error.
--
-- outcomes: [{"workflow_id", "attempt", "output"} or {…, "error", "retries": the
-- function's own policy or null, "is_final"}, …]. An error that is not final is tried
-- again by the policy of the row, else by the function's: the workflow becomes
-- DELAYED, and the steps whose failure ended it run again. Returns the ids of
-- those that the executor had lost, which stay as they are; one that this very
-- attempt finished before is not lost, so a call whose answer was cut off can be
-- sent again.
--
-- Lock order: the executor row (FOR KEY SHARE), then workflow rows, then as
-- _settle_ended(). Gives up with 55P03 when a row stays locked, so that one client's
-- open transaction cannot hold up an executor's whole batch.
CREATE OR REPLACE FUNCTION lockstep.finish_workflows(executor_id text, outcomes jsonb)
RETURNS SETOF text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '500ms'
AS $$
DECLARE
    v_now constant timestamptz := clock_timestamp();
    v_ended text[];
    v_failed text[];
    v_retried text[];
    v_queues text[];
BEGIN
    PERFORM lockstep._hold_executor(finish_workflows.executor_id);

    WITH ended AS (
        UPDATE lockstep.workflow_status AS w
        SET
            status = CASE WHEN f.error IS NULL THEN 'SUCCESS' ELSE 'ERROR' END,
            output = f.output,
            error = f.error,
            failures = w.failures + (f.error IS NOT NULL)::int,
            completed_at = v_now
        FROM jsonb_to_recordset(finish_workflows.outcomes) AS f (
            workflow_id text, attempt int, output jsonb, error jsonb, retries jsonb, is_final boolean
        )
        WHERE w.workflow_id = ANY (ARRAY[f.workflow_id])
            AND (w.status, w.executor_id, w.attempts)
            IS NOT DISTINCT FROM ('PENDING', finish_workflows.executor_id, f.attempt)
            AND (
                f.error IS NULL
                OR f.is_final
                OR lockstep._retry_pause(coalesce(w.retries, f.retries), w.failures + 1) IS NULL
            )
        RETURNING w.workflow_id, w.error IS NOT NULL AS is_failure
    )

    SELECT
        coalesce(array_agg(e.workflow_id), '{}'),
        coalesce(array_agg(e.workflow_id) FILTER (WHERE e.is_failure), '{}')
    INTO v_ended, v_failed
    FROM ended AS e;

    PERFORM lockstep._settle_ended(v_ended, v_failed);

    IF cardinality(v_ended) = jsonb_array_length(finish_workflows.outcomes) THEN
        RETURN;
    END IF;

    WITH retried AS (
        UPDATE lockstep.workflow_status AS w
        SET
            status = 'DELAYED',
            error = f.error,
            failures = w.failures + 1,
            executor_id = NULL,
            attempts = w.attempts - 1,
            available_at = v_now + lockstep._retry_pause(coalesce(w.retries, f.retries), w.failures + 1)
        FROM jsonb_to_recordset(finish_workflows.outcomes)
            AS f (workflow_id text, attempt int, error jsonb, retries jsonb)
        WHERE w.workflow_id = ANY (ARRAY[f.workflow_id])
            AND (w.status, w.executor_id, w.attempts)
            IS NOT DISTINCT FROM ('PENDING', finish_workflows.executor_id, f.attempt)
        RETURNING w.workflow_id, w.queue_name
    )

    SELECT array_agg(r.workflow_id), array_agg(DISTINCT r.queue_name)
    INTO v_retried, v_queues
    FROM retried AS r;

    IF v_retried IS NOT NULL THEN
        PERFORM lockstep._forget_failures(v_retried);
        PERFORM lockstep._ring_for_free_places(v_retried);
        PERFORM lockstep._ring_doorbell(v_queues, 'due');
    END IF;

    RETURN QUERY
    SELECT f.workflow_id
    FROM jsonb_to_recordset(finish_workflows.outcomes) AS f (workflow_id text, attempt int)
    WHERE f.workflow_id <> ALL (v_ended || v_retried)
        AND NOT EXISTS (
            SELECT
            FROM lockstep.workflow_status AS w
            WHERE w.workflow_id = ANY (ARRAY[f.workflow_id])
                AND w.status IN ('SUCCESS', 'ERROR')
                AND w.executor_id = finish_workflows.executor_id
                AND w.attempts = f.attempt
        );
END
$$;
COMMENT ON FUNCTION lockstep.finish_workflows(text, jsonb) IS
    'Finishes workflows of an executor; returns the ids of those that it had lost.';
