-- Starts the workflows of some past ticks of a schedule; returns how many there were not.
--
-- The worker that runs "lockstep.backfill" calls it, a batch at a time. Locks nothing of
-- the schedule: the ids of the workflows see to it that none is started twice.
CREATE OR REPLACE FUNCTION lockstep.start_backfill(schedule_name text, ticks timestamptz[])
RETURNS int
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_schedule lockstep.schedule;
BEGIN
    SELECT s.*
    INTO v_schedule
    FROM lockstep.schedule AS s
    WHERE s.schedule_name = start_backfill.schedule_name;

    IF NOT FOUND THEN
        PERFORM lockstep._refuse_unknown_schedule(start_backfill.schedule_name);
    END IF;

    RETURN (
        SELECT count(*) FILTER (WHERE lockstep._start_tick(v_schedule, t.tick))::int
        FROM unnest(start_backfill.ticks) AS t (tick)
    );
END
$$;
COMMENT ON FUNCTION lockstep.start_backfill(text, timestamptz[]) IS
    'Starts the workflows of some past ticks of a schedule.';
