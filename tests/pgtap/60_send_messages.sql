-- Messages to many workflows at once: order, keys, who is woken, all or nothing.
BEGIN;
SELECT no_plan();

\ir failure_of.psql

INSERT INTO lockstep.executor (executor_id, queues, workflow_names, lease_duration, expires_at)
VALUES ('alice', '{q}', '{greet}', '1 hour', clock_timestamp() + interval '1 hour');
INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name)
SELECT w.workflow_id, 'greet', 'q'
FROM unnest(ARRAY['a', 'b', 'c']) AS w (workflow_id);

-- refused calls

CREATE TEMPORARY TABLE refused_call AS
SELECT c.arguments, c.expected, c.thing, f.code, f.message, f.detail, f.hint
FROM (
    VALUES
        ($$NULL, '{1}'$$, '22023', 'destination_ids'),
        ($$'{a}', NULL$$, '22023', 'messages'),
        ($$'{a}', '{1,2}'$$, '22023', 'messages'),
        ($$'{a,b}', '{1}'$$, '22023', 'messages'),
        ($$'{a,b}', '{1,2}', idempotency_keys => '{k}'$$, '22023', 'idempotency_keys'),
        ($$'{a,b}', '{1,2}', idempotency_keys => '{}'$$, '22023', 'idempotency_keys'),
        ($$ARRAY['a', NULL], '{1,2}'$$, '22023', 'destination_id'),
        ($$ARRAY['a', ' '], '{1,2}'$$, '22023', 'destination_id'),
        ($$ARRAY['a', repeat('x', 513)], '{1,2}'$$, '22023', 'destination_id'),
        ($$'{a,b}', ARRAY['1', NULL]::jsonb[]$$, '22023', 'message'),
        ($$'{a,b}', '{1,2}', topic => ''$$, '22023', 'topic'),
        ($$'{a,b}', '{1,2}', topic => repeat('x', 513)$$, '22023', 'topic'),
        ($$'{a,b}', '{1,2}', idempotency_keys => ARRAY['k', ' ']$$, '22023', 'idempotency_key'),
        ($$'{a,b}', '{1,2}', idempotency_keys => ARRAY['k', repeat('x', 513)]$$, '22023', 'idempotency_key'),
        ($$'{a,nowhere,nobody}', '{1,2,3}'$$, 'P0002', 'nowhere'),
        ($$'{nowhere}', '{1}'$$, 'P0002', 'nowhere')
) AS c (arguments, expected, thing)
CROSS JOIN LATERAL pg_temp.failure_of(format('SELECT lockstep.send_messages(%s)', c.arguments)) AS f;

SELECT is(r.code, r.expected, format('send_messages(%s) is refused with %s', r.arguments, r.expected))
FROM refused_call AS r;
SELECT matches(
    r.message, '\m' || r.thing || '\M', format('the error for send_messages(%s) names %s', r.arguments, r.thing)
)
FROM refused_call AS r;
SELECT isnt(coalesce(r.hint, ''), '', format('the error for send_messages(%s) has a hint', r.arguments))
FROM refused_call AS r;
SELECT is(
    r.detail, 'destination_ids has 2, messages and idempotency_keys have 2, 1.',
    'the error for arrays of different lengths tells their lengths'
)
FROM refused_call AS r
WHERE r.arguments LIKE '%{k}%';
SELECT is_empty('SELECT n.message_id FROM lockstep.notifications AS n', 'a refused call sends nothing at all');

-- order

SELECT is_empty($$SELECT s FROM lockstep.send_messages('{}', '{}') AS s$$, 'no messages are no error');

CREATE TEMPORARY TABLE sent AS
SELECT s.id, s.place
FROM lockstep.send_messages(
    ARRAY(SELECT CASE g % 2 WHEN 0 THEN 'a' ELSE 'b' END FROM generate_series(1, 1000) AS g),
    ARRAY(SELECT to_jsonb(g) FROM generate_series(1, 1000) AS g),
    topic => 'order'
) WITH ORDINALITY AS s (id, place);
SELECT results_eq(
    $$
    SELECT s.place
    FROM sent AS s
    INNER JOIN lockstep.notifications AS n ON n.message_id = s.id
    WHERE n.message = to_jsonb(s.place)
    ORDER BY s.place
    $$,
    'SELECT g.place FROM generate_series(1::bigint, 1000) AS g (place)',
    'the ids come in the order of the arrays'
);
SELECT results_eq(
    format(
        $$
        SELECT n.message::int
        FROM lockstep.notifications AS n
        WHERE n.destination_id = %L
        ORDER BY n.created_at, n.message_id
        $$,
        d.id
    ),
    format('SELECT g.n FROM generate_series(%s, 1000, 2) AS g (n)', d.first),
    format('messages for %s have the order of the arrays', d.id)
)
FROM (VALUES ('a', 2), ('b', 1)) AS d (id, first);
SELECT results_eq(
    'SELECT DISTINCT n.xmin::text FROM lockstep.notifications AS n',
    $$VALUES ((pg_current_xact_id()::text::numeric % 4294967296)::text)$$,
    'a call uses no transaction id but that of its transaction'
);

-- what it writes is what send_message() writes

DELETE FROM lockstep.notifications;
SELECT lockstep.send_message('a', '1');
SELECT lockstep.send_message('a', 'null', 't', 'k');
SELECT lockstep.send_messages('{b}', '{1}');
SELECT lockstep.send_messages('{b}', ARRAY['null']::jsonb[], 't', '{k}');
SELECT results_eq(
    $$
    SELECT n.topic, n.message, n.idempotency_key, n.consumed_at
    FROM lockstep.notifications AS n
    WHERE n.destination_id = 'b'
    ORDER BY n.created_at
    $$,
    $$
    SELECT n.topic, n.message, n.idempotency_key, n.consumed_at
    FROM lockstep.notifications AS n
    WHERE n.destination_id = 'a'
    ORDER BY n.created_at
    $$,
    'sending many writes the rows of single calls'
);

-- keys

DELETE FROM lockstep.notifications;
SELECT lockstep.send_message('a', '1', idempotency_key => 'k') AS first_id \gset
CREATE TEMPORARY TABLE keyed AS
SELECT s.id, s.place
FROM lockstep.send_messages(
    '{c,a,a,b,c,c}', '{1,2,3,4,5,6}', idempotency_keys => ARRAY['new', 'k', NULL, 'k', 'new', NULL]
) WITH ORDINALITY AS s (id, place);
SELECT is(
    (SELECT k.id FROM keyed AS k WHERE k.place = 2), :'first_id', 'a key that was used gives the id of its message'
);
SELECT is(
    (SELECT k.id FROM keyed AS k WHERE k.place = 5), (SELECT k.id FROM keyed AS k WHERE k.place = 1),
    'a key that repeats gives the id of the first'
);
SELECT results_eq(
    $$
    SELECT n.destination_id, n.message::int, n.idempotency_key
    FROM lockstep.notifications AS n
    ORDER BY n.destination_id, n.created_at
    $$,
    $$VALUES ('a', 1, 'k'), ('a', 3, NULL), ('b', 4, 'k'), ('c', 1, 'new'), ('c', 6, NULL)$$,
    'a message whose key was used is not sent, its neighbours are'
);
SELECT is(
    (SELECT count(*) FROM keyed AS k INNER JOIN lockstep.notifications AS n ON n.message_id = k.id), 6::bigint,
    'every id is that of a message'
);

-- who is woken

INSERT INTO lockstep.workflow_status (
    workflow_id, workflow_name, queue_name, status, waiting_for, started_at, available_at
)
SELECT w.workflow_id, 'greet', 'q', 'WAITING', w.waiting_for, now(), NULL
FROM (
    VALUES
        ('waits', ARRAY['message:t']), ('waits for two', ARRAY['message:u', 'message:t']),
        ('waits for another', ARRAY['message:u']), ('waits for none', ARRAY['message:']), ('knows it', ARRAY['message:t'])
) AS w (workflow_id, waiting_for);
SELECT lockstep.send_message('knows it', '1', 'u', 'known');
SELECT count(*)
FROM lockstep.send_messages(
    ARRAY['waits', 'waits', 'waits for two', 'waits for another', 'waits for none', 'knows it', 'a'],
    '{1,2,3,4,5,6,7}', 't', ARRAY[NULL, NULL, NULL, NULL, NULL, 'known', NULL]
);
SELECT results_eq(
    $$
    SELECT w.workflow_id, w.status
    FROM lockstep.workflow_status AS w
    WHERE w.workflow_id ~ '^(waits|knows)'
    ORDER BY w.workflow_id
    $$,
    $$
    VALUES
        ('knows it', 'WAITING'), ('waits', 'ENQUEUED'), ('waits for another', 'WAITING'),
        ('waits for none', 'WAITING'), ('waits for two', 'ENQUEUED')
    $$,
    'who waits for the topic is woken, unless its message was sent before'
);
SELECT lockstep.send_messages(ARRAY['waits for none', 'a'], '{1,2}');
SELECT is(
    (SELECT w.status FROM lockstep.workflow_status AS w WHERE w.workflow_id = 'waits for none'), 'ENQUEUED',
    'a message without a topic wakes who waits for one'
);
INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name, status, completed_at)
VALUES ('ended', 'greet', 'q', 'SUCCESS', now());
SELECT lockstep.send_messages('{ended}', '{1}');
SELECT results_eq(
    $$SELECT n.consumed_at FROM lockstep.notifications AS n WHERE n.destination_id = 'ended'$$,
    'VALUES (NULL::timestamptz)',
    'a workflow that has ended keeps its message unread'
);

-- transactions

SAVEPOINT before_call;
SELECT lockstep.send_messages('{a}', '{1}', 'rolled back');
ROLLBACK TO SAVEPOINT before_call;
RELEASE SAVEPOINT before_call;
SELECT is_empty(
    $$SELECT n.message_id FROM lockstep.notifications AS n WHERE n.topic = 'rolled back'$$,
    'a call that is rolled back sends nothing'
);

SELECT * FROM finish();
ROLLBACK;
