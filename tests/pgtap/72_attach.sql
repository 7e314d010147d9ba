-- Attaching and detaching: what is created, what is refused, what the view tells.
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT no_plan();

\ir failure_of.psql

CREATE SCHEMA "Shop é";
CREATE TABLE "Shop é"."Order ""x"" ü" (
    "Tenant Né" text,
    "Größe" int,
    gone int,
    note json,
    place point,
    PRIMARY KEY ("Größe", "Tenant Né")
);
ALTER TABLE "Shop é"."Order ""x"" ü" DROP COLUMN gone;
CREATE TABLE plain (id int PRIMARY KEY, state text, note json);
CREATE TABLE keyless (name text);

-- what is created

SELECT is(
    lockstep.attach_workflow('plain', 'fulfil', 'orders'),
    ARRAY['lockstep_insert_fulfil'],
    'attach_workflow returns the trigger that it created'
);
SELECT is(
    pg_get_triggerdef(t.oid),
    'CREATE TRIGGER lockstep_insert_fulfil AFTER INSERT ON public.plain REFERENCING NEW TABLE AS new_rows '
    'FOR EACH STATEMENT EXECUTE FUNCTION lockstep.enqueue_rows('
    '''workflow_name'', ''fulfil'', ''queue_name'', ''orders'', ''primary_key'', ''{id}'', '
    '''search_path'', ''public, pg_temp'')',
    'the trigger says what it does'
)
FROM pg_trigger AS t
WHERE t.tgrelid = 'plain'::regclass;
SELECT is(
    lockstep.attach_workflow(
        'plain', 'audit', 'logs', ARRAY['delete', 'Update', 'INSERT', 'UPDATE'], ARRAY['state', 'id'],
        condition => $$ new.state <> 'it''s \ "off"' -- not yet $$, named_args => 'to_jsonb(new)',
        workflow_id => $$'order-' || new.id$$, deduplication_id => 'old.state', on_duplicate => 'raise',
        priority => 3, queue_partition_key => 'new.state', debounce => '5 s', debounce_max_delay => '1 min',
        search_path => '{pg_temp_9,"Shop é",public}'
    ),
    ARRAY['lockstep_insert_audit', 'lockstep_update_audit', 'lockstep_delete_audit'],
    'several events have a trigger each'
);
SELECT is(
    (SELECT array_agg(t.tgname::text ORDER BY t.tgname) FROM pg_trigger AS t WHERE t.tgrelid = 'plain'::regclass),
    ARRAY['lockstep_delete_audit', 'lockstep_insert_audit', 'lockstep_insert_fulfil', 'lockstep_update_audit'],
    'a table has the triggers of all its workflows, and no others'
);
SELECT results_eq(
    $$SELECT to_jsonb(a) FROM lockstep.attachments AS a WHERE a.table_name = 'plain'::regclass ORDER BY a.workflow_name$$,
    ARRAY[
        jsonb_build_object(
            'table_name', 'plain', 'workflow_name', 'audit', 'queue_name', 'logs',
            'events', ARRAY['INSERT', 'UPDATE', 'DELETE'], 'columns', ARRAY['state', 'id'],
            'condition', $$ new.state <> 'it''s \ "off"' -- not yet $$, 'primary_key', NULL,
            'named_args', 'to_jsonb(new)', 'workflow_id', $$'order-' || new.id$$, 'deduplication_id', 'old.state',
            'on_duplicate', 'raise', 'priority', 3, 'queue_partition_key', 'new.state',
            'debounce', interval '5 s', 'debounce_max_delay', interval '1 min',
            'search_path', '"Shop é", public, pg_temp', 'is_enabled', true
        ),
        jsonb_build_object(
            'table_name', 'plain', 'workflow_name', 'fulfil', 'queue_name', 'orders', 'events', ARRAY['INSERT'],
            'columns', NULL, 'condition', NULL, 'primary_key', ARRAY['id'], 'named_args', NULL, 'workflow_id', NULL,
            'deduplication_id', NULL, 'on_duplicate', 'return', 'priority', 0, 'queue_partition_key', NULL,
            'debounce', NULL, 'debounce_max_delay', NULL, 'search_path', 'public, pg_temp', 'is_enabled', true
        )
    ],
    'the view tells everything that attach_workflow was given'
);

CREATE TABLE covered (id int, name text, PRIMARY KEY (id) INCLUDE (name));
SELECT lockstep.attach_workflow('covered', 'cover', 'orders');
SELECT is(
    (SELECT a.primary_key FROM lockstep.attachments AS a WHERE a.table_name = 'covered'::regclass),
    ARRAY['id'],
    'what an index includes is no part of the primary key'
);

-- names

SELECT is(
    lockstep.attach_workflow(
        '"Shop é"."Order ""x"" ü"', 'fülfil "it"', 'orders', '{UPDATE}', ARRAY['Größe'],
        condition => $$new."Größe" > 0 AND new."Tenant Né" <> 'é\ü'$$
    ),
    ARRAY['lockstep_update_fülfil "it"'],
    'names of tables, columns and workflows may need quotes and have any letters'
);
SELECT results_eq(
    $$
    SELECT a.table_name, a.workflow_name, a.columns, a.primary_key, a.condition
    FROM lockstep.attachments AS a
    WHERE a.workflow_name LIKE 'f_lfil%it%'
    $$,
    $$
    VALUES (
        '"Shop é"."Order ""x"" ü"'::regclass, 'fülfil "it"', ARRAY['Größe'], ARRAY['Größe', 'Tenant Né'],
        'new."Größe" > 0 AND new."Tenant Né" <> ''é\ü'''
    )
    $$,
    'the view gives such names back, and the columns of a primary key in their order'
);
SELECT is(
    lockstep.attach_workflow('plain', repeat('ä', 40) || n.ending, 'q'),
    ARRAY['lockstep_insert_' || left(md5(repeat('ä', 40) || n.ending), 8) || '_' || repeat('ä', 19)],
    format('workflow %s, whose name is too long for a trigger, has a trigger of its own', n.ending)
)
FROM (VALUES ('a'), ('b')) AS n (ending);
SELECT is(
    count(*), 2::bigint, 'workflows whose names differ only at the end are attached beside each other'
)
FROM lockstep.attachments AS a
WHERE a.workflow_name LIKE repeat('ä', 40) || '_';

-- again

CREATE TEMPORARY TABLE present AS SELECT t.oid, t.ctid AS version FROM pg_trigger AS t;
SELECT is(
    lockstep.attach_workflow('plain', 'fulfil', 'orders'),
    ARRAY['lockstep_insert_fulfil'],
    'a workflow attached again with the same settings has the same trigger'
);
SELECT set_eq(
    'SELECT t.oid, t.ctid AS version FROM pg_trigger AS t', 'SELECT * FROM present', 'and nothing is written'
);
ALTER TABLE plain DISABLE TRIGGER lockstep_insert_fulfil;
SELECT lockstep.attach_workflow('plain', 'fulfil', 'orders');
SELECT results_eq(
    $$SELECT a.is_enabled FROM lockstep.attachments AS a WHERE a.workflow_name = 'fulfil'$$,
    'VALUES (false)',
    'a disabled trigger stays disabled'
);
ALTER TABLE plain ENABLE ALWAYS TRIGGER lockstep_insert_fulfil;

CREATE TEMPORARY TABLE attach_again (statement text, queue_name text, events text[], condition text);
INSERT INTO attach_again
VALUES
    ($$SELECT lockstep.attach_workflow('plain', 'fulfil', 'others')$$, 'others', '{INSERT}', NULL),
    ($$SELECT lockstep.attach_workflow('plain', 'fulfil', 'q', '{UPDATE,DELETE}')$$, 'q', '{UPDATE,DELETE}', NULL),
    (
        $$SELECT lockstep.attach_workflow('plain', 'fulfil', 'q', '{INSERT,DELETE}', condition => 'true')$$,
        'q', '{INSERT,DELETE}', 'true'
    ),
    ($$SELECT lockstep.attach_workflow('plain', 'fulfil', 'orders')$$, 'orders', '{INSERT}', NULL);
CREATE FUNCTION pg_temp.fulfilment_after(p_statement text)
RETURNS TABLE (queue_name text, events text[], condition text)
LANGUAGE plpgsql
AS $$
BEGIN
    EXECUTE p_statement;
    RETURN QUERY
    SELECT a.queue_name, a.events, a.condition
    FROM lockstep.attachments AS a
    WHERE a.workflow_name = 'fulfil';
END
$$;
SELECT results_eq(
    format('SELECT * FROM pg_temp.fulfilment_after(%L)', g.statement),
    format('VALUES (%L, %L::text[], %L)', g.queue_name, g.events, g.condition),
    format('%s replaces the other settings', g.statement)
)
FROM attach_again AS g;

ALTER TRIGGER lockstep_insert_fulfil ON plain RENAME TO mine;
SELECT is(
    lockstep.attach_workflow('plain', 'fulfil', 'orders', condition => 'new.id > 0'), ARRAY['mine'],
    'a trigger that was renamed is replaced under its name'
);
CREATE TRIGGER lockstep_insert_taken AFTER INSERT ON plain
FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();
SELECT throws_ok(
    $$SELECT lockstep.attach_workflow('plain', 'taken', 'orders')$$, '42710', NULL,
    'a trigger of somebody else is not replaced'
);

-- detaching

SELECT ok(lockstep.detach_workflow('plain', 'audit'), 'detach_workflow tells that it detached');
SELECT ok(NOT lockstep.detach_workflow('plain', 'audit'), 'a workflow is detached once');
SELECT ok(NOT lockstep.detach_workflow('plain', 'fulfi'), 'the beginning of a name is another name');
SELECT ok(lockstep.detach_workflow('plain', 'fulfil'), 'a trigger that was renamed is found');
SELECT is_empty(
    $$SELECT a.workflow_name FROM lockstep.attachments AS a WHERE a.workflow_name IN ('fulfil', 'audit')$$,
    'what is detached is gone from the view'
);
SELECT is(
    (SELECT count(*) FROM pg_trigger AS t WHERE t.tgrelid = 'plain'::regclass), 3::bigint,
    'the triggers of others stay'
);

-- dropping and renaming the table

ALTER TABLE plain RENAME TO renamed;
CREATE SCHEMA elsewhere;
ALTER TABLE renamed SET SCHEMA elsewhere;
SELECT results_eq(
    $$SELECT DISTINCT a.table_name FROM lockstep.attachments AS a WHERE a.workflow_name LIKE 'ä%'$$,
    $$VALUES ('elsewhere.renamed'::regclass)$$,
    'an attachment follows its table to another name and schema'
);
DROP TABLE elsewhere.renamed CASCADE;
SELECT is_empty(
    $$SELECT a.workflow_name FROM lockstep.attachments AS a WHERE a.workflow_name LIKE 'ä%'$$,
    'an attachment is dropped with its table'
);
CREATE TABLE plain (id int PRIMARY KEY, state text, note json, notes json[]);
CREATE VIEW seen AS SELECT p.id FROM plain AS p;

-- refused arguments

CREATE TEMPORARY TABLE refused_call AS
SELECT c.*, f.code, f.message, f.detail AS given_detail, f.hint
FROM (
    VALUES
        ('table_name', $$NULL, 'w', 'q'$$, 'It is null.'),
        ('table_name', $$'pg_class_oid_index', 'w', 'q'$$, 'pg_catalog.pg_class_oid_index is none.'),
        ('workflow_name', $$'plain', ' ', 'q'$$, 'It is empty or blank.'),
        ('workflow_name', $$'plain', NULL, 'q'$$, 'It is null.'),
        ('queue_name', $$'plain', 'w', ''$$, 'It is empty or blank.'),
        ('queue_name', $$'plain', 'w', NULL$$, 'It is null.'),
        ('events', $$'plain', 'w', 'q', '{}'$$, 'They are {}.'),
        ('events', $$'plain', 'w', 'q', NULL$$, 'They are null.'),
        ('events', $$'plain', 'w', 'q', '{INSERT,NULL}'$$, 'They are {INSERT,NULL}.'),
        ('events', $$'plain', 'w', 'q', '{INSERT,TRUNCATE}'$$, 'They are {INSERT,TRUNCATE}.'),
        ('columns', $$'plain', 'w', 'q', '{UPDATE}', '{}'$$, 'They are {}, and the events {UPDATE}.'),
        ('columns', $$'plain', 'w', 'q', '{UPDATE}', '{id,NULL}'$$, 'They are {id,NULL}, and the events {UPDATE}.'),
        ('columns', $$'plain', 'w', 'q', '{INSERT}', '{id}'$$, 'They are {id}, and the events {INSERT}.'),
        ('columns', $$'plain', 'w', 'q', '{UPDATE}', '{id,stat}'$$, 'column new.stat does not exist'),
        ('columns', $$'plain', 'w', 'q', '{UPDATE}', '{note}'$$, 'could not identify an equality operator for type json'),
        (
            'columns', $$'plain', 'w', 'q', '{UPDATE}', '{notes}'$$,
            'could not identify an equality operator for type json[]'
        ),
        ('condition', $$'plain', 'w', 'q', condition => 'new.stat = 1'$$, 'column new.stat does not exist'),
        ('condition', $$'plain', 'w', 'q', condition => 'new.id'$$, 'argument of AND must be type boolean, not type integer'),
        ('condition', $$'plain', 'w', 'q', condition => ''$$, 'syntax error at or near ")"'),
        ('condition', $$'plain', 'w', 'q', condition => 'nowhere(new.id)'$$, 'function nowhere(integer) does not exist'),
        ('condition', $$'plain', 'w', 'q', condition => 'new.id = ''x'''$$, 'invalid input syntax for type integer: "x"'),
        ('condition', $$'plain', 'w', 'q', condition => 'old.id = 1'$$, 'missing FROM-clause entry for table "old"'),
        (
            'condition', $$'plain', 'w', 'q', '{DELETE}', condition => 'new.id = 1'$$,
            'missing FROM-clause entry for table "new"'
        ),
        (
            'condition', $$'plain', 'w', 'q', '{INSERT,UPDATE}', condition => 'id = 1'$$,
            'column reference "id" is ambiguous'
        ),
        ('condition', $$'plain', 'w', 'q', condition => 'count(*) > 1'$$, 'aggregate functions are not allowed in WHERE'),
        (
            'condition', $$'plain', 'w', 'q', condition => 'row_number() OVER () = 1'$$,
            'window functions are not allowed in WHERE'
        ),
        ('condition', $$'plain', 'w', 'q', condition => 'new.id = $1'$$, 'there is no parameter $1'),
        -- more than an expression
        ('condition', $$'plain', 'w', 'q', condition => 'true; DROP TABLE plain'$$, 'syntax error at or near ";"'),
        ('condition', $$'plain', 'w', 'q', condition => 'true); DROP TABLE plain; --'$$, 'syntax error at or near ")"'),
        (
            'condition', $$'plain', 'w', 'q', condition => E'true) LIMIT 0; DROP TABLE plain; SELECT (true'$$,
            'syntax error at or near ")"'
        ),
        ('condition', $$'plain', 'w', 'q', condition => 'true) OR (true'$$, 'syntax error at or near ")"'),
        ('condition', $$'plain', 'w', 'q', condition => 'true END OR CASE WHEN true THEN true'$$, 'syntax error at or near "END"'),
        ('condition', $$'plain', 'w', 'q', condition => 'true ELSE false'$$, 'syntax error at or near "ELSE"'),
        ('condition', $$'plain', 'w', 'q', condition => 'SELECT true'$$, 'syntax error at or near "SELECT"'),
        ('condition', $$'plain', 'w', 'q', condition => 'true /* never'$$, NULL),
        ('condition', $$'plain', 'w', 'q', condition => 'true AND '' || 1'$$, NULL),
        ('named_args', $$'keyless', 'w', 'q'$$, 'Without named_args a workflow gets the columns of the primary key.'),
        ('named_args', $$'plain', 'w', 'q', named_args => 'new.id'$$, 'cannot cast type integer to jsonb'),
        ('named_args', $$'plain', 'w', 'q', named_args => '''{}'', ''{}'''$$, 'syntax error at or near ","'),
        (
            'named_args', $$'plain', 'w', 'q', named_args => 'jsonb_array_elements(''[]'')'$$,
            'set-returning functions are not allowed in WHERE'
        ),
        ('workflow_id', $$'plain', 'w', 'q', workflow_id => 'new.nummer'$$, 'column new.nummer does not exist'),
        ('deduplication_id', $$'plain', 'w', 'q', deduplication_id => 'new.'$$, 'syntax error at or near ")"'),
        ('queue_partition_key', $$'plain', 'w', 'q', queue_partition_key => 'tenant'$$, 'column "tenant" does not exist'),
        ('on_duplicate', $$'plain', 'w', 'q', on_duplicate => 'ignore'$$, 'It is ''ignore''.'),
        ('on_duplicate', $$'plain', 'w', 'q', on_duplicate => NULL$$, 'It is NULL.'),
        ('priority', $$'plain', 'w', 'q', priority => -1$$, 'It is -1.'),
        ('priority', $$'plain', 'w', 'q', priority => NULL$$, 'It is null.')
) AS c (argument, arguments, detail)
CROSS JOIN LATERAL pg_temp.failure_of(format('SELECT lockstep.attach_workflow(%s)', c.arguments)) AS f;
SELECT is(c.code, '22023', format('attach_workflow(%s) is refused as a bad argument', c.arguments))
FROM refused_call AS c;
SELECT matches(c.message, c.argument, format('its message names %s', c.argument))
FROM refused_call AS c;
SELECT is(c.given_detail, coalesce(c.detail, c.given_detail), format('attach_workflow(%s) tells what it saw', c.arguments))
FROM refused_call AS c;
SELECT matches(c.hint, '^[A-Z0-9''].*\.$', format('attach_workflow(%s) tells what to do', c.arguments))
FROM refused_call AS c
WHERE c.code = '22023';
SELECT is_empty(
    $$SELECT t.tgname FROM pg_trigger AS t WHERE t.tgrelid IN ('plain'::regclass, 'keyless'::regclass)$$,
    'what is refused leaves no trigger'
);
SELECT is(
    (
        SELECT f::text
        FROM pg_temp.failure_of($$SELECT lockstep.attach_workflow('seen', 'w', 'q', named_args => '''{}''')$$) AS f
    ),
    (
        '22023', 'table_name must be a table', 'public.seen is none.',
        'Postgres collects the rows of a statement for tables and partitioned tables only.'
    )::text,
    'a view is refused'
);
SELECT is(
    (
        SELECT (f.detail, f.hint)::text
        FROM pg_temp.failure_of(
            $$SELECT lockstep.attach_workflow('plain', 'w', 'q', condition => 'new.stat = ''x''')$$
        ) AS f
    ),
    ('column new.stat does not exist', 'Perhaps you meant to reference the column "new.state".')::text,
    'a hint of Postgres is passed on'
);
SELECT is(
    current_setting('search_path'), '"$user", public', 'the search_path of the session is as before'
);

SELECT lives_ok(
    format('SELECT lockstep.attach_workflow(%L, %L, %L, condition => %L)', 'plain', 'fine', 'q', c.condition),
    format('%s is an expression', c.condition)
)
FROM (
    VALUES
        ('true'), ('new.id > 1 -- a comment'), ('(new.id > 1) OR (new.id < 0)'), ('new IS NOT NULL'),
        ('EXISTS (SELECT FROM keyless AS k WHERE k.name = new.state)'), ('(SELECT count(*) > 1 FROM keyless)'),
        ('CASE WHEN new.id = 1 THEN true END'), ('to_jsonb(new) @> ''{"state": "paid"}'''),
        ('(SELECT 1 / (SELECT count(*) FROM keyless) > 0)')
) AS c (condition);

SELECT * FROM finish();
ROLLBACK;
