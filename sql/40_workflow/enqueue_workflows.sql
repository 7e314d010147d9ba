-- Enqueues many workflows of one name with one INSERT; returns their ids in order.
--
-- named_args has one element per workflow. Each other array has as many or is
-- NULL; a NULL in it means what leaving the argument out means. What is no
-- array holds for all of them. Each workflow is treated as enqueue_workflow()
-- treats it; one that it refuses refuses them all.
--
-- Takes no lock beside the new rows. Rivals with the same workflow_id or
-- deduplication_id are waited for inside the INSERT, in the order of the ids, so that
-- two calls for the same ids do not deadlock. What met a rival is handed to
-- enqueue_workflow(), which decides.
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
    v_problem text[];
    v_ids text[];
    v_inserted text[];
    r_rest record;
BEGIN
    v_problem := lockstep._enqueue_problem(
        enqueue_workflows.workflow_name, enqueue_workflows.queue_name, '[]', '{}', NULL,
        'each has its own', enqueue_workflows.on_duplicate, enqueue_workflows.priority, NULL,
        enqueue_workflows.delay, enqueue_workflows.run_at, enqueue_workflows.timeout,
        enqueue_workflows.deadline, enqueue_workflows.max_attempts,
        enqueue_workflows.app_version, enqueue_workflows.headers, enqueue_workflows.retries,
        enqueue_workflows.debounce, enqueue_workflows.debounce_max_delay
    );
    IF v_problem IS NULL THEN
        v_problem := lockstep._enqueue_many_problem(
            enqueue_workflows.named_args, enqueue_workflows.positional_args,
            enqueue_workflows.workflow_ids, enqueue_workflows.deduplication_ids,
            enqueue_workflows.queue_partition_keys, enqueue_workflows.debounce
        );
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

    IF num_nonnulls(enqueue_workflows.workflow_ids, enqueue_workflows.deduplication_ids) = 0 THEN
        -- meets no rival, and need not look for one
        INSERT INTO lockstep.workflow_status (
            workflow_id, workflow_name, queue_name, status, inputs, priority, queue_partition_key,
            app_version, max_attempts, created_at, available_at, deadline_at, timeout, enqueued_by,
            headers, retries
        )
        SELECT
            n.workflow_id, enqueue_workflows.workflow_name, enqueue_workflows.queue_name,
            CASE WHEN v_available_at > v_now THEN 'DELAYED' ELSE 'ENQUEUED' END,
            jsonb_build_object(
                'positionalArgs', coalesce(n.positional_args, '[]'),
                'namedArgs', coalesce(n.named_args, '{}')
            ),
            enqueue_workflows.priority, n.queue_partition_key, enqueue_workflows.app_version,
            coalesce(enqueue_workflows.max_attempts, 50), v_now + n.place * interval '1 us',
            v_available_at + n.place * interval '1 us', enqueue_workflows.deadline,
            enqueue_workflows.timeout, lockstep._caller(), enqueue_workflows.headers, enqueue_workflows.retries
        FROM unnest(
            v_ids, enqueue_workflows.named_args, enqueue_workflows.positional_args,
            enqueue_workflows.queue_partition_keys
        ) WITH ORDINALITY
            AS n (workflow_id, named_args, positional_args, queue_partition_key, place);

        v_inserted := v_ids;
    ELSIF enqueue_workflows.workflow_ids IS NOT NULL
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
            ORDER BY n.deduplication_id COLLATE "C", n.workflow_id COLLATE "C"
            ON CONFLICT DO NOTHING
            RETURNING workflow_status.workflow_id
        )

        SELECT coalesce(array_agg(i.workflow_id), '{}')
        INTO v_inserted
        FROM inserted AS i;
    END IF;

    IF cardinality(v_inserted) < cardinality(v_ids) THEN
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
