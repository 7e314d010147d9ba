-- Cancels up to max_count workflows that meet a filter, and their children.
--
-- Returns the ids of all that it cancelled, children included. The filter has keys as
-- list_workflows() has parameters; '{}' means all. Rows that somebody holds are skipped
-- (_change_workflows()): call it until it returns nothing.
CREATE OR REPLACE FUNCTION lockstep.cancel_workflows(filter jsonb, max_count int DEFAULT 1000)
RETURNS SETOF text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    SELECT c.workflow_id
    FROM lockstep._change_workflows('cancel', cancel_workflows.filter, cancel_workflows.max_count) AS c (workflow_id);
END
$$;
COMMENT ON FUNCTION lockstep.cancel_workflows(jsonb, int) IS
    'Cancels workflows that meet a filter, and their children; returns their ids.';
