-- Finds what enqueue_workflows() cannot take in its arrays: NULL, or message, detail and
-- hint, about the first element that is wrong.
CREATE OR REPLACE FUNCTION lockstep._enqueue_many_problem(
    p_named_args jsonb[],
    p_positional_args jsonb[],
    p_workflow_ids text[],
    p_deduplication_ids text[],
    p_queue_partition_keys text[],
    p_debounce interval
)
RETURNS text[]
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_count constant int := cardinality(p_named_args);
    v_counts constant int[] := ARRAY[
        cardinality(p_positional_args), cardinality(p_workflow_ids),
        cardinality(p_deduplication_ids), cardinality(p_queue_partition_keys)
    ];
    v_problem text[];
BEGIN
    IF v_count IS NULL OR v_count <> ANY (v_counts) THEN
        RETURN ARRAY[
            'named_args must have one element per workflow, as every other array that is given',
            format(
                'named_args has %s, positional_args, workflow_ids, deduplication_ids and queue_partition_keys have %s.',
                coalesce(v_count::text, 'none'), array_to_string(v_counts, ', ', 'none')
            ),
            'Pass an empty object for a workflow without named arguments, and leave out an array that says nothing.'
        ];
    END IF;

    SELECT lockstep._enqueue_problem(
        'any', 'any', coalesce(n.positional_args, '[]'), coalesce(n.named_args, '{}'),
        n.workflow_id, n.deduplication_id, 'raise', 0, n.queue_partition_key,
        NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, p_debounce
    )
    INTO v_problem
    FROM unnest(p_named_args, p_positional_args, p_workflow_ids, p_deduplication_ids, p_queue_partition_keys)
        WITH ORDINALITY
        AS n (named_args, positional_args, workflow_id, deduplication_id, queue_partition_key, place)
    WHERE jsonb_typeof(n.named_args) <> 'object'
        OR jsonb_typeof(n.positional_args) <> 'array'
        OR lockstep._is_too_large(n.named_args) OR lockstep._is_too_large(n.positional_args)
        OR btrim(n.workflow_id) = '' OR length(n.workflow_id) > 512
        OR btrim(n.deduplication_id) = '' OR length(n.deduplication_id) > 512
        OR (p_debounce IS NOT NULL AND n.deduplication_id IS NULL)
        OR btrim(n.queue_partition_key) = '' OR length(n.queue_partition_key) > 512
    ORDER BY n.place
    LIMIT 1;

    RETURN v_problem;
END
$$;
COMMENT ON FUNCTION lockstep._enqueue_many_problem(jsonb[], jsonb[], text[], text[], text[], interval) IS
    'Finds what enqueue_workflows() cannot take in its arrays: NULL, or message, detail and hint.';
