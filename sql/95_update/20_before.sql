-- What is there before an update, for its end.

DO $$
BEGIN
    PERFORM set_config(
        'lockstep.before_update',
        (
            SELECT json_object_agg(o.object_id, true)::text
            FROM (
                SELECT p.oid AS object_id
                FROM pg_catalog.pg_proc AS p
                WHERE p.pronamespace = 'lockstep'::regnamespace
                UNION ALL
                SELECT c.oid
                FROM pg_catalog.pg_class AS c
                WHERE c.relnamespace = 'lockstep'::regnamespace
            ) AS o
        ),
        true
    );
END
$$;

-- Who holds a capability whole, by its functions as they are before the update: a role that
-- was denied one of them gets no new ones either.
DO $$
BEGIN
    PERFORM set_config(
        'lockstep.holders_before_update',
        (
            WITH capability_object AS (
                SELECT c.capability, p.oid AS object_id, p.proowner AS owner_id, p.proacl AS acl, 'EXECUTE' AS privilege
                FROM lockstep._capabilities() AS c
                INNER JOIN pg_catalog.pg_proc AS p ON p.proname = c.function_name
                WHERE p.pronamespace = 'lockstep'::regnamespace
                UNION ALL
                SELECT 'viewer', c.oid, c.relowner, c.relacl, 'SELECT'
                FROM pg_catalog.pg_class AS c
                WHERE c.relnamespace = 'lockstep'::regnamespace
                    AND c.relkind IN ('r', 'v')
            ),

            capability_size AS (
                SELECT o.capability, count(*) AS object_count
                FROM capability_object AS o
                GROUP BY o.capability
            ),

            holder AS (
                SELECT o.capability, a.grantee, count(DISTINCT o.object_id) AS object_count
                FROM capability_object AS o
                CROSS JOIN LATERAL aclexplode(o.acl) AS a
                WHERE a.privilege_type = o.privilege
                    AND a.grantee NOT IN (0, o.owner_id)
                GROUP BY o.capability, a.grantee
            )

            SELECT coalesce(json_agg(json_build_array(h.capability, h.grantee::regrole::text)), '[]')::text
            FROM holder AS h
            INNER JOIN capability_size AS s USING (capability, object_count)
        ),
        true
    );
END
$$;
