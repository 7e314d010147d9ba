-- Locks the first workflows of one partition, beside those that are taken already.
--
-- p_partition_key NULL: those without a key. They have no index of their own, so only
-- the first thousand that wait in the queue are looked at for them. Suspects are passed over.
--
-- Locks workflow rows, skipping locked ones.
CREATE OR REPLACE FUNCTION lockstep._ready_in_partition(
    p_queue_name text,
    p_partition_key text,
    p_executor lockstep.executor,
    p_max_count int,
    p_taken tid[]
)
RETURNS tid[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_candidates tid[];
BEGIN
    IF p_partition_key IS NOT NULL THEN
        RETURN ARRAY(
            SELECT w.ctid
            FROM lockstep.workflow_status AS w
            WHERE w.queue_name = p_queue_name
                -- not "=": this order only the index by partitions has
                AND w.queue_partition_key BETWEEN p_partition_key AND p_partition_key
                AND w.status = 'ENQUEUED'
                AND w.workflow_name = ANY (p_executor.workflow_names)
                AND (w.app_version IS NULL OR w.app_version = p_executor.app_version)
                AND NOT lockstep._is_suspect(w.attempts, w.max_attempts)
                AND w.ctid <> ALL (p_taken)
            ORDER BY w.queue_partition_key, w.priority, w.available_at
            LIMIT p_max_count
            FOR NO KEY UPDATE SKIP LOCKED
        );
    END IF;

    v_candidates := ARRAY(
        SELECT h.row_id
        FROM (
            SELECT
                w.ctid AS row_id, w.queue_partition_key, w.workflow_name, w.app_version,
                lockstep._is_suspect(w.attempts, w.max_attempts) AS is_suspect
            FROM lockstep.workflow_status AS w
            WHERE w.queue_name = p_queue_name
                AND w.status = 'ENQUEUED'
            ORDER BY w.priority, w.available_at
            LIMIT 1000
        ) AS h
        WHERE h.queue_partition_key IS NULL
            AND h.workflow_name = ANY (p_executor.workflow_names)
            AND (h.app_version IS NULL OR h.app_version = p_executor.app_version)
            AND NOT h.is_suspect
            AND h.row_id <> ALL (p_taken)
        LIMIT p_max_count
    );

    RETURN ARRAY(
        SELECT w.ctid
        FROM lockstep.workflow_status AS w
        WHERE w.ctid = ANY (v_candidates)
            AND w.status = 'ENQUEUED'
            AND w.queue_name = p_queue_name  -- or it was moved meanwhile
        FOR NO KEY UPDATE SKIP LOCKED
    );
END
$$;
COMMENT ON FUNCTION lockstep._ready_in_partition(text, text, lockstep.executor, int, tid[]) IS
    'Locks the first workflows of one partition, beside those that are taken already.';
