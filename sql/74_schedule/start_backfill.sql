-- Starts the workflows of some past ticks of a schedule; returns how many it started.
--
-- The worker that runs "lockstep.backfill" calls it, a batch at a time. Locks nothing of
-- the schedule: the ids of the workflows see to it that none is started twice. They have
-- the backfill's id as a header, by which a worker that comes after one that died counts
-- those of the batch that it did not record.
CREATE OR REPLACE FUNCTION lockstep.start_backfill(
    schedule_name text,
    ticks timestamptz[],
    backfill_id text
)
RETURNS int
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_schedule lockstep.schedule;
BEGIN
    SELECT marked.*
    INTO v_schedule
    FROM lockstep.schedule AS s
    CROSS JOIN LATERAL jsonb_populate_record(s, jsonb_build_object(
        'headers', coalesce(s.headers, '{}') || jsonb_build_object('backfill_id', start_backfill.backfill_id)
    )) AS marked
    WHERE s.schedule_name = start_backfill.schedule_name;

    IF NOT FOUND THEN
        PERFORM lockstep._refuse_unknown_schedule(start_backfill.schedule_name);
    END IF;

    PERFORM lockstep._start_tick(v_schedule, t.tick)
    FROM unnest(start_backfill.ticks) AS t (tick);

    RETURN (
        SELECT count(*)::int
        FROM unnest(start_backfill.ticks) AS t (tick)
        INNER JOIN lockstep.workflow_status AS w ON w.workflow_id = lockstep._tick_id(v_schedule.schedule_name, t.tick)
        WHERE w.headers ->> 'backfill_id' = start_backfill.backfill_id
    );
END
$$;
COMMENT ON FUNCTION lockstep.start_backfill(text, timestamptz[], text) IS
    'Starts the workflows of some past ticks of a schedule.';
