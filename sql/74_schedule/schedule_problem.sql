-- Finds what schedule_workflow() cannot take: NULL, or message, detail and hint.
CREATE OR REPLACE FUNCTION lockstep._schedule_problem(p_schedule lockstep.schedule)
RETURNS text[]
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_name constant text := p_schedule.schedule_name;
    v_problem text[] := lockstep._cron_problem(p_schedule.cron);
    v_refusal text;
BEGIN
    IF v_name IS NULL OR btrim(v_name) = '' OR length(v_name) > 400 THEN
        RETURN ARRAY['schedule_name must have 1 to 400 characters'] || (lockstep._name_problem('schedule_name', v_name))[2:];
    ELSIF v_problem IS NOT NULL THEN
        RETURN v_problem;
    ELSIF p_schedule.on_missed IS NULL OR p_schedule.on_missed NOT IN ('skip', 'latest', 'all') THEN
        RETURN ARRAY[
            'on_missed must be ''skip'', ''latest'' or ''all''',
            format('It is %s.', quote_nullable(left(p_schedule.on_missed, 40))),
            'It says which of the ticks that nobody started in time are started late.'
        ];
    ELSIF p_schedule.engine NOT IN ('pg_cron', 'workers') THEN
        RETURN ARRAY[
            'engine must be ''pg_cron'', ''workers'' or null',
            format('It is %s.', quote_nullable(left(p_schedule.engine, 40))),
            'Leave it out to use pg_cron where it can start the ticks.'
        ];
    ELSIF p_schedule.time_zone IS NULL OR (
        p_schedule.time_zone <> 'UTC'
        AND (
            -- names of the operating system that the library need not have
            p_schedule.time_zone ~ '^(posix/|right/|posixrules$|localtime$|Factory$)'
            OR NOT EXISTS (SELECT FROM pg_timezone_names AS z WHERE z.name = p_schedule.time_zone)
        )
        -- the view reads the files of all zones, 30 ms, and each worker declares its schedules
        AND NOT EXISTS (SELECT FROM lockstep.schedule AS s WHERE s.time_zone = p_schedule.time_zone)
    ) THEN
        RETURN ARRAY[
            format('time zone %s does not exist', coalesce('"' || left(p_schedule.time_zone, 100) || '"', 'null')),
            'It is no name that pg_timezone_names lists, to the letter.',
            'Pass a name such as Europe/Berlin.'
        ];
    END IF;

    v_problem := lockstep._enqueue_problem(
        p_schedule.workflow_name, p_schedule.queue_name, '[]', p_schedule.named_args, NULL,
        p_schedule.deduplication_id, 'return', p_schedule.priority,
        p_schedule.queue_partition_key, NULL, NULL, p_schedule.timeout, NULL,
        p_schedule.max_attempts, p_schedule.app_version, p_schedule.headers, p_schedule.retries
    );
    IF v_problem IS NOT NULL THEN
        RETURN v_problem;
    ELSIF p_schedule.time_arg = '' OR p_schedule.named_args ? p_schedule.time_arg THEN
        RETURN ARRAY[
            'time_arg must name an argument that named_args does not',
            format('It is %s.', quote_literal(left(p_schedule.time_arg, 40))),
            'Each tick passes its time as this argument; pass null if the workflow does not take it.'
        ];
    ELSIF p_schedule.engine = 'pg_cron' THEN
        v_refusal := lockstep._pg_cron_refusal(p_schedule.cron, p_schedule.time_zone);
        IF v_refusal IS NOT NULL THEN
            RETURN ARRAY[
                'pg_cron cannot start the ticks of this schedule', v_refusal,
                'Leave engine out, or pass ''workers'': the workers start the ticks then.'
            ];
        END IF;
    END IF;

    RETURN NULL;
END
$$;
COMMENT ON FUNCTION lockstep._schedule_problem(lockstep.schedule) IS
    'Finds what schedule_workflow() cannot take: NULL, or message, detail and hint.';
