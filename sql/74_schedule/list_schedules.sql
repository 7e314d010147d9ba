-- Lists schedules by name.
--
-- engine is the one that starts the ticks: pg_cron, beside the workers, or the workers
-- alone. next_tick_at is NULL if the schedule is paused, if there is none, and until a
-- worker has computed it.
CREATE OR REPLACE FUNCTION lockstep.list_schedules()
RETURNS TABLE (
    schedule_name text,
    cron text,
    time_zone text,
    workflow_name text,
    queue_name text,
    named_args jsonb,
    time_arg text,
    on_missed text,
    engine text,
    is_paused boolean,
    priority int,
    deduplication_id text,
    queue_partition_key text,
    timeout interval,
    max_attempts int,
    app_version text,
    headers jsonb,
    retries jsonb,
    last_tick_at timestamptz,
    next_tick_at timestamptz,
    problem text,
    created_at timestamptz,
    created_by text
)
LANGUAGE plpgsql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- if it was dropped, its jobs are gone with it
    v_has_pg_cron constant boolean := lockstep._may_use_pg_cron() IS NOT NULL;
BEGIN
    RETURN QUERY
    SELECT
        s.schedule_name, s.cron, s.time_zone, s.workflow_name, s.queue_name, s.named_args,
        s.time_arg, s.on_missed,
        CASE WHEN v_has_pg_cron AND s.cron_job_id IS NOT NULL THEN 'pg_cron' ELSE 'workers' END,
        s.is_paused, s.priority, s.deduplication_id, s.queue_partition_key, s.timeout,
        s.max_attempts, s.app_version, s.headers, s.retries, s.last_tick_at,
        CASE WHEN isfinite(s.next_tick_at) AND NOT s.is_paused AND s.problem IS NULL THEN s.next_tick_at END,
        s.problem, s.created_at, s.created_by
    FROM lockstep.schedule AS s
    ORDER BY s.schedule_name;
END
$$;
COMMENT ON FUNCTION lockstep.list_schedules() IS
    'Lists schedules by name.';
