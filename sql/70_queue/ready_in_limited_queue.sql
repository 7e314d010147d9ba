-- Locks the workflows of a limited queue that may start now.
--
-- Holds the queue's row until the claim commits, so the count of running
-- workflows that it starts from stays true: claims of one limited queue follow
-- each other, other queues do not notice. Lock order: the queue row, then
-- workflow rows, skipping locked ones. A queue row that is locked is not waited
-- for but read as "nothing now": the client that changes the queue in an open
-- transaction must not stop a worker that serves others too.
CREATE OR REPLACE FUNCTION lockstep._ready_in_limited_queue(
    p_queue_name text,
    p_workflow_names text[],
    p_app_version text,
    p_max_count int
)
RETURNS tid[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_candidates tid[];
    v_room int;
    r_queue record;
BEGIN
    SELECT q.is_paused, q.concurrency, q.partition_concurrency
    INTO r_queue
    FROM lockstep.queue AS q
    WHERE q.queue_name = p_queue_name
    FOR NO KEY UPDATE SKIP LOCKED;

    IF NOT FOUND OR r_queue.is_paused THEN
        RETURN ARRAY[]::tid[];
    END IF;

    SELECT least(p_max_count, r_queue.concurrency - count(*))::int
    INTO v_room
    FROM lockstep.workflow_status AS w
    WHERE w.status = 'PENDING'
        AND w.queue_name = p_queue_name;

    IF v_room <= 0 THEN
        RETURN ARRAY[]::tid[];
    END IF;

    IF r_queue.partition_concurrency IS NULL THEN
        RETURN ARRAY(
            SELECT w.ctid
            FROM lockstep.workflow_status AS w
            WHERE w.queue_name = p_queue_name
                AND w.status = 'ENQUEUED'
                AND w.workflow_name = ANY (p_workflow_names)
                AND (w.app_version IS NULL OR w.app_version = p_app_version)
            ORDER BY w.priority, w.available_at
            LIMIT v_room
            FOR NO KEY UPDATE SKIP LOCKED
        );
    END IF;

    WITH running AS (
        SELECT w.queue_partition_key, count(*) AS running_count
        FROM lockstep.workflow_status AS w
        WHERE w.status = 'PENDING'
            AND w.queue_name = p_queue_name
        GROUP BY w.queue_partition_key
    ),

    ready AS (
        SELECT
            w.ctid AS row_id, w.priority, w.available_at, w.queue_partition_key,
            row_number() OVER (
                PARTITION BY w.queue_partition_key
                ORDER BY w.priority, w.available_at
            ) AS place_in_partition
        FROM lockstep.workflow_status AS w
        WHERE w.queue_name = p_queue_name
            AND w.status = 'ENQUEUED'
            AND w.workflow_name = ANY (p_workflow_names)
            AND (w.app_version IS NULL OR w.app_version = p_app_version)
    ),

    allowed AS (
        SELECT r.row_id, r.priority, r.available_at
        FROM ready AS r
        LEFT JOIN running AS u ON u.queue_partition_key IS NOT DISTINCT FROM r.queue_partition_key
        WHERE r.place_in_partition + coalesce(u.running_count, 0) <= r_queue.partition_concurrency
        ORDER BY r.priority, r.available_at
        LIMIT v_room
    )

    SELECT coalesce(array_agg(a.row_id), ARRAY[]::tid[])
    INTO v_candidates
    FROM allowed AS a;

    RETURN ARRAY(
        SELECT w.ctid
        FROM lockstep.workflow_status AS w
        WHERE w.ctid = ANY (v_candidates)
            AND w.status = 'ENQUEUED'
        FOR NO KEY UPDATE SKIP LOCKED
    );
END
$$;
COMMENT ON FUNCTION lockstep._ready_in_limited_queue(text, text[], text, int) IS
    'Locks the workflows of a limited queue that may start now.';
