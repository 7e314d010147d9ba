-- Nothing is PUBLIC's, nor anybody's for whom the installing role has default privileges
-- (ALTER DEFAULT PRIVILEGES … GRANT): grant_usage() is the only way in.
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA lockstep FROM public;
REVOKE ALL ON ALL TABLES IN SCHEMA lockstep FROM public;

DO $$
DECLARE
    v_grantee name;
BEGIN
    FOR v_grantee IN
        SELECT r.rolname
        FROM pg_catalog.pg_proc AS p
        CROSS JOIN LATERAL aclexplode(p.proacl) AS a
        INNER JOIN pg_catalog.pg_roles AS r ON r.oid = a.grantee
        WHERE p.pronamespace = 'lockstep'::regnamespace
            AND a.grantee <> p.proowner
        UNION
        SELECT r.rolname
        FROM pg_catalog.pg_class AS c
        CROSS JOIN LATERAL aclexplode(c.relacl) AS a
        INNER JOIN pg_catalog.pg_roles AS r ON r.oid = a.grantee
        WHERE c.relnamespace = 'lockstep'::regnamespace
            AND a.grantee <> c.relowner
    LOOP
        EXECUTE format('REVOKE ALL ON ALL FUNCTIONS IN SCHEMA lockstep FROM %I', v_grantee);
        EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA lockstep FROM %I', v_grantee);
    END LOOP;
END
$$;
