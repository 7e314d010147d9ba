-- Tells whether the caller may see what another role enqueued.
--
-- Everything, unless enable_tenant_isolation() was called. Then a tenant sees what a role
-- enqueued whose rights it has. Who may claim any workflow, or read all tables, is no
-- tenant. What was enqueued by a role that was dropped since is theirs alone to see.
--
-- PL/pgSQL, because it keeps its plan (_is_held()). Asked about others' workflows only.
CREATE OR REPLACE FUNCTION lockstep._is_open_to_caller(p_enqueued_by text)
RETURNS boolean
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_caller constant name := lockstep._caller()::name;
BEGIN
    RETURN NOT EXISTS (SELECT FROM lockstep.tenant_isolation)
        OR coalesce(pg_has_role(v_caller, to_regrole(quote_ident(p_enqueued_by)), 'USAGE'), false)
        OR has_table_privilege(v_caller, 'lockstep.executor', 'SELECT')
        OR has_function_privilege(v_caller, 'lockstep.claim_workflows(text, int, jsonb)', 'EXECUTE');
END
$$;
COMMENT ON FUNCTION lockstep._is_open_to_caller(text) IS
    'Tells whether the caller may see what another role enqueued.';
