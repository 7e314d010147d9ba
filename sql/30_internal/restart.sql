-- Does what restart_workflow() says to a workflow that may be restarted.
--
-- The caller holds the workflow's row FOR UPDATE. Waits for writes that are under way
-- (_await_writes()), then locks its messages, steps, events and streams.
CREATE OR REPLACE FUNCTION lockstep._restart(p_workflow_id text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    v_now constant timestamptz := clock_timestamp();
    v_queue_name text;
BEGIN
    PERFORM lockstep._await_writes(ARRAY[p_workflow_id]);

    UPDATE lockstep.notifications AS n
    SET consumed_at = NULL, consumed_by_step = NULL
    WHERE n.destination_id = p_workflow_id
        AND n.consumed_at IS NOT NULL;

    DELETE FROM lockstep.operation_outputs AS o
    WHERE o.workflow_id = p_workflow_id;

    DELETE FROM lockstep.workflow_events AS v
    WHERE v.workflow_id = p_workflow_id;

    DELETE FROM lockstep.workflow_streams AS s
    WHERE s.workflow_id = p_workflow_id;

    UPDATE lockstep.workflow_status AS w
    SET
        status = 'ENQUEUED',
        executor_id = NULL,
        output = NULL,
        error = NULL,
        failures = 0,
        started_at = NULL,
        completed_at = NULL,
        available_at = v_now,
        max_attempts = least(w.attempts::bigint + w.max_attempts, 2147483647),
        deadline_at = CASE WHEN w.timeout IS NULL AND w.deadline_at > v_now THEN w.deadline_at END
    WHERE w.workflow_id = p_workflow_id
    RETURNING w.queue_name INTO v_queue_name;

    PERFORM lockstep._ring_doorbell(ARRAY[v_queue_name]);
END
$$;
COMMENT ON FUNCTION lockstep._restart(text) IS
    'Enqueues an ended workflow again without anything that it recorded.';
