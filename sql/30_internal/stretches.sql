-- Returns where in the claim index workflows of some queues may stand that nobody has claimed.
--
-- Of each queue the whole, or, where p_low_water has a mark of it, what is more urgent than the
-- mark and what comes from the mark on: claim_workflows() says what a mark is. The planner
-- inlines this.
CREATE OR REPLACE FUNCTION lockstep._stretches(p_queues text[], p_low_water jsonb)
RETURNS TABLE (queue_name text, from_priority int, from_time timestamptz, to_priority int)
LANGUAGE sql
STABLE
BEGIN ATOMIC
    WITH mark AS (
        SELECT m.queue_name, m.priority, m.available_at
        FROM jsonb_to_recordset(p_low_water)
            AS m (queue_name text, priority int, available_at timestamptz)
    )

    SELECT
        q.queue_name, 0 AS from_priority, timestamptz '-infinity' AS from_time,
        coalesce(m.priority - 1, 2147483647) AS to_priority
    FROM unnest(p_queues) AS q (queue_name)
    LEFT JOIN mark AS m ON q.queue_name = m.queue_name
    WHERE m.priority IS DISTINCT FROM 0
    UNION ALL
    SELECT m.queue_name, m.priority AS from_priority, m.available_at AS from_time, 2147483647 AS to_priority
    FROM unnest(p_queues) AS q (queue_name)
    INNER JOIN mark AS m ON q.queue_name = m.queue_name;
END;
COMMENT ON FUNCTION lockstep._stretches(text[], jsonb) IS
    'Returns where in the claim index workflows of some queues may stand that nobody has claimed.';
