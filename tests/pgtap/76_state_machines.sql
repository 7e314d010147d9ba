-- State machines: their definition, and what rows that follow one may do.
BEGIN;
SELECT no_plan();

\ir failure_of.psql

-- definition

SELECT is(lockstep.create_state_machine('order'), 1, 'a state machine begins with version 1');
SELECT is(lockstep.add_transition('order', NULL, 'place', 'new'), 1, 'a transition is added to the newest version');
SELECT lockstep.add_transition('order', 'new', 'pay', 'paid', 'fulfil');
SELECT lockstep.add_transition('order', 'new', 'cancel', 'cancelled');
SELECT lockstep.add_transition('order', 'paid', 'cancel', 'cancelled', 'refund', 'money');
SELECT lockstep.add_transition('order', 'paid', 'expire', 'cancelled');
SELECT lockstep.add_transition('order', 'paid', 'ship', 'shipped');

SELECT results_eq(
    $$SELECT l.from_state, l.event, l.to_state, l.workflow_name, l.queue_name FROM lockstep.list_transitions('order') AS l$$,
    $$
    VALUES
        (NULL, 'place', 'new', NULL, NULL),
        ('new', 'cancel', 'cancelled', NULL, NULL),
        ('new', 'pay', 'paid', 'fulfil', 'default'),
        ('paid', 'cancel', 'cancelled', 'refund', 'money'),
        ('paid', 'expire', 'cancelled', NULL, NULL),
        ('paid', 'ship', 'shipped', NULL, NULL)
    $$,
    'list_transitions() lists all of them, ways in first'
);
SELECT results_eq(
    $$SELECT l.event FROM lockstep.list_transitions('order', 'new') AS l$$,
    $$VALUES ('cancel'), ('pay')$$,
    'list_transitions() lists what may happen in a state'
);
SELECT is(
    lockstep.state_machine_diagram('order'),
    $diagram$stateDiagram-v2
    state "cancelled" as s1
    state "new" as s2
    state "paid" as s3
    state "shipped" as s4
    [*] --> s2: place
    s2 --> s1: cancel
    s2 --> s3: pay / fulfil
    s3 --> s1: cancel / refund
    s3 --> s1: expire
    s3 --> s4: ship
    s1 --> [*]
    s4 --> [*]$diagram$,
    'the diagram shows ways in, events with their workflows, and final states'
);
SELECT lockstep.create_state_machine('odd');
SELECT is(lockstep.state_machine_diagram('odd'), 'stateDiagram-v2', 'a machine without transitions has a diagram');
SELECT lockstep.add_transition('odd', E'a;b:"c"\n<d>', '#&%%{init}', '`x\ --> [*]');
SELECT is(
    lockstep.state_machine_diagram('odd'),
    $diagram$stateDiagram-v2
    state "#96;x#92; --#gt; [*]" as s1
    state "a#59;b#58;#quot;c#quot; #lt;d#gt;" as s2
    s2 --> s1: #35;#amp;#37;#37;{init}
    s1 --> [*]$diagram$,
    'what ends a label or a line of Mermaid is escaped in names'
);

-- refused definitions

CREATE TEMPORARY TABLE refused AS
SELECT c.statement, c.code, c.message, f.code AS got_code, f.message AS got_message, f.hint
FROM (
    VALUES
        ($$create_state_machine(NULL)$$, '22023', 'machine_name must have 1 to 512 characters'),
        ($$create_state_machine(' ')$$, '22023', 'machine_name must have 1 to 512 characters'),
        ($$create_state_machine(repeat('x', 513))$$, '22023', 'machine_name must have 1 to 512 characters'),
        ($$add_transition('nothing', 'a', 'e', 'b')$$, 'P0002', 'state machine "nothing" does not exist'),
        ($$add_transition(NULL, 'a', 'e', 'b')$$, 'P0002', 'state machine "" does not exist'),
        ($$add_transition('order', ' ', 'e', 'b')$$, '22023', 'from_state must have 1 to 512 characters'),
        ($$add_transition('order', 'a', NULL, 'b')$$, '22023', 'event must have 1 to 512 characters'),
        ($$add_transition('order', 'a', '', 'b')$$, '22023', 'event must have 1 to 512 characters'),
        ($$add_transition('order', 'a', 'e', NULL)$$, '22023', 'to_state must have 1 to 512 characters'),
        ($$add_transition('order', 'a', 'e', repeat('x', 513))$$, '22023', 'to_state must have 1 to 512 characters'),
        ($$add_transition('order', 'a', 'e', 'b', '')$$, '22023', 'workflow_name must have 1 to 512 characters'),
        ($$add_transition('order', 'a', 'e', 'b', 'w', NULL)$$, '22023', 'queue_name must have 1 to 512 characters'),
        ($$add_transition('order', 'a', 'e', 'b', 'w', '')$$, '22023', 'queue_name must have 1 to 512 characters'),
        ($$add_transition('order', 'a', 'e', 'a')$$, '22023', 'from_state and to_state must differ'),
        (
            $$add_transition('order', 'new', 'pay', 'elsewhere')$$, '23505',
            'event "pay" leaves state "new" of state machine "order" already'
        ),
        (
            $$add_transition('order', NULL, 'import', 'new')$$, '23505',
            'rows enter state "new" of state machine "order" already'
        ),
        ($$list_transitions('nothing')$$, 'P0002', 'state machine "nothing" does not exist'),
        ($$list_transitions('order', version => 0)$$, 'P0002', 'state machine "order" has no version 0'),
        ($$list_transitions('order', version => 2)$$, 'P0002', 'state machine "order" has no version 2'),
        ($$state_machine_diagram('order', 2)$$, 'P0002', 'state machine "order" has no version 2'),
        ($$newest_machine_version('nothing')$$, 'P0002', 'state machine "nothing" does not exist')
) AS c (statement, code, message)
CROSS JOIN LATERAL pg_temp.failure_of('SELECT lockstep.' || c.statement) AS f;
SELECT is(
    format('%s: %s', r.got_code, r.got_message), format('%s: %s', r.code, r.message), r.statement || ' is refused'
)
FROM refused AS r;
SELECT isnt(coalesce(r.hint, ''), '', format('the error of %s has a hint', r.statement)) FROM refused AS r;

-- rows move as the machine allows

CREATE TABLE orders (id int PRIMARY KEY, state text DEFAULT 'new', note text);
SELECT lockstep.attach_state_machine('orders', 'state', 'order');
INSERT INTO orders (id) VALUES (1), (2), (3), (4);

SELECT is(lockstep.fire_event(o, 'pay'), 'paid', 'fire_event() returns the new state')
FROM orders AS o
WHERE o.id = 1;
SELECT is(o.state, 'paid', 'the row has moved') FROM orders AS o WHERE o.id = 1;
UPDATE orders SET state = 'paid', note = 'by hand' WHERE id = 2;
UPDATE orders SET note = 'no move', state = state WHERE id = 3;
DELETE FROM orders WHERE id = 4;
SELECT results_eq(
    $$
    SELECT h.key, h.from_state, h.event, h.to_state
    FROM lockstep.state_history AS h
    WHERE h.table_name = 'public.orders' AND h.machine_name = 'order' AND h.version = 1
        AND h.changed_by = current_user AND h.transaction_id = pg_current_xact_id()
    ORDER BY h.transition_id
    $$,
    $$
    VALUES
        ('{"id": 1}'::jsonb, NULL, 'place', 'new'),
        ('{"id": 2}', NULL, 'place', 'new'),
        ('{"id": 3}', NULL, 'place', 'new'),
        ('{"id": 4}', NULL, 'place', 'new'),
        ('{"id": 1}', 'new', 'pay', 'paid'),
        ('{"id": 2}', 'new', 'pay', 'paid'),
        ('{"id": 4}', 'new', NULL, NULL)
    $$,
    'insertions, moves and deletions are recorded, and nothing else'
);
SELECT results_eq(
    $$
    SELECT w.workflow_name, w.queue_name, w.inputs, w.headers, h.key
    FROM lockstep.workflow_status AS w
    INNER JOIN lockstep.state_history AS h USING (workflow_id)
    WHERE h.transition_id = h.workflow_id
    ORDER BY w.workflow_id
    $$,
    format(
        $$VALUES ('fulfil', 'default', %L::jsonb, %L::jsonb, %L::jsonb), ('fulfil', 'default', %L, %L, %L)$$,
        '{"positionalArgs": [], "namedArgs": {"id": 1}}',
        '{"table_name": "public.orders", "from_state": "new", "event": "pay", "to_state": "paid"}', '{"id": 1}',
        '{"positionalArgs": [], "namedArgs": {"id": 2}}',
        '{"table_name": "public.orders", "from_state": "new", "event": "pay", "to_state": "paid"}', '{"id": 2}'
    ),
    'a move starts its workflow, whose id is its own, with the key as arguments and the event in the headers'
);
SELECT is(count(*), 2::bigint, 'only moves with a workflow start one') FROM lockstep.workflow_status;

-- moves that are refused

DELETE FROM refused;
INSERT INTO refused
SELECT c.statement, c.code, c.message, f.code, concat_ws(E'\n', f.message, nullif(f.detail, '')), f.hint
FROM (
    VALUES
        (
            $$UPDATE orders SET state = 'shipped' WHERE id = 3$$, '23514',
            E'no event of state machine "order" leads from "new" to "shipped"\n'
            'The row is {"id": 3} of public.orders, which follows version 1.'
        ),
        (
            $$UPDATE orders SET state = 'lost' WHERE id = 3$$, '23514',
            E'no event of state machine "order" leads from "new" to "lost"\n'
            'The row is {"id": 3} of public.orders, which follows version 1.'
        ),
        (
            $$UPDATE orders SET state = NULL WHERE id = 3$$, '23514',
            E'no event of state machine "order" leads from "new" to null\n'
            'The row is {"id": 3} of public.orders, which follows version 1.'
        ),
        (
            $$INSERT INTO orders VALUES (9, 'paid')$$, '23514',
            E'no row may enter state machine "order" in state "paid"\n'
            'The row is {"id": 9} of public.orders, which follows version 1.'
        ),
        (
            $$INSERT INTO orders VALUES (9, NULL)$$, '23514',
            E'no row may enter state machine "order" in state null\n'
            'The row is {"id": 9} of public.orders, which follows version 1.'
        ),
        (
            $$SELECT lockstep.fire_event(o, 'ship') FROM orders AS o WHERE id = 3$$, '23514',
            E'event "ship" of state machine "order" leads from "paid" to "shipped", not from "new"\n'
            'Row {"id": 3} of public.orders is in state "new".'
        ),
        (
            $$SELECT lockstep.fire_event(o, 'fly') FROM orders AS o WHERE id = 3$$, 'P0002',
            E'state machine "order" has no event "fly"\n'
            'Row {"id": 3} of public.orders is in state "new".'
        ),
        (
            $$SELECT lockstep.fire_event(o, 'place') FROM orders AS o WHERE id = 3$$, 'P0002',
            E'state machine "order" has no event "place"\n'
            'Row {"id": 3} of public.orders is in state "new".'
        ),
        (
            $$SELECT lockstep.fire_event(o, NULL) FROM orders AS o WHERE id = 3$$, 'P0002',
            E'state machine "order" has no event ""\n'
            'Row {"id": 3} of public.orders is in state "new".'
        ),
        (
            $$SELECT lockstep.fire_event(NULL::orders, 'pay')$$, 'P0002',
            E'row of public.orders does not exist\nRow {"id": null} of public.orders.'
        ),
        (
            $$SELECT lockstep.fire_event(ROW(7, 'new', NULL)::orders, 'pay')$$, 'P0002',
            E'row of public.orders does not exist\nRow {"id": 7} of public.orders.'
        ),
        (
            $$SELECT lockstep.fire_event(o, 'pay') FROM (SELECT * FROM orders) AS o$$, '55000',
            'record follows no state machine'
        ),
        ($$SELECT lockstep.fire_event(1, 'pay')$$, '55000', 'integer follows no state machine'),
        (
            $$SELECT lockstep.fire_event(m, 'pay') FROM lockstep.state_machine AS m LIMIT 1$$, '55000',
            'lockstep.state_machine follows no state machine'
        )
) AS c (statement, code, message)
CROSS JOIN LATERAL pg_temp.failure_of(c.statement) AS f;
SELECT is(
    format('%s: %s', r.got_code, r.got_message), format('%s: %s', r.code, r.message), r.statement || ' is refused'
)
FROM refused AS r;
SELECT isnt(coalesce(r.hint, ''), '', format('the error of %s has a hint', r.statement)) FROM refused AS r;
SELECT is(
    (pg_temp.failure_of(f.statement)).hint, f.hint, 'the hint says what is possible: ' || f.statement
)
FROM (
    VALUES
        (
            $$UPDATE orders SET state = 'shipped' WHERE id = 3$$,
            'Events in "new": cancel (to "cancelled"), pay (to "paid").'
        ),
        (
            $$SELECT lockstep.fire_event(o, 'ship') FROM orders AS o WHERE id = 3$$,
            'Events in "new": cancel (to "cancelled"), pay (to "paid").'
        ),
        (
            $$SELECT lockstep.fire_event(o, 'fly') FROM orders AS o WHERE id = 3$$,
            'Its events are "cancel", "expire", "pay", "ship".'
        ),
        ($$INSERT INTO orders VALUES (9, 'paid')$$, 'Rows enter by: place (to "new").')
) AS f (statement, hint);
SELECT is(count(*), 7::bigint, 'what is refused is not recorded') FROM lockstep.state_history;

-- a final state

UPDATE orders SET state = 'cancelled' WHERE id = 3;
SELECT is(
    (pg_temp.failure_of(f.statement)).hint, 'No transition leaves "cancelled".', 'a final state is final: ' || f.statement
)
FROM (
    VALUES
        ($$UPDATE orders SET state = 'new' WHERE id = 3$$),
        ($$SELECT lockstep.fire_event(o, 'pay') FROM orders AS o WHERE id = 3$$)
) AS f (statement);

-- a row without a state, a machine that nothing leaves

SELECT lockstep.create_state_machine('door');
SELECT lockstep.add_transition('door', NULL, 'build', 'open');
SELECT lockstep.add_transition('door', 'open', 'close', 'closed');
CREATE TABLE doors (id int PRIMARY KEY, state text);
INSERT INTO doors VALUES (1, NULL);
SELECT lockstep.attach_state_machine('doors', 'state', 'door', check_existing => false);
SELECT is(
    (pg_temp.failure_of($$SELECT lockstep.fire_event(d, 'close') FROM doors AS d$$))::text,
    (
        '23514', 'event "close" of state machine "door" leads from "open" to "closed", not from null',
        'Row {"id": 1} of public.doors is in state null.', 'No transition leaves null.'
    )::text,
    'no event moves a row without a state'
);
SELECT lockstep.create_state_machine('door');
SELECT is(
    (pg_temp.failure_of($$SELECT lockstep.fire_event(d, 'close') FROM doors AS d$$))::text,
    (
        'P0002', 'state machine "door" has no event "close"',
        'Row {"id": 1} of public.doors is in state null.',
        'Add transitions with add_transition(); none leaves a state.'
    )::text,
    'a version without transitions has no event'
);
SELECT lockstep.detach_state_machine('doors');

-- two events between the same states

SELECT is(
    (pg_temp.failure_of($$UPDATE orders SET state = 'cancelled' WHERE id = 1$$)).message,
    'several events of state machine "order" lead from "paid" to "cancelled"',
    'an update that does not say which of two events it is is refused'
);
SELECT lockstep.fire_event(o, 'expire') FROM orders AS o WHERE o.id = 1;
SET LOCAL lockstep.event = 'cancel';
UPDATE orders SET state = 'cancelled' WHERE id = 2;
SELECT results_eq(
    $$
    SELECT h.key ->> 'id', h.event, w.workflow_name
    FROM lockstep.state_history AS h
    LEFT JOIN lockstep.workflow_status AS w USING (workflow_id)
    WHERE h.from_state = 'paid'
    ORDER BY h.transition_id
    $$,
    $$VALUES ('1', 'expire', NULL), ('2', 'cancel', 'refund')$$,
    'fire_event() and the setting lockstep.event say which event it is'
);
INSERT INTO orders VALUES (5);
SELECT lockstep.fire_event(o, 'pay') FROM orders AS o WHERE o.id = 5;
SELECT is(current_setting('lockstep.event'), 'cancel', 'fire_event() leaves the setting as it was');

-- ways in

SELECT lockstep.create_state_machine('lamp');
SELECT lockstep.add_transition('lamp', 'off', 'switch', 'on');
SELECT lockstep.add_transition('lamp', 'on', 'switch', 'off');
CREATE TABLE lamps (id int PRIMARY KEY, state text);
SELECT lockstep.attach_state_machine('lamps', 'state', 'lamp');
INSERT INTO lamps VALUES (1, 'on'), (2, 'off');
SELECT is(
    (pg_temp.failure_of($$INSERT INTO lamps VALUES (3, 'broken')$$)).message,
    'no row may enter state machine "lamp" in state "broken"',
    'without a way in rows may be inserted in any state that occurs, and no other'
);
SELECT results_eq(
    $$
    SELECT h.key ->> 'id', h.event, h.to_state
    FROM lockstep.state_history AS h
    WHERE h.table_name = 'public.lamps'
    ORDER BY h.transition_id
    $$,
    $$VALUES ('1', NULL, 'on'), ('2', NULL, 'off')$$,
    'an insertion where no way in is declared has no event'
);
SELECT lockstep.create_state_machine('mail');
SELECT lockstep.add_transition('mail', NULL, 'write', 'draft', 'review');
SELECT lockstep.add_transition('mail', NULL, 'receive', 'unread');
CREATE TABLE mails (id int PRIMARY KEY, state text);
SELECT lockstep.attach_state_machine('mails', 'state', 'mail');
INSERT INTO mails VALUES (1, 'draft'), (2, 'unread');
SELECT results_eq(
    $$
    SELECT h.key ->> 'id', h.event, w.workflow_name
    FROM lockstep.state_history AS h
    LEFT JOIN lockstep.workflow_status AS w USING (workflow_id)
    WHERE h.table_name = 'public.mails'
    ORDER BY h.transition_id
    $$,
    $$VALUES ('1', 'write', 'review'), ('2', 'receive', NULL)$$,
    'an insertion is a transition too, by the event of its state, and may start a workflow'
);

-- attaching

CREATE TABLE keyless (state text);
CREATE TABLE stateful (state text PRIMARY KEY);
CREATE TABLE strange (id int PRIMARY KEY, gone int, state text);
ALTER TABLE strange DROP COLUMN gone;
INSERT INTO strange VALUES (1, 'on'), (2, 'lost'), (3, NULL), (4, 'off'), (5, 'lost'), (6, 'lost');
CREATE VIEW lamps_on AS SELECT * FROM lamps WHERE state = 'on';
SELECT is(format('%s: %s', f.code, f.message), r.message, r.arguments || ' is refused')
FROM (
    VALUES
        ($$'orders', 'state', 'nothing'$$, 'P0002: state machine "nothing" does not exist'),
        ($$'lamps', 'state', 'order'$$, '55000: public.lamps follows a state machine already'),
        ($$'keyless', 'state', 'lamp'$$, '55000: public.keyless has no primary key'),
        ($$'stateful', 'state', 'lamp'$$, '55000: public.stateful has no primary key apart from its state'),
        ($$'lamps_on', 'state', 'lamp'$$, '22023: table_name must be a table'),
        ($$NULL, 'state', 'lamp'$$, '22023: table_name must be a table'),
        ($$'strange', 'states', 'lamp'$$, '22023: state_column must be a column of public.strange'),
        ($$'strange', 'ctid', 'lamp'$$, '22023: state_column must be a column of public.strange'),
        ($$'strange', 'gone', 'lamp'$$, '22023: state_column must be a column of public.strange'),
        ($$'strange', NULL, 'lamp'$$, '22023: state_column must be a column of public.strange'),
        ($$'strange', 'state', 'lamp', 'versions'$$, '22023: version_column must be a column of public.strange'),
        ($$'strange', 'state', NULL$$, 'P0002: state machine "" does not exist'),
        (
            $$'strange', 'state', 'lamp'$$,
            '23514: public.strange has rows in states that state machine "lamp" does not know'
        )
) AS r (arguments, message)
CROSS JOIN LATERAL pg_temp.failure_of(format('SELECT lockstep.attach_state_machine(%s)', r.arguments)) AS f;
SELECT is(
    (pg_temp.failure_of($$SELECT lockstep.attach_state_machine('strange', 'state', 'lamp')$$)).detail,
    'The states, and how many rows are in each: "lost" (3), null (1).',
    'the unknown states are named'
);
SELECT results_eq(
    $$
    SELECT f.detail, f.hint
    FROM pg_temp.failure_of($s$SELECT lockstep.attach_state_machine('strange', 'states', 'lamp')$s$) AS f
    $$,
    $$VALUES ('It is "states".', 'Its columns are "id", "state".')$$,
    'a column that is none is named, with those that are'
);
SELECT is_empty(
    $$SELECT FROM pg_trigger AS t WHERE t.tgrelid = 'strange'::regclass$$, 'what is refused leaves no trigger'
);
SELECT lockstep.attach_state_machine('strange', 'state', 'lamp', check_existing => false);
UPDATE strange SET id = id + 10;
UPDATE strange SET state = 'off' WHERE id = 11;
SELECT is(
    (pg_temp.failure_of($$UPDATE strange SET state = 'off' WHERE id = 12$$)).message,
    'no event of state machine "lamp" leads from "lost" to "off"',
    'rows in unknown states may be left in them, and stay in them'
);
UPDATE strange SET state = 'on' WHERE id = 13;
SELECT results_eq(
    $$SELECT h.from_state, h.to_state FROM lockstep.state_history AS h WHERE h.key = '{"id": 13}'$$,
    $$VALUES (NULL, 'on')$$,
    'a row without a state enters the machine'
);
SELECT results_eq(
    $$
    SELECT a.table_name::text, a.machine_name, a.state_column, a.version_column, a.is_enabled
    FROM lockstep.attached_state_machines AS a
    ORDER BY 1
    $$,
    $$
    VALUES
        ('lamps', 'lamp', 'state', NULL, true), ('mails', 'mail', 'state', NULL, true),
        ('orders', 'order', 'state', NULL, true), ('strange', 'lamp', 'state', NULL, true)
    $$,
    'attached_state_machines lists what is attached'
);
ALTER TABLE lamps DISABLE TRIGGER lockstep_state_machine;
SELECT is(
    ARRAY(SELECT a.table_name::text FROM lockstep.attached_state_machines AS a WHERE NOT a.is_enabled), '{lamps}',
    'attached_state_machines tells which is disabled'
);

SELECT ok(lockstep.detach_state_machine('strange'), 'detach_state_machine() tells that there was one');
SELECT ok(NOT lockstep.detach_state_machine('strange'), 'detach_state_machine() tells that there was none');
UPDATE strange SET state = 'anything';
SELECT is_empty(
    $$
    SELECT FROM pg_trigger AS t WHERE t.tgrelid = 'strange'::regclass
    UNION ALL
    SELECT FROM pg_proc AS p WHERE p.proname = 'strange_state_machine'
    $$,
    'a detached table keeps neither trigger nor function'
);

-- a table that was dropped leaves its function behind, which the next one replaces

DROP TABLE mails;
GRANT EXECUTE ON FUNCTION mails_state_machine() TO pg_monitor;
CREATE TABLE mails (number int PRIMARY KEY, "where" text);
SELECT lockstep.attach_state_machine('mails', 'where', 'mail');
SELECT ok(
    NOT has_function_privilege('pg_monitor', 'mails_state_machine()', 'EXECUTE'),
    'what was granted on the function that was left behind is gone with it'
);
INSERT INTO mails VALUES (7, 'draft');
SELECT isnt_empty(
    $$SELECT FROM lockstep.state_history AS h WHERE h.key = '{"number": 7}' AND h.to_state = 'draft'$$,
    'a table may be dropped and made again'
);
ALTER TABLE mails RENAME TO letters;
CREATE TABLE mails (id int PRIMARY KEY, state text);
SELECT is(
    (pg_temp.failure_of($$SELECT lockstep.attach_state_machine('mails', 'state', 'mail')$$)).code, '42723',
    'the function of another table is not replaced'
);

-- a renamed table, a moved one

CREATE SCHEMA "post office";
ALTER TABLE letters SET SCHEMA "post office";
UPDATE "post office".letters SET "where" = 'draft';
SELECT throws_ok(
    $$UPDATE "post office".letters SET "where" = 'unread'$$, '23514', NULL, 'a renamed table follows its machine'
);
DELETE FROM "post office".letters;
SELECT results_eq(
    $$SELECT h.table_name, h.from_state FROM lockstep.state_history AS h WHERE h.key = '{"number": 7}' AND h.to_state IS NULL$$,
    $$VALUES ('"post office".letters', 'draft')$$,
    'the history has the name that the table has'
);

-- the history can be purged

UPDATE lockstep.state_history AS h
SET transition_id = lockstep._generate_id(clock_timestamp() - interval '40 days')
WHERE h.table_name = 'public.lamps';
SELECT is(
    lockstep.purge_state_history(a.older_than::interval), 0, 'what is younger stays: ' || a.older_than
)
FROM (VALUES ('50 days'), ('100 years'), ('5000 years')) AS a (older_than);
SELECT is(lockstep.purge_state_history('30 days', 1), 1, 'a purge deletes no more than it may');
SELECT is(lockstep.purge_state_history('30 days'), 1, 'a purge deletes what is older');
SELECT isnt_empty('SELECT FROM lockstep.state_history', 'and nothing else');
SELECT throws_ok(
    format('SELECT lockstep.purge_state_history(%s)', a.arguments), '22023', NULL, a.arguments || ' is refused'
)
FROM (VALUES ($$'-1 s'$$), ('NULL'), ($$'1 s', 0$$), ($$'1 s', NULL$$)) AS a (arguments);

SELECT * FROM finish();
ROLLBACK;
