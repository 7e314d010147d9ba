-- Starts workflows as children of others, each recorded as a step of its parent.
--
-- children: [{"workflow_id", "attempt", "step_id", "step_name", "workflow_name",
-- "queue_name", "inputs", "is_awaited", and any of "child_id", "priority",
-- "queue_partition_key", "delay": seconds, "run_at", "timeout": seconds, "deadline",
-- "app_version", "max_attempts", "headers", "retries"}, …]. Returns the id of each child; none for
-- workflows that the executor had lost. The step and the child's row commit
-- together, so a replay, and a call sent twice, starts none again. With is_awaited
-- the step stays open for the child's result, which await_workflows() records. A
-- child_id that a workflow of the same name and queue has means that workflow. A
-- child has its parent's deadline, unless its own comes first.
--
-- Lock order: the executor row (FOR KEY SHARE), then the parents' rows by id, FOR
-- SHARE: a cancellation of the parent comes before, and the start fails, or after,
-- and finds the child.
CREATE OR REPLACE FUNCTION lockstep.start_children(executor_id text, children jsonb)
RETURNS TABLE (workflow_id text, step_id int, child_id text)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '500ms'
AS $$
#variable_conflict use_column
DECLARE
    v_now constant timestamptz := clock_timestamp();
    v_problem text[];
    v_queues text[];
    r_rival record;
BEGIN
    PERFORM lockstep._hold_executor(start_children.executor_id);

    PERFORM
    FROM lockstep.workflow_status AS w
    WHERE w.workflow_id = ANY (
        ARRAY(SELECT c.workflow_id FROM jsonb_to_recordset(start_children.children) AS c (workflow_id text))
    )
    ORDER BY w.workflow_id
    FOR SHARE;

    SELECT p.problem
    INTO v_problem
    FROM jsonb_to_recordset(start_children.children) AS c (
        workflow_name text, queue_name text, child_id text, priority int, queue_partition_key text,
        delay double precision, run_at timestamptz, timeout double precision, deadline timestamptz,
        max_attempts int, app_version text, headers jsonb, retries jsonb
    )
    CROSS JOIN LATERAL (
        SELECT lockstep._enqueue_problem(
            c.workflow_name, c.queue_name, '[]', '{}', c.child_id, NULL, 'raise',
            coalesce(c.priority, 0), c.queue_partition_key, make_interval(secs => c.delay), c.run_at,
            make_interval(secs => c.timeout), c.deadline, c.max_attempts, c.app_version, c.headers, c.retries
        ) AS problem
    ) AS p
    WHERE p.problem IS NOT NULL
    LIMIT 1;

    IF FOUND THEN
        RAISE EXCEPTION '%', v_problem[1]
            USING ERRCODE = 'invalid_parameter_value', DETAIL = v_problem[2], HINT = v_problem[3];
    END IF;

    WITH child AS MATERIALIZED (
        SELECT
            c.workflow_id AS parent_id, c.step_id, c.step_name, c.workflow_name, c.queue_name, c.inputs,
            coalesce(c.is_awaited, false) AS is_awaited,
            coalesce(c.child_id, lockstep._generate_id(v_now + c.place * interval '1 us')) AS child_id,
            c.priority, c.queue_partition_key, c.app_version, c.max_attempts, c.headers, c.retries,
            make_interval(secs => c.timeout) AS timeout,
            v_now + c.place * interval '1 us' AS created_at,
            coalesce(c.run_at, v_now + make_interval(secs => c.delay)) AS starts_at,
            least(w.deadline_at, c.deadline) AS deadline_at, w.enqueued_by
        FROM ROWS FROM (
            jsonb_to_recordset(start_children.children) AS (
                workflow_id text, attempt int, step_id int, step_name text, workflow_name text,
                queue_name text, inputs jsonb, is_awaited boolean, child_id text, priority int,
                queue_partition_key text, delay double precision, run_at timestamptz,
                timeout double precision, deadline timestamptz, max_attempts int, app_version text,
                headers jsonb, retries jsonb
            )
        ) WITH ORDINALITY AS c (
            workflow_id, attempt, step_id, step_name, workflow_name, queue_name, inputs, is_awaited,
            child_id, priority, queue_partition_key, delay, run_at, timeout, deadline, max_attempts,
            app_version, headers, retries, place
        )
        INNER JOIN lockstep.workflow_status AS w ON w.workflow_id = ANY (ARRAY[c.workflow_id])
        WHERE (w.status, w.executor_id, w.attempts)
            IS NOT DISTINCT FROM ('PENDING', start_children.executor_id, c.attempt)
    ),

    recorded AS (
        INSERT INTO lockstep.operation_outputs AS o (
            workflow_id, step_id, step_name, output, attempts, started_at, completed_at, child_workflow_id
        )
        SELECT
            c.parent_id, c.step_id, c.step_name, CASE WHEN NOT c.is_awaited THEN to_jsonb(c.child_id) END,
            CASE WHEN c.is_awaited THEN 0 ELSE 1 END, v_now,
            CASE WHEN NOT c.is_awaited THEN v_now END, c.child_id
        FROM child AS c
        ON CONFLICT (workflow_id, step_id) DO NOTHING
        RETURNING o.child_workflow_id
    ),

    enqueued AS (
        INSERT INTO lockstep.workflow_status AS w (
            workflow_id, workflow_name, queue_name, status, inputs, priority, queue_partition_key,
            app_version, max_attempts, created_at, available_at, deadline_at, timeout,
            parent_workflow_id, enqueued_by, headers, retries
        )
        SELECT
            c.child_id, c.workflow_name, c.queue_name,
            CASE WHEN c.starts_at > v_now THEN 'DELAYED' ELSE 'ENQUEUED' END,
            c.inputs, coalesce(c.priority, 0), c.queue_partition_key,
            c.app_version, coalesce(c.max_attempts, 50), c.created_at,
            coalesce(c.starts_at, c.created_at), c.deadline_at, c.timeout,
            c.parent_id, c.enqueued_by, c.headers, c.retries
        FROM child AS c
        WHERE c.child_id IN (SELECT r.child_workflow_id FROM recorded AS r)
        ON CONFLICT (workflow_id) DO NOTHING
        RETURNING w.queue_name
    )

    SELECT array_agg(DISTINCT e.queue_name)
    INTO v_queues
    FROM enqueued AS e;

    IF v_queues IS NOT NULL THEN
        PERFORM lockstep._ring_doorbell(v_queues);
    END IF;

    SELECT w.workflow_id, w.workflow_name, w.queue_name
    INTO r_rival
    FROM jsonb_to_recordset(start_children.children)
        AS c (child_id text, workflow_name text, queue_name text)
    INNER JOIN lockstep.workflow_status AS w ON w.workflow_id = ANY (ARRAY[c.child_id])
    WHERE (w.workflow_name, w.queue_name) IS DISTINCT FROM (c.workflow_name, c.queue_name)
    LIMIT 1;

    IF FOUND THEN
        RAISE EXCEPTION 'workflow "%" exists already', r_rival.workflow_id
            USING ERRCODE = 'unique_violation',
                  DETAIL = format('It runs "%s" in queue "%s".', r_rival.workflow_name, r_rival.queue_name),
                  HINT = 'Use another workflow_id for another workflow or queue.';
    END IF;

    RETURN QUERY
    SELECT c.workflow_id, c.step_id, o.child_workflow_id
    FROM jsonb_to_recordset(start_children.children) AS c (workflow_id text, attempt int, step_id int)
    INNER JOIN lockstep.operation_outputs AS o
        ON o.workflow_id = ANY (ARRAY[c.workflow_id])
        AND o.step_id = ANY (ARRAY[c.step_id])
    WHERE lockstep._is_held(start_children.executor_id, c.workflow_id, c.attempt);
END
$$;
COMMENT ON FUNCTION lockstep.start_children(text, jsonb) IS
    'Starts workflows as children of others, each recorded as a step of its parent.';
