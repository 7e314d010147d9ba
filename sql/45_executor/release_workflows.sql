-- Hands back the workflows of an executor, except those that it keeps.
--
-- A clean stop keeps none, and other workers go on at once; for a lost connection there is
-- reconcile_workflows(). Returns the number handed back; their attempt is not counted.
--
-- Lock order: the executor row (FOR UPDATE: waits for a claim under way on a
-- dead connection, for up to a second), then workflow rows, skipping locked
-- ones: what a client holds stays with the executor.
CREATE OR REPLACE FUNCTION lockstep.release_workflows(executor_id text, keep_ids text[] DEFAULT '{}')
RETURNS int
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
SET lock_timeout = '1s'
AS $$
DECLARE
    v_now constant timestamptz := clock_timestamp();
    v_released_count int;
    v_queues text[];
BEGIN
    PERFORM
    FROM lockstep.executor AS e
    WHERE e.executor_id = release_workflows.executor_id
    FOR UPDATE;

    WITH held AS MATERIALIZED (
        SELECT w.workflow_id
        FROM lockstep.workflow_status AS w
        WHERE w.status = 'PENDING'
            AND w.executor_id = release_workflows.executor_id
            AND w.workflow_id <> ALL (release_workflows.keep_ids)
        FOR NO KEY UPDATE SKIP LOCKED
    ),

    released AS (
        UPDATE lockstep.workflow_status AS w
        SET
            status = 'ENQUEUED',
            executor_id = NULL,
            attempts = w.attempts - 1,
            available_at = v_now
        FROM held AS h
        WHERE w.workflow_id = ANY (ARRAY[h.workflow_id])
        RETURNING w.queue_name
    )

    SELECT count(*)::int, array_agg(DISTINCT r.queue_name)
    INTO v_released_count, v_queues
    FROM released AS r;

    IF v_released_count > 0 THEN
        PERFORM lockstep._ring_doorbell(v_queues);
    END IF;

    RETURN v_released_count;
END
$$;
COMMENT ON FUNCTION lockstep.release_workflows(text, text[]) IS
    'Hands back the workflows of an executor, except those that it keeps.';
