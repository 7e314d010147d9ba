-- Tells whether the caller may make jobs of pg_cron; NULL if it is not there.
--
-- Looks into the catalog: a name in a schema that one may not use cannot be asked for.
CREATE OR REPLACE FUNCTION lockstep._may_use_pg_cron()
RETURNS boolean
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (
        SELECT
            CASE WHEN count(*) = 2
                THEN bool_and(has_schema_privilege(n.oid, 'USAGE') AND has_function_privilege(p.oid, 'EXECUTE'))
            END
        FROM pg_namespace AS n
        INNER JOIN pg_proc AS p ON p.pronamespace = n.oid
        WHERE n.nspname = 'cron'
            AND (p.proname, oidvectortypes(p.proargtypes))
            IN (('schedule', 'text, text, text'), ('unschedule', 'bigint'))
    );
END
$$;
COMMENT ON FUNCTION lockstep._may_use_pg_cron() IS
    'Tells whether the caller may make jobs of pg_cron; NULL if it is not there.';
