SET CONSTRAINTS lockstep.pending_grant_at_commit DEFERRED;

-- Makes what plain SQL installed the extension's: every function, table and view of this
-- version, and nothing else that is in the schema.
--
-- An object that joins an extension brings its grants along as the extension's own, and
-- pg_dump leaves those out. So they are taken away before, and granted again at the commit.
DO $$
DECLARE
    v_functions constant text[] := string_to_array('@FUNCTIONS@', ' ');
    v_relations constant text[] := string_to_array('@RELATIONS@', ' ');
    v_missing text;
    r_member record;
    r_grant record;
BEGIN
    SELECT string_agg(n.name, ', ' ORDER BY n.name)
    INTO v_missing
    FROM (
        SELECT f.name
        FROM unnest(v_functions) AS f (name)
        WHERE NOT EXISTS (
            SELECT
            FROM pg_catalog.pg_proc AS p
            WHERE p.pronamespace = 'lockstep'::regnamespace
                AND p.proname = f.name
        )
        UNION ALL
        SELECT r.name
        FROM unnest(v_relations) AS r (name)
        WHERE to_regclass('lockstep.' || r.name) IS NULL
    ) AS n;
    IF v_missing IS NOT NULL THEN
        RAISE EXCEPTION 'schema "lockstep" is not as lockstep @VERSION@ made it'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = format('It lacks %s.', v_missing);
    END IF;

    FOR r_member IN
        SELECT 'FUNCTION' AS kind, p.oid::regprocedure::text AS name, 0 AS relation_id, p.proowner AS owner_id, p.proacl AS acl
        FROM pg_catalog.pg_proc AS p
        WHERE p.pronamespace = 'lockstep'::regnamespace
            AND p.proname = ANY (v_functions)
        UNION ALL
        SELECT CASE c.relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, c.oid::regclass::text, c.oid, c.relowner, c.relacl
        FROM pg_catalog.pg_class AS c
        WHERE c.relnamespace = 'lockstep'::regnamespace
            AND c.relname = ANY (v_relations)
        ORDER BY 1, 2
    LOOP
        FOR r_grant IN
            SELECT
                a.privilege_type AS privilege,
                CASE r_member.kind WHEN 'FUNCTION' THEN 'FUNCTION' ELSE 'TABLE' END AS kind,
                CASE a.grantee WHEN 0 THEN 'public' ELSE a.grantee::regrole::text END AS grantee,
                CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END AS grant_option
            FROM aclexplode(r_member.acl) AS a
            WHERE a.grantee <> r_member.owner_id
            UNION ALL
            SELECT
                format('%s (%I)', a.privilege_type, t.attname),
                'TABLE',
                CASE a.grantee WHEN 0 THEN 'public' ELSE a.grantee::regrole::text END,
                CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
            FROM pg_catalog.pg_attribute AS t
            CROSS JOIN LATERAL aclexplode(t.attacl) AS a
            WHERE t.attrelid = r_member.relation_id
                AND a.grantee <> r_member.owner_id
        LOOP
            INSERT INTO lockstep.pending_grant (grant_statement)
            VALUES (
                format(
                    'GRANT %s ON %s %s TO %s%s',
                    r_grant.privilege, r_grant.kind, r_member.name, r_grant.grantee, r_grant.grant_option
                )
            )
            ON CONFLICT DO NOTHING;  -- several may have granted the same
            EXECUTE format(
                'REVOKE %s ON %s %s FROM %s CASCADE',
                r_grant.privilege, r_grant.kind, r_member.name, r_grant.grantee
            );
        END LOOP;

        EXECUTE format('ALTER EXTENSION lockstep ADD %s %s', r_member.kind, r_member.name);
    END LOOP;
END
$$;
