-- Restarts up to max_count workflows that meet a filter, as restart_workflow() does.
--
-- Returns their ids. What cannot be restarted, because its compensation has not ended or
-- its deduplication id is taken, is passed over. The filter has keys as list_workflows()
-- has parameters; '{}' means all. Rows that somebody holds are skipped
-- (_change_workflows()): call it until it returns nothing.
CREATE OR REPLACE FUNCTION lockstep.restart_workflows(filter jsonb, max_count int DEFAULT 1000)
RETURNS SETOF text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    SELECT c.workflow_id
    FROM lockstep._change_workflows('restart', restart_workflows.filter, restart_workflows.max_count) AS c (workflow_id);
END
$$;
COMMENT ON FUNCTION lockstep.restart_workflows(jsonb, int) IS
    'Restarts workflows that meet a filter; returns their ids.';
