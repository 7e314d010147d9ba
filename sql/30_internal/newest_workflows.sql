-- Lists the newest workflows of some statuses, of a queue and a name if given.
--
-- Newest first by (created_at, workflow_id), from p_from on and before (p_before_at,
-- p_before_id). workflow_status_list_idx holds them by status, queue and name and only
-- then by time, because an index by time is read to its end for a rare status, queue or
-- name. So this finds which (status, queue, name) there are, hopping from one to the
-- next, and merges their newest: the newest few of each tell a time after which there
-- are p_count, and of each only what is newer is read. Costs a look or two into the index,
-- 10 µs each, for each (status, queue, name). What runs is read whole: it is only as much as
-- the workers have in flight, and to have it in the index would cost each claim an entry.
--
-- The plan is made for the values, so that what is not asked for is not in it. No other
-- query says (status <> 'PENDING') IS TRUE: the index is for this and for
-- purge_workflows() alone, and a claim whose statistics are old cannot be tempted to read
-- and sort it.
CREATE OR REPLACE FUNCTION lockstep._newest_workflows(
    p_statuses text[],
    p_queue_name text,
    p_workflow_name text,
    p_from timestamptz,
    p_before_at timestamptz,
    p_before_id text,
    p_count int
)
RETURNS TABLE (workflow_id text, created_at timestamptz)
LANGUAGE plpgsql
STABLE
ROWS 100
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH RECURSIVE prefix AS (
        SELECT f.status, f.queue_name, f.workflow_name, f.created_at
        FROM unnest(array_remove(p_statuses, 'PENDING')) AS s (status)
        CROSS JOIN LATERAL (
            SELECT
                w.status, w.queue_name, coalesce(p_workflow_name, w.workflow_name) AS workflow_name,
                CASE WHEN p_workflow_name IS NULL THEN w.created_at ELSE 'infinity' END AS created_at
            FROM lockstep.workflow_status AS w
            WHERE (w.status <> 'PENDING') IS TRUE
                AND w.status = s.status
                AND (p_queue_name IS NULL OR w.queue_name = p_queue_name)
            ORDER BY w.status DESC, w.queue_name DESC, w.workflow_name DESC, w.created_at DESC
            LIMIT 1
        ) AS f
        UNION ALL
        SELECT n.status, n.queue_name, n.workflow_name, n.created_at
        FROM prefix AS p
        CROSS JOIN LATERAL (
            SELECT
                w.status, w.queue_name, coalesce(p_workflow_name, w.workflow_name) AS workflow_name,
                CASE WHEN p_workflow_name IS NULL THEN w.created_at ELSE 'infinity' END AS created_at
            FROM lockstep.workflow_status AS w
            WHERE (w.status <> 'PENDING') IS TRUE
                AND w.status = p.status
                AND (p_queue_name IS NULL OR w.queue_name = p_queue_name)
                AND CASE
                    WHEN p_workflow_name IS NULL
                        THEN (w.queue_name, w.workflow_name) < (p.queue_name, p.workflow_name)
                    ELSE w.queue_name < p.queue_name
                END
            ORDER BY w.status DESC, w.queue_name DESC, w.workflow_name DESC, w.created_at DESC
            LIMIT 1
        ) AS n
    ),

    -- the newest of each are p_count rows, or more: nothing older is on the page
    first_floor AS MATERIALIZED (
        SELECT greatest(p_from, CASE WHEN count(*) = p_count THEN min(p.created_at) END) AS created_at
        FROM (
            SELECT p.created_at
            FROM prefix AS p
            WHERE p.created_at < p_before_at
            ORDER BY p.created_at DESC
            LIMIT p_count
        ) AS p
    ),

    newest AS MATERIALIZED (
        SELECT p.status, p.queue_name, p.workflow_name, n.created_at
        FROM prefix AS p
        CROSS JOIN LATERAL (
            SELECT w.created_at
            FROM lockstep.workflow_status AS w
            WHERE (w.status <> 'PENDING') IS TRUE
                AND w.status = p.status
                AND w.queue_name = p.queue_name
                AND w.workflow_name = p.workflow_name
                AND w.created_at >= p_from
                AND w.created_at <= p_before_at
                AND (w.created_at, w.workflow_id) < (p_before_at, p_before_id)
            ORDER BY w.created_at DESC
            LIMIT (SELECT 1 + 3 * p_count / greatest(count(*), 1) FROM prefix)
        ) AS n
        WHERE p.created_at >= (SELECT f.created_at FROM first_floor AS f)
    ),

    floor AS MATERIALIZED (
        SELECT greatest(p_from, CASE WHEN count(*) = p_count THEN min(n.created_at) END) AS created_at
        FROM (SELECT n.created_at FROM newest AS n ORDER BY n.created_at DESC LIMIT p_count) AS n
    )

    SELECT f.workflow_id, f.created_at
    FROM (
        SELECT l.workflow_id, l.created_at
        FROM (
            SELECT n.status, n.queue_name, n.workflow_name
            FROM newest AS n
            CROSS JOIN floor AS f
            WHERE n.created_at >= f.created_at
            GROUP BY n.status, n.queue_name, n.workflow_name
        ) AS p
        CROSS JOIN LATERAL (
            SELECT w.workflow_id, w.created_at
            FROM lockstep.workflow_status AS w
            WHERE (w.status <> 'PENDING') IS TRUE
                AND w.status = p.status
                AND w.queue_name = p.queue_name
                AND w.workflow_name = p.workflow_name
                AND w.created_at >= (SELECT f.created_at FROM floor AS f)
                AND w.created_at <= p_before_at
                AND (w.created_at, w.workflow_id) < (p_before_at, p_before_id)
            ORDER BY w.created_at DESC, w.workflow_id DESC
            LIMIT p_count
        ) AS l
        UNION ALL
        SELECT w.workflow_id, w.created_at
        FROM lockstep.workflow_status AS w
        WHERE 'PENDING' = ANY (p_statuses)
            AND w.status = 'PENDING'
            AND (p_queue_name IS NULL OR w.queue_name = p_queue_name)
            AND (p_workflow_name IS NULL OR w.workflow_name = p_workflow_name)
            AND w.created_at >= (SELECT f.created_at FROM floor AS f)
            AND w.created_at <= p_before_at
            AND (w.created_at, w.workflow_id) < (p_before_at, p_before_id)
    ) AS f
    ORDER BY f.created_at DESC, f.workflow_id DESC
    LIMIT p_count;
END
$$;
COMMENT ON FUNCTION lockstep._newest_workflows(text[], text, text, timestamptz, timestamptz, text, int) IS
    'Lists the newest workflows of some statuses, of a queue and a name if given.';
