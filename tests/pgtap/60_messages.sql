-- Messages reach one receive, once, in order; events keep the last value.
BEGIN;
SELECT no_plan();

\ir hint_of.psql

-- What step p_step_id of a workflow that alice runs receives: outcome, message, remaining seconds.
CREATE FUNCTION pg_temp.receive(
    p_workflow_id text, p_step_id int, p_topic text DEFAULT NULL, p_timeout float DEFAULT NULL
)
RETURNS text
LANGUAGE sql
AS $$
    SELECT concat_ws(' ', r.outcome, r.message, round(r.remaining::numeric))
    FROM lockstep.receive_messages('alice', jsonb_build_array(jsonb_build_object(
        'workflow_id', p_workflow_id, 'attempt', 1, 'step_id', p_step_id, 'topic', p_topic, 'timeout', p_timeout
    ))) AS r
$$;

CREATE FUNCTION pg_temp.status_of(p_workflow_id text)
RETURNS text
LANGUAGE sql
AS $$ SELECT w.status FROM lockstep.workflow_status AS w WHERE w.workflow_id = p_workflow_id $$;

INSERT INTO lockstep.executor (executor_id, queues, workflow_names, lease_duration, expires_at)
VALUES ('alice', '{q}', '{greet}', '1 hour', clock_timestamp() + interval '1 hour');
INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name, status, executor_id, attempts, started_at)
SELECT w.workflow_id, 'greet', 'q', 'PENDING', 'alice', 1, now()
FROM unnest(ARRAY['w', 'other', 'order', 'topics', 'timeout', 'nulls', 'writer']) AS w (workflow_id);
INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name, status, executor_id, completed_at)
VALUES ('finished', 'greet', 'q', 'SUCCESS', 'alice', now());

-- refused messages

CREATE TEMPORARY TABLE refused_call AS
SELECT c.*, 'SELECT lockstep.send_message(' || c.arguments || ')' AS statement
FROM (
    VALUES
        ($$NULL, '1'$$, '22023', 'destination_id'),
        ($$'', '1'$$, '22023', 'destination_id'),
        ($$repeat('x', 513), '1'$$, '22023', 'destination_id'),
        ($$'w', NULL$$, '22023', 'message'),
        ($$'w', '1', topic => ''$$, '22023', 'topic'),
        ($$'w', '1', topic => repeat('x', 513)$$, '22023', 'topic'),
        ($$'w', '1', idempotency_key => ' '$$, '22023', 'idempotency_key'),
        ($$'w', '1', idempotency_key => repeat('x', 513)$$, '22023', 'idempotency_key'),
        ($$'nowhere', '1'$$, 'P0002', 'workflow "nowhere"')
) AS c (arguments, code, thing);
SELECT throws_like(r.statement, r.thing || '%', format('the error for send_message(%s) names %s', r.arguments, r.thing))
FROM refused_call AS r;
SELECT throws_ok(r.statement, r.code, NULL, format('send_message(%s) is refused with %s', r.arguments, r.code))
FROM refused_call AS r;
SELECT isnt(
    coalesce(pg_temp.hint_of(r.statement), ''), '', format('the error for send_message(%s) has a hint', r.arguments)
)
FROM refused_call AS r;
SELECT is_empty('SELECT n.message_id FROM lockstep.notifications AS n', 'a refused message leaves no row');

-- once per key and destination

SELECT lockstep.send_message('w', '"first"', idempotency_key => 'k') AS message_id \gset
SELECT is(
    lockstep.send_message('w', '"second"', idempotency_key => 'k'), :'message_id',
    'a second message with the same key gets the id of the first'
);
SELECT isnt(
    lockstep.send_message('other', '"other"', idempotency_key => 'k'), :'message_id',
    'the same key to another workflow is another message'
);
SELECT is(
    pg_temp.receive('w', 1), 'received "first"', 'a message that was sent before the receive is received at once'
);
SELECT is(
    lockstep.send_message('w', '"third"', idempotency_key => 'k'), :'message_id',
    'a key stays taken when its message was received'
);
SELECT is(pg_temp.receive('w', 2), 'waiting', 'a message is received once, however often it was sent');
SELECT is(pg_temp.receive('w', 1), 'received "first"', 'a receive that is sent again returns the same message');
SELECT results_eq(
    $$
    SELECT o.step_name, o.output, o.completed_at IS NOT NULL
    FROM lockstep.operation_outputs AS o
    WHERE o.workflow_id = 'w'
        AND o.step_id = 1
    $$,
    $$VALUES ('receive', '"first"'::jsonb, true)$$,
    'what was received is recorded as the step''s output'
);
SELECT results_eq(
    $$
    SELECT n.message, n.consumed_by_step, n.consumed_at IS NOT NULL
    FROM lockstep.notifications AS n
    WHERE n.destination_id = 'w'
    $$,
    $$VALUES ('"first"'::jsonb, 1, true)$$,
    'a received message is kept, with the step that consumed it'
);

-- order and topics

SELECT lockstep.send_message('order', to_jsonb(g.n)) FROM generate_series(1, 20) AS g (n);
SELECT is(
    pg_temp.receive('order', g.n), format('received %s', g.n),
    format('message %s of a transaction is received as number %s', g.n, g.n)
)
FROM generate_series(1, 20) AS g (n);

SELECT lockstep.send_message('topics', '"a"', 'a');
SELECT lockstep.send_message('topics', '"none"');
SELECT is(pg_temp.receive('topics', 1, 'b'), 'waiting', 'a message of one topic is not received for another');
SELECT is(pg_temp.receive('topics', 2), 'received "none"', 'a receive without a topic takes a message without a topic');
SELECT is(pg_temp.receive('topics', 3), 'waiting', 'a receive without a topic takes no message of a topic');
SELECT is(pg_temp.receive('topics', 4, 'a'), 'received "a"', 'a message waits for the receive of its topic');

SELECT results_eq(
    $$
    SELECT r.workflow_id, r.step_id, r.outcome
    FROM lockstep.receive_messages('alice', '[
        {"workflow_id": "finished", "attempt": 1, "step_id": 1},
        {"workflow_id": "w", "attempt": 2, "step_id": 9},
        {"workflow_id": "nowhere", "attempt": 1, "step_id": 1}
    ]') AS r
    $$,
    $$VALUES ('finished', 1, 'lost'), ('w', 9, 'lost'), ('nowhere', 1, 'lost')$$,
    'a receive for a workflow that the executor lost is answered with lost'
);

-- timeouts

SELECT is(pg_temp.receive('timeout', 1, 'a', 3600), 'waiting 3600', 'a receive that waits has its whole timeout left');
UPDATE lockstep.operation_outputs SET available_at = available_at - interval '30 min' WHERE workflow_id = 'timeout';
SELECT is(pg_temp.receive('timeout', 1, 'a', 3600), 'waiting 1800', 'the timeout runs from the first call');
UPDATE lockstep.operation_outputs SET available_at = clock_timestamp() WHERE workflow_id = 'timeout';
SELECT is(pg_temp.receive('timeout', 1, 'a', 3600), 'timed_out', 'a receive ends when its timeout has run out');
SELECT lockstep.send_message('timeout', '"too late"', 'a');
SELECT is(pg_temp.receive('timeout', 1, 'a', 3600), 'timed_out', 'a receive that timed out has timed out for good');
SELECT is(pg_temp.receive('timeout', 2, 'a', 3600), 'received "too late"', 'a late message is for the next receive');
SELECT is(pg_temp.receive('timeout', 3, 'a', 0), 'timed_out', 'a timeout of 0 looks once');
SELECT pg_temp.receive('timeout', 4, 'a', 3600);
UPDATE lockstep.operation_outputs SET available_at = clock_timestamp() WHERE workflow_id = 'timeout' AND step_id = 4;
SELECT lockstep.send_message('timeout', '"in time"', 'a');
SELECT is(
    pg_temp.receive('timeout', 4, 'a', 3600), 'received "in time"',
    'a message that is there is received, also after the timeout'
);
SELECT results_eq(
    $$
    SELECT o.step_id, o.output, o.error, o.attempts, o.completed_at IS NOT NULL
    FROM lockstep.operation_outputs AS o
    WHERE o.workflow_id = 'timeout'
    ORDER BY o.step_id
    $$,
    $$
    VALUES
        (1, NULL::jsonb, NULL::jsonb, 0, true), (2, '"too late"', NULL, 1, true), (3, NULL, NULL, 0, true),
        (4, '"in time"', NULL, 1, true)
    $$,
    'a timeout is recorded as no output and 0 attempts'
);

SELECT lockstep.send_message('nulls', 'null');
SELECT is(pg_temp.receive('nulls', 1), 'received null', 'a JSON null is a message');
SELECT is(pg_temp.receive('nulls', 1), 'received null', 'a JSON null stays a message when the receive is sent again');
SELECT is(
    (SELECT o.output FROM lockstep.operation_outputs AS o WHERE o.workflow_id = 'nulls'), 'null'::jsonb,
    'a JSON null is recorded as one, not as a timeout'
);

-- waking

INSERT INTO lockstep.workflow_status (
    workflow_id, workflow_name, queue_name, status, waiting_for, available_at
)
VALUES
    ('waits for a', 'greet', 'q', 'WAITING', '{message:a}', NULL),
    ('waits for none', 'greet', 'q', 'WAITING', '{message:}', NULL),
    ('waits for either', 'greet', 'q', 'WAITING', '{message:a,message:b}', '2100-01-01'),
    ('sleeps', 'greet', 'q', 'DELAYED', NULL, '2100-01-01');
SELECT lockstep.send_message('waits for a', '1', s.topic) FROM unnest(ARRAY['b', NULL, 'aa']) AS s (topic);
SELECT is(pg_temp.status_of('waits for a'), 'WAITING', 'a message of another topic does not wake a workflow');
SELECT lockstep.send_message('waits for a', '1', 'a');
SELECT is(pg_temp.status_of('waits for a'), 'ENQUEUED', 'a message of its topic wakes a workflow');
SELECT lives_ok($$SELECT lockstep.send_message('waits for a', '2', 'a')$$, 'a second message finds it woken');
SELECT lockstep.send_message('waits for none', '1', 'a');
SELECT is(pg_temp.status_of('waits for none'), 'WAITING', 'a message of a topic does not wake a receive without one');
SELECT lockstep.send_message('waits for none', '1');
SELECT is(pg_temp.status_of('waits for none'), 'ENQUEUED', 'a message without a topic wakes a receive without one');
SELECT lockstep.send_message('waits for either', '1', 'b');
SELECT is(pg_temp.status_of('waits for either'), 'ENQUEUED', 'a message of any of its topics wakes a workflow');
SELECT lockstep.send_message('sleeps', '1');
SELECT is(pg_temp.status_of('sleeps'), 'DELAYED', 'a message does not end a sleep');
SELECT is_empty(
    $$
    SELECT w.workflow_id, w.waiting_for, w.available_at
    FROM lockstep.workflow_status AS w
    WHERE w.workflow_id LIKE 'waits %' AND (w.waiting_for IS NOT NULL OR w.available_at > clock_timestamp())
    $$,
    'a woken workflow is claimable now'
);
SELECT lives_ok(
    $$SELECT lockstep.send_message('finished', '1')$$, 'a message to a workflow that has ended is accepted'
);
SELECT results_eq(
    $$SELECT n.consumed_at FROM lockstep.notifications AS n WHERE n.destination_id = 'finished'$$,
    'VALUES (NULL::timestamptz)',
    'a message to a workflow that has ended stays unread'
);
SELECT is(pg_temp.status_of('finished'), 'SUCCESS', 'a message does not change a workflow that has ended');

-- messages from steps

SELECT results_eq(
    $$
    SELECT s.workflow_id, s.step_id, s.outcome
    FROM lockstep.send_step_messages('alice', '[
        {"workflow_id": "writer", "attempt": 1, "step_id": 1, "destination_id": "other", "topic": "t", "message": 1},
        {"workflow_id": "writer", "attempt": 1, "step_id": 2, "destination_id": "other", "topic": "t", "message": null},
        {"workflow_id": "writer", "attempt": 1, "step_id": 3, "destination_id": "nowhere", "message": 1},
        {"workflow_id": "writer", "attempt": 2, "step_id": 4, "destination_id": "other", "topic": "t", "message": 4},
        {"workflow_id": "writer", "attempt": 1, "step_id": 1, "destination_id": "other", "topic": "t", "message": 1}
    ]') AS s
    $$,
    $$VALUES ('writer', 3, 'unknown_destination'), ('writer', 4, 'lost')$$,
    'send_step_messages answers for what was not sent'
);
SELECT results_eq(
    $$
    SELECT n.message
    FROM lockstep.notifications AS n
    WHERE n.destination_id = 'other' AND n.topic = 't'
    ORDER BY n.message_id
    $$,
    $$VALUES ('1'::jsonb), ('null')$$,
    'a step that is sent again sends nothing again'
);
SELECT results_eq(
    $$
    SELECT o.step_id, o.step_name, o.completed_at IS NOT NULL
    FROM lockstep.operation_outputs AS o
    WHERE o.workflow_id = 'writer'
    ORDER BY o.step_id
    $$,
    $$VALUES (1, 'send', true), (2, 'send', true)$$,
    'a sent message is recorded as its step''s outcome, one that has no destination is not'
);

-- events

SELECT is(lockstep.get_event('writer', 'state'), NULL::jsonb, 'an event that was not set yet is NULL');
SELECT throws_ok(
    $$SELECT lockstep.get_event('nowhere', 'state')$$, 'P0002', 'workflow "nowhere" does not exist',
    'an event of a workflow that does not exist cannot be read'
);
SELECT bag_eq(
    $$
    SELECT lockstep.set_events('alice', '[
        {"workflow_id": "writer", "attempt": 1, "step_id": 5, "key": "state", "value": "packed"},
        {"workflow_id": "writer", "attempt": 1, "step_id": 6, "key": "nothing", "value": null},
        {"workflow_id": "writer", "attempt": 2, "step_id": 7, "key": "state", "value": "stale"},
        {"workflow_id": "finished", "attempt": 1, "step_id": 1, "key": "state", "value": "stale"}
    ]')
    $$,
    $$VALUES ('writer'), ('finished')$$,
    'set_events returns the workflows that the executor had lost'
);
SELECT is(lockstep.get_event('writer', 'state'), '"packed"'::jsonb, 'an event has the value that was set');
SELECT is(lockstep.get_event('writer', 'nothing'), 'null'::jsonb, 'an event may be a JSON null');
SELECT is(lockstep.get_event('finished', 'state'), NULL::jsonb, 'a lost workflow sets no event');
SELECT lockstep.set_events('alice', '[
    {"workflow_id": "writer", "attempt": 1, "step_id": 7, "key": "state", "value": "shipped"}
]');
SELECT is(lockstep.get_event('writer', 'state'), '"shipped"'::jsonb, 'the last value of an event wins');
SELECT lockstep.set_events('alice', '[
    {"workflow_id": "writer", "attempt": 1, "step_id": 5, "key": "state", "value": "packed"}
]');
SELECT is(
    lockstep.get_event('writer', 'state'), '"shipped"'::jsonb, 'a call that is sent again does not undo a later value'
);
SELECT results_eq(
    $$
    SELECT o.step_id
    FROM lockstep.operation_outputs AS o
    WHERE o.workflow_id = 'writer' AND o.step_name = 'set_event'
    ORDER BY o.step_id
    $$,
    'VALUES (5), (6), (7)',
    'setting an event is recorded as a step'
);

SELECT * FROM finish();
ROLLBACK;
