-- One line per fact about Lockstep in a database, sorted; two installs that are the same
-- have the same lines. Names of roles are not facts: the owner is "owner".
WITH relation AS (
    SELECT c.*, format('%s %s', CASE c.relkind WHEN 'v' THEN 'view' WHEN 'i' THEN 'index' ELSE 'table' END, c.relname) AS title
    FROM pg_class AS c
    WHERE c.relnamespace = 'lockstep'::regnamespace
),

routine AS (
    SELECT p.*, format('function %s', p.oid::regprocedure) AS title
    FROM pg_proc AS p
    WHERE p.pronamespace = 'lockstep'::regnamespace
),

owner AS (
    SELECT n.nspowner AS oid
    FROM pg_namespace AS n
    WHERE n.nspname = 'lockstep'
),

acl AS (
    SELECT r.title, 'now' AS moment, r.relacl AS items FROM relation AS r
    UNION ALL
    SELECT r.title, 'now', r.proacl FROM routine AS r
    UNION ALL
    SELECT format('%s column %s', r.title, a.attname), 'now', a.attacl
    FROM relation AS r
    INNER JOIN pg_attribute AS a ON a.attrelid = r.oid
    UNION ALL
    SELECT pg_describe_object(i.classoid, i.objoid, i.objsubid), 'of the extension', i.initprivs
    FROM pg_init_privs AS i
    WHERE i.objoid IN (SELECT r.oid FROM relation AS r UNION ALL SELECT r.oid FROM routine AS r)
    UNION ALL
    SELECT 'schema', 'now', n.nspacl FROM pg_namespace AS n WHERE n.nspname = 'lockstep'
),

fact (line) AS (
    SELECT format(
        '%s: kind %s, owner %s, persistence %s, row security %s %s, replica identity %s, access method %s, options %s',
        r.title, r.relkind, CASE WHEN r.relowner = o.oid THEN 'owner' ELSE 'other' END, r.relpersistence,
        r.relrowsecurity, r.relforcerowsecurity, r.relreplident, m.amname, r.reloptions
    )
    FROM relation AS r
    CROSS JOIN owner AS o
    LEFT JOIN pg_am AS m ON m.oid = r.relam
    UNION ALL
    SELECT format(
        '%s column %s: %s %s, not null %s, default %s, identity "%s", generated "%s", storage %s, statistics %s, collation %s, options %s',
        r.title,
        row_number() OVER (PARTITION BY r.oid ORDER BY a.attnum), a.attname,
        format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid),
        a.attidentity, a.attgenerated, a.attstorage, nullif(a.attstattarget, -1), a.attcollation::regcollation, a.attoptions
    )
    FROM relation AS r
    INNER JOIN pg_attribute AS a ON a.attrelid = r.oid
    LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attnum > 0
        AND NOT a.attisdropped
    UNION ALL
    SELECT format('%s: %s', r.title, pg_get_indexdef(i.indexrelid))
        || format(', valid %s, clustered %s', i.indisvalid, i.indisclustered)
    FROM relation AS r
    INNER JOIN pg_index AS i ON i.indexrelid = r.oid
    UNION ALL
    SELECT format('%s constraint %s: %s, valid %s', r.title, k.conname, pg_get_constraintdef(k.oid), k.convalidated)
    FROM relation AS r
    INNER JOIN pg_constraint AS k ON k.conrelid = r.oid
    UNION ALL
    SELECT format('%s: %s, enabled %s', r.title, pg_get_triggerdef(t.oid), t.tgenabled)
    FROM relation AS r
    INNER JOIN pg_trigger AS t ON t.tgrelid = r.oid
    UNION ALL
    SELECT format('%s policy %s: %s %s %s', r.title, y.polname, y.polcmd, pg_get_expr(y.polqual, r.oid), pg_get_expr(y.polwithcheck, r.oid))
    FROM relation AS r
    INNER JOIN pg_policy AS y ON y.polrelid = r.oid
    UNION ALL
    SELECT format('%s: %s', r.title, pg_get_viewdef(r.oid))
    FROM relation AS r
    WHERE r.relkind = 'v'
    UNION ALL
    SELECT format('%s: owner %s, %s', r.title, CASE WHEN r.proowner = o.oid THEN 'owner' ELSE 'other' END, pg_get_functiondef(r.oid))
    FROM routine AS r
    CROSS JOIN owner AS o
    UNION ALL
    SELECT format('type %s: %s', t.typname, t.typtype)
    FROM pg_type AS t
    WHERE t.typnamespace = 'lockstep'::regnamespace
    UNION ALL
    SELECT format('comment on %s: %s', pg_describe_object(d.classoid, d.objoid, d.objsubid), d.description)
    FROM pg_description AS d
    WHERE d.objoid = 'lockstep'::regnamespace
        OR d.objoid IN (
            SELECT r.oid FROM relation AS r
            UNION ALL
            SELECT r.oid FROM routine AS r
            UNION ALL
            SELECT k.oid FROM pg_constraint AS k INNER JOIN relation AS r ON r.oid = k.conrelid
            UNION ALL
            SELECT t.oid FROM pg_trigger AS t INNER JOIN relation AS r ON r.oid = t.tgrelid
        )
    UNION ALL
    SELECT format(
        'privileges %s, %s: %s', a.moment, a.title,
        CASE WHEN a.items IS NULL THEN 'default' ELSE (
            SELECT string_agg(
                format(
                    '%s=%s%s',
                    CASE WHEN i.grantee = o.oid THEN 'owner' WHEN i.grantee = 0 THEN 'public' ELSE i.grantee::regrole::text END,
                    i.privilege_type, CASE WHEN i.is_grantable THEN '*' ELSE '' END
                ), ' ' ORDER BY i.grantee, i.privilege_type
            )
            FROM aclexplode(a.items) AS i
        ) END
    )
    FROM acl AS a
    CROSS JOIN owner AS o
    UNION ALL
    SELECT format('member: %s', pg_describe_object(d.classid, d.objid, d.objsubid))
    FROM pg_extension AS e
    INNER JOIN pg_depend AS d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
    WHERE e.extname = 'lockstep'
        AND d.deptype = 'e'
    UNION ALL
    SELECT format('saved by pg_dump: %s "%s"', c.config::regclass, c.condition)
    FROM pg_extension AS e
    CROSS JOIN LATERAL unnest(e.extconfig, e.extcondition) AS c (config, condition)
    WHERE e.extname = 'lockstep'
    UNION ALL
    SELECT format('extension: %s, schema %s', e.extversion, e.extnamespace::regnamespace)
    FROM pg_extension AS e
    WHERE e.extname = 'lockstep'
)

SELECT f.line
FROM fact AS f
ORDER BY f.line COLLATE "C"
