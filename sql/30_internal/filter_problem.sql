-- Finds what is wrong with a filter of workflows: NULL, or message, detail and hint.
CREATE OR REPLACE FUNCTION lockstep._filter_problem(p_filter jsonb)
RETURNS text[]
LANGUAGE plpgsql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_keys constant text[] := ARRAY[
        'status', 'workflow_name', 'queue_name', 'created_after', 'created_before',
        'parent_workflow_id', 'id_prefix', 'error_text', 'headers'
    ];
    v_statuses constant text[] := ARRAY[
        'ENQUEUED', 'DELAYED', 'PENDING', 'WAITING', 'SUCCESS', 'ERROR', 'CANCELLED',
        'MAX_RECOVERY_ATTEMPTS_EXCEEDED'
    ];
    v_detail text;
BEGIN
    IF p_filter IS NULL OR jsonb_typeof(p_filter) <> 'object' THEN
        RETURN ARRAY[
            'filter must be a JSON object',
            format('It is %s.', coalesce(jsonb_typeof(p_filter), 'null')),
            'Pass one key per condition, as {"status": "ERROR"}, and {} to mean all workflows.'
        ];
    END IF;

    SELECT CASE
        WHEN f.key <> ALL (v_keys) THEN format('"%s" is no key of a filter.', left(f.key, 40))
        WHEN f.key = 'headers' AND jsonb_typeof(f.value) <> 'object'
            THEN format('"headers" is %s, not an object.', jsonb_typeof(f.value))
        WHEN f.key = 'status' AND jsonb_typeof(f.value) = 'array' THEN (
            SELECT format('"%s" is no status.', left(s.status, 40))
            FROM jsonb_array_elements_text(f.value) AS s (status)
            WHERE s.status IS NULL OR s.status <> ALL (v_statuses)
            LIMIT 1
        )
        WHEN f.key <> 'headers' AND jsonb_typeof(f.value) <> 'string'
            THEN format('"%s" is %s, not a string.', f.key, jsonb_typeof(f.value))
        WHEN f.key = 'status' AND f.value #>> '{}' <> ALL (v_statuses)
            THEN format('"%s" is no status.', left(f.value #>> '{}', 40))
    END
    INTO v_detail
    FROM jsonb_each(p_filter) AS f
    ORDER BY 1 NULLS LAST
    LIMIT 1;

    RETURN CASE
        WHEN v_detail IS NOT NULL THEN ARRAY[
            'filter has a condition that cannot be tested', v_detail,
            format('Its keys are %s; a status is one of %s.', array_to_string(v_keys, ', '), array_to_string(v_statuses, ', '))
        ]
    END;
END
$$;
COMMENT ON FUNCTION lockstep._filter_problem(jsonb) IS
    'Finds what is wrong with a filter of workflows: NULL, or message, detail and hint.';
