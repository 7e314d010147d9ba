-- Starts a schedule's workflow now, beside its ticks; also of one that is paused.
--
-- The start is no tick: its id is a new one each time, and no tick is left out for it.
CREATE OR REPLACE FUNCTION lockstep.trigger_schedule(schedule_name text)
RETURNS text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_workflow_id constant text := trigger_schedule.schedule_name || ':' || lockstep._generate_id();
    v_schedule lockstep.schedule;
BEGIN
    SELECT s.*
    INTO v_schedule
    FROM lockstep.schedule AS s
    WHERE s.schedule_name = trigger_schedule.schedule_name;

    IF NOT FOUND THEN
        PERFORM lockstep._refuse_unknown_schedule(trigger_schedule.schedule_name);
    END IF;

    IF NOT lockstep._start_tick(v_schedule, clock_timestamp(), v_workflow_id) THEN
        PERFORM lockstep._refuse_rival(
            v_schedule.queue_name, v_schedule.deduplication_id,
            (
                SELECT w.workflow_id
                FROM lockstep.workflow_status AS w
                WHERE w.queue_name = v_schedule.queue_name
                    AND w.deduplication_id = v_schedule.deduplication_id
                    AND w.completed_at IS NULL
            ),
            'Wait for its end, or cancel it.'
        );
    END IF;

    RETURN v_workflow_id;
END
$$;
COMMENT ON FUNCTION lockstep.trigger_schedule(text) IS
    'Starts a schedule''s workflow now, beside its ticks; returns its id.';
