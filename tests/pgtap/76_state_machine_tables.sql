-- State machines on tables of all kinds: keys, names, types, partitions, statements, versions.
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT no_plan();

\ir failure_of.psql

SELECT lockstep.create_state_machine('order');
SELECT lockstep.add_transition('order', NULL, 'place', 'new');
SELECT lockstep.add_transition('order', 'new', 'pay', 'paid');
SELECT lockstep.add_transition('order', 'paid', 'ship', 'shipped');

-- The moves of a table since the last look, in their order.
CREATE FUNCTION pg_temp.moves(p_table text)
RETURNS text[]
LANGUAGE sql
AS $$
    WITH seen AS (
        DELETE FROM lockstep.state_history AS h
        WHERE h.table_name = p_table
        RETURNING h.*
    )

    SELECT coalesce(
        array_agg(
            concat_ws(' ', s.key, coalesce(s.from_state, '-'), coalesce(s.event, '-'), coalesce(s.to_state, '-'))
            ORDER BY s.transition_id
        ),
        '{}'
    )
    FROM seen AS s
$$;

-- keys and names

CREATE SCHEMA "Größe; --";
CREATE TABLE "Größe; --"."it's ""quoted"" 100%s \000" (
    "größe %I" int,
    at timestamptz,
    id uuid DEFAULT gen_random_uuid(),
    "sta""te 'x'" text,
    PRIMARY KEY (id, "größe %I")
);
SELECT lockstep.create_state_machine(E'ma''chine "größe" %s \\000 \\');
SELECT lockstep.add_transition(E'ma''chine "größe" %s \\000 \\', E'süß "a"', 'ev''ent', E'b\\');
SELECT lockstep.attach_state_machine(
    '"Größe; --"."it''s ""quoted"" 100%s \000"', 'sta"te ''x''', E'ma''chine "größe" %s \\000 \\'
);
INSERT INTO "Größe; --"."it's ""quoted"" 100%s \000"
VALUES (1, now(), '00000000-0000-0000-0000-000000000001', 'süß "a"');
SELECT is(lockstep.fire_event(o, 'ev''ent'), 'b\', 'a row is found by several columns, in names that need quotes')
FROM "Größe; --"."it's ""quoted"" 100%s \000" AS o;
SELECT is(
    pg_temp.moves('"Größe; --"."it''s ""quoted"" 100%s \000"'),
    ARRAY[
        '{"id": "00000000-0000-0000-0000-000000000001", "größe %I": 1} - - süß "a"',
        '{"id": "00000000-0000-0000-0000-000000000001", "größe %I": 1} süß "a" ev''ent b\'
    ],
    'the key has all columns'
);
SELECT is(
    (SELECT a.machine_name FROM lockstep.attached_state_machines AS a), E'ma''chine "größe" %s \\000 \\',
    'attached_state_machines reads names that need escapes'
);
CREATE TABLE a_table_with_the_longest_name_that_there_can_be_in_postgres_xxx
(id int PRIMARY KEY, state text DEFAULT 'new');
SELECT lockstep.attach_state_machine(
    'a_table_with_the_longest_name_that_there_can_be_in_postgres_xxx', 'state', 'order'
);
INSERT INTO a_table_with_the_longest_name_that_there_can_be_in_postgres_xxx VALUES (1);
SELECT ok(
    lockstep.detach_state_machine('a_table_with_the_longest_name_that_there_can_be_in_postgres_xxx'),
    'a table with the longest name can be attached and detached'
);

-- types of the state, of the key

CREATE TYPE stage AS ENUM ('new', 'paid', 'shipped', 'lost');
CREATE DOMAIN short_text AS varchar(9) CHECK (value <> 'lost');
CREATE TABLE typed (id short_text PRIMARY KEY, state stage NOT NULL DEFAULT 'new', word varchar(3));
SELECT lockstep.attach_state_machine('typed', 'state', 'order');
INSERT INTO typed VALUES ('a'), ('b');
SELECT is(lockstep.fire_event(o, 'pay'), 'paid', 'the state may be an enum') FROM typed AS o WHERE o.id = 'a';
SELECT throws_ok($$UPDATE typed SET state = 'lost'$$, '23514', NULL, 'a label of an enum may be no state');
SELECT lockstep.detach_state_machine('typed');
ALTER TABLE typed ALTER COLUMN state DROP DEFAULT, ALTER COLUMN state TYPE varchar(5) USING 'new';
SELECT lockstep.attach_state_machine('typed', 'state', 'order');
SELECT is(lockstep.fire_event(o, 'pay'), 'paid', 'the state may be a varchar') FROM typed AS o WHERE o.id = 'b';
SELECT lockstep.detach_state_machine('typed');
ALTER TABLE typed ALTER COLUMN state TYPE char(5) USING 'new';
SELECT lockstep.attach_state_machine('typed', 'state', 'order');
SELECT is(lockstep.fire_event(o, 'pay'), 'paid', 'the state may be a char of several letters')
FROM typed AS o
WHERE o.id = 'b';
SELECT is(
    (pg_temp.failure_of($$SELECT lockstep.fire_event(o, 'ship') FROM typed AS o WHERE o.id = 'b'$$)).code, '22001',
    'a state that the column has no room for is not cut'
);

-- a key whose operators are not in pg_catalog, as those of extensions

CREATE SCHEMA own;
CREATE TYPE own.word;
CREATE FUNCTION own.word_in(cstring) RETURNS own.word LANGUAGE internal IMMUTABLE STRICT AS 'textin';
CREATE FUNCTION own.word_out(own.word) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
CREATE TYPE own.word (INPUT = own.word_in, OUTPUT = own.word_out, LIKE = text, COLLATABLE = true);
CREATE FUNCTION own.compare(own.word, own.word) RETURNS int LANGUAGE internal IMMUTABLE STRICT AS 'bttextcmp';
SELECT format(
    'CREATE FUNCTION own.%1$s(own.word, own.word) RETURNS boolean LANGUAGE internal IMMUTABLE STRICT AS %1$L;'
    'CREATE OPERATOR own.%2$s (FUNCTION = own.%1$s, LEFTARG = own.word, RIGHTARG = own.word)',
    f.name, f.operator
)
FROM (
    VALUES ('text_lt', '<'), ('text_le', '<='), ('texteq', '='), ('text_ge', '>='), ('text_gt', '>')
) AS f (name, operator) \gexec
CREATE OPERATOR CLASS own.word_ops DEFAULT FOR TYPE own.word USING btree AS
    OPERATOR 1 own.<, OPERATOR 2 own.<=, OPERATOR 3 own.=, OPERATOR 4 own.>=, OPERATOR 5 own.>,
    FUNCTION 1 own.compare(own.word, own.word);
CREATE TABLE worded (id own.word PRIMARY KEY, state text DEFAULT 'new');
SELECT lockstep.attach_state_machine('worded', 'state', 'order');
INSERT INTO worded VALUES ('a'), ('b');
SELECT is(lockstep.fire_event(o, 'pay'), 'paid', 'a row is found with the operators of its key')
FROM worded AS o
WHERE o.id::text = 'a';
SELECT is(
    pg_temp.moves('public.worded'),
    '{"{\"id\": \"a\"} - place new", "{\"id\": \"b\"} - place new", "{\"id\": \"a\"} new pay paid"}',
    'a key of a type that JSON does not know is a text'
);

-- statements

CREATE TABLE orders (id int PRIMARY KEY, state text NOT NULL DEFAULT 'new', half int GENERATED ALWAYS AS (id / 2) STORED);
SELECT lockstep.attach_state_machine('orders', 'state', 'order');
COPY orders (id) FROM STDIN;
1
2
\.
SELECT is(
    pg_temp.moves('public.orders'), '{"{\"id\": 1} - place new", "{\"id\": 2} - place new"}', 'COPY inserts'
);
INSERT INTO orders VALUES (1, 'paid'), (3, 'new') ON CONFLICT (id) DO UPDATE SET state = excluded.state;
SELECT is(
    pg_temp.moves('public.orders'), '{"{\"id\": 1} new pay paid", "{\"id\": 3} - place new"}',
    'ON CONFLICT DO UPDATE moves what is there, and inserts the rest'
);
INSERT INTO orders VALUES (2, 'shipped') ON CONFLICT DO NOTHING;
SELECT is(pg_temp.moves('public.orders'), '{}', 'ON CONFLICT DO NOTHING does nothing');
SELECT throws_ok(
    $$INSERT INTO orders VALUES (2, 'shipped') ON CONFLICT (id) DO UPDATE SET state = excluded.state$$,
    '23514', 'no event of state machine "order" leads from "new" to "shipped"',
    'ON CONFLICT DO UPDATE is no way around'
);
SELECT throws_ok(
    $$WITH gone AS (DELETE FROM orders WHERE id = 1 RETURNING id) UPDATE orders SET state = 'shipped' WHERE id = 2$$,
    '23514', NULL, 'a statement within another is no way around'
);
SELECT current_setting('server_version_num')::int >= 150000 AS has_merge \gset
\if :has_merge
MERGE INTO orders AS o
USING (VALUES (1, 'shipped'), (2, 'gone'), (4, 'new')) AS n (id, state) ON n.id = o.id
WHEN MATCHED AND n.state = 'gone' THEN DELETE
WHEN MATCHED THEN UPDATE SET state = n.state
WHEN NOT MATCHED THEN INSERT VALUES (n.id, n.state);
SELECT is(
    pg_temp.moves('public.orders'),
    '{"{\"id\": 1} paid ship shipped", "{\"id\": 2} new - -", "{\"id\": 4} - place new"}',
    'MERGE moves, deletes and inserts'
);
\endif

-- what the table calls finds what it names, as in an UPDATE, and fire_event() finds nothing else

CREATE SCHEMA shop;
CREATE TABLE shop.parcels (id int PRIMARY KEY, state text NOT NULL DEFAULT 'new');
CREATE TABLE shop.log (path text, state text);
SELECT lockstep.attach_state_machine('shop.parcels', 'state', 'order');
CREATE FUNCTION shop.write_log() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO log VALUES (current_setting('search_path'), NEW.state);
    RETURN NEW;
END
$$;
CREATE TRIGGER write_log BEFORE UPDATE ON shop.parcels FOR EACH ROW EXECUTE FUNCTION shop.write_log();
CREATE FUNCTION shop.trap(text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'trapped';
END
$$;
CREATE FUNCTION shop.format(text, name, text, regclass, text) RETURNS text LANGUAGE sql AS 'SELECT shop.trap($1)';
CREATE FUNCTION shop.format(text, regclass, name, text, text) RETURNS text LANGUAGE sql AS 'SELECT shop.trap($1)';
CREATE FUNCTION shop.quote_ident(name) RETURNS text LANGUAGE sql AS 'SELECT shop.trap($1)';
INSERT INTO shop.parcels VALUES (1), (2);
SET LOCAL search_path = shop, public;
SELECT lockstep.fire_event(p, 'pay') FROM parcels AS p WHERE p.id = 1;
UPDATE parcels SET state = 'paid' WHERE id = 2;
SELECT is(current_setting('search_path'), 'shop, public', 'fire_event() leaves the search_path as it was');
RESET search_path;
SELECT results_eq(
    'SELECT l.path, l.state FROM shop.log AS l',
    $$VALUES ('shop, public', 'paid'), ('shop, public', 'paid')$$,
    'a trigger that fire_event() calls sees the search_path that it sees in an UPDATE'
);

-- the state that counts is the one that is written in the end

CREATE FUNCTION pg_temp.meddle()
RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    IF NEW.state = 'paid' THEN
        RETURN CASE WHEN TG_ARGV[0] = 'keep' THEN NULL ELSE ROW(NEW.id, 'shipped', NULL)::public.orders END;
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER zzz BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION pg_temp.meddle();
SELECT is(
    (pg_temp.failure_of(f.statement)).message, 'no event of state machine "order" leads from "new" to "shipped"',
    'what a BEFORE trigger makes of it is checked: ' || f.statement
)
FROM (
    VALUES
        ($$UPDATE orders SET state = 'paid' WHERE id = 3$$),
        ($$SELECT lockstep.fire_event(o, 'pay') FROM orders AS o WHERE id = 3$$)
) AS f (statement);
DROP TRIGGER zzz ON orders;
CREATE TRIGGER zzz BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION pg_temp.meddle('keep');
SELECT is(
    (pg_temp.failure_of($$SELECT lockstep.fire_event(o, 'pay') FROM orders AS o WHERE id = 3$$)).message,
    'a trigger of public.orders kept its row in state "new"',
    'fire_event() does not claim a move that a trigger prevented'
);
DROP TRIGGER zzz ON orders;

-- partitions

CREATE TABLE parcels (id int, area text, state text DEFAULT 'new', PRIMARY KEY (id, area)) PARTITION BY LIST (area);
CREATE TABLE parcels_north PARTITION OF parcels FOR VALUES IN ('north');
CREATE TABLE parcels_south PARTITION OF parcels FOR VALUES IN ('south') PARTITION BY RANGE (id);
CREATE TABLE parcels_south_1 PARTITION OF parcels_south FOR VALUES FROM (0) TO (100);
SELECT lockstep.attach_state_machine('parcels', 'state', 'order');
CREATE TABLE parcels_west PARTITION OF parcels FOR VALUES IN ('west');
INSERT INTO parcels VALUES (1, 'north'), (2, 'south');
INSERT INTO parcels_west VALUES (3, 'west');
SELECT is(
    pg_temp.moves('public.parcels'),
    ARRAY[
        '{"id": 1, "area": "north"} - place new', '{"id": 2, "area": "south"} - place new',
        '{"id": 3, "area": "west"} - place new'
    ],
    'the table of a row is the one that was attached, not its partition'
);
SELECT throws_ok(
    format('UPDATE %s SET state = ''shipped'' WHERE id = %s', p.name, p.id), '23514', NULL,
    'writing to partition ' || p.name || ' is no way around'
)
FROM (VALUES ('parcels_north', 1), ('parcels_south', 2), ('parcels_south_1', 2), ('parcels_west', 3)) AS p (name, id);
SELECT is(
    ARRAY[
        (SELECT lockstep.fire_event(p, 'pay') FROM parcels AS p WHERE p.id = 1),
        (SELECT lockstep.fire_event(p, 'pay') FROM parcels_south_1 AS p WHERE p.id = 2)
    ],
    '{paid,paid}',
    'an event happens to a row of a partitioned table, and to a row of a partition'
);
SELECT results_eq(
    $$SELECT a.table_name::text FROM lockstep.attached_state_machines AS a WHERE a.table_name::text LIKE 'parcels%'$$,
    $$VALUES ('parcels')$$,
    'partitions are not listed'
);
SELECT pg_temp.moves('public.parcels');

-- to another partition

UPDATE parcels SET area = 'south' WHERE id = 1;
UPDATE parcels SET area = 'west', state = 'shipped' WHERE id = 2;
SELECT is(
    pg_temp.moves('public.parcels'), ARRAY['{"id": 2, "area": "west"} paid ship shipped'],
    'a row that moves to another partition is neither deleted nor inserted'
);
SELECT throws_ok(
    $$UPDATE parcels SET area = 'south', state = 'shipped' WHERE id = 3$$, '23514',
    'no event of state machine "order" leads from "new" to "shipped"',
    'moving to another partition is no way around'
);
UPDATE parcels SET id = id + 10 WHERE id = 1;
SELECT is(pg_temp.moves('public.parcels'), '{}', 'a new key is no move');
SELECT is_empty('SELECT FROM lockstep.state_move', 'no note of a new key is left');
DELETE FROM parcels WHERE id = 11;
INSERT INTO parcels VALUES (11, 'south');
UPDATE parcels SET id = id + 20, state = 'paid' WHERE id = 11;
SELECT is(
    pg_temp.moves('public.parcels'),
    ARRAY[
        '{"id": 11, "area": "south"} paid - -', '{"id": 11, "area": "south"} - place new',
        '{"id": 31, "area": "south"} new pay paid'
    ],
    'a row that is deleted and inserted again is another row'
);
DELETE FROM parcels WHERE id = 31;
INSERT INTO parcels VALUES (31, 'south');
UPDATE parcels SET area = 'north' WHERE id = 31;
SELECT is(
    pg_temp.moves('public.parcels'),
    ARRAY['{"id": 31, "area": "south"} paid - -', '{"id": 31, "area": "south"} - place new'],
    'also if that row then moves to another partition'
);
SELECT is_empty('SELECT FROM lockstep.state_move', 'no note of a move to another partition is left');

-- what other triggers make of the key, or of the update

CREATE FUNCTION pg_temp.send_south() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.area := 'south';
    RETURN CASE WHEN NEW.id < 1000 THEN NEW END;
END
$$;
INSERT INTO parcels VALUES (32, 'north'), (33, 'north');
CREATE TRIGGER send_south BEFORE UPDATE ON parcels FOR EACH ROW EXECUTE FUNCTION pg_temp.send_south();
UPDATE parcels SET state = 'paid' WHERE id = 32;
UPDATE parcels SET id = 1000 WHERE id = 33;
DROP TRIGGER send_south ON parcels;
SELECT is(
    pg_temp.moves('public.parcels'),
    ARRAY[
        '{"id": 32, "area": "north"} - place new', '{"id": 33, "area": "north"} - place new',
        '{"id": 32, "area": "south"} new pay paid'
    ],
    'a row that a trigger moves to another partition is neither deleted nor inserted'
);
SELECT is_empty('SELECT FROM lockstep.state_move', 'no note of an update that a trigger suppresses is left');

-- a table that is partitioned by its state, so that each move is one to another partition
CREATE TABLE jobs (id int, state text DEFAULT 'new', PRIMARY KEY (id, state)) PARTITION BY LIST (state);
CREATE TABLE jobs_open PARTITION OF jobs FOR VALUES IN ('new', 'paid');
CREATE TABLE jobs_done PARTITION OF jobs FOR VALUES IN ('shipped');
SELECT lockstep.attach_state_machine('jobs', 'state', 'order');
INSERT INTO jobs SELECT g.id FROM generate_series(1, 3) AS g (id);
UPDATE jobs SET state = 'paid' WHERE id < 3;
UPDATE jobs SET state = 'shipped' WHERE id < 3;
SELECT is(
    pg_temp.moves('public.jobs'),
    ARRAY[
        '{"id": 1} - place new', '{"id": 2} - place new', '{"id": 3} - place new',
        '{"id": 1} new pay paid', '{"id": 2} new pay paid',
        '{"id": 1} paid ship shipped', '{"id": 2} paid ship shipped'
    ],
    'the state may decide about the partition, and is no part of the recorded key'
);
SELECT throws_ok($$UPDATE jobs SET state = 'shipped' WHERE id = 3$$, '23514', NULL, 'nor is that a way around');
SELECT is(lockstep.fire_event(j, 'pay'), 'paid', 'an event may happen to such a row') FROM jobs AS j WHERE j.id = 3;
SELECT is(lockstep.fire_event(j, 'ship'), 'shipped', 'and take it to another partition') FROM jobs AS j WHERE j.id = 3;
SELECT is_empty('SELECT FROM lockstep.state_move', 'no note of such a move is left');
SELECT ok(lockstep.detach_state_machine('jobs'), 'a partitioned table can be detached');
UPDATE jobs SET state = 'new';

-- versions

CREATE TABLE plain_orders (id int PRIMARY KEY, state text DEFAULT 'new');
SELECT lockstep.attach_state_machine('plain_orders', 'state', 'order');
INSERT INTO plain_orders VALUES (1), (2);
UPDATE plain_orders SET state = 'paid' WHERE id = 2;
CREATE TABLE kept (id int PRIMARY KEY, state text DEFAULT 'new', version int);
SELECT is((pg_temp.failure_of(f.statement)).code, f.code, f.statement || ' is refused')
FROM (
    VALUES
        ($$SELECT lockstep.attach_state_machine('kept', 'state', 'order', 'version')$$, '55000'),
        ($$SELECT lockstep.attach_state_machine('kept', 'state', 'order', 'none')$$, '22023')
) AS f (statement, code);
ALTER TABLE kept ALTER COLUMN version SET NOT NULL, ALTER COLUMN version SET DEFAULT 1;
SELECT is(
    (pg_temp.failure_of($$SELECT lockstep.attach_state_machine('kept', 'state', 'order', 'version')$$)).message,
    'column "version" of public.kept must be NOT NULL and have no default',
    'a version column with a default is refused'
);
ALTER TABLE kept ALTER COLUMN version DROP DEFAULT;
SELECT lockstep.attach_state_machine('kept', 'state', 'order', 'version');
INSERT INTO kept VALUES (1), (2);

SELECT is(lockstep.create_state_machine('order'), 2, 'the next version');
SELECT lockstep.add_transition('order', NULL, 'place', 'new');
SELECT lockstep.add_transition('order', 'new', 'ship', 'shipped');
SELECT lockstep.add_transition('order', 'shipped', 'return', 'returned');
INSERT INTO kept VALUES (3, 'new', NULL), (4, 'new', 1);
SELECT results_eq(
    'SELECT k.id, k.version FROM kept AS k ORDER BY k.id', 'VALUES (1, 1), (2, 1), (3, 2), (4, 1)',
    'new rows get the newest version, if they are inserted without one'
);
SELECT is(lockstep.fire_event(k, CASE k.id WHEN 1 THEN 'pay' ELSE 'ship' END), s.state, 'an event follows the row''s version')
FROM kept AS k
INNER JOIN (VALUES (1, 'paid'), (3, 'shipped')) AS s (id, state) ON s.id = k.id;
SELECT is(format('%s: %s', f.code, f.message), r.failure, r.statement || ' is refused')
FROM (
    VALUES
        (
            $$UPDATE kept SET state = 'shipped' WHERE id = 2$$,
            '23514: no event of state machine "order" leads from "new" to "shipped"'
        ),
        ($$UPDATE kept SET version = 2 WHERE id = 1$$, '23514: version 2 of state machine "order" has no state "paid"'),
        ($$UPDATE kept SET version = 1 WHERE id = 3; UPDATE kept SET version = 3 WHERE id = 3$$, '23514: version 3 of state machine "order" has no state "shipped"'),
        ($$UPDATE kept SET version = NULL WHERE id = 2$$, '23502: null value in column "version" of relation "kept" violates not-null constraint'),
        ($$INSERT INTO kept VALUES (5, 'new', 3)$$, '23514: no row may enter state machine "order" in state "new"'),
        (
            $$UPDATE plain_orders SET state = 'shipped' WHERE id = 2$$,
            '23514: no event of state machine "order" leads from "paid" to "shipped"'
        )
) AS r (statement, failure)
CROSS JOIN LATERAL pg_temp.failure_of(r.statement) AS f;
UPDATE kept SET version = 2 WHERE id = 2;
UPDATE kept SET state = 'shipped' WHERE id = 2;
UPDATE kept SET version = lockstep.newest_machine_version('order'), state = 'shipped' WHERE id = 4;
SELECT results_eq(
    $$
    SELECT h.key -> 'id', h.version, h.event
    FROM lockstep.state_history AS h
    WHERE h.table_name = 'public.kept'
    ORDER BY h.transition_id
    $$,
    $$
    VALUES
        ('1'::jsonb, 1, 'place'), ('2', 1, 'place'), ('3', 2, 'place'), ('4', 1, 'place'),
        ('1', 1, 'pay'), ('3', 2, 'ship'), ('2', 2, 'ship'), ('4', 2, 'ship')
    $$,
    'a row may be given a version that knows its state, and follows it'
);
UPDATE plain_orders SET state = 'shipped' WHERE id = 1;
SELECT is(o.state, 'shipped', 'rows without a version follow the newest') FROM plain_orders AS o WHERE o.id = 1;

-- triggers of others under the same names

CREATE FUNCTION of_others() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TABLE hostile (id int PRIMARY KEY);
CREATE TRIGGER lockstep_state_machine AFTER INSERT ON hostile FOR EACH ROW EXECUTE FUNCTION of_others();
SELECT lives_ok(
    'SELECT FROM lockstep.attached_state_machines', 'a trigger that only has the name does not break the view'
);
SELECT is(lockstep.detach_state_machine('hostile'), false, 'nor is it detached');
SELECT has_function('of_others'::name, 'nor its function dropped');
CREATE TRIGGER odd AFTER INSERT ON hostile REFERENCING NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION lockstep.enqueue_rows('a');
CREATE TABLE spoofed (id int PRIMARY KEY);
CREATE FUNCTION spoof() RETURNS trigger LANGUAGE plpgsql
AS 'BEGIN RETURN NULL; END -- Written by lockstep.attach_state_machine()';
CREATE TRIGGER lockstep_state_machine AFTER INSERT ON spoofed FOR EACH ROW EXECUTE FUNCTION spoof('no JSON');
SELECT is(
    (SELECT count(*) FROM lockstep.attached_state_machines AS m WHERE m.table_name IN ('hostile'::regclass, 'spoofed'::regclass)),
    0::bigint, 'nor do arguments that are no JSON'
);
ALTER TABLE hostile DISABLE TRIGGER ALL;
INSERT INTO hostile VALUES (1);
INSERT INTO spoofed VALUES (1);
SELECT is(f.code, '55000', r.statement || ' is told that there is no state machine')
FROM (
    VALUES
        ('SELECT lockstep.fire_event(h, ''pay'') FROM hostile AS h'),
        ('SELECT lockstep.fire_event(s, ''pay'') FROM spoofed AS s')
) AS r (statement)
CROSS JOIN LATERAL pg_temp.failure_of(r.statement) AS f;

CREATE TRIGGER odd_columns AFTER INSERT ON hostile REFERENCING NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION lockstep.enqueue_rows('workflow_name', 'a', 'queue_name', 'b', 'columns', 'no array');
CREATE TRIGGER odd_priority AFTER INSERT ON hostile REFERENCING NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION lockstep.enqueue_rows('workflow_name', 'a', 'queue_name', 'b', 'priority', 'high');
CREATE TRIGGER odd_debounce AFTER INSERT ON hostile REFERENCING NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION lockstep.enqueue_rows('workflow_name', 'a', 'queue_name', 'b', 'debounce', 'later');
CREATE TRIGGER odd_none AFTER INSERT ON hostile REFERENCING NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION lockstep.enqueue_rows();
SELECT is_empty(
    $$SELECT FROM lockstep.attachments AS a WHERE a.table_name = 'hostile'::regclass$$,
    'odd triggers do not break the view of attachments'
);

SELECT * FROM finish();
ROLLBACK;
