-- Locks the first suspect of a queue with limits per partition that may start now.
--
-- Partitions do not take turns here: of the suspects the first is first, of those among the
-- first thousand whose partition has room.
--
-- The caller holds the queue row. Locks a workflow row, skipping locked ones.
CREATE OR REPLACE FUNCTION lockstep._ready_suspect_in_partitions(
    p_queue lockstep.queue,
    p_executor lockstep.executor,
    p_now timestamptz
)
RETURNS tid[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_running constant jsonb := (
        SELECT coalesce(jsonb_object_agg(r.partition_key, r.running_count), '{}')
        FROM (
            SELECT coalesce(w.queue_partition_key, '') AS partition_key, count(*) AS running_count
            FROM lockstep.workflow_status AS w
            WHERE w.status = 'PENDING'
                AND w.queue_name = p_queue.queue_name
            GROUP BY 1
        ) AS r
    );
    r_suspect record;
BEGIN
    FOR r_suspect IN
        SELECT w.ctid AS row_id, coalesce(w.queue_partition_key, '') AS partition_key
        FROM lockstep.workflow_status AS w
        WHERE (w.status = 'ENQUEUED') IS TRUE  -- as the index of suspects says it, and no other
            AND lockstep._is_suspect(w.attempts, w.max_attempts)
            AND w.queue_name = p_queue.queue_name
            AND w.workflow_name = ANY (p_executor.workflow_names)
            AND (w.app_version IS NULL OR w.app_version = p_executor.app_version)
        ORDER BY w.priority, w.available_at
        LIMIT 1000
    LOOP
        CONTINUE WHEN (v_running ->> r_suspect.partition_key)::int >= p_queue.partition_concurrency;
        CONTINUE WHEN p_queue.partition_rate_limit IS NOT NULL AND (
            lockstep._rate_room(
                p_queue.queue_name, true, r_suspect.partition_key, p_queue.partition_rate_limit,
                p_queue.partition_rate_period, p_now
            )
        ).room = 0;

        PERFORM
        FROM lockstep.workflow_status AS w
        WHERE w.ctid = r_suspect.row_id
            AND w.status = 'ENQUEUED'
            AND w.queue_name = p_queue.queue_name  -- or it was moved meanwhile
        FOR NO KEY UPDATE SKIP LOCKED;
        CONTINUE WHEN NOT FOUND;

        IF p_queue.partition_rate_limit IS NOT NULL THEN
            PERFORM lockstep._log_starts(
                p_queue.queue_name, true, ARRAY[r_suspect.partition_key], ARRAY[1],
                p_queue.partition_rate_period, p_now
            );
        END IF;
        RETURN ARRAY[r_suspect.row_id];
    END LOOP;

    RETURN ARRAY[]::tid[];
END
$$;
COMMENT ON FUNCTION lockstep._ready_suspect_in_partitions(lockstep.queue, lockstep.executor, timestamptz) IS
    'Locks the first suspect of a queue with limits per partition that may start now.';
