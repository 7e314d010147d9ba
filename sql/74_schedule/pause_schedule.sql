-- Leaves out the ticks of a schedule until unpause_schedule().
--
-- They are not missed ones: whatever on_missed says, none of them is started later.
CREATE OR REPLACE FUNCTION lockstep.pause_schedule(schedule_name text)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_job_id bigint;
BEGIN
    SELECT s.cron_job_id
    INTO v_job_id
    FROM lockstep.schedule AS s
    WHERE s.schedule_name = pause_schedule.schedule_name
    FOR NO KEY UPDATE;

    IF NOT FOUND THEN
        PERFORM lockstep._refuse_unknown_schedule(pause_schedule.schedule_name);
    END IF;

    UPDATE lockstep.schedule AS s
    SET is_paused = true, cron_job_id = NULL, revision = s.revision + 1
    WHERE s.schedule_name = pause_schedule.schedule_name
        AND NOT s.is_paused;

    PERFORM lockstep._drop_cron_job(pause_schedule.schedule_name, v_job_id);
END
$$;
COMMENT ON FUNCTION lockstep.pause_schedule(text) IS
    'Leaves out the ticks of a schedule until unpause_schedule().';
