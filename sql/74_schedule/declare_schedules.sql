-- Creates or changes the schedules that a worker's code declares.
--
-- schedules: [{"schedule_name", "cron", "workflow_name", "queue_name" and, where they
-- are not the default, other arguments of schedule_workflow()}, …]. What is declared no
-- longer stays: another app, or a worker of another release, may declare it.
CREATE OR REPLACE FUNCTION lockstep.declare_schedules(schedules jsonb)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM lockstep.schedule_workflow(
        d.schedule_name, d.cron, d.workflow_name, d.queue_name,
        named_args => coalesce(d.named_args, '{}'),
        time_zone => coalesce(d.time_zone, 'UTC'),
        on_missed => coalesce(d.on_missed, 'skip'),
        engine => d.engine,
        time_arg => d.time_arg,
        priority => coalesce(d.priority, 0),
        deduplication_id => d.deduplication_id,
        queue_partition_key => d.queue_partition_key,
        timeout => d.timeout,
        max_attempts => d.max_attempts,
        app_version => d.app_version,
        headers => d.headers,
        retries => d.retries
    )
    FROM (
        SELECT r.*
        FROM jsonb_populate_recordset(NULL::lockstep.schedule, declare_schedules.schedules) AS r
        -- two workers that declare the same ones take the rows in the same order
        ORDER BY r.schedule_name
    ) AS d;
END
$$;
COMMENT ON FUNCTION lockstep.declare_schedules(jsonb) IS
    'Creates or changes the schedules that a worker''s code declares.';
