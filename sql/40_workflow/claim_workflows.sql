-- Claims up to max_count workflows for an executor, with all that replay needs,
-- and the seconds until their deadlines.
--
-- Takes from the executor's queues in (priority, available_at) order, only workflows
-- that it registered and of its app_version; one that an executor with pins_version
-- takes is left to that version from then on. Cost depends on max_count alone: the
-- claim index is read from its head and left after n rows.
--
-- low_water: [{"queue_name", "priority", "available_at"}, …] or NULL. Claimed rows
-- stay at the head of the index until vacuum takes them away, which a snapshot
-- somewhere may hold back. A caller that works off a backlog, or met a slow head,
-- passes where its last claim got to in each queue: rows of that priority are
-- looked at from there on. What commits below the mark is found by the next claim
-- without marks.
--
-- Lock order: the executor row (FOR KEY SHARE), the rows of limited queues by
-- name, then workflow rows, skipping locked ones, so it never waits for
-- another claim. FOR NO KEY UPDATE lets a send_message() in an open
-- transaction, which holds the row FOR KEY SHARE, not hide the workflow.
CREATE OR REPLACE FUNCTION lockstep.claim_workflows(
    executor_id text,
    max_count int,
    low_water jsonb DEFAULT NULL
)
RETURNS TABLE (
    workflow_id text,
    workflow_name text,
    queue_name text,
    inputs jsonb,
    headers jsonb,
    attempt int,
    steps json,
    deadline_in double precision,
    priority int,
    available_at timestamptz
)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- an ANALYZE of an empty table must not turn the claim into a scan and a sort
SET enable_seqscan = off
SET enable_bitmapscan = off
-- a plan that seqscans all the same costs so much on paper that it would be compiled
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    v_now constant timestamptz := clock_timestamp();
    v_ready tid[] := ARRAY[]::tid[];
    v_queues text[];
    r_executor record;
    r_queue record;
BEGIN
    PERFORM lockstep._hold_executor(claim_workflows.executor_id);

    IF claim_workflows.max_count IS NULL OR claim_workflows.max_count < 1 THEN
        RETURN;  -- LIMIT NULL would claim everything
    END IF;

    SELECT e.queues, e.workflow_names, e.app_version, e.pins_version
    INTO r_executor
    FROM lockstep.executor AS e
    WHERE e.executor_id = claim_workflows.executor_id;

    v_queues := r_executor.queues;
    FOR r_queue IN
        SELECT q.queue_name
        FROM lockstep.queue AS q
        WHERE q.queue_name = ANY (r_executor.queues)
            AND (q.is_paused OR q.concurrency IS NOT NULL OR q.partition_concurrency IS NOT NULL)
        ORDER BY q.queue_name
    LOOP
        v_queues := array_remove(v_queues, r_queue.queue_name);
        v_ready := v_ready || lockstep._ready_in_limited_queue(
            r_queue.queue_name, r_executor.workflow_names, r_executor.app_version,
            claim_workflows.max_count - cardinality(v_ready)
        );
    END LOOP;

    IF cardinality(v_queues) > 0 THEN
        v_ready := v_ready || ARRAY(
            WITH mark AS (
                SELECT m.queue_name, m.priority, m.available_at
                FROM jsonb_to_recordset(claim_workflows.low_water)
                    AS m (queue_name text, priority int, available_at timestamptz)
            ),

            stretch AS (
                SELECT
                    q.queue_name, 0 AS from_priority, timestamptz '-infinity' AS from_time,
                    coalesce(m.priority - 1, 2147483647) AS to_priority
                FROM unnest(v_queues) AS q (queue_name)
                LEFT JOIN mark AS m ON m.queue_name = q.queue_name
                WHERE m.priority IS DISTINCT FROM 0
                UNION ALL
                SELECT m.queue_name, m.priority, m.available_at, 2147483647
                FROM mark AS m
                WHERE m.queue_name = ANY (v_queues)
            )

            SELECT ready.row_id
            FROM stretch AS s
            CROSS JOIN LATERAL (
                SELECT w.ctid AS row_id, w.priority, w.available_at
                FROM lockstep.workflow_status AS w
                WHERE w.queue_name = s.queue_name
                    AND (w.priority, w.available_at) >= (s.from_priority, s.from_time)
                    AND w.priority <= s.to_priority
                    AND w.status = 'ENQUEUED'
                    AND w.workflow_name = ANY (r_executor.workflow_names)
                    AND (w.app_version IS NULL OR w.app_version = r_executor.app_version)
                ORDER BY w.priority, w.available_at
                LIMIT claim_workflows.max_count - cardinality(v_ready)
                FOR NO KEY UPDATE SKIP LOCKED
            ) AS ready
            ORDER BY ready.priority, ready.available_at
            LIMIT claim_workflows.max_count - cardinality(v_ready)
        );
    END IF;

    RETURN QUERY
    WITH claimed AS (
        UPDATE lockstep.workflow_status AS w
        SET
            status = 'PENDING',
            executor_id = claim_workflows.executor_id,
            attempts = w.attempts + 1,
            started_at = coalesce(w.started_at, v_now),
            deadline_at = CASE
                WHEN w.started_at IS NULL THEN least(w.deadline_at, v_now + w.timeout)
                ELSE coalesce(w.deadline_at, v_now + w.timeout)
            END,
            app_version = CASE WHEN r_executor.pins_version THEN r_executor.app_version ELSE w.app_version END
        WHERE w.ctid = ANY (v_ready)
        RETURNING
            w.workflow_id, w.workflow_name, w.queue_name, w.inputs, w.headers, w.attempts,
            w.priority, w.available_at, w.deadline_at,
            w.started_at <> v_now OR w.forked_from IS NOT NULL AS has_history
    )

    SELECT
        c.workflow_id, c.workflow_name, c.queue_name, c.inputs, c.headers, c.attempts,
        CASE WHEN c.has_history THEN lockstep._recorded_steps(c.workflow_id) END,
        extract(EPOCH FROM c.deadline_at - v_now)::double precision,
        c.priority, c.available_at
    FROM claimed AS c
    ORDER BY c.priority, c.available_at;
END
$$;
COMMENT ON FUNCTION lockstep.claim_workflows(text, int, jsonb) IS
    'Claims up to max_count workflows for an executor, with their recorded steps.';
