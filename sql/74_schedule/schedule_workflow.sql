-- Creates a schedule, or replaces one: a workflow is started at each tick.
--
-- What an expression means a library says that the workers have: due_schedules() tells a
-- worker which schedules are due, it computes their ticks, and start_ticks() starts the
-- workflows. Where pg_cron is, a job of the schedule calls _start_tick_of_job() as well.
-- _start_tick() derives the id of the workflow from the tick, so that who is first wins.
--
-- The ticks after this moment count; an expression or time zone that changes forgets
-- what was missed under the old one. A call that changes nothing writes nothing, so that
-- each worker may declare its schedules when it starts. A paused schedule stays paused.
--
-- Lock order: the schedule row, then pg_cron's. The loop runs again only if the schedule
-- was removed between the INSERT, which it stopped, and the look at it.
CREATE OR REPLACE FUNCTION lockstep.schedule_workflow(
    schedule_name text,
    cron text,
    workflow_name text,
    queue_name text,
    named_args jsonb DEFAULT '{}',
    time_zone text DEFAULT 'UTC',
    on_missed text DEFAULT 'skip',
    engine text DEFAULT NULL,
    time_arg text DEFAULT 'scheduled_at',
    priority int DEFAULT 0,
    deduplication_id text DEFAULT NULL,
    queue_partition_key text DEFAULT NULL,
    timeout interval DEFAULT NULL,
    max_attempts int DEFAULT NULL,
    app_version text DEFAULT NULL,
    headers jsonb DEFAULT NULL,
    retries jsonb DEFAULT NULL
)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_now constant timestamptz := clock_timestamp();
    v_kept constant text[] := ARRAY[
        'cron_job_id', 'is_paused', 'revision', 'handled_until', 'last_tick_at', 'next_tick_at',
        'problem', 'created_at', 'created_by'
    ];
    v_problem text[];
    v_new lockstep.schedule;
    v_old lockstep.schedule;
BEGIN
    v_new := jsonb_populate_record(NULL::lockstep.schedule, jsonb_build_object(
        'schedule_name', schedule_workflow.schedule_name,
        'cron', schedule_workflow.cron,
        'time_zone', schedule_workflow.time_zone,
        'workflow_name', schedule_workflow.workflow_name,
        'queue_name', schedule_workflow.queue_name,
        'named_args', schedule_workflow.named_args,
        'time_arg', schedule_workflow.time_arg,
        'on_missed', schedule_workflow.on_missed,
        'engine', schedule_workflow.engine,
        'priority', schedule_workflow.priority,
        'deduplication_id', schedule_workflow.deduplication_id,
        'queue_partition_key', schedule_workflow.queue_partition_key,
        'timeout', schedule_workflow.timeout,
        'max_attempts', schedule_workflow.max_attempts,
        'app_version', schedule_workflow.app_version,
        'headers', schedule_workflow.headers,
        'retries', schedule_workflow.retries,
        'is_paused', false, 'revision', 1, 'handled_until', v_now, 'next_tick_at', '-infinity',
        'created_at', v_now, 'created_by', lockstep._caller()
    ));

    v_problem := lockstep._schedule_problem(v_new);
    IF v_problem IS NOT NULL THEN
        RAISE EXCEPTION '%', v_problem[1]
            USING ERRCODE = 'invalid_parameter_value', DETAIL = v_problem[2], HINT = v_problem[3];
    END IF;

    LOOP
        INSERT INTO lockstep.schedule
        SELECT v_new.*
        ON CONFLICT ON CONSTRAINT schedule_pkey DO NOTHING;

        EXIT WHEN FOUND;

        SELECT s.*
        INTO v_old
        FROM lockstep.schedule AS s
        WHERE s.schedule_name = v_new.schedule_name
        FOR NO KEY UPDATE;

        CONTINUE WHEN NOT FOUND;

        IF to_jsonb(v_new) - v_kept = to_jsonb(v_old) - v_kept THEN
            PERFORM lockstep._adjust_cron_job(v_old);
            RETURN;
        END IF;

        UPDATE lockstep.schedule AS s
        SET
            cron = v_new.cron,
            time_zone = v_new.time_zone,
            workflow_name = v_new.workflow_name,
            queue_name = v_new.queue_name,
            named_args = v_new.named_args,
            time_arg = v_new.time_arg,
            on_missed = v_new.on_missed,
            engine = v_new.engine,
            priority = v_new.priority,
            deduplication_id = v_new.deduplication_id,
            queue_partition_key = v_new.queue_partition_key,
            timeout = v_new.timeout,
            max_attempts = v_new.max_attempts,
            app_version = v_new.app_version,
            headers = v_new.headers,
            retries = v_new.retries,
            revision = s.revision + 1,
            handled_until = CASE
                WHEN (s.cron, s.time_zone) = (v_new.cron, v_new.time_zone) THEN s.handled_until
                ELSE greatest(s.handled_until, v_now)
            END,
            next_tick_at = '-infinity',
            problem = NULL
        WHERE s.schedule_name = v_new.schedule_name
        RETURNING s.*
        INTO v_new;

        EXIT;
    END LOOP;

    PERFORM lockstep._adjust_cron_job(v_new);
    PERFORM lockstep._ring_for_schedules();
END
$$;
COMMENT ON FUNCTION lockstep.schedule_workflow(
    text, text, text, text, jsonb, text, text, text, text,
    int, text, text, interval, int, text, jsonb, jsonb
) IS
    'Creates or replaces a schedule: a workflow is started at each tick.';
