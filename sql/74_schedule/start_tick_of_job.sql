-- Starts the current tick of a schedule; a job of pg_cron calls it at each tick.
--
-- Workers start ticks too, so this matters when none is alive. If one computed the tick
-- that falls due now, that is it. If the next one is still to come, pg_cron is late and
-- a worker was faster. Otherwise nobody has computed since the last tick, and pg_cron's
-- word is taken: this minute. handled_until then stays where it is, so that the worker
-- that comes back finds what was missed meanwhile, and what was started by its id.
CREATE OR REPLACE FUNCTION lockstep._start_tick_of_job(p_schedule_name text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_minute timestamptz;
    v_schedule lockstep.schedule;
BEGIN
    SELECT s.*
    INTO v_schedule
    FROM lockstep.schedule AS s
    WHERE s.schedule_name = p_schedule_name
        AND NOT s.is_paused
    FOR NO KEY UPDATE;

    v_minute := date_trunc('minute', clock_timestamp());
    IF NOT FOUND OR v_schedule.next_tick_at > v_minute OR v_schedule.handled_until >= v_minute THEN
        RETURN;
    END IF;

    PERFORM lockstep._start_tick(v_schedule, v_minute);

    UPDATE lockstep.schedule AS s
    SET
        revision = s.revision + 1,
        last_tick_at = v_minute,
        handled_until = CASE WHEN s.next_tick_at = v_minute THEN v_minute ELSE s.handled_until END,
        next_tick_at = CASE WHEN s.next_tick_at = v_minute THEN '-infinity' ELSE s.next_tick_at END
    WHERE s.schedule_name = p_schedule_name;

    PERFORM lockstep._ring_for_schedules();
END
$$;
COMMENT ON FUNCTION lockstep._start_tick_of_job(text) IS
    'Starts the current tick of a schedule; a job of pg_cron calls it at each tick.';
