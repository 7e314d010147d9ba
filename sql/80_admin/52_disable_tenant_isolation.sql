-- Shows each client all workflows again, as it is without enable_tenant_isolation().
--
-- Locks the tables in ACCESS EXCLUSIVE, in the order of the list, for a moment.
CREATE OR REPLACE FUNCTION lockstep.disable_tenant_isolation()
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_table regclass;
BEGIN
    FOREACH v_table IN ARRAY ARRAY[
        'lockstep.workflow_status', 'lockstep.operation_outputs', 'lockstep.notifications',
        'lockstep.workflow_events', 'lockstep.workflow_streams'
    ]::regclass[]
    LOOP
        EXECUTE format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY', v_table);

        IF EXISTS (SELECT FROM pg_policy AS p WHERE p.polrelid = v_table AND p.polname = 'lockstep_tenant') THEN
            EXECUTE format('DROP POLICY lockstep_tenant ON %s', v_table);
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION lockstep.disable_tenant_isolation() IS
    'Shows each client all workflows, as it is without enable_tenant_isolation().';
