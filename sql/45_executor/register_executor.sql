-- Registers a worker process and returns its executor id.
--
-- The id is new at each call: a worker whose lease ended registers again and
-- starts with nothing.
CREATE OR REPLACE FUNCTION lockstep.register_executor(
    queues text[],
    workflow_names text[],
    lease_duration interval DEFAULT '30 seconds',
    app_version text DEFAULT NULL,
    host text DEFAULT NULL,
    pid int DEFAULT NULL,
    client_version text DEFAULT NULL,
    pins_version boolean DEFAULT false
)
RETURNS text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_executor_id constant text := lockstep._generate_id();
    v_timeline int;
    v_system_id bigint;
BEGIN
    IF coalesce(cardinality(register_executor.queues), 0) = 0 THEN
        RAISE EXCEPTION 'queues must name at least one queue'
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Pass the queues that the worker claims from.';
    ELSIF register_executor.lease_duration IS NULL
        OR register_executor.lease_duration NOT BETWEEN interval '1 s' AND interval '1 day'
    THEN
        RAISE EXCEPTION 'lease_duration must be between 1 second and 1 day, not %',
            coalesce(register_executor.lease_duration::text, 'null')
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'A dead worker''s workflows run elsewhere when its lease has ended.';
    ELSIF register_executor.pins_version AND register_executor.app_version IS NULL THEN
        RAISE EXCEPTION 'pins_version needs an app_version'
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Pass the version that started workflows shall stay with.';
    END IF;

    IF EXISTS (SELECT FROM lockstep.tenant_isolation)
        AND NOT (SELECT c.relrowsecurity FROM pg_class AS c WHERE c.oid = 'lockstep.workflow_status'::regclass)
    THEN
        PERFORM lockstep._switch_row_security(true);  -- after a restore
    END IF;

    -- a server whose storage is not Postgres' own, such as Aurora, does not tell, or only with
    -- wal_level = logical; its failover loses no commit
    BEGIN
        v_timeline := lockstep._timeline();
    EXCEPTION
        WHEN feature_not_supported OR object_not_in_prerequisite_state THEN
            v_timeline := NULL;
    END;

    BEGIN
        v_system_id := lockstep._system_id();
    EXCEPTION
        WHEN feature_not_supported OR insufficient_privilege THEN
            v_system_id := NULL;
    END;

    INSERT INTO lockstep.executor (
        executor_id, queues, workflow_names, app_version, pins_version, host, pid, client_version,
        lease_duration, expires_at, timeline, table_id, system_id, server_started_at
    )
    VALUES (
        v_executor_id,
        ARRAY(SELECT DISTINCT q.queue_name FROM unnest(register_executor.queues) AS q (queue_name)),
        coalesce(register_executor.workflow_names, '{}'), register_executor.app_version,
        coalesce(register_executor.pins_version, false),
        register_executor.host, register_executor.pid, register_executor.client_version,
        register_executor.lease_duration,
        clock_timestamp() + register_executor.lease_duration,
        v_timeline,
        'lockstep.executor'::regclass,
        v_system_id,
        pg_postmaster_start_time()
    );

    RETURN v_executor_id;
END
$$;
COMMENT ON FUNCTION lockstep.register_executor(text[], text[], interval, text, text, int, text, boolean) IS
    'Registers a worker process and returns its executor id.';
