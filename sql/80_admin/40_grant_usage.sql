-- Grants a role one of the capabilities client, worker, viewer and admin.
--
-- client enqueues, sends and reads results through functions, and touches no
-- table; worker is client plus the worker protocol; viewer may SELECT from
-- every table and view; admin is all of it, and may grant it on. The grants are
-- the owner's: a SECURITY DEFINER function, whose only texts are a role that
-- exists, quoted, and the names of our own functions.
CREATE OR REPLACE FUNCTION lockstep.grant_usage(role name, capability text)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_included constant text[] := CASE grant_usage.capability
        WHEN 'client' THEN ARRAY['client']
        WHEN 'worker' THEN ARRAY['client', 'worker']
        WHEN 'viewer' THEN ARRAY['viewer']
        WHEN 'admin' THEN ARRAY['client', 'worker', 'viewer', 'admin']
    END;
    v_function regprocedure;
BEGIN
    IF v_included IS NULL THEN
        RAISE EXCEPTION 'capability must be client, worker, viewer or admin, not %',
            coalesce(quote_literal(grant_usage.capability), 'null')
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'client enqueues, worker executes, viewer reads, admin does all of it.';
    ELSIF grant_usage.role IS NULL
        OR NOT EXISTS (SELECT FROM pg_roles AS r WHERE r.rolname = grant_usage.role)
    THEN
        RAISE EXCEPTION 'role "%" does not exist', coalesce(grant_usage.role, '')
            USING ERRCODE = 'undefined_object',
                  HINT = 'Create the role first.';
    END IF;

    EXECUTE format('GRANT USAGE ON SCHEMA lockstep TO %I', grant_usage.role);

    FOR v_function IN
        SELECT p.oid::regprocedure
        FROM lockstep._capabilities() AS c
        INNER JOIN pg_proc AS p ON p.proname = c.function_name
        WHERE c.capability = ANY (v_included)
            AND p.pronamespace = 'lockstep'::regnamespace
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', v_function, grant_usage.role);
    END LOOP;

    IF 'viewer' = ANY (v_included) THEN
        EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA lockstep TO %I', grant_usage.role);
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep.grant_usage(name, text) IS
    'Grants a role one of the capabilities client, worker, viewer and admin.';
