-- Finds what enqueue_workflow() cannot take: NULL, or message, detail and hint.
--
-- Returns instead of raising, so that the error comes from the function that
-- the user called, without a page of context.
CREATE OR REPLACE FUNCTION lockstep._enqueue_problem(
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
    p_headers jsonb,
    p_retries jsonb,
    p_debounce interval DEFAULT NULL,
    p_debounce_max_delay interval DEFAULT NULL
)
RETURNS text[]
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_message text;
    v_detail text;
    v_hint text;
BEGIN
    IF p_workflow_name IS NULL OR btrim(p_workflow_name) = '' OR length(p_workflow_name) > 512 THEN
        RETURN lockstep._name_problem('workflow_name', p_workflow_name);
    ELSIF p_queue_name IS NULL OR btrim(p_queue_name) = '' OR length(p_queue_name) > 512 THEN
        RETURN lockstep._name_problem('queue_name', p_queue_name);
    ELSIF btrim(p_workflow_id) = '' OR length(p_workflow_id) > 512 THEN
        RETURN lockstep._name_problem('workflow_id', p_workflow_id);
    ELSIF btrim(p_deduplication_id) = '' OR length(p_deduplication_id) > 512 THEN
        RETURN lockstep._name_problem('deduplication_id', p_deduplication_id);
    ELSIF btrim(p_queue_partition_key) = '' OR length(p_queue_partition_key) > 512 THEN
        RETURN lockstep._name_problem('queue_partition_key', p_queue_partition_key);
    ELSIF btrim(p_app_version) = '' OR length(p_app_version) > 512 THEN
        RETURN lockstep._name_problem('app_version', p_app_version);
    ELSIF p_positional_args IS NULL OR jsonb_typeof(p_positional_args) <> 'array' THEN
        v_message := 'positional_args must be a JSON array';
        v_detail := format('It is %s.', coalesce(jsonb_typeof(p_positional_args), 'null'));
        v_hint := 'Pass one element per argument, for example jsonb_build_array(1, ''two'').';
    ELSIF p_named_args IS NULL OR jsonb_typeof(p_named_args) <> 'object' THEN
        v_message := 'named_args must be a JSON object';
        v_detail := format('It is %s.', coalesce(jsonb_typeof(p_named_args), 'null'));
        v_hint := 'Pass one key per argument, for example jsonb_build_object(''order_id'', 1).';
    ELSIF jsonb_typeof(p_headers) <> 'object' THEN
        v_message := 'headers must be a JSON object';
        v_detail := format('It is %s.', jsonb_typeof(p_headers));
        v_hint := 'Pass one key per header, or null.';
    ELSIF lockstep._is_too_large(p_positional_args) THEN
        RETURN lockstep._size_problem('positional_args', p_positional_args);
    ELSIF lockstep._is_too_large(p_named_args) THEN
        RETURN lockstep._size_problem('named_args', p_named_args);
    ELSIF lockstep._is_too_large(p_headers) THEN
        RETURN lockstep._size_problem('headers', p_headers);
    ELSIF p_on_duplicate IS NULL OR p_on_duplicate NOT IN ('raise', 'return') THEN
        v_message := 'on_duplicate must be ''raise'' or ''return''';
        v_detail := format('It is %s.', quote_nullable(left(p_on_duplicate, 40)));
        v_hint := '''return'' gives the id of the unfinished workflow with the same deduplication_id.';
    ELSIF p_priority IS NULL OR p_priority < 0 THEN
        v_message := 'priority must be 0 or greater';
        v_detail := format('It is %s.', coalesce(p_priority::text, 'null'));
        v_hint := '0 runs first, then 1, 2 and so on.';
    ELSIF p_max_attempts < 1 THEN
        v_message := 'max_attempts must be 1 or greater';
        v_detail := format('It is %s.', p_max_attempts);
        v_hint := 'It counts executions; leave it out for the default.';
    ELSIF p_delay IS NOT NULL AND p_run_at IS NOT NULL THEN
        v_message := 'delay and run_at exclude each other';
        v_detail := format('They are %s and %s.', p_delay, p_run_at);
        v_hint := 'Pass delay to start after a while, run_at to start at a time.';
    ELSIF p_delay NOT BETWEEN interval '0' AND interval '1000 years' THEN
        v_message := 'delay must not be negative, nor over 1000 years';
        v_detail := format('It is %s.', p_delay);
        v_hint := 'Leave it out to start at once.';
    ELSIF p_run_at NOT BETWEEN '0001-01-02' AND '9999-12-30' THEN
        v_message := 'run_at must be in the years 1 to 9999';
        v_detail := format('It is %s.', p_run_at);
        v_hint := 'Leave it out to start at once.';
    ELSIF p_timeout IS NOT NULL AND p_deadline IS NOT NULL THEN
        v_message := 'timeout and deadline exclude each other';
        v_detail := format('They are %s and %s.', p_timeout, p_deadline);
        v_hint := 'Pass timeout to limit the time from the first start, deadline to name a moment.';
    ELSIF p_timeout <= interval '0' OR p_timeout > interval '1000 years' THEN
        v_message := 'timeout must be positive, and at most 1000 years';
        v_detail := format('It is %s.', p_timeout);
        v_hint := 'Leave it out for no limit.';
    ELSIF p_deadline NOT BETWEEN '0001-01-02' AND '9999-12-30' THEN
        v_message := 'deadline must be in the years 1 to 9999';
        v_detail := format('It is %s.', p_deadline);
        v_hint := 'Leave it out for no limit.';
    ELSIF p_debounce IS NULL AND p_debounce_max_delay IS NOT NULL THEN
        v_message := 'debounce_max_delay needs a debounce';
        v_detail := format('It is %s.', p_debounce_max_delay);
        v_hint := 'Pass debounce, or leave both out.';
    ELSIF p_debounce IS NOT NULL AND p_deduplication_id IS NULL THEN
        v_message := 'debounce needs a deduplication_id';
        v_detail := format('debounce is %s, deduplication_id is null.', p_debounce);
        v_hint := 'Calls with the same queue and deduplication_id become one workflow.';
    ELSIF p_debounce IS NOT NULL AND num_nonnulls(p_delay, p_run_at) > 0 THEN
        v_message := 'debounce excludes delay and run_at';
        v_detail := format(
            'They are %s, %s and %s.', p_debounce,
            coalesce(p_delay::text, 'null'), coalesce(p_run_at::text, 'null')
        );
        v_hint := 'debounce itself says when the workflow starts.';
    ELSIF p_debounce <= interval '0' OR p_debounce > interval '1000 years' THEN
        v_message := 'debounce must be positive, and at most 1000 years';
        v_detail := format('It is %s.', p_debounce);
        v_hint := 'Leave it out to start at once.';
    ELSIF p_debounce_max_delay <= interval '0' OR p_debounce_max_delay > interval '1000 years' THEN
        v_message := 'debounce_max_delay must be positive, and at most 1000 years';
        v_detail := format('It is %s.', p_debounce_max_delay);
        v_hint := 'Leave it out for no limit.';
    ELSIF p_retries IS NOT NULL THEN
        RETURN lockstep._retries_problem(p_retries);
    ELSE
        RETURN NULL;
    END IF;

    RETURN ARRAY[v_message, v_detail, v_hint];
END
$$;
COMMENT ON FUNCTION lockstep._enqueue_problem(
    text, text, jsonb, jsonb, text, text, text, int, text,
    interval, timestamptz, interval, timestamptz, int, text, jsonb, jsonb, interval, interval
) IS
    'Finds what enqueue_workflow() cannot take: NULL, or message, detail and hint.';
