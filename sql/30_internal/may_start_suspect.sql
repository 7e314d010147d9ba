-- Tells whether the rate limits of its queues let an executor start a suspect within a lease.
--
-- Of each queue the first thousand suspects are looked at.
CREATE OR REPLACE FUNCTION lockstep._may_start_suspect(p_executor lockstep.executor, p_now timestamptz)
RETURNS boolean
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_soon constant double precision := extract(EPOCH FROM p_executor.lease_duration)::double precision;
BEGIN
    RETURN EXISTS (
        SELECT
        FROM unnest(p_executor.queues) AS n (queue_name)
        LEFT JOIN lockstep.queue AS q ON q.queue_name = n.queue_name
        CROSS JOIN LATERAL (
            SELECT w.queue_partition_key
            FROM lockstep.workflow_status AS w
            WHERE (w.status = 'ENQUEUED') IS TRUE  -- as the index of suspects says it, and no other
                AND lockstep._is_suspect(w.attempts, w.max_attempts)
                AND w.queue_name = n.queue_name
                AND w.workflow_name = ANY (p_executor.workflow_names)
                AND (w.app_version IS NULL OR w.app_version = p_executor.app_version)
            ORDER BY w.priority, w.available_at
            LIMIT 1000
        ) AS suspect
        WHERE q.is_paused IS NOT TRUE
            AND (
                q.rate_limit IS NULL
                OR coalesce(
                    (lockstep._rate_room(q.queue_name, false, '', q.rate_limit, q.rate_period, p_now)).next_in, 0
                ) <= v_soon
            )
            AND (
                q.partition_rate_limit IS NULL
                OR coalesce(
                    (
                        lockstep._rate_room(
                            q.queue_name, true, coalesce(suspect.queue_partition_key, ''),
                            q.partition_rate_limit, q.partition_rate_period, p_now
                        )
                    ).next_in,
                    0
                ) <= v_soon
            )
    );
END
$$;
COMMENT ON FUNCTION lockstep._may_start_suspect(lockstep.executor, timestamptz) IS
    'Tells whether the rate limits of its queues let an executor start a suspect within a lease.';
