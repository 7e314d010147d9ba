-- Reads a workflow: all of its row, and how far it says that it has come.
CREATE OR REPLACE FUNCTION lockstep.get_workflow(workflow_id text)
RETURNS TABLE (
    workflow_name text,
    queue_name text,
    status text,
    output jsonb,
    error jsonb,
    attempts int,
    created_at timestamptz,
    started_at timestamptz,
    completed_at timestamptz,
    inputs jsonb,
    priority int,
    deduplication_id text,
    queue_partition_key text,
    app_version text,
    executor_id text,
    max_attempts int,
    failures int,
    available_at timestamptz,
    deadline_at timestamptz,
    waiting_for text[],
    parent_workflow_id text,
    forked_from text,
    enqueued_by text,
    headers jsonb,
    progress jsonb
)
LANGUAGE plpgsql
STABLE
SECURITY DEFINER
ROWS 1
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    SELECT
        w.workflow_name, w.queue_name, w.status, w.output, w.error, w.attempts,
        w.created_at, w.started_at, w.completed_at, w.inputs, w.priority,
        w.deduplication_id, w.queue_partition_key, w.app_version, w.executor_id,
        w.max_attempts, w.failures, w.available_at, w.deadline_at, w.waiting_for,
        w.parent_workflow_id, w.forked_from, w.enqueued_by, w.headers,
        (
            SELECT v.value
            FROM lockstep.workflow_events AS v
            WHERE v.workflow_id = get_workflow.workflow_id
                AND v.key = 'lockstep.progress'
        )
    FROM lockstep.workflow_status AS w
    WHERE w.workflow_id = get_workflow.workflow_id
        AND lockstep._may_see(w.enqueued_by);

    IF NOT FOUND THEN
        PERFORM lockstep._refuse_unknown_workflow(get_workflow.workflow_id);
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep.get_workflow(text) IS
    'Reads a workflow: its status, how it ended and how far it has come.';
