-- Looks for what steps wait for: the end of a workflow, or an event of it.
--
-- awaits: [{"workflow_id", "attempt", "step_id", "step_name", "awaited_id", "key": of
-- the event, or null for the end, "timeout": seconds or null}, …]. Returns for
-- each step one of
--   ended      the workflow's output or error, or the event's value, is recorded as the
--              step's; an error has "workflow_id" and "status" beside "type" and "message";
--   timed_out  it did not come in time, or the workflow ended without the event,
--              recorded as no output and 0 attempts;
--   waiting    not yet; remaining has the seconds left, NULL for no timeout;
--   unknown    there is no such workflow; nothing is recorded;
--   lost       the executor had lost the workflow that waits.
-- The timeout runs from the first call, whatever crashes in between; a call sent
-- twice returns the outcome of the first.
--
-- Lock order: the executor row (FOR KEY SHARE).
CREATE OR REPLACE FUNCTION lockstep.await_workflows(executor_id text, awaits jsonb)
RETURNS TABLE (
    workflow_id text,
    step_id int,
    outcome text,
    output jsonb,
    error jsonb,
    remaining double precision
)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
SET lock_timeout = '500ms'
AS $$
#variable_conflict use_column
DECLARE
    v_now constant timestamptz := clock_timestamp();
BEGIN
    PERFORM lockstep._hold_executor(await_workflows.executor_id);

    RETURN QUERY
    WITH call AS MATERIALIZED (
        SELECT
            a.workflow_id, a.attempt, a.step_id, a.step_name, a.awaited_id, a.timeout,
            w.workflow_id IS NOT NULL AS is_known,
            lockstep._is_held(await_workflows.executor_id, a.workflow_id, a.attempt) AS is_held,
            CASE WHEN a.key IS NULL THEN w.completed_at IS NOT NULL ELSE v.workflow_id IS NOT NULL END AS has_come,
            w.completed_at IS NOT NULL OR a.timeout <= 0 AS is_over,
            CASE WHEN a.key IS NULL THEN w.output ELSE v.value END AS output,
            CASE
                WHEN a.key IS NULL AND w.completed_at IS NOT NULL AND w.status <> 'SUCCESS'
                    THEN jsonb_build_object(
                        'type', coalesce(w.error ->> 'type', ''), 'message', coalesce(w.error ->> 'message', ''),
                        'workflow_id', w.workflow_id, 'status', w.status
                    )
            END AS error
        FROM jsonb_to_recordset(await_workflows.awaits) AS a (
            workflow_id text, attempt int, step_id int, step_name text, awaited_id text, key text,
            timeout double precision
        )
        LEFT JOIN lockstep.workflow_status AS w ON w.workflow_id = ANY (ARRAY[a.awaited_id])
        LEFT JOIN lockstep.workflow_events AS v
            ON v.workflow_id = ANY (ARRAY[a.awaited_id])
            AND v.key = ANY (ARRAY[a.key])
    ),

    recorded AS (
        INSERT INTO lockstep.operation_outputs AS o (
            workflow_id, step_id, step_name, output, error, attempts, started_at, completed_at,
            available_at, child_workflow_id
        )
        SELECT
            c.workflow_id, c.step_id, c.step_name, CASE WHEN c.error IS NULL THEN c.output END, c.error,
            CASE WHEN c.has_come THEN 1 ELSE 0 END, v_now,
            CASE WHEN c.has_come OR c.is_over THEN v_now END,
            v_now + make_interval(secs => c.timeout), c.awaited_id
        FROM call AS c
        WHERE c.is_held AND c.is_known
        ON CONFLICT (workflow_id, step_id) DO UPDATE
        SET
            output = excluded.output,
            error = excluded.error,
            attempts = excluded.attempts,
            available_at = coalesce(o.available_at, excluded.available_at),
            completed_at = CASE
                WHEN excluded.completed_at IS NOT NULL OR o.available_at <= v_now THEN v_now
            END
        WHERE o.completed_at IS NULL
            AND (
                excluded.completed_at IS NOT NULL
                OR o.available_at <= v_now
                OR (o.available_at IS NULL AND excluded.available_at IS NOT NULL)
            )
        RETURNING o.workflow_id, o.step_id, o.output, o.error, o.attempts, o.completed_at, o.available_at
    ),

    -- as it was before the call, where the call changed nothing
    unchanged AS (
        SELECT o.workflow_id, o.step_id, o.output, o.error, o.attempts, o.completed_at, o.available_at
        FROM call AS c
        INNER JOIN lockstep.operation_outputs AS o
            ON o.workflow_id = ANY (ARRAY[c.workflow_id])
            AND o.step_id = ANY (ARRAY[c.step_id])
        WHERE NOT EXISTS (
            SELECT
            FROM recorded AS r
            WHERE r.workflow_id = o.workflow_id AND r.step_id = o.step_id
        )
    )

    SELECT
        c.workflow_id, c.step_id,
        CASE
            WHEN NOT c.is_held THEN 'lost'
            WHEN s.completed_at IS NOT NULL THEN CASE WHEN s.attempts > 0 THEN 'ended' ELSE 'timed_out' END
            WHEN NOT c.is_known THEN 'unknown'
            ELSE 'waiting'
        END,
        s.output, s.error,
        CASE
            -- greatest() passes over NULL, which is no limit and not none left
            WHEN s.completed_at IS NULL AND s.available_at IS NOT NULL
                THEN greatest(extract(EPOCH FROM s.available_at - v_now), 0)::double precision
        END
    FROM call AS c
    LEFT JOIN (
        SELECT r.* FROM recorded AS r
        UNION ALL
        SELECT u.* FROM unchanged AS u
    ) AS s ON s.workflow_id = c.workflow_id AND s.step_id = c.step_id;
END
$$;
COMMENT ON FUNCTION lockstep.await_workflows(text, jsonb) IS
    'Looks for what steps wait for: the end of a workflow, or an event of it.';
