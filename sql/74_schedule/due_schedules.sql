-- Lists schedules that want a worker now: a tick fell due, or the next is to be computed.
--
-- asked_at is the time of the database, by which alone the worker goes. Nothing is locked
-- while it computes, so a worker that stops here stops nobody: others find the same
-- schedules, and start_ticks() takes what the first of them sends.
--
-- New schedules come first, then the latest tick: or ticks on time would wait, and be
-- missed themselves, while many schedules make up for those that they missed.
CREATE OR REPLACE FUNCTION lockstep.due_schedules(max_count int DEFAULT 100)
RETURNS TABLE (
    schedule_name text,
    revision bigint,
    cron text,
    time_zone text,
    on_missed text,
    handled_until timestamptz,
    asked_at timestamptz
)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    v_now constant timestamptz := clock_timestamp();
BEGIN
    RETURN QUERY
    SELECT s.schedule_name, s.revision, s.cron, s.time_zone, s.on_missed, s.handled_until, v_now
    FROM lockstep.schedule AS s
    WHERE NOT s.is_paused
        AND s.next_tick_at <= v_now
    ORDER BY s.next_tick_at = '-infinity' DESC, s.next_tick_at DESC
    LIMIT greatest(due_schedules.max_count, 0);
END
$$;
COMMENT ON FUNCTION lockstep.due_schedules(int) IS
    'Lists schedules that want a worker now, with what it needs to compute their ticks.';
