-- Lets a paused schedule go on with its next tick; those of the pause are left out.
CREATE OR REPLACE FUNCTION lockstep.unpause_schedule(schedule_name text)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_schedule lockstep.schedule;
BEGIN
    UPDATE lockstep.schedule AS s
    SET
        is_paused = false,
        revision = s.revision + 1,
        handled_until = greatest(clock_timestamp(), s.handled_until),
        next_tick_at = '-infinity'
    WHERE s.schedule_name = unpause_schedule.schedule_name
        AND s.is_paused
    RETURNING s.*
    INTO v_schedule;

    IF FOUND THEN
        PERFORM lockstep._adjust_cron_job(v_schedule);
        PERFORM lockstep._ring_for_schedules();
    ELSIF NOT EXISTS (
        SELECT
        FROM lockstep.schedule AS s
        WHERE s.schedule_name = unpause_schedule.schedule_name
    ) THEN
        PERFORM lockstep._refuse_unknown_schedule(unpause_schedule.schedule_name);
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep.unpause_schedule(text) IS
    'Lets a paused schedule go on with its next tick.';
