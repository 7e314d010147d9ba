-- Lists the queues that have limits, workers or unfinished workflows.
--
-- worker_count: live workers that serve it. Counts every unfinished workflow, so
-- it takes a while when millions wait.
CREATE OR REPLACE FUNCTION lockstep.list_queues()
RETURNS TABLE (
    queue_name text,
    is_paused boolean,
    concurrency int,
    worker_concurrency int,
    rate_limit int,
    rate_period interval,
    partition_concurrency int,
    partition_rate_limit int,
    partition_rate_period interval,
    enqueued_count bigint,
    delayed_count bigint,
    waiting_count bigint,
    pending_count bigint,
    worker_count bigint
)
LANGUAGE plpgsql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH workflow_count AS (
        SELECT w.queue_name, w.status, count(*) AS of_status
        FROM lockstep.workflow_status AS w
        WHERE (w.status <> 'PENDING') IS TRUE
            AND w.status IN ('ENQUEUED', 'DELAYED', 'WAITING')
        GROUP BY w.queue_name, w.status
        UNION ALL
        SELECT w.queue_name, 'PENDING', count(*)
        FROM lockstep.workflow_status AS w
        WHERE w.status = 'PENDING'
        GROUP BY w.queue_name
    ),

    worker AS (
        SELECT s.queue_name, count(*) AS worker_count
        FROM lockstep.executor AS e
        CROSS JOIN LATERAL unnest(e.queues) AS s (queue_name)
        WHERE e.expires_at > clock_timestamp()
        GROUP BY s.queue_name
    ),

    known AS (
        SELECT q.queue_name FROM lockstep.queue AS q
        UNION
        SELECT c.queue_name FROM workflow_count AS c
        UNION
        SELECT s.queue_name FROM worker AS s
    )

    SELECT
        k.queue_name, coalesce(q.is_paused, false), q.concurrency, q.worker_concurrency,
        q.rate_limit, q.rate_period, q.partition_concurrency, q.partition_rate_limit, q.partition_rate_period,
        c.enqueued, c.delayed, c.waiting, c.pending, coalesce(s.worker_count, 0)
    FROM known AS k
    LEFT JOIN lockstep.queue AS q ON q.queue_name = k.queue_name
    LEFT JOIN worker AS s ON s.queue_name = k.queue_name
    CROSS JOIN LATERAL (
        SELECT
            coalesce(sum(n.of_status) FILTER (WHERE n.status = 'ENQUEUED'), 0)::bigint AS enqueued,
            coalesce(sum(n.of_status) FILTER (WHERE n.status = 'DELAYED'), 0)::bigint AS delayed,
            coalesce(sum(n.of_status) FILTER (WHERE n.status = 'WAITING'), 0)::bigint AS waiting,
            coalesce(sum(n.of_status) FILTER (WHERE n.status = 'PENDING'), 0)::bigint AS pending
        FROM workflow_count AS n
        WHERE n.queue_name = k.queue_name
    ) AS c
    ORDER BY k.queue_name;
END
$$;
COMMENT ON FUNCTION lockstep.list_queues() IS
    'Lists the queues that have limits, workers or unfinished workflows.';
