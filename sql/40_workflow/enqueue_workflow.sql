-- Enqueues a workflow; durable when the caller's transaction commits.
--
-- workflow_id makes the call idempotent: a second call with the same id, name
-- and queue returns the id and changes nothing. deduplication_id allows one
-- unfinished workflow per queue. debounce delays the start until calls with the
-- deduplication_id have paused for so long, and the workflow runs with the
-- arguments of the last one (_debounce_workflows()); on_duplicate is for calls without.
--
-- Takes no lock beside the new row. A rival with the same workflow_id or
-- deduplication_id that has not committed yet is waited for inside the INSERT.
-- The loop runs again only if the rival vanished between the INSERT, which it
-- stopped, and the look at it.
CREATE OR REPLACE FUNCTION lockstep.enqueue_workflow(
    workflow_name text,
    queue_name text,
    positional_args jsonb DEFAULT '[]',
    named_args jsonb DEFAULT '{}',
    workflow_id text DEFAULT NULL,
    deduplication_id text DEFAULT NULL,
    on_duplicate text DEFAULT 'raise',
    priority int DEFAULT 0,
    queue_partition_key text DEFAULT NULL,
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
RETURNS text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_now constant timestamptz := clock_timestamp();
    v_available_at timestamptz;
    v_workflow_id text := enqueue_workflow.workflow_id;
    v_inputs jsonb;
    v_problem text[];
    v_is_awaited boolean;
    r_rival record;
BEGIN
    -- what to run, where and with what: most calls say no more, and pay for no more
    IF btrim(enqueue_workflow.workflow_name) <> '' AND length(enqueue_workflow.workflow_name) <= 512
        AND btrim(enqueue_workflow.queue_name) <> '' AND length(enqueue_workflow.queue_name) <= 512
        AND jsonb_typeof(enqueue_workflow.positional_args) = 'array'
        AND jsonb_typeof(enqueue_workflow.named_args) = 'object'
        AND NOT lockstep._is_too_large(enqueue_workflow.positional_args)
        AND NOT lockstep._is_too_large(enqueue_workflow.named_args)
        AND enqueue_workflow.on_duplicate = 'raise'
        AND enqueue_workflow.priority = 0
        AND num_nonnulls(
            enqueue_workflow.workflow_id, enqueue_workflow.deduplication_id,
            enqueue_workflow.queue_partition_key, enqueue_workflow.delay,
            enqueue_workflow.run_at, enqueue_workflow.timeout, enqueue_workflow.deadline,
            enqueue_workflow.max_attempts, enqueue_workflow.app_version, enqueue_workflow.headers,
            enqueue_workflow.retries, enqueue_workflow.debounce, enqueue_workflow.debounce_max_delay
        ) = 0
    THEN
        INSERT INTO lockstep.workflow_status (
            workflow_name, queue_name, created_at, available_at, inputs, enqueued_by
        )
        VALUES (
            enqueue_workflow.workflow_name, enqueue_workflow.queue_name, v_now, v_now,
            jsonb_build_object(
                'positionalArgs', enqueue_workflow.positional_args,
                'namedArgs', enqueue_workflow.named_args
            ),
            lockstep._caller()
        )
        RETURNING workflow_status.workflow_id, EXISTS (
            SELECT
            FROM lockstep.executor AS e
            WHERE e.is_idle
                AND enqueue_workflow.queue_name = ANY (e.queues)
        )
        INTO v_workflow_id, v_is_awaited;

        -- _ring_doorbell(), without a call and a statement of its own
        IF v_is_awaited THEN
            PERFORM pg_notify('lockstep', '');
        END IF;

        RETURN v_workflow_id;
    END IF;

    v_problem := lockstep._enqueue_problem(
        enqueue_workflow.workflow_name, enqueue_workflow.queue_name,
        enqueue_workflow.positional_args, enqueue_workflow.named_args,
        enqueue_workflow.workflow_id, enqueue_workflow.deduplication_id,
        enqueue_workflow.on_duplicate, enqueue_workflow.priority,
        enqueue_workflow.queue_partition_key, enqueue_workflow.delay,
        enqueue_workflow.run_at, enqueue_workflow.timeout, enqueue_workflow.deadline,
        enqueue_workflow.max_attempts, enqueue_workflow.app_version, enqueue_workflow.headers,
        enqueue_workflow.retries, enqueue_workflow.debounce, enqueue_workflow.debounce_max_delay
    );
    IF v_problem IS NOT NULL THEN
        RAISE EXCEPTION '%', v_problem[1]
            USING ERRCODE = 'invalid_parameter_value', DETAIL = v_problem[2], HINT = v_problem[3];
    END IF;

    v_inputs := jsonb_build_object(
        'positionalArgs', enqueue_workflow.positional_args, 'namedArgs', enqueue_workflow.named_args
    );

    IF enqueue_workflow.debounce IS NOT NULL THEN
        RETURN (lockstep._debounce_workflows(
            enqueue_workflow.workflow_name, enqueue_workflow.queue_name, ARRAY[v_inputs],
            CASE WHEN v_workflow_id IS NOT NULL THEN ARRAY[v_workflow_id] END,
            ARRAY[enqueue_workflow.deduplication_id], ARRAY[enqueue_workflow.queue_partition_key],
            enqueue_workflow.priority, enqueue_workflow.timeout, enqueue_workflow.deadline,
            enqueue_workflow.max_attempts, enqueue_workflow.app_version, enqueue_workflow.headers,
            enqueue_workflow.retries, enqueue_workflow.debounce, enqueue_workflow.debounce_max_delay
        ))[1];
    END IF;

    v_available_at := coalesce(
        enqueue_workflow.run_at, v_now + enqueue_workflow.delay, v_now
    );
    IF v_workflow_id IS NULL THEN
        v_workflow_id := lockstep._generate_id(v_now);
    END IF;

    LOOP
        INSERT INTO lockstep.workflow_status (
            workflow_id, workflow_name, queue_name, status, inputs, priority,
            deduplication_id, queue_partition_key, app_version, max_attempts,
            created_at, available_at, deadline_at, timeout, enqueued_by, headers,
            retries
        )
        VALUES (
            v_workflow_id, enqueue_workflow.workflow_name, enqueue_workflow.queue_name,
            CASE WHEN v_available_at > v_now THEN 'DELAYED' ELSE 'ENQUEUED' END,
            v_inputs, enqueue_workflow.priority, enqueue_workflow.deduplication_id,
            enqueue_workflow.queue_partition_key, enqueue_workflow.app_version,
            coalesce(enqueue_workflow.max_attempts, 50), v_now, v_available_at,
            enqueue_workflow.deadline, enqueue_workflow.timeout,
            lockstep._caller(),
            enqueue_workflow.headers, enqueue_workflow.retries
        )
        ON CONFLICT DO NOTHING;

        EXIT WHEN FOUND;

        SELECT w.workflow_name, w.queue_name, lockstep._may_see(w.enqueued_by) AS is_visible
        INTO r_rival
        FROM lockstep.workflow_status AS w
        WHERE w.workflow_id = v_workflow_id;

        IF FOUND THEN
            IF r_rival.is_visible
                AND r_rival.workflow_name = enqueue_workflow.workflow_name
                AND r_rival.queue_name = enqueue_workflow.queue_name
            THEN
                PERFORM lockstep._wait_for_standby();
                RETURN v_workflow_id;
            END IF;

            RAISE EXCEPTION 'workflow "%" exists already', v_workflow_id
                USING ERRCODE = 'unique_violation',
                      DETAIL = CASE
                          WHEN r_rival.is_visible
                              THEN format('It runs "%s" in queue "%s".', r_rival.workflow_name, r_rival.queue_name)
                          ELSE 'It is not visible to this role.'
                      END,
                      HINT = 'Use another workflow_id for another workflow or queue.';
        END IF;

        SELECT w.workflow_id, lockstep._may_see(w.enqueued_by) AS is_visible
        INTO r_rival
        FROM lockstep.workflow_status AS w
        WHERE w.queue_name = enqueue_workflow.queue_name
            AND w.deduplication_id = enqueue_workflow.deduplication_id
            AND w.completed_at IS NULL;

        IF FOUND THEN
            IF r_rival.is_visible AND enqueue_workflow.on_duplicate = 'return' THEN
                PERFORM lockstep._wait_for_standby();
                RETURN r_rival.workflow_id;
            END IF;

            PERFORM lockstep._refuse_rival(
                enqueue_workflow.queue_name, enqueue_workflow.deduplication_id, r_rival.workflow_id,
                'Pass on_duplicate => ''return'' to get its id instead of this error.'
            );
        END IF;
    END LOOP;

    PERFORM lockstep._ring_doorbell(
        ARRAY[enqueue_workflow.queue_name], CASE WHEN v_available_at > v_now THEN 'due' ELSE '' END
    );
    RETURN v_workflow_id;
END
$$;
COMMENT ON FUNCTION lockstep.enqueue_workflow(
    text, text, jsonb, jsonb, text, text, text, int, text,
    interval, timestamptz, interval, timestamptz, int, text, jsonb, jsonb, interval, interval
) IS
    'Enqueues a workflow and returns its id; durable when the transaction commits.';
