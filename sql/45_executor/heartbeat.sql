-- Extends an executor's lease and says whether it is idle.
--
-- An idle executor is notified of new work on channel "lockstep". Returns the
-- names of waiting workflows that no live executor of their queue can run,
-- looking at the first 100 of each of the executor's queues, so that a name
-- nobody registered does not wait unseen.
--
-- Updates no key column: writers, which hold the row FOR KEY SHARE, do not
-- wait for it. An ended lease that nobody took over yet is revived; one that
-- was declared dead, or has outlived a failover, raises WF001.
CREATE OR REPLACE FUNCTION lockstep.heartbeat(
    executor_id text,
    is_idle boolean DEFAULT false,
    looks_for_unserved boolean DEFAULT true
)
RETURNS SETOF text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
-- a plan that seqscans all the same costs so much on paper that it would be compiled
SET jit = off
AS $$
DECLARE
    r_executor record;
BEGIN
    UPDATE lockstep.executor AS e
    SET
        expires_at = clock_timestamp() + e.lease_duration,
        is_idle = coalesce(heartbeat.is_idle, false),
        server_started_at = pg_postmaster_start_time()
    WHERE e.executor_id = heartbeat.executor_id
        AND lockstep._is_alive(e)
    RETURNING e.queues, e.workflow_names
    INTO r_executor;

    IF NOT FOUND THEN
        PERFORM lockstep._hold_executor(heartbeat.executor_id);
    END IF;

    IF NOT heartbeat.looks_for_unserved THEN
        RETURN;
    END IF;

    RETURN QUERY
    SELECT DISTINCT waiting.workflow_name
    FROM unnest(r_executor.queues) AS q (queue_name)
    CROSS JOIN LATERAL (
        SELECT w.workflow_name
        FROM lockstep.workflow_status AS w
        WHERE w.queue_name = q.queue_name
            AND w.status = 'ENQUEUED'
        ORDER BY w.priority, w.available_at
        LIMIT 100
    ) AS waiting
    WHERE waiting.workflow_name <> ALL (r_executor.workflow_names)
        AND NOT EXISTS (
            SELECT
            FROM lockstep.executor AS e
            WHERE q.queue_name = ANY (e.queues)
                AND waiting.workflow_name = ANY (e.workflow_names)
                AND e.expires_at > clock_timestamp()
        );
END
$$;
COMMENT ON FUNCTION lockstep.heartbeat(text, boolean, boolean) IS
    'Extends an executor''s lease; returns names of waiting workflows that nobody can run.';
