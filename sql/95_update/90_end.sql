-- Closes every update.

-- Nothing is PUBLIC's, nor anybody's by default privileges. Only what is new is touched: in an
-- extension a REVOKE makes all grants of the object part of the extension, and pg_dump would
-- leave them out.
DO $$
DECLARE
    v_before constant jsonb := current_setting('lockstep.before_update');
    v_object text;
    v_grantee text;
BEGIN
    FOR v_object, v_grantee IN
        SELECT format('FUNCTION %s', p.oid::regprocedure), g.grantee
        FROM pg_catalog.pg_proc AS p
        CROSS JOIN LATERAL (
            SELECT 'public' AS grantee
            UNION ALL
            SELECT a.grantee::regrole::text FROM aclexplode(p.proacl) AS a WHERE a.grantee NOT IN (0, p.proowner)
        ) AS g
        WHERE p.pronamespace = 'lockstep'::regnamespace
            AND NOT v_before ? p.oid::text
        UNION
        SELECT format('TABLE %s', c.oid::regclass), g.grantee
        FROM pg_catalog.pg_class AS c
        CROSS JOIN LATERAL (
            SELECT 'public' AS grantee
            UNION ALL
            SELECT a.grantee::regrole::text FROM aclexplode(c.relacl) AS a WHERE a.grantee NOT IN (0, c.relowner)
        ) AS g
        WHERE c.relnamespace = 'lockstep'::regnamespace
            AND c.relkind IN ('r', 'v')
            AND NOT v_before ? c.oid::text
    LOOP
        EXECUTE format('REVOKE ALL ON %s FROM %s', v_object, v_grantee);
    END LOOP;
END
$$;

SET CONSTRAINTS lockstep.pending_grant_at_commit DEFERRED;

-- Who held a capability holds it again with what is new in it, once this transaction commits.
INSERT INTO lockstep.pending_grant (grant_statement)
SELECT format('GRANT EXECUTE ON FUNCTION %s TO %s', p.oid::regprocedure, h.holder ->> 1)
FROM json_array_elements(current_setting('lockstep.holders_before_update')::json) AS h (holder)
INNER JOIN lockstep._capabilities() AS c ON h.holder ->> 0 = c.capability
INNER JOIN pg_catalog.pg_proc AS p ON c.function_name = p.proname
WHERE p.pronamespace = 'lockstep'::regnamespace
    AND NOT current_setting('lockstep.before_update')::jsonb ? p.oid::text
UNION
SELECT format('GRANT SELECT ON TABLE %s TO %s', c.oid::regclass, h.holder ->> 1)
FROM json_array_elements(current_setting('lockstep.holders_before_update')::json) AS h (holder)
CROSS JOIN pg_catalog.pg_class AS c
WHERE h.holder ->> 0 = 'viewer'
    AND c.relnamespace = 'lockstep'::regnamespace
    AND c.relkind IN ('r', 'v')
    AND NOT current_setting('lockstep.before_update')::jsonb ? c.oid::text;
