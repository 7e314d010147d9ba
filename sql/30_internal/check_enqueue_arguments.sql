-- Refuses arguments that enqueue_workflow() cannot take, naming the argument.
CREATE OR REPLACE FUNCTION lockstep._check_enqueue_arguments(
    p_workflow_name text,
    p_queue_name text,
    p_positional_args jsonb,
    p_named_args jsonb,
    p_workflow_id text,
    p_deduplication_id text,
    p_on_duplicate text,
    p_priority int,
    p_queue_partition_key text,
    p_delay interval,
    p_run_at timestamptz,
    p_timeout interval,
    p_deadline timestamptz,
    p_max_attempts int,
    p_app_version text,
    p_headers jsonb
)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_message text;
    v_hint text;
BEGIN
    IF p_workflow_name IS NULL OR btrim(p_workflow_name) = '' OR length(p_workflow_name) > 512 THEN
        PERFORM lockstep._refuse_name('workflow_name', p_workflow_name);
    END IF;
    IF p_queue_name IS NULL OR btrim(p_queue_name) = '' OR length(p_queue_name) > 512 THEN
        PERFORM lockstep._refuse_name('queue_name', p_queue_name);
    END IF;
    IF btrim(p_workflow_id) = '' OR length(p_workflow_id) > 512 THEN
        PERFORM lockstep._refuse_name('workflow_id', p_workflow_id);
    END IF;
    IF btrim(p_deduplication_id) = '' OR length(p_deduplication_id) > 512 THEN
        PERFORM lockstep._refuse_name('deduplication_id', p_deduplication_id);
    END IF;
    IF btrim(p_queue_partition_key) = '' OR length(p_queue_partition_key) > 512 THEN
        PERFORM lockstep._refuse_name('queue_partition_key', p_queue_partition_key);
    END IF;
    IF btrim(p_app_version) = '' OR length(p_app_version) > 512 THEN
        PERFORM lockstep._refuse_name('app_version', p_app_version);
    END IF;

    IF p_positional_args IS NULL OR jsonb_typeof(p_positional_args) <> 'array' THEN
        v_message := 'positional_args must be a JSON array, not '
            || coalesce(jsonb_typeof(p_positional_args), 'null');
        v_hint := 'Pass one element per argument, for example jsonb_build_array(1, ''two'').';
    ELSIF p_named_args IS NULL OR jsonb_typeof(p_named_args) <> 'object' THEN
        v_message := 'named_args must be a JSON object, not ' || coalesce(jsonb_typeof(p_named_args), 'null');
        v_hint := 'Pass one key per argument, for example jsonb_build_object(''order_id'', 1).';
    ELSIF jsonb_typeof(p_headers) <> 'object' THEN
        v_message := format('headers must be a JSON object, not %s', jsonb_typeof(p_headers));
        v_hint := 'Pass one key per header, or null.';
    ELSIF p_on_duplicate IS NULL OR p_on_duplicate NOT IN ('raise', 'return') THEN
        v_message := 'on_duplicate must be ''raise'' or ''return'', not ' || quote_nullable(p_on_duplicate);
        v_hint := '''return'' gives the id of the unfinished workflow with the same deduplication_id.';
    ELSIF p_priority IS NULL OR p_priority < 0 THEN
        v_message := format('priority must be 0 or greater, not %s', coalesce(p_priority::text, 'null'));
        v_hint := '0 runs first, then 1, 2 and so on.';
    ELSIF p_max_attempts < 1 THEN
        v_message := format('max_attempts must be 1 or greater, not %s', p_max_attempts);
        v_hint := 'It counts executions; leave it out for the default.';
    ELSIF p_delay IS NOT NULL AND p_run_at IS NOT NULL THEN
        v_message := 'delay and run_at exclude each other';
        v_hint := 'Pass delay to start after a while, run_at to start at a time.';
    ELSIF p_delay < interval '0' THEN
        v_message := format('delay must not be negative, not %s', p_delay);
        v_hint := 'Leave it out to start at once.';
    ELSIF p_delay > interval '1000 years' THEN
        v_message := 'delay must be at most 1000 years';
        v_hint := 'Leave it out to start at once.';
    ELSIF NOT isfinite(p_delay) OR NOT isfinite(p_run_at) THEN
        v_message := format('%s must be finite', CASE WHEN p_run_at IS NULL THEN 'delay' ELSE 'run_at' END);
        v_hint := 'Pass the moment at which the workflow may start.';
    ELSIF p_timeout IS NOT NULL AND p_deadline IS NOT NULL THEN
        v_message := 'timeout and deadline exclude each other';
        v_hint := 'Pass timeout to limit the time from the first start, deadline to name a moment.';
    ELSIF p_timeout <= interval '0' OR p_timeout > interval '1000 years' THEN
        v_message := format('timeout must be positive and at most 1000 years, not %s', p_timeout);
        v_hint := 'Leave it out for no limit.';
    ELSIF NOT isfinite(p_deadline) THEN
        v_message := 'deadline must be finite';
        v_hint := 'Leave it out for no limit.';
    ELSE
        RETURN;
    END IF;

    RAISE EXCEPTION '%', v_message
        USING ERRCODE = 'invalid_parameter_value', HINT = v_hint;
END
$$;
COMMENT ON FUNCTION lockstep._check_enqueue_arguments(
    text, text, jsonb, jsonb, text, text, text, int, text,
    interval, timestamptz, interval, timestamptz, int, text, jsonb
) IS
    'Refuses arguments that enqueue_workflow() cannot take.';
