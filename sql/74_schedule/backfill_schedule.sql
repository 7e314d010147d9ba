-- Starts the workflows of past ticks, from from_time up to, but not including, to_time.
--
-- Enqueues a workflow "lockstep.backfill", which every worker knows and which computes
-- the ticks and starts them in batches; returns its id, to wait for. Its result is the
-- number of workflows that it started: a tick that was started before is left alone. A
-- paused schedule is filled, too.
CREATE OR REPLACE FUNCTION lockstep.backfill_schedule(
    schedule_name text,
    from_time timestamptz,
    to_time timestamptz
)
RETURNS text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_now constant timestamptz := clock_timestamp();
    v_problem text[];
    v_schedule lockstep.schedule;
BEGIN
    IF backfill_schedule.from_time IS NULL OR backfill_schedule.to_time IS NULL
        OR NOT isfinite(backfill_schedule.from_time) OR NOT isfinite(backfill_schedule.to_time)
        OR backfill_schedule.from_time > backfill_schedule.to_time
        OR backfill_schedule.from_time < '1970-01-01'
    THEN
        v_problem := ARRAY[
            'from_time and to_time must be moments since 1970, the earlier first',
            'Pass the moment of the first tick and one after the last.'
        ];
    ELSIF backfill_schedule.to_time > v_now THEN
        v_problem := ARRAY[
            'to_time must not be in the future', 'The schedule starts the ticks to come by itself.'
        ];
    END IF;

    IF v_problem IS NOT NULL THEN
        RAISE EXCEPTION '%', v_problem[1]
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = format(
                      'They are %s and %s.', coalesce(backfill_schedule.from_time::text, 'null'),
                      coalesce(backfill_schedule.to_time::text, 'null')
                  ),
                  HINT = v_problem[2];
    END IF;

    SELECT s.*
    INTO v_schedule
    FROM lockstep.schedule AS s
    WHERE s.schedule_name = backfill_schedule.schedule_name;

    IF NOT FOUND THEN
        PERFORM lockstep._refuse_unknown_schedule(backfill_schedule.schedule_name);
    END IF;

    RETURN lockstep.enqueue_workflow(
        'lockstep.backfill',
        v_schedule.queue_name,
        named_args => jsonb_build_object(
            'schedule_name', v_schedule.schedule_name,
            'cron', v_schedule.cron,
            'time_zone', v_schedule.time_zone,
            'from_time', backfill_schedule.from_time,
            'to_time', backfill_schedule.to_time
        ),
        priority => v_schedule.priority,
        queue_partition_key => v_schedule.queue_partition_key,
        app_version => v_schedule.app_version,
        headers => jsonb_build_object('schedule_name', v_schedule.schedule_name)
    );
END
$$;
COMMENT ON FUNCTION lockstep.backfill_schedule(text, timestamptz, timestamptz) IS
    'Starts the workflows of past ticks; returns the id of the workflow that does it.';
