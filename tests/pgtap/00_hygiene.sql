-- What is true of every object in the schema, whatever it does.
BEGIN;
SELECT no_plan();

CREATE TEMPORARY VIEW routine AS
SELECT p.*, l.lanname, p.oid::regprocedure::text AS signature
FROM pg_proc AS p
INNER JOIN pg_language AS l ON l.oid = p.prolang
WHERE p.pronamespace = 'lockstep'::regnamespace;

CREATE TEMPORARY VIEW relation AS
SELECT c.*, c.oid::regclass::text AS full_name
FROM pg_class AS c
WHERE c.relnamespace = 'lockstep'::regnamespace
    AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f');

-- the lists below are not empty by accident
SELECT cmp_ok(count(*), '>=', 30::bigint, 'the schema has its functions') FROM routine;
SELECT cmp_ok(count(*), '>=', 7::bigint, 'the schema has its tables and views') FROM relation;

SELECT ok(
    r.prosqlbody IS NOT NULL OR r.proconfig @> ARRAY['search_path=pg_catalog, pg_temp'],
    format('%s resolves names without the caller''s search_path', r.signature)
)
FROM routine AS r
ORDER BY r.signature;

-- it costs every session, but not where the caller changes the catalog anyway, nor once in
-- the life of a worker, nor where it only reads and so takes no transaction id, nor after a
-- claim that failed
SELECT ok(
    r.prosrc !~* '\mexception\s+when\M',
    format('%s opens no subtransaction', r.signature)
)
FROM routine AS r
WHERE r.proname NOT IN ('_attachment_problem', 'register_executor', '_attachment_of', '_state_machine_of', 'fail_too_large')
ORDER BY r.signature;

SELECT isnt(
    obj_description('lockstep'::regnamespace, 'pg_namespace'), NULL::text, 'schema lockstep has a comment'
);
SELECT isnt(
    obj_description(r.oid, 'pg_proc'), NULL::text, format('function %s has a comment', r.signature)
)
FROM routine AS r
ORDER BY r.signature;
SELECT isnt(
    obj_description(c.oid, 'pg_class'), NULL::text, format('%s has a comment', c.full_name)
)
FROM relation AS c
ORDER BY c.full_name;
SELECT isnt(
    col_description(c.oid, a.attnum), NULL::text, format('column %s.%s has a comment', c.full_name, a.attname)
)
FROM relation AS c
INNER JOIN pg_attribute AS a ON a.attrelid = c.oid
WHERE a.attnum > 0
    AND NOT a.attisdropped
    AND c.relkind <> 'S'
ORDER BY c.full_name, a.attnum;

SELECT ok(
    c.oid = ANY (e.extconfig),
    format('pg_dump saves the rows of %s', c.full_name)
)
FROM relation AS c
INNER JOIN pg_depend AS d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
INNER JOIN pg_extension AS e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
WHERE c.relkind IN ('r', 'p', 'S')
ORDER BY c.full_name;

-- Postgres refuses UPDATE and DELETE on a published table whose rows it cannot name
SELECT ok(
    CASE c.relreplident
        WHEN 'd' THEN EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = c.oid AND i.indisprimary)
        ELSE c.relreplident = 'f'
    END,
    format('%s can be published', c.full_name)
)
FROM relation AS c
WHERE c.relkind IN ('r', 'p')
ORDER BY c.full_name;

SELECT ok(
    EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'),
    format('%s is a member of the extension', c.full_name)
)
FROM relation AS c
ORDER BY c.full_name;

SELECT is_empty(
    $$SELECT t.tgrelid::regclass, t.tgname FROM pg_trigger AS t INNER JOIN relation AS c ON c.oid = t.tgrelid
    WHERE c.relname <> 'pending_grant'$$,
    'no table that holds rows has a trigger, which would fire during a restore'
);
SELECT is_empty(
    $$
    SELECT k.conrelid::regclass, k.conname
    FROM pg_constraint AS k
    INNER JOIN relation AS c ON c.oid IN (k.conrelid, k.confrelid)
    WHERE k.contype = 'f'
    $$,
    'no table has a foreign key, which loses rows in a parallel restore'
);
SELECT is_empty(
    $$
    SELECT k.conrelid::regclass, k.conname
    FROM pg_constraint AS k
    INNER JOIN relation AS c ON c.oid = k.conrelid
    WHERE k.contype = 'c' AND k.conname !~ '^[a-z_]+_check$'
    $$,
    'every check constraint is named after the truth it states'
);

-- privileges

SELECT ok(
    NOT has_function_privilege('public', r.oid, 'EXECUTE'),
    format('PUBLIC cannot execute %s', r.signature)
)
FROM routine AS r
ORDER BY r.signature;
SELECT ok(
    NOT has_table_privilege('public', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
    AND NOT has_any_column_privilege('public', c.oid, 'SELECT, INSERT, UPDATE, REFERENCES'),
    format('PUBLIC has no privilege on %s', c.full_name)
)
FROM relation AS c
ORDER BY c.full_name;
SELECT ok(
    NOT has_schema_privilege('public', 'lockstep', 'USAGE, CREATE'), 'PUBLIC cannot use the schema'
);

SELECT is(
    (SELECT count(*) FROM lockstep._capabilities() AS c WHERE c.function_name = r.proname),
    1::bigint,
    format('the privilege matrix has one line for %s', r.signature)
)
FROM routine AS r
WHERE r.proname NOT LIKE '\_%'
ORDER BY r.signature;
SELECT ok(
    EXISTS (SELECT FROM routine AS r WHERE r.proname = c.function_name),
    format('%s of the privilege matrix exists', c.function_name)
)
FROM lockstep._capabilities() AS c;
SELECT bag_eq(
    $$SELECT c.function_name FROM lockstep._capabilities() AS c WHERE c.function_name LIKE '\_%'$$,
    $$
    VALUES
        ('_attachment_problem'), ('_place_triggers'), ('_attachment_of'), ('_state_machine_of'), ('_state_machine_of')
    $$,
    'the privilege matrix grants no internal function but those that work with triggers, with the caller''s rights'
);
SELECT is_empty(
    $$SELECT r.signature FROM routine AS r WHERE r.prosecdef AND r.proname LIKE '\_%'
        AND r.proname <> '_grant_at_commit'$$,
    'no internal function is SECURITY DEFINER, but the trigger that ends an update'
);
SELECT is_empty(
    $$
    SELECT r.proname
    FROM routine AS r
    WHERE r.proname NOT LIKE '\_%'
    GROUP BY r.proname
    HAVING count(*) > 1
    $$,
    'no public function is overloaded, so a grant by name means one function'
);

SELECT is_empty(
    $$
    SELECT p.proname
    FROM pg_proc AS p
    WHERE p.pronamespace = 'lockstep'::regnamespace
        AND 'enable_seqscan=off' = ANY (p.proconfig)
        AND NOT 'jit=off' = ANY (p.proconfig)
    $$,
    'a function that pins its plan is not compiled for the cost that this pretends'
);
SELECT is(
    lockstep.version(),
    (SELECT e.extversion FROM pg_extension AS e WHERE e.extname = 'lockstep'),
    'version() is the version of the extension'
);

SELECT * FROM finish();
ROLLBACK;
