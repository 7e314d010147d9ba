-- Starts ticks that a worker computed and notes the next one of each schedule.
--
-- changes: [{"schedule_name", "revision", "ticks": […], "handled_until", "next_tick_at",
-- "problem"}, …]. What was computed from another revision is dropped: another worker was
-- faster, or the schedule was changed. A schedule that somebody holds is passed over, and
-- still due. A problem is tried again in a minute. Returns how many workflows it
-- started, and the seconds until a schedule wants a worker, or NULL.
--
-- Lock order: schedule rows by name, skipping locked ones; new workflow rows.
CREATE OR REPLACE FUNCTION lockstep.start_ticks(
    changes jsonb,
    OUT started_count int,
    OUT next_tick_in double precision
)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    r_change record;
    v_schedule lockstep.schedule;
BEGIN
    started_count := 0;

    FOR r_change IN
        SELECT c.*
        FROM jsonb_to_recordset(start_ticks.changes) AS c (
            schedule_name text, revision bigint, ticks timestamptz[], handled_until timestamptz,
            next_tick_at timestamptz, problem text
        )
        ORDER BY c.schedule_name
    LOOP
        SELECT s.*
        INTO v_schedule
        FROM lockstep.schedule AS s
        WHERE s.schedule_name = r_change.schedule_name
            AND s.revision = r_change.revision
            AND NOT s.is_paused
        FOR NO KEY UPDATE SKIP LOCKED;

        CONTINUE WHEN NOT FOUND;

        started_count := started_count + (
            SELECT count(*) FILTER (WHERE lockstep._start_tick(v_schedule, t.tick))::int
            FROM unnest(r_change.ticks) AS t (tick)
        );

        UPDATE lockstep.schedule AS s
        SET
            revision = s.revision + 1,
            handled_until = greatest(s.handled_until, r_change.handled_until),
            last_tick_at = coalesce((SELECT max(t.tick) FROM unnest(r_change.ticks) AS t (tick)), s.last_tick_at),
            next_tick_at = coalesce(
                r_change.next_tick_at,
                CASE WHEN r_change.problem IS NULL THEN 'infinity' ELSE clock_timestamp() + interval '1 minute' END
            ),
            problem = r_change.problem
        WHERE s.schedule_name = r_change.schedule_name;
    END LOOP;

    next_tick_in := lockstep._next_tick_in();
END
$$;
COMMENT ON FUNCTION lockstep.start_ticks(jsonb) IS
    'Starts ticks that a worker computed and notes the next one of each schedule.';
