-- Finishes workflows of an executor with their output or error.
--
-- outcomes: [{"workflow_id", "attempt", "output"} or {…, "error"}, …].
-- Returns the ids of those that the executor had lost, which stay as they are;
-- one that this very attempt finished before is not lost, so a call whose
-- answer was cut off can be sent again.
--
-- Lock order: the executor row (FOR KEY SHARE), then workflow rows. Gives up
-- with 55P03 when a row stays locked, so that one client's open transaction
-- cannot hold up an executor's whole batch.
CREATE OR REPLACE FUNCTION lockstep.finish_workflows(executor_id text, outcomes jsonb)
RETURNS SETOF text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '500ms'
AS $$
DECLARE
    v_now constant timestamptz := clock_timestamp();
    v_finished_count int;
BEGIN
    PERFORM lockstep._hold_executor(finish_workflows.executor_id);

    UPDATE lockstep.workflow_status AS w
    SET
        status = CASE WHEN f.error IS NULL THEN 'SUCCESS' ELSE 'ERROR' END,
        output = f.output,
        error = f.error,
        completed_at = v_now
    FROM jsonb_to_recordset(finish_workflows.outcomes)
        AS f (workflow_id text, attempt int, output jsonb, error jsonb)
    WHERE w.workflow_id = ANY (ARRAY[f.workflow_id])
        AND (w.status, w.executor_id, w.attempts)
        IS NOT DISTINCT FROM ('PENDING', finish_workflows.executor_id, f.attempt);

    GET DIAGNOSTICS v_finished_count = ROW_COUNT;

    PERFORM lockstep._ring_for_free_places(finish_workflows.outcomes);

    IF v_finished_count < jsonb_array_length(finish_workflows.outcomes) THEN
        RETURN QUERY
        SELECT f.workflow_id
        FROM jsonb_to_recordset(finish_workflows.outcomes) AS f (workflow_id text, attempt int)
        WHERE NOT EXISTS (
            SELECT
            FROM lockstep.workflow_status AS w
            WHERE w.workflow_id = ANY (ARRAY[f.workflow_id])
                AND w.status IN ('SUCCESS', 'ERROR')
                AND w.executor_id = finish_workflows.executor_id
                AND w.attempts = f.attempt
        );
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep.finish_workflows(text, jsonb) IS
    'Finishes workflows of an executor; returns the ids of those that it had lost.';
