-- Detaches a workflow from a table, its partitions and children: true if it was attached.
--
-- What is enqueued stays. SECURITY INVOKER: dropping a trigger takes the table's owner.
-- Locks: those of _place_triggers().
CREATE OR REPLACE FUNCTION lockstep.detach_workflow(table_name regclass, workflow_name text)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (
        SELECT t.changed_count > 0
        FROM lockstep._place_triggers(
            detach_workflow.table_name, '{}', ARRAY['workflow_name', detach_workflow.workflow_name]
        ) AS t
    );
END
$$;
COMMENT ON FUNCTION lockstep.detach_workflow(regclass, text) IS
    'Detaches a workflow from a table, its partitions and children: true if it was attached.';
