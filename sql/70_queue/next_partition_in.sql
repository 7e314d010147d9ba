-- Finds in how many seconds the rate of some partition may let the next workflow start.
--
-- NULL if nothing waits in the queue. What waits may be kept back by another partition's
-- limit than the one that is first to have room, so this may be too early, never too late.
CREATE OR REPLACE FUNCTION lockstep._next_partition_in(p_queue lockstep.queue, p_now timestamptz)
RETURNS double precision
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (
        SELECT greatest(extract(EPOCH FROM s.started_at + p_queue.partition_rate_period - p_now), 0.005)::double precision
        FROM lockstep.queue_start AS s
        WHERE s.queue_name = p_queue.queue_name
            AND s.is_partition
            AND s.started_at > p_now - p_queue.partition_rate_period
            AND EXISTS (
                SELECT
                FROM lockstep.workflow_status AS w
                WHERE w.queue_name = p_queue.queue_name
                    AND w.status = 'ENQUEUED'
            )
        ORDER BY s.started_at
        LIMIT 1
    );
END
$$;
COMMENT ON FUNCTION lockstep._next_partition_in(lockstep.queue, timestamptz) IS
    'Finds in how many seconds the rate of some partition may let the next workflow start.';
