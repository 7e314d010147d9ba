-- Starts the workflow of a tick unless it exists; tells whether it did.
--
-- The id is derived from the schedule and the tick, so whoever starts a tick a second
-- time, at the same moment or a year later, finds the first. A workflow of that id
-- that somebody else enqueued, whatever it is, counts as started, or it would stop the
-- schedule for good. p_workflow_id is for a start that is no tick.
CREATE OR REPLACE FUNCTION lockstep._start_tick(
    p_schedule lockstep.schedule,
    p_tick timestamptz,
    p_workflow_id text DEFAULT NULL
)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_tick_text constant text := lockstep._tick_text(p_tick);
    v_workflow_id constant text := coalesce(p_workflow_id, lockstep._tick_id(p_schedule.schedule_name, p_tick));
BEGIN
    IF EXISTS (SELECT FROM lockstep.workflow_status AS w WHERE w.workflow_id = v_workflow_id) THEN
        RETURN false;
    END IF;

    RETURN v_workflow_id = lockstep.enqueue_workflow(
        p_schedule.workflow_name,
        p_schedule.queue_name,
        named_args => p_schedule.named_args || CASE
            WHEN p_schedule.time_arg IS NULL THEN '{}'
            ELSE jsonb_build_object(p_schedule.time_arg, v_tick_text)
        END,
        workflow_id => v_workflow_id,
        deduplication_id => p_schedule.deduplication_id,
        on_duplicate => 'return',
        priority => p_schedule.priority,
        queue_partition_key => p_schedule.queue_partition_key,
        timeout => p_schedule.timeout,
        max_attempts => p_schedule.max_attempts,
        app_version => p_schedule.app_version,
        headers => coalesce(p_schedule.headers, '{}') || jsonb_build_object(
            'schedule_name', p_schedule.schedule_name, 'scheduled_at', v_tick_text
        ),
        retries => p_schedule.retries
    );
END
$$;
COMMENT ON FUNCTION lockstep._start_tick(lockstep.schedule, timestamptz, text) IS
    'Starts the workflow of a tick unless it exists; tells whether it did.';
