-- Partitions and children: whatever table a statement names, each row enqueues once.
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT no_plan();

\ir enqueued_by.psql
\ir failure_of.psql

-- a tree of partitions, one of which has its columns in another order

CREATE TABLE orders (id int, region text, amount int, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE orders_eu PARTITION OF orders FOR VALUES IN ('eu') PARTITION BY RANGE (id);
CREATE TABLE orders_eu_low PARTITION OF orders_eu FOR VALUES FROM (0) TO (1000);
CREATE TABLE orders_eu_high PARTITION OF orders_eu FOR VALUES FROM (1000) TO (2000);
CREATE TABLE orders_us (gone int, amount int, region text NOT NULL, id int NOT NULL);
ALTER TABLE orders_us DROP COLUMN gone;
ALTER TABLE orders ATTACH PARTITION orders_us FOR VALUES IN ('us');

SELECT is(
    lockstep.attach_workflow(
        'orders', 'fulfil', 'orders', '{INSERT,UPDATE,DELETE}', ARRAY['region', 'amount'],
        named_args => $$jsonb_build_object('from', old.id || old.region, 'to', new.id || new.region)$$
    ),
    ARRAY['lockstep_insert_fulfil', 'lockstep_update_fulfil', 'lockstep_delete_fulfil'],
    'attach_workflow returns the triggers of the table, not those of its partitions'
);
SELECT results_eq(
    $$SELECT a.table_name::text, a.events FROM lockstep.attachments AS a ORDER BY a.table_name::text$$,
    $$
    SELECT t.name, ARRAY['INSERT', 'UPDATE', 'DELETE']
    FROM unnest(ARRAY['orders', 'orders_eu', 'orders_eu_high', 'orders_eu_low', 'orders_us']) AS t (name)
    $$,
    'the workflow is attached to every partition'
);
SELECT results_eq(
    format('SELECT pg_temp.enqueued_by(%L)', c.statement),
    format('SELECT a::jsonb FROM unnest(%L::text[]) AS a', c.enqueued),
    format('each row enqueues once: %s', c.statement)
)
FROM (
    VALUES
        (
            $$INSERT INTO orders VALUES (1, 'us', 1), (1, 'eu', 1), (1500, 'eu', 1), (2, 'us', 1)$$,
            ARRAY[
                '{"from": null, "to": "1us"}', '{"from": null, "to": "1eu"}', '{"from": null, "to": "1500eu"}',
                '{"from": null, "to": "2us"}'
            ]
        ),
        ($$INSERT INTO orders_eu VALUES (2, 'eu', 1)$$, ARRAY['{"from": null, "to": "2eu"}']),
        ($$INSERT INTO orders_eu_low VALUES (3, 'eu', 1)$$, ARRAY['{"from": null, "to": "3eu"}']),
        ($$INSERT INTO orders_us (id, region, amount) VALUES (3, 'us', 1)$$, ARRAY['{"from": null, "to": "3us"}']),
        (
            $$INSERT INTO orders VALUES (3, 'us', 9), (4, 'us', 9) ON CONFLICT (id, region) DO UPDATE SET amount = 9$$,
            ARRAY['{"from": "3us", "to": "3us"}', '{"from": null, "to": "4us"}']
        ),
        (
            $$UPDATE orders SET amount = 2 WHERE id < 3$$,
            ARRAY[
                '{"from": "1eu", "to": "1eu"}', '{"from": "2eu", "to": "2eu"}', '{"from": "1us", "to": "1us"}',
                '{"from": "2us", "to": "2us"}'
            ]
        ),
        ($$UPDATE orders_us SET amount = 3 WHERE id = 3$$, ARRAY['{"from": "3us", "to": "3us"}']),
        ($$UPDATE orders_us SET amount = 3 WHERE id = 3$$, '{}'),
        -- from one partition to another
        ($$UPDATE orders SET id = 1999, amount = 4 WHERE id = 3 AND region = 'eu'$$, ARRAY['{"from": "3eu", "to": "1999eu"}']),
        ($$UPDATE orders_eu SET id = 4, amount = 5 WHERE id = 1999$$, ARRAY['{"from": "1999eu", "to": "4eu"}']),
        ($$DELETE FROM orders_eu_low WHERE id = 4$$, ARRAY['{"from": "4eu", "to": null}']),
        (
            $$DELETE FROM orders WHERE id IN (2, 1500)$$,
            ARRAY['{"from": "2eu", "to": null}', '{"from": "1500eu", "to": null}', '{"from": "2us", "to": null}']
        ),
        ($$TRUNCATE orders$$, '{}')
) AS c (statement, enqueued);

-- thousands of rows that change partition and primary key at once

INSERT INTO orders SELECT g, CASE WHEN g % 2 = 0 THEN 'eu' ELSE 'us' END, g FROM generate_series(1, 900) AS g;
SELECT bag_eq(
    $$SELECT pg_temp.enqueued_by('
        UPDATE orders SET id = 1000 + id, region = CASE region WHEN ''eu'' THEN ''us'' ELSE ''eu'' END
    ')$$,
    $$
    SELECT CASE
        WHEN g % 2 = 0 THEN jsonb_build_object('from', g || 'eu', 'to', (1000 + g) || 'us')
        ELSE jsonb_build_object('from', g || 'us', 'to', (1000 + g) || 'eu')
    END
    FROM generate_series(1, 900) AS g
    $$,
    'rows that move are paired with what they were'
);

-- a row that a trigger of a partition suppresses after it left the other

CREATE FUNCTION pg_temp.swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
TRUNCATE orders;
INSERT INTO orders VALUES (1, 'eu', 1), (2, 'us', 2);
CREATE TRIGGER swallow BEFORE INSERT ON orders_us FOR EACH ROW EXECUTE FUNCTION pg_temp.swallow();
SELECT is(
    (SELECT f::text FROM pg_temp.failure_of($$UPDATE orders SET region = 'us', amount = 7$$) AS f),
    (
        '55000', 'cannot tell which old row of "orders" belongs to which new one',
        'The UPDATE has 2 old rows and 1 new ones.',
        'A trigger of a partition suppressed a row that was moved there. '
        'Let it raise instead, or attach the workflow without columns and without old.'
    )::text,
    'rows that cannot be paired fail the UPDATE'
);
DROP TRIGGER swallow ON orders_us;

-- partitions that come and go

CREATE TABLE orders_asia PARTITION OF orders FOR VALUES IN ('asia');
SELECT results_eq(
    $$SELECT pg_temp.enqueued_by('INSERT INTO orders VALUES (1, ''asia'', 1)')$$,
    $$VALUES ('{"from": null, "to": "1asia"}'::jsonb)$$,
    'rows of a new partition enqueue if the statement names the table'
);
SELECT is_empty(
    $$SELECT pg_temp.enqueued_by('INSERT INTO orders_asia VALUES (2, ''asia'', 1)')$$,
    'they do not if the statement names the new partition'
);
CREATE TEMPORARY TABLE present AS SELECT t.oid, t.ctid AS version FROM pg_trigger AS t;
SELECT lockstep.attach_workflow(
    'orders', 'fulfil', 'orders', '{INSERT,UPDATE,DELETE}', ARRAY['region', 'amount'],
    named_args => $$jsonb_build_object('from', old.id || old.region, 'to', new.id || new.region)$$
);
SELECT results_eq(
    $$SELECT pg_temp.enqueued_by('INSERT INTO orders_asia VALUES (3, ''asia'', 1)')$$,
    $$VALUES ('{"from": null, "to": "3asia"}'::jsonb)$$,
    'they do when the workflow was attached again'
);
SELECT bag_eq(
    $$
    SELECT t.tgrelid::regclass::text, t.tgname::text
    FROM pg_trigger AS t
    WHERE NOT t.tgisinternal AND NOT EXISTS (SELECT FROM present AS p WHERE p.oid = t.oid AND p.version = t.ctid)
    $$,
    $$
    VALUES
        ('orders_asia', 'lockstep_insert_fulfil'), ('orders_asia', 'lockstep_update_fulfil'),
        ('orders_asia', 'lockstep_delete_fulfil')
    $$,
    'which created what was missing, and nothing else'
);
ALTER TABLE orders DETACH PARTITION orders_us;
SELECT results_eq(
    $$SELECT pg_temp.enqueued_by('INSERT INTO orders_us (id, region, amount) VALUES (8, ''us'', 1)')$$,
    $$VALUES ('{"from": null, "to": "8us"}'::jsonb)$$,
    'a partition that became a table of its own keeps the workflow'
);
SELECT ok(lockstep.detach_workflow('orders_eu_low', 'fulfil'), 'a workflow can be detached from one partition');
SELECT ok(lockstep.detach_workflow('orders', 'fulfil'), 'a workflow is detached from a table');
SELECT results_eq(
    'SELECT a.table_name::text FROM lockstep.attachments AS a', $$VALUES ('orders_us')$$, 'and from all its partitions'
);

SELECT lockstep.attach_workflow('orders_eu_high', 'of one partition', 'orders');
SELECT is_empty(
    $$SELECT pg_temp.enqueued_by('INSERT INTO orders VALUES (1001, ''eu'', 1)')$$,
    'a workflow of one partition is not enqueued by a statement that names the table'
);
SELECT results_eq(
    $$SELECT pg_temp.enqueued_by('INSERT INTO orders_eu_high VALUES (1002, ''eu'', 1)')$$,
    $$VALUES ('{"id": 1002, "region": "eu"}'::jsonb)$$,
    'a workflow of one partition is enqueued by a statement that names the partition'
);

CREATE FOREIGN DATA WRAPPER nothing;
CREATE SERVER nowhere FOREIGN DATA WRAPPER nothing;
CREATE TABLE mixed (id int, region text) PARTITION BY LIST (region);
CREATE TABLE mixed_here PARTITION OF mixed FOR VALUES IN ('here');
CREATE FOREIGN TABLE mixed_far PARTITION OF mixed FOR VALUES IN ('far') SERVER nowhere;
SELECT is(
    (
        SELECT (f.code, f.message, f.detail)::text
        FROM pg_temp.failure_of($$SELECT lockstep.attach_workflow('mixed', 'w', 'q', named_args => '''{}''')$$) AS f
    ),
    (
        '22023', 'table_name must be a table without foreign tables as partitions or children',
        '"mixed_far" is a foreign table, whose rows Postgres does not collect.'
    )::text,
    'a foreign table as a partition is refused, because writing to it would fail later'
);

-- inheritance

CREATE TABLE parent (id int PRIMARY KEY, name text);
CREATE TABLE child (extra int) INHERITS (parent);
CREATE TABLE grandchild () INHERITS (child);
SELECT lockstep.attach_workflow('parent', 'greet', 'q', '{INSERT,UPDATE,DELETE}', named_args => $$jsonb_build_object(
    'name', new.name, 'was', old.name
)$$);
SELECT results_eq(
    format('SELECT pg_temp.enqueued_by(%L)', c.statement),
    format('SELECT a::jsonb FROM unnest(%L::text[]) AS a', c.enqueued),
    format('each row enqueues once: %s', c.statement)
)
FROM (
    VALUES
        ($$INSERT INTO parent VALUES (1, 'p')$$, ARRAY['{"name": "p", "was": null}']),
        ($$INSERT INTO child VALUES (2, 'c', 2)$$, ARRAY['{"name": "c", "was": null}']),
        ($$INSERT INTO grandchild VALUES (3, 'g', 3)$$, ARRAY['{"name": "g", "was": null}']),
        (
            $$UPDATE parent SET name = upper(name)$$,
            ARRAY['{"name": "P", "was": "p"}', '{"name": "C", "was": "c"}', '{"name": "G", "was": "g"}']
        ),
        ($$UPDATE ONLY parent SET name = 'p'$$, ARRAY['{"name": "p", "was": "P"}']),
        ($$DELETE FROM child$$, ARRAY['{"name": null, "was": "C"}', '{"name": null, "was": "G"}']),
        ($$DELETE FROM parent$$, ARRAY['{"name": null, "was": "p"}'])
) AS c (statement, enqueued);

-- COPY, into a table and into a partition

TRUNCATE orders, lockstep.workflow_status;
SELECT lockstep.attach_workflow('orders', 'fulfil', 'copied');
COPY orders (id, region) FROM stdin;
2	eu
1	asia
\.
COPY orders_eu_low (id, region) FROM stdin;
3	eu
\.
SELECT results_eq(
    $$
    SELECT w.inputs -> 'namedArgs'
    FROM lockstep.workflow_status AS w
    WHERE w.queue_name = 'copied'
    ORDER BY w.available_at
    $$,
    $$VALUES ('{"id": 2, "region": "eu"}'::jsonb), ('{"id": 1, "region": "asia"}'), ('{"id": 3, "region": "eu"}')$$,
    'COPY enqueues for each row'
);

-- MERGE, of Postgres 15 and later

SELECT current_setting('server_version_num')::int >= 150000 AS has_merge \gset
\if :has_merge
SELECT lockstep.detach_workflow('orders', 'of one partition');
SELECT lockstep.attach_workflow(
    'orders', 'fulfil', 'orders', '{INSERT,UPDATE,DELETE}',
    named_args => $$jsonb_build_object('from', old.id || old.region, 'to', new.id || new.region)$$
);
SELECT results_eq(
    $$SELECT e FROM pg_temp.enqueued_by('
        MERGE INTO orders AS o
        USING (VALUES (1, ''asia''), (2, ''eu''), (3, ''eu''), (4, ''eu''), (5, ''asia'')) AS v (id, region)
            ON o.id = v.id AND o.region = v.region
        WHEN MATCHED AND v.id = 1 THEN DELETE
        WHEN MATCHED AND v.id = 2 THEN UPDATE SET id = 200
        WHEN MATCHED THEN UPDATE SET amount = 1
        WHEN NOT MATCHED THEN INSERT VALUES (v.id, v.region)
    ') AS e ORDER BY coalesce(e ->> 'from', e ->> 'to')$$,
    $$
    VALUES
        ('{"from": "1asia", "to": null}'::jsonb), ('{"from": "2eu", "to": "200eu"}'), ('{"from": "3eu", "to": "3eu"}'),
        ('{"from": null, "to": "4eu"}'), ('{"from": null, "to": "5asia"}')
    $$,
    'MERGE enqueues for each row that it inserts, updates or deletes'
);
\endif

SELECT * FROM finish();
ROLLBACK;
