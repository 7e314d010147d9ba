-- A role of each capability tries everything: what is not its own fails for want of privilege.
--
-- Functions, tables, views, sequences and types are taken from the catalog, and everything is
-- executed, not looked up in the catalog.
BEGIN;
SET LOCAL client_min_messages = error;
SELECT no_plan();

CREATE ROLE lockstep_test_client;
CREATE ROLE lockstep_test_worker;
CREATE ROLE lockstep_test_viewer;
CREATE ROLE lockstep_test_admin;
CREATE ROLE lockstep_test_nobody;
SELECT lockstep.grant_usage('lockstep_test_' || c.capability, c.capability)
FROM (VALUES ('client'), ('worker'), ('viewer'), ('admin')) AS c (capability);
GRANT CREATE ON SCHEMA public
TO lockstep_test_client, lockstep_test_worker, lockstep_test_viewer, lockstep_test_admin, lockstep_test_nobody;

-- What a statement fails with when a role runs it, as code and message, or 'done'. What it did is undone.
CREATE FUNCTION pg_temp.attempt(p_role name, p_statement text)
RETURNS text
LANGUAGE plpgsql
AS $$
DECLARE
    v_code text;
    v_message text;
BEGIN
    EXECUTE format('SET LOCAL ROLE %I', p_role);
    EXECUTE p_statement;
    RAISE EXCEPTION USING ERRCODE = 'ZZ000', MESSAGE = 'undo';
EXCEPTION
    WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS v_code = RETURNED_SQLSTATE, v_message = MESSAGE_TEXT;
        RETURN CASE v_code WHEN 'ZZ000' THEN 'done' ELSE v_code || ': ' || v_message END;
END
$$;

CREATE TEMPORARY TABLE included AS
SELECT *
FROM (
    VALUES
        ('client', 'client'), ('worker', 'client'), ('worker', 'worker'), ('viewer', 'viewer'),
        ('admin', 'client'), ('admin', 'worker'), ('admin', 'viewer'), ('admin', 'admin')
) AS i (capability, includes);
CREATE TEMPORARY TABLE tester AS
SELECT r.capability, 'lockstep_test_' || r.capability AS role
FROM (VALUES ('client'), ('worker'), ('viewer'), ('admin'), ('nobody')) AS r (capability);

-- every function is called, with nulls; the same again with arguments of each kind in place of them

CREATE TEMPORARY TABLE call AS
SELECT
    p.proname,
    format(
        'SELECT lockstep.%I(%s)', p.proname,
        (
            SELECT string_agg(
                format(
                    '%L::%s',
                    CASE
                        WHEN k.kind = 'null' THEN NULL
                        WHEN t.typcategory = 'N' THEN '1'
                        WHEN t.typcategory = 'B' THEN 'true'
                        WHEN t.typcategory = 'A' THEN '{}'
                        WHEN t.typname = 'jsonb' THEN '[]'
                        WHEN t.typname = 'timestamptz' THEN '2020-01-01'
                        WHEN t.typname = 'interval' THEN '1 s'
                        WHEN t.typname = 'regclass' THEN 'pg_class'
                        WHEN t.typname IN ('text', 'name') THEN 'x'
                    END,
                    CASE WHEN t.typname = 'anyelement' THEN 'pg_class' ELSE format_type(t.oid, NULL) END
                ), ', ' ORDER BY a.place
            )
            FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY AS a (type, place)
            INNER JOIN pg_type AS t ON t.oid = a.type
        )
    ) AS statement,
    k.kind
FROM pg_proc AS p
CROSS JOIN (VALUES ('null'), ('typical')) AS k (kind)
WHERE p.pronamespace = 'lockstep'::regnamespace
    AND p.prorettype <> 'trigger'::regtype;
SELECT cmp_ok(count(DISTINCT c.proname), '>=', 150::bigint, 'all functions are called') FROM call AS c;

SELECT CASE
    WHEN r.capability = 'nobody' THEN is(a.answer, '42501: permission denied for schema lockstep', d.text)
    WHEN EXISTS (
        SELECT
        FROM lockstep._capabilities() AS c
        INNER JOIN included AS i ON i.includes = c.capability
        WHERE i.capability = r.capability
            AND c.function_name = f.proname
    ) THEN doesnt_match(a.answer, '^42501', d.text)
    ELSE is(a.answer, format('42501: permission denied for function %s', f.proname), d.text)
END
FROM call AS f
CROSS JOIN tester AS r
CROSS JOIN LATERAL pg_temp.attempt(r.role, f.statement) AS a (answer)
CROSS JOIN LATERAL format('%s calls %s with %s arguments', r.capability, f.proname, f.kind) AS d (text)
-- its arguments name a table that only its owner may give triggers
WHERE NOT (f.kind = 'typical' AND f.proname IN ('attach_workflow', '_place_triggers', 'state_machine_triggers'))
ORDER BY r.capability, f.proname, f.kind;
SELECT is(
    pg_temp.attempt(
        r.role,
        'CREATE TABLE public.lockstep_test_t (id int);'
        'CREATE TRIGGER t AFTER INSERT ON public.lockstep_test_t REFERENCING NEW TABLE AS new_rows '
        'EXECUTE FUNCTION lockstep.enqueue_rows()'
    ),
    CASE
        WHEN r.capability = 'nobody' THEN '42501: permission denied for schema lockstep'
        WHEN r.capability = 'viewer' THEN '42501: permission denied for function lockstep.enqueue_rows'
        ELSE 'done'
    END,
    format('%s makes a trigger that calls enqueue_rows', r.capability)
)
FROM tester AS r;

-- tables and views

SELECT is(
    a.answer LIKE '42501: permission denied for %' OR a.answer LIKE '42501: must be owner of %', NOT r.may_read OR NOT v.reads,
    format('%s: %s', r.capability, format(v.statement, t.name, t.attname))
)
FROM (
    SELECT
        format('lockstep.%I', c.relname) AS name, c.relkind, quote_ident(a.attname) AS attname,
        EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = c.oid AND i.indisprimary) AS has_key
    FROM pg_class AS c
    INNER JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = 1
    WHERE c.relnamespace = 'lockstep'::regnamespace
        AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
) AS t
CROSS JOIN (SELECT u.*, u.capability IN ('viewer', 'admin') AS may_read FROM tester AS u) AS r
CROSS JOIN (
    VALUES
        ('SELECT * FROM %1$s', 'rv', true),
        ('SELECT count(%2$s) FROM %1$s', 'rv', true),
        ('LOCK TABLE %1$s IN ACCESS SHARE MODE', 'rv', true),
        ('SELECT FROM %1$s FOR UPDATE', 'r', false),
        ('SELECT FROM %1$s FOR KEY SHARE', 'r', false),
        ('LOCK TABLE %1$s IN ROW EXCLUSIVE MODE', 'r', false),
        ('LOCK TABLE %1$s IN ACCESS EXCLUSIVE MODE', 'r', false),
        ('INSERT INTO %1$s (%2$s) VALUES (NULL)', 'r', false),
        ('INSERT INTO %1$s DEFAULT VALUES', 'r', false),
        ('UPDATE %1$s SET %2$s = NULL', 'r', false),
        ('DELETE FROM %1$s', 'r', false),
        ('TRUNCATE %1$s', 'r', false),
        ('CREATE TABLE public.lockstep_test_r (x text REFERENCES %1$s)', 'r', false),
        (
            'CREATE FUNCTION public.lockstep_test_f() RETURNS trigger LANGUAGE plpgsql AS $f$BEGIN RETURN NULL; END$f$;'
            'CREATE TRIGGER t AFTER INSERT ON %1$s FOR EACH ROW EXECUTE FUNCTION public.lockstep_test_f()', 'r', false
        ),
        ('CREATE RULE r AS ON INSERT TO %1$s DO NOTHING', 'r', false),
        ('CREATE INDEX ON %1$s (%2$s)', 'r', false),
        ('ALTER TABLE %1$s ADD COLUMN x int', 'r', false),
        ('ALTER TABLE %1$s DISABLE ROW LEVEL SECURITY', 'r', false),
        ('CREATE POLICY p ON %1$s', 'r', false),
        ('CREATE TABLE public.lockstep_test_c () INHERITS (%1$s)', 'r', false),
        ('COMMENT ON COLUMN %1$s.%2$s IS NULL', 'rv', false),
        ('DROP TABLE %1$s', 'r', false),
        ('DROP VIEW %1$s', 'v', false)
) AS v (statement, kinds, reads)
CROSS JOIN LATERAL pg_temp.attempt(r.role, format(v.statement, t.name, t.attname)) AS a (answer)
WHERE strpos(v.kinds, t.relkind::text) > 0
    AND (t.has_key OR v.statement NOT LIKE '%REFERENCES%')
ORDER BY r.capability, t.name, v.statement;

SELECT is_empty(
    $$SELECT c.relname FROM pg_class AS c WHERE c.relnamespace = 'lockstep'::regnamespace AND c.relkind = 'S'$$,
    'there is no sequence, on which privileges would have to be granted'
);
SELECT is_empty(
    $$
    SELECT t.typname
    FROM pg_type AS t
    WHERE t.typnamespace = 'lockstep'::regnamespace
        AND NOT EXISTS (SELECT FROM pg_class AS c WHERE c.reltype = t.oid AND c.relkind IN ('r', 'v'))
        AND NOT EXISTS (SELECT FROM pg_type AS e INNER JOIN pg_class AS c ON c.reltype = e.oid WHERE e.typarray = t.oid)
    $$,
    'nor a type of its own, only those of the rows of tables'
);

-- nobody creates anything in the schema, changes it, or hands on what it was granted

SELECT matches(
    pg_temp.attempt(r.role, c.statement), '^42501: (permission denied for schema|must be owner of schema) lockstep$',
    format('%s: %s', r.capability, c.statement)
)
FROM tester AS r
CROSS JOIN (
    VALUES
        ('CREATE TABLE lockstep.x ()'), ('CREATE VIEW lockstep.x AS SELECT 1'), ('CREATE SEQUENCE lockstep.x'),
        ('CREATE TYPE lockstep.x AS (y int)'), ('CREATE TYPE lockstep.x AS ENUM ()'), ('CREATE DOMAIN lockstep.x AS int'),
        ('CREATE FUNCTION lockstep.x() RETURNS int LANGUAGE sql AS ''SELECT 1'''),
        ('CREATE OPERATOR lockstep.= (LEFTARG = text, RIGHTARG = jsonb, FUNCTION = pg_catalog.jsonb_exists)'),
        ('CREATE COLLATION lockstep.x FROM "C"'), ('CREATE TEXT SEARCH CONFIGURATION lockstep.x (COPY = pg_catalog.simple)'),
        ('ALTER SCHEMA lockstep RENAME TO x'), ('DROP SCHEMA lockstep CASCADE'),
        ('COMMENT ON SCHEMA lockstep IS NULL')
) AS c (statement);
SELECT is_empty(
    $$
    SELECT r.role, p.proname FROM tester AS r, pg_proc AS p
    WHERE p.pronamespace = 'lockstep'::regnamespace
        AND has_function_privilege(r.role, p.oid, 'EXECUTE WITH GRANT OPTION')
    UNION ALL
    SELECT r.role, c.relname FROM tester AS r, pg_class AS c
    WHERE c.relnamespace = 'lockstep'::regnamespace
        AND c.relkind IN ('r', 'v')
        AND has_any_column_privilege(r.role, c.oid, 'SELECT WITH GRANT OPTION, INSERT, UPDATE, REFERENCES')
    UNION ALL
    SELECT r.role, 'schema' FROM tester AS r
    WHERE has_schema_privilege(r.role, 'lockstep', 'CREATE, USAGE WITH GRANT OPTION')
    $$,
    'nobody may grant on with GRANT, nor has anything by column'
);
SELECT is(
    split_part(pg_temp.attempt(r.role, c.statement), ':', 1), '42501', format('%s: %s', r.capability, c.statement)
)
FROM tester AS r
CROSS JOIN (
    VALUES
        ('ALTER FUNCTION lockstep.version() OWNER TO CURRENT_USER'),
        ('ALTER FUNCTION lockstep.get_workflow(text) SECURITY INVOKER'),
        ('ALTER FUNCTION lockstep.get_workflow(text) RESET search_path'),
        ('CREATE OR REPLACE FUNCTION lockstep.version() RETURNS text LANGUAGE sql AS ''SELECT ''''x'''''''),
        ('DROP FUNCTION lockstep.version()'),
        ('DROP EXTENSION lockstep CASCADE'),
        ('ALTER EXTENSION lockstep DROP FUNCTION lockstep.version()')
) AS c (statement);
SELECT * FROM finish();
ROLLBACK;
