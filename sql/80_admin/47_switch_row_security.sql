-- Turns row-level security on or off for the tables that have a policy for tenants.
--
-- Locks the tables in ACCESS EXCLUSIVE, in the order of the list, until the commit.
CREATE OR REPLACE FUNCTION lockstep._switch_row_security(p_is_on boolean)
RETURNS void
LANGUAGE plpgsql
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
        EXECUTE format(
            'ALTER TABLE %s %s ROW LEVEL SECURITY', v_table, CASE WHEN p_is_on THEN 'ENABLE' ELSE 'DISABLE' END
        );
    END LOOP;
END
$$;
COMMENT ON FUNCTION lockstep._switch_row_security(boolean) IS
    'Turns row-level security on or off for the tables that have a policy for tenants.';
