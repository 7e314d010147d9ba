-- Shows each client all workflows again, as it is without enable_tenant_isolation().
--
-- Locks as _switch_row_security().
CREATE OR REPLACE FUNCTION lockstep.disable_tenant_isolation()
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM lockstep.tenant_isolation;

    PERFORM lockstep._switch_row_security(false);
END
$$;
COMMENT ON FUNCTION lockstep.disable_tenant_isolation() IS
    'Shows each client all workflows, as it is without enable_tenant_isolation().';
