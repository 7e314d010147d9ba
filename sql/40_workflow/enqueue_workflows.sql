-- Enqueues many workflows of one name with one INSERT; returns their ids in order.
--
-- named_args has one element per workflow. Each other array has as many or is
-- NULL; a NULL in it means what leaving the argument out means. What is no
-- array holds for all of them. Each workflow is treated as enqueue_workflow()
-- treats it; one that it refuses refuses them all.
--
-- Takes no lock beside the new rows. Rivals with the same workflow_id or
-- deduplication_id are waited for inside the INSERT, in the order of the arrays:
-- of two calls that name the same ids in different orders one may fail as
-- deadlocked. What met a rival is handed to enqueue_workflow(), which decides.
CREATE OR REPLACE FUNCTION lockstep.enqueue_workflows(
    workflow_name text,
    queue_name text,
    named_args jsonb[],
    positional_args jsonb[] DEFAULT NULL,
    workflow_ids text[] DEFAULT NULL,
    deduplication_ids text[] DEFAULT NULL,
    on_duplicate text DEFAULT 'raise',
    priority int DEFAULT 0,
    queue_partition_keys text[] DEFAULT NULL,
    delay interval DEFAULT NULL,
    run_at timestamptz DEFAULT NULL,
    timeout interval DEFAULT NULL,
    deadline timestamptz DEFAULT NULL,
    max_attempts int DEFAULT NULL,
    app_version text DEFAULT NULL,
    headers jsonb DEFAULT NULL,
    retries jsonb DEFAULT NULL,
    debounce interval DEFAULT NULL,
    debounce_max_delay interval DEFAULT NULL
)
RETURNS SETOF text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_now constant timestamptz := clock_timestamp();
    v_available_at timestamptz;
    v_count constant int := cardinality(enqueue_workflows.named_args);
    v_counts constant int[] := ARRAY[
        cardinality(enqueue_workflows.positional_args), cardinality(enqueue_workflows.workflow_ids),
        cardinality(enqueue_workflows.deduplication_ids), cardinality(enqueue_workflows.queue_partition_keys)
    ];
    v_problem text[];
    v_ids text[];
    v_inserted text[];
    r_rest record;
BEGIN
    v_problem := lockstep._enqueue_problem(
        enqueue_workflows.workflow_name, enqueue_workflows.queue_name, '[]', '{}', NULL,
        'looked at below', enqueue_workflows.on_duplicate, enqueue_workflows.priority, NULL,
        enqueue_workflows.delay, enqueue_workflows.run_at, enqueue_workflows.timeout,
        enqueue_workflows.deadline, enqueue_workflows.max_attempts,
        enqueue_workflows.app_version, enqueue_workflows.headers, enqueue_workflows.retries,
        enqueue_workflows.debounce, enqueue_workflows.debounce_max_delay
    );

    IF v_problem IS NULL AND (v_count IS NULL OR v_count <> ANY (v_counts)) THEN
        v_problem := ARRAY[
            'named_args must have one element per workflow, as every other array that is given',
            format(
                'named_args has %s, positional_args, workflow_ids, deduplication_ids and queue_partition_keys have %s.',
                coalesce(v_count::text, 'none'), array_to_string(v_counts, ', ', 'none')
            ),
            'Pass an empty object for a workflow without named arguments, and leave out an array that says nothing.'
        ];
    END IF;

    IF v_problem IS NULL THEN
        SELECT lockstep._enqueue_problem(
            enqueue_workflows.workflow_name, enqueue_workflows.queue_name,
            coalesce(n.positional_args, '[]'), coalesce(n.named_args, '{}'),
            n.workflow_id, n.deduplication_id, enqueue_workflows.on_duplicate,
            enqueue_workflows.priority, n.queue_partition_key,
            NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, enqueue_workflows.debounce
        )
        INTO v_problem
        FROM unnest(
            enqueue_workflows.named_args, enqueue_workflows.positional_args, enqueue_workflows.workflow_ids,
            enqueue_workflows.deduplication_ids, enqueue_workflows.queue_partition_keys
        ) WITH ORDINALITY
            AS n (named_args, positional_args, workflow_id, deduplication_id, queue_partition_key, place)
        WHERE jsonb_typeof(n.named_args) <> 'object'
            OR jsonb_typeof(n.positional_args) <> 'array'
            OR btrim(n.workflow_id) = '' OR length(n.workflow_id) > 512
            OR btrim(n.deduplication_id) = '' OR length(n.deduplication_id) > 512
            OR (enqueue_workflows.debounce IS NOT NULL AND n.deduplication_id IS NULL)
            OR btrim(n.queue_partition_key) = '' OR length(n.queue_partition_key) > 512
        ORDER BY n.place
        LIMIT 1;
    END IF;

    IF v_problem IS NOT NULL THEN
        RAISE EXCEPTION '%', v_problem[1]
            USING ERRCODE = 'invalid_parameter_value', DETAIL = v_problem[2], HINT = v_problem[3];
    END IF;

    IF enqueue_workflows.debounce IS NOT NULL THEN
        RETURN QUERY
        SELECT n.workflow_id
        FROM unnest(lockstep._debounce_workflows(
            enqueue_workflows.workflow_name, enqueue_workflows.queue_name,
            ARRAY(
                SELECT jsonb_build_object(
                    'positionalArgs', coalesce(n.positional_args, '[]'),
                    'namedArgs', coalesce(n.named_args, '{}')
                )
                FROM unnest(enqueue_workflows.named_args, enqueue_workflows.positional_args) WITH ORDINALITY
                    AS n (named_args, positional_args, place)
                ORDER BY n.place
            ),
            enqueue_workflows.workflow_ids, enqueue_workflows.deduplication_ids,
            enqueue_workflows.queue_partition_keys, enqueue_workflows.priority,
            enqueue_workflows.timeout, enqueue_workflows.deadline, enqueue_workflows.max_attempts,
            enqueue_workflows.app_version, enqueue_workflows.headers, enqueue_workflows.retries,
            enqueue_workflows.debounce, enqueue_workflows.debounce_max_delay
        )) AS n (workflow_id);
        RETURN;
    END IF;

    v_available_at := coalesce(
        enqueue_workflows.run_at, v_now + enqueue_workflows.delay, v_now
    );
    -- a microsecond apart, so that they sort, and start, in the order of the arrays
    v_ids := ARRAY(
        SELECT coalesce(n.workflow_id, lockstep._generate_id(v_now + n.place * interval '1 us'))
        FROM unnest(enqueue_workflows.named_args, enqueue_workflows.workflow_ids) WITH ORDINALITY
            AS n (named_args, workflow_id, place)
    );

    IF enqueue_workflows.workflow_ids IS NOT NULL
        AND (SELECT count(*) > count(DISTINCT i.workflow_id) FROM unnest(v_ids) AS i (workflow_id))
    THEN
        v_inserted := '{}';  -- where ids repeat, one after the other is decided
    ELSE
        WITH inserted AS (
            INSERT INTO lockstep.workflow_status (
                workflow_id, workflow_name, queue_name, status, inputs, priority,
                deduplication_id, queue_partition_key, app_version, max_attempts,
                created_at, available_at, deadline_at, timeout, enqueued_by, headers,
                retries
            )
            SELECT
                n.workflow_id, enqueue_workflows.workflow_name, enqueue_workflows.queue_name,
                CASE WHEN v_available_at > v_now THEN 'DELAYED' ELSE 'ENQUEUED' END,
                jsonb_build_object(
                    'positionalArgs', coalesce(n.positional_args, '[]'),
                    'namedArgs', coalesce(n.named_args, '{}')
                ),
                enqueue_workflows.priority, n.deduplication_id, n.queue_partition_key,
                enqueue_workflows.app_version, coalesce(enqueue_workflows.max_attempts, 50),
                v_now + n.place * interval '1 us', v_available_at + n.place * interval '1 us',
                enqueue_workflows.deadline, enqueue_workflows.timeout,
                lockstep._caller(),
                enqueue_workflows.headers, enqueue_workflows.retries
            FROM unnest(
                v_ids, enqueue_workflows.named_args, enqueue_workflows.positional_args,
                enqueue_workflows.deduplication_ids, enqueue_workflows.queue_partition_keys
            ) WITH ORDINALITY
                AS n (workflow_id, named_args, positional_args, deduplication_id, queue_partition_key, place)
            ON CONFLICT DO NOTHING
            RETURNING workflow_status.workflow_id
        )

        SELECT coalesce(array_agg(i.workflow_id), '{}')
        INTO v_inserted
        FROM inserted AS i;
    END IF;

    IF cardinality(v_inserted) < v_count THEN
        FOR r_rest IN
            SELECT n.*
            FROM unnest(
                v_ids, enqueue_workflows.named_args, enqueue_workflows.positional_args,
                enqueue_workflows.deduplication_ids, enqueue_workflows.queue_partition_keys
            ) WITH ORDINALITY
                AS n (workflow_id, named_args, positional_args, deduplication_id, queue_partition_key, place)
            WHERE n.workflow_id NOT IN (SELECT unnest(v_inserted))
            ORDER BY n.place
        LOOP
            v_ids[r_rest.place] := lockstep.enqueue_workflow(
                enqueue_workflows.workflow_name, enqueue_workflows.queue_name,
                coalesce(r_rest.positional_args, '[]'), coalesce(r_rest.named_args, '{}'),
                r_rest.workflow_id, r_rest.deduplication_id, enqueue_workflows.on_duplicate,
                enqueue_workflows.priority, r_rest.queue_partition_key,
                enqueue_workflows.delay, enqueue_workflows.run_at, enqueue_workflows.timeout,
                enqueue_workflows.deadline, enqueue_workflows.max_attempts,
                enqueue_workflows.app_version, enqueue_workflows.headers, enqueue_workflows.retries
            );
        END LOOP;
    END IF;

    PERFORM lockstep._ring_doorbell(
        ARRAY[enqueue_workflows.queue_name], CASE WHEN v_available_at > v_now THEN 'due' ELSE '' END
    );

    RETURN QUERY
    SELECT n.workflow_id
    FROM unnest(v_ids) AS n (workflow_id);
END
$$;
COMMENT ON FUNCTION lockstep.enqueue_workflows(
    text, text, jsonb[], jsonb[], text[], text[], text, int, text[],
    interval, timestamptz, interval, timestamptz, int, text, jsonb, jsonb, interval, interval
) IS
    'Enqueues many workflows of one name at once; returns their ids in order.';
