-- Locks the first workflows of some queues without limits, those that _ready() asks for.
--
-- p_low_water as claim_workflows() describes it. Reads the claim index from its head, or
-- the mark, and leaves it after n rows; suspects have an index of their own. Locks workflow
-- rows, skipping locked ones.
CREATE OR REPLACE FUNCTION lockstep._ready_in_queues(
    p_queues text[],
    p_executor lockstep.executor,
    p_max_count int,
    p_low_water jsonb,
    p_is_alone boolean
)
RETURNS tid[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF p_is_alone THEN
        RETURN ARRAY(
            SELECT suspect.row_id
            FROM unnest(p_queues) AS q (queue_name)
            CROSS JOIN LATERAL (
                SELECT w.ctid AS row_id, w.priority, w.available_at
                FROM lockstep.workflow_status AS w
                WHERE (w.status = 'ENQUEUED') IS TRUE  -- as the index of suspects says it, and no other
                    AND lockstep._is_suspect(w.attempts, w.max_attempts)
                    AND w.queue_name = q.queue_name
                    AND w.workflow_name = ANY (p_executor.workflow_names)
                    AND (w.app_version IS NULL OR w.app_version = p_executor.app_version)
                ORDER BY w.priority, w.available_at
                LIMIT p_max_count
                FOR NO KEY UPDATE SKIP LOCKED
            ) AS suspect
            ORDER BY suspect.priority, suspect.available_at
            LIMIT p_max_count
        );
    END IF;

    RETURN ARRAY(
        SELECT ready.row_id
        FROM lockstep._stretches(p_queues, p_low_water) AS s
        CROSS JOIN LATERAL (
            SELECT w.ctid AS row_id, w.priority, w.available_at
            FROM lockstep.workflow_status AS w
            WHERE w.queue_name = s.queue_name
                AND (w.priority, w.available_at) >= (s.from_priority, s.from_time)
                AND w.priority <= s.to_priority
                AND w.status = 'ENQUEUED'
                AND w.workflow_name = ANY (p_executor.workflow_names)
                AND (w.app_version IS NULL OR w.app_version = p_executor.app_version)
                AND NOT lockstep._is_suspect(w.attempts, w.max_attempts)
            ORDER BY w.priority, w.available_at
            LIMIT p_max_count
            FOR NO KEY UPDATE SKIP LOCKED
        ) AS ready
        ORDER BY ready.priority, ready.available_at
        LIMIT p_max_count
    );
END
$$;
COMMENT ON FUNCTION lockstep._ready_in_queues(text[], lockstep.executor, int, jsonb, boolean) IS
    'Locks the first workflows of some queues without limits.';
