-- Reads a workflow: its status and how it ended.
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
    completed_at timestamptz
)
LANGUAGE plpgsql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    SELECT
        w.workflow_name, w.queue_name, w.status, w.output, w.error, w.attempts,
        w.created_at, w.started_at, w.completed_at
    FROM lockstep.workflow_status AS w
    WHERE w.workflow_id = get_workflow.workflow_id;

    IF NOT FOUND THEN
        PERFORM lockstep._refuse_unknown_workflow(get_workflow.workflow_id);
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep.get_workflow(text) IS
    'Reads a workflow: its status and how it ended.';
