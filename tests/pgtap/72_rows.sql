-- What an attached workflow is enqueued for: every row of a statement, once, in its order.
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT no_plan();

\ir enqueued_by.psql
\ir failure_of.psql

CREATE TABLE orders (
    id int PRIMARY KEY,
    gone int,
    customer text NOT NULL,
    amount int NOT NULL DEFAULT 1,
    note text,
    taxed int GENERATED ALWAYS AS (amount * 2) STORED
);
ALTER TABLE orders DROP COLUMN gone;
CREATE TABLE customers (name text PRIMARY KEY, is_vip boolean NOT NULL);
INSERT INTO customers VALUES ('ada', true), ('bob', false);
INSERT INTO customers SELECT 'customer ' || g, true FROM generate_series(1, 5000) AS g;

-- INSERT

SELECT lockstep.attach_workflow('orders', 'fulfil', 'orders');
SELECT results_eq(
    $$SELECT pg_temp.enqueued_by('INSERT INTO orders VALUES (3, ''ada''), (1, ''bob''), (2, ''ada'')')$$,
    $$VALUES ('{"id": 3}'::jsonb), ('{"id": 1}'), ('{"id": 2}')$$,
    'each inserted row enqueues a workflow with its primary key, in the order of the rows'
);
SELECT results_eq(
    $$SELECT w.workflow_name, w.queue_name, w.priority, w.deduplication_id FROM lockstep.workflow_status AS w LIMIT 1$$,
    $$VALUES ('fulfil', 'orders', 0, NULL::text)$$,
    'the workflow is the one that was attached'
);
SELECT is_empty(
    $$SELECT pg_temp.enqueued_by('INSERT INTO orders SELECT WHERE false')$$,
    'a statement without rows enqueues nothing'
);
SELECT is_empty($$SELECT pg_temp.enqueued_by('UPDATE orders SET amount = 5')$$, 'another event enqueues nothing');
SELECT is_empty($$SELECT pg_temp.enqueued_by('DELETE FROM orders')$$, 'a deletion enqueues nothing if it is no event');
SELECT results_eq(
    $$SELECT pg_temp.enqueued_by('INSERT INTO orders SELECT (g * 7919) % 10007, ''ada'' FROM generate_series(1, 10006) AS g')$$,
    $$SELECT jsonb_build_object('id', (g * 7919) % 10007) FROM generate_series(1, 10006) AS g$$,
    'ten thousand rows enqueue as many workflows, in their order'
);
SELECT results_eq(
    $$SELECT pg_temp.enqueued_by('
        WITH more AS (INSERT INTO orders VALUES (-1, ''ada''), (-2, ''bob'') RETURNING id)
        SELECT count(*) FROM more
    ')$$,
    $$VALUES ('{"id": -1}'::jsonb), ('{"id": -2}')$$,
    'an INSERT in a WITH clause is a statement too'
);
TRUNCATE orders;

-- ON CONFLICT

SELECT lockstep.attach_workflow(
    'orders', 'fulfil', 'orders', '{INSERT,UPDATE}',
    named_args => $$jsonb_build_object('id', new.id, 'was', old.amount, 'is', new.amount)$$
);
INSERT INTO orders VALUES (1, 'ada', 10);
SELECT results_eq(
    $$SELECT pg_temp.enqueued_by('
        INSERT INTO orders VALUES (1, ''ada'', 11), (2, ''ada'', 20), (3, ''bob'', 30)
        ON CONFLICT (id) DO UPDATE SET amount = excluded.amount
    ') AS e ORDER BY e$$,
    $$VALUES
        ('{"id": 1, "was": 10, "is": 11}'::jsonb), ('{"id": 2, "was": null, "is": 20}'),
        ('{"id": 3, "was": null, "is": 30}')$$,
    'ON CONFLICT DO UPDATE enqueues for inserted and for updated rows, each once'
);
SELECT results_eq(
    $$SELECT pg_temp.enqueued_by('INSERT INTO orders VALUES (1, ''ada'', 1), (4, ''ada'', 40) ON CONFLICT DO NOTHING')$$,
    $$VALUES ('{"id": 4, "was": null, "is": 40}'::jsonb)$$,
    'ON CONFLICT DO NOTHING enqueues for inserted rows only'
);

-- condition, over other tables too

SELECT lockstep.attach_workflow(
    'orders', 'fulfil', 'orders',
    condition => 'new.amount > 1 AND EXISTS (SELECT FROM customers AS c WHERE c.name = new.customer AND c.is_vip)'
);
TRUNCATE orders;
SET LOCAL enable_hashjoin = off; -- a merge join would sort the rows
SELECT results_eq(
    $$SELECT pg_temp.enqueued_by('
        INSERT INTO orders
        SELECT g, CASE WHEN g % 3 = 0 THEN ''bob'' ELSE ''customer '' || (g * 7919) % 5000 END, g % 4
        FROM generate_series(1, 900) AS g
    ')$$,
    $$SELECT jsonb_build_object('id', g) FROM generate_series(1, 900) AS g WHERE g % 3 <> 0 AND g % 4 > 1$$,
    'a condition that looks into another table keeps the order of the rows'
);
RESET enable_hashjoin;
SELECT lockstep.attach_workflow('orders', 'fulfil', 'orders', condition => 'new.note = ''x''');
SELECT results_eq(
    $$SELECT pg_temp.enqueued_by('INSERT INTO orders VALUES (-1, ''a'', 1, NULL), (-2, ''b'', 1, ''x''), (-3, ''b'', 1, ''y'')')$$,
    $$VALUES ('{"id": -2}'::jsonb)$$,
    'a condition that is null is not true'
);

-- expressions

TRUNCATE orders;
SELECT lockstep.attach_workflow(
    'orders', 'fulfil', 'orders', named_args => 'to_jsonb(new)', workflow_id => $$'order-' || new.id$$,
    deduplication_id => 'new.customer', priority => 2, queue_partition_key => 'upper(new.customer)'
);
SELECT results_eq(
    $$SELECT pg_temp.enqueued_by('INSERT INTO orders VALUES (1, ''ada'', 5, ''é''), (2, ''bob'', 6, NULL), (3, ''ada'', 7, NULL)')$$,
    $$
    VALUES
        ('{"id": 1, "customer": "ada", "amount": 5, "note": "é", "taxed": 10}'::jsonb),
        ('{"id": 2, "customer": "bob", "amount": 6, "note": null, "taxed": 12}')
    $$,
    'the row has all its columns, generated ones too; a duplicate is passed over'
);
SELECT results_eq(
    $$
    SELECT w.workflow_id, w.deduplication_id, w.priority, w.queue_partition_key
    FROM lockstep.workflow_status AS w
    ORDER BY w.workflow_id
    $$,
    $$VALUES ('order-1', 'ada', 2, 'ADA'), ('order-2', 'bob', 2, 'BOB')$$,
    'workflow_id, deduplication_id and queue_partition_key are evaluated for each row'
);
SELECT lockstep.attach_workflow(
    'orders', 'fulfil', 'orders', deduplication_id => 'new.customer', on_duplicate => 'raise'
);
SELECT throws_ok(
    $$INSERT INTO orders VALUES (4, 'eve'), (5, 'eve')$$, '23505',
    'queue "orders" has an unfinished workflow with deduplication_id "eve"',
    'a duplicate fails the statement if on_duplicate says so'
);
SELECT is_empty('SELECT o.id FROM orders AS o WHERE o.id IN (4, 5)', 'and its rows are gone with it');
CREATE FUNCTION takes_order(orders) RETURNS text LANGUAGE sql AS 'SELECT $1.note';
SELECT lockstep.attach_workflow(
    'orders', 'fulfil', 'orders', '{INSERT,UPDATE}',
    named_args => $$jsonb_build_object('new', takes_order(new), 'old', takes_order(old))$$
);
SELECT results_eq(
    $$SELECT pg_temp.enqueued_by('INSERT INTO orders VALUES (6, ''ada'', 1, ''six''), (7, ''ada'', 1, ''seven'')')$$,
    $$VALUES ('{"new": "six", "old": null}'::jsonb), ('{"new": "seven", "old": null}')$$,
    'a function may take the row'
);
SELECT results_eq(
    $$SELECT pg_temp.enqueued_by('UPDATE orders SET note = note || id WHERE id IN (6, 7)')$$,
    $$VALUES ('{"new": "six6", "old": "six"}'::jsonb), ('{"new": "seven7", "old": "seven"}')$$,
    'a function may take the row as it is and as it was'
);

SELECT lockstep.attach_workflow(
    'orders', 'fulfil', 'orders', condition => 'new.id > 0 -- all', named_args => 'to_jsonb(new.id) -- no object',
    workflow_id => $$'id ' || new.id -- an id$$, deduplication_id => 'NULL -- none', queue_partition_key => '''k'' -- one'
);
SELECT is(
    (SELECT f.message FROM pg_temp.failure_of('INSERT INTO orders VALUES (90, ''ada'')') AS f),
    'named_args must be a JSON object',
    'an expression may end with a comment'
);

-- the search_path of an expression

CREATE SCHEMA app;
CREATE FUNCTION app.label(int) RETURNS text LANGUAGE sql AS $$SELECT 'app-' || $1$$;
SET LOCAL search_path TO app, public;
SELECT lockstep.attach_workflow('orders', 'fulfil', 'orders', workflow_id => 'label(new.id)');
SET LOCAL search_path TO public;
CREATE FUNCTION label(int) RETURNS text LANGUAGE sql AS $$SELECT 'shadow-' || $1$$;
SELECT pg_temp.enqueued_by('INSERT INTO orders VALUES (8, ''ada'')');
SELECT results_eq(
    'SELECT w.workflow_id FROM lockstep.workflow_status AS w', $$VALUES ('app-8')$$,
    'an expression finds what the search_path of attach_workflow named'
);
SELECT is(current_setting('search_path'), 'public', 'and the search_path of the session stays');

-- UPDATE

SELECT lockstep.detach_workflow('orders', 'fulfil');
TRUNCATE orders;
INSERT INTO orders
SELECT g, CASE WHEN g % 2 = 0 THEN 'ada' ELSE 'bob' END, g FROM generate_series(1, 5000) AS g;
SELECT lockstep.attach_workflow('orders', 'changed', 'orders', '{UPDATE}');
SELECT results_eq(
    $$SELECT pg_temp.enqueued_by('UPDATE orders SET amount = amount WHERE id IN (1, 2)')$$,
    $$VALUES ('{"id": 1}'::jsonb), ('{"id": 2}')$$,
    'without columns each updated row enqueues, changed or not'
);
SELECT lockstep.attach_workflow('orders', 'changed', 'orders', '{UPDATE}', ARRAY['amount', 'note']);
SELECT is_empty(
    $$SELECT pg_temp.enqueued_by('UPDATE orders SET amount = amount, customer = ''eve'', note = NULL')$$,
    'an UPDATE that changes none of the columns enqueues nothing'
);
SELECT is_empty($$SELECT pg_temp.enqueued_by('UPDATE orders SET note = ''x'' WHERE false')$$, 'nor does one without rows');
SELECT results_eq(
    $$SELECT pg_temp.enqueued_by('UPDATE orders SET amount = amount + (id % 3 = 0)::int')$$,
    $$SELECT jsonb_build_object('id', g) FROM generate_series(3, 5000, 3) AS g$$,
    'an UPDATE enqueues for the rows of which it changes one of the columns'
);
SELECT results_eq(
    $$SELECT pg_temp.enqueued_by('UPDATE orders SET note = CASE id WHEN 1 THEN ''x'' END WHERE id <= 2')$$,
    $$VALUES ('{"id": 1}'::jsonb)$$,
    'a value instead of a null is a change'
);
SELECT results_eq(
    $$SELECT pg_temp.enqueued_by('UPDATE orders SET note = NULL WHERE id = 1')$$,
    $$VALUES ('{"id": 1}'::jsonb)$$,
    'a null instead of a value is a change, in a statement of one row too'
);

SELECT lockstep.attach_workflow(
    'orders', 'changed', 'orders', '{UPDATE}', ARRAY['amount', 'note'], condition => 'new.id = 1 OR new.id = 2'
);
SELECT results_eq(
    $$SELECT pg_temp.enqueued_by('UPDATE orders SET amount = -amount WHERE id <= 3') AS e ORDER BY e$$,
    $$VALUES ('{"id": 1}'::jsonb), ('{"id": 2}')$$,
    'a condition must be true of the changed rows, whichever column changed'
);
SELECT results_eq(
    $$SELECT pg_temp.enqueued_by('UPDATE orders SET amount = -amount, note = NULL WHERE id <= 3') AS e ORDER BY e$$,
    $$VALUES ('{"id": 1}'::jsonb), ('{"id": 2}')$$,
    'and of those of the last column too'
);

-- old and new rows of one UPDATE belong together, whatever it changes

SELECT lockstep.attach_workflow(
    'orders', 'changed', 'orders', '{UPDATE}', condition => 'old.id % 5 <> 0',
    named_args => $$jsonb_build_object('from', old.id, 'to', new.id, 'by', new.note)$$
);
UPDATE orders SET note = 'row ' || id;
CREATE FUNCTION pg_temp.mispaired(p_statement text)
RETURNS TABLE (paired bigint, mispaired bigint)
LANGUAGE sql
AS $$
    SELECT
        count(*) FILTER (WHERE e ->> 'by' = 'row ' || (e ->> 'from') AND e ->> 'to' <> e ->> 'from'),
        count(*) FILTER (WHERE e ->> 'by' <> 'row ' || (e ->> 'from') OR e ->> 'to' = e ->> 'from')
    FROM pg_temp.enqueued_by(p_statement) AS e
$$;
SELECT results_eq(
    $$SELECT * FROM pg_temp.mispaired('UPDATE orders SET id = -id')$$, 'VALUES (4000::bigint, 0::bigint)',
    'an UPDATE of the primary key pairs each new row with its old one'
);
UPDATE orders SET note = 'row ' || id;
ALTER TABLE orders DROP CONSTRAINT orders_pkey;
SELECT results_eq(
    $$SELECT * FROM pg_temp.mispaired('UPDATE orders SET id = id - 1')$$, 'VALUES (4000::bigint, 0::bigint)',
    'so does one of a table without a primary key'
);
SET LOCAL work_mem = '64kB';
UPDATE orders SET note = 'row ' || id;
SELECT results_eq(
    $$SELECT * FROM pg_temp.mispaired('UPDATE orders SET id = id - 1')$$, 'VALUES (4000::bigint, 0::bigint)',
    'and one whose rows do not fit into memory'
);
RESET work_mem;
CREATE FUNCTION pg_temp.spare() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
    RETURN CASE WHEN old.id % 2 = 0 THEN new END;
END$$;
CREATE TRIGGER spare BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION pg_temp.spare();
UPDATE orders SET note = 'row ' || id;
SELECT results_eq(
    $$SELECT * FROM pg_temp.mispaired('UPDATE orders SET id = id - 1000000')$$, 'VALUES (2000::bigint, 0::bigint)',
    'and one of which a trigger suppresses some rows'
);
DROP TRIGGER spare ON orders;

SELECT lockstep.attach_workflow(
    'orders', 'changed', 'orders', '{UPDATE}', condition => 'new IS DISTINCT FROM old',
    named_args => $$jsonb_build_object('old', to_jsonb(old), 'new', to_jsonb(new))$$
);
TRUNCATE orders;
INSERT INTO orders VALUES (1, 'ada', 1, 'a'), (2, 'bob', 2, NULL);
SELECT results_eq(
    $$SELECT pg_temp.enqueued_by('UPDATE orders SET amount = 2')$$,
    $$VALUES (
        '{"old": {"id": 1, "customer": "ada", "amount": 1, "note": "a", "taxed": 2},
          "new": {"id": 1, "customer": "ada", "amount": 2, "note": "a", "taxed": 4}}'::jsonb
    )$$,
    'old and new are whole rows, and can be compared'
);

-- a plan that was made for one row serves thousands

CREATE TABLE big (id int PRIMARY KEY, n int);
INSERT INTO big SELECT g, 0 FROM generate_series(1, 30000) AS g;
SELECT lockstep.attach_workflow('big', 'changed', 'q', '{UPDATE}', ARRAY['n'], condition => 'new.n > 9');
SELECT pg_temp.enqueued_by('UPDATE big SET n = 1 WHERE id = 1');
SET LOCAL statement_timeout = '20s';
SELECT is_empty($$SELECT pg_temp.enqueued_by('UPDATE big SET n = 2')$$, 'a large UPDATE after a small one is not slow');
RESET statement_timeout;

-- DELETE

SELECT lockstep.attach_workflow('orders', 'removed', 'orders', '{DELETE}', named_args => 'to_jsonb(old) - ''taxed''');
SELECT results_eq(
    $$SELECT pg_temp.enqueued_by('DELETE FROM orders WHERE id = 2')$$,
    $$VALUES ('{"id": 2, "customer": "bob", "amount": 2, "note": null}'::jsonb)$$,
    'a deleted row enqueues with what it was'
);
ALTER TABLE orders ADD PRIMARY KEY (id);
SELECT lockstep.attach_workflow('orders', 'removed', 'orders', '{INSERT,DELETE}');
SELECT results_eq(
    $$SELECT pg_temp.enqueued_by('INSERT INTO orders VALUES (9, ''ada'')')$$, $$VALUES ('{"id": 9}'::jsonb)$$,
    'of several events each has its primary key: INSERT'
);
SELECT results_eq(
    $$SELECT pg_temp.enqueued_by('DELETE FROM orders WHERE id = 9')$$, $$VALUES ('{"id": 9}'::jsonb)$$,
    'of several events each has its primary key: DELETE'
);
SELECT lockstep.attach_workflow(
    'orders', 'removed', 'orders', '{INSERT,DELETE}',
    named_args => $$jsonb_build_object('id', coalesce(new.id, old.id), 'is_new', new IS NOT NULL, 'was', old.customer)$$
);
SELECT results_eq(
    $$SELECT pg_temp.enqueued_by('INSERT INTO orders VALUES (9, ''ada'', 1, '''')')$$,
    $$VALUES ('{"id": 9, "is_new": true, "was": null}'::jsonb)$$,
    'of an INSERT the old row is one of nulls'
);
SELECT results_eq(
    $$SELECT pg_temp.enqueued_by('DELETE FROM orders WHERE id = 9')$$,
    $$VALUES ('{"id": 9, "is_new": false, "was": "ada"}'::jsonb)$$,
    'of a DELETE the new row is one of nulls'
);
SELECT is_empty($$SELECT pg_temp.enqueued_by('TRUNCATE orders')$$, 'TRUNCATE enqueues nothing');

-- a foreign key that deletes

CREATE TABLE items (order_id int REFERENCES orders ON DELETE CASCADE, n int, PRIMARY KEY (order_id, n));
INSERT INTO orders VALUES (1, 'ada'), (2, 'ada');
INSERT INTO items VALUES (1, 1), (1, 2), (2, 1);
SELECT lockstep.detach_workflow('orders', 'removed');
SELECT lockstep.attach_workflow('items', 'removed', 'orders', '{DELETE}');
SELECT results_eq(
    $$SELECT pg_temp.enqueued_by('DELETE FROM orders') AS e ORDER BY e$$,
    $$VALUES ('{"n": 1, "order_id": 1}'::jsonb), ('{"n": 1, "order_id": 2}'), ('{"n": 2, "order_id": 1}')$$,
    'rows that a foreign key deletes enqueue, each once'
);

-- names that need quotes

CREATE SCHEMA "Shop é";
CREATE TABLE "Shop é"."Or""der ü" ("Né" int, "Größe ""x""" text, PRIMARY KEY ("Né"));
SELECT lockstep.attach_workflow(
    '"Shop é"."Or""der ü"', 'wörk "it"', 'Schlange ü', '{INSERT,UPDATE}', ARRAY['Größe "x"'],
    condition => $$new."Größe ""x""" <> 'nö''\'$$
);
SELECT results_eq(
    $$SELECT pg_temp.enqueued_by('INSERT INTO "Shop é"."Or""der ü" VALUES (1, ''ja''), (2, ''nö''''\'')')$$,
    $$VALUES ('{"Né": 1}'::jsonb)$$,
    'names that need quotes, and others than Latin letters, are as good: INSERT'
);
SELECT results_eq(
    $$SELECT pg_temp.enqueued_by('UPDATE "Shop é"."Or""der ü" SET "Größe ""x""" = ''ja''')$$,
    $$VALUES ('{"Né": 2}'::jsonb)$$,
    'names that need quotes, and others than Latin letters, are as good: UPDATE'
);
SELECT results_eq(
    'SELECT w.workflow_name, w.queue_name FROM lockstep.workflow_status AS w', $$VALUES ('wörk "it"', 'Schlange ü')$$,
    'and so are those of workflows and queues'
);

-- what goes wrong in the statement of a user

SELECT lockstep.attach_workflow('big', 'changed', 'q', named_args => $$jsonb_build_object('n', new.n)$$);
ALTER TABLE big RENAME COLUMN n TO number;
SELECT is(
    (SELECT (f.code, f.message)::text FROM pg_temp.failure_of('INSERT INTO big VALUES (0, 0)') AS f),
    ('42703', 'column new.n does not exist')::text,
    'a column that was renamed is missed in the next statement, by its name'
);
SELECT lockstep.attach_workflow('big', 'changed', 'q', named_args => $$jsonb_build_object('n', new.number)$$);
SELECT results_eq(
    $$SELECT pg_temp.enqueued_by('INSERT INTO big VALUES (0, 7)')$$, $$VALUES ('{"n": 7}'::jsonb)$$,
    'and the workflow attached with the new name'
);
SELECT lockstep.attach_workflow('big', 'changed', 'q', named_args => '''[1]''');
SELECT is(
    (SELECT (f.code, f.message)::text FROM pg_temp.failure_of('INSERT INTO big VALUES (-1, 0)') AS f),
    ('22023', 'named_args must be a JSON object')::text,
    'arguments that are no object fail the statement'
);
SELECT lockstep.attach_workflow('big', 'changed', 'q', named_args => 'CASE WHEN new.id > -6 THEN to_jsonb(new) END');
SELECT is(
    (SELECT (f.code, f.message)::text FROM pg_temp.failure_of(s.statement) AS f),
    ('22023', 'named_args must be a JSON object')::text,
    'arguments that are null fail the statement: ' || s.statement
)
FROM (
    VALUES ('INSERT INTO big VALUES (-6, 0)'), ('INSERT INTO big VALUES (-5, 0), (-6, 0)')
) AS s (statement);

-- transactions

SELECT lockstep.attach_workflow('big', 'changed', 'rolled_back');
SAVEPOINT before_statement;
INSERT INTO big VALUES (-2, 0);
ROLLBACK TO SAVEPOINT before_statement;
SELECT is_empty(
    $$SELECT w.workflow_id FROM lockstep.workflow_status AS w WHERE w.queue_name = 'rolled_back'$$,
    'a statement that is rolled back leaves no workflow'
);

-- debounce: rows of one statement, and of several, that have a deduplication_id in common

SELECT lockstep.detach_workflow(a.table_name, a.workflow_name) FROM lockstep.attachments AS a;
DELETE FROM lockstep.workflow_status;
SELECT lockstep.attach_workflow(
    'orders', 'tell', 'mail', '{INSERT,UPDATE}', named_args => 'jsonb_build_object(''amount'', new.amount)',
    deduplication_id => 'new.customer', debounce => '1 hour', debounce_max_delay => '2 hours'
);
INSERT INTO orders VALUES (900, 'eve', 1);
INSERT INTO orders VALUES (901, 'eve', 2), (902, 'eve', 3), (903, 'adam', 4);
UPDATE orders SET amount = 5 WHERE id = 901;
SELECT results_eq(
    $$
        SELECT w.deduplication_id, w.status, w.inputs -> 'namedArgs' -> 'amount', w.available_at > now() + interval '59 min'
        FROM lockstep.workflow_status AS w
        ORDER BY 1
    $$,
    $$VALUES ('adam', 'DELAYED', '4'::jsonb, true), ('eve', 'DELAYED', '5', true)$$,
    'rows with one deduplication_id become one workflow, which starts when no more have come'
);
SELECT is(
    (pg_temp.failure_of(f.statement)).code || ': ' || (pg_temp.failure_of(f.statement)).message, f.failure, f.statement
)
FROM (
    VALUES
        (
            $$SELECT lockstep.attach_workflow('orders', 'w', 'q', debounce => '1 s')$$,
            '22023: debounce needs a deduplication_id'
        ),
        (
            $$SELECT lockstep.attach_workflow('orders', 'w', 'q', deduplication_id => 'new.customer', debounce => '-1 s')$$,
            '22023: debounce must be positive, and at most 1000 years'
        )
) AS f (statement, failure);

SELECT * FROM finish();
ROLLBACK;
