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
-- without marks. So that this is seldom needed, the available_at that is returned is
-- half a second old at the least.
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
AS $$
BEGIN
    PERFORM lockstep._hold_executor(claim_workflows.executor_id);

    IF claim_workflows.max_count IS NULL OR claim_workflows.max_count < 1 THEN
        RETURN;  -- LIMIT NULL would claim everything
    END IF;

    RETURN QUERY
    SELECT
        w.workflow_id, w.workflow_name, w.queue_name, w.inputs::jsonb, w.headers::jsonb,
        w.attempt, w.steps, w.deadline_in, w.priority, w.available_at
    FROM lockstep._claim(
        claim_workflows.executor_id, claim_workflows.max_count, claim_workflows.low_water, true
    ) AS c
    CROSS JOIN LATERAL json_to_recordset(c.claimed) AS w (
        workflow_id text, workflow_name text, queue_name text, inputs text, headers text,
        attempt int, steps json, deadline_in double precision, priority int, available_at timestamptz
    );
END
$$;
COMMENT ON FUNCTION lockstep.claim_workflows(text, int, jsonb) IS
    'Claims up to max_count workflows for an executor, with their recorded steps.';
