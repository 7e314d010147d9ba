-- What restart, fork, fast_forward, the priority, the queue and the purge do.
BEGIN;
SELECT no_plan();
\ir failure_of.psql

INSERT INTO lockstep.executor (executor_id, queues, workflow_names, lease_duration, expires_at)
VALUES ('alice', '{q,other}', '{greet}', '1 hour', clock_timestamp() + interval '1 hour');

-- Runs a workflow that records three steps, an event and a stream, and reads a message.
CREATE FUNCTION pg_temp.run(p_workflow_id text, p_outcome text DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    v_attempt int;
BEGIN
    PERFORM lockstep.enqueue_workflow(
        'greet', 'q', '["world"]', workflow_id => p_workflow_id, priority => 3, timeout => '1 hour',
        queue_partition_key => 'p', headers => '{"h": 1}', retries => '{"max_attempts": 1}', max_attempts => 5
    );
    SELECT c.attempt INTO v_attempt FROM lockstep.claim_workflows('alice', 1) AS c;
    PERFORM lockstep.send_message(p_workflow_id, '"hello"');
    PERFORM lockstep.record_steps('alice', jsonb_build_array(jsonb_build_object(
        'workflow_id', p_workflow_id, 'attempt', v_attempt, 'step_id', 1, 'step_name', 'one', 'output', 1
    )));
    PERFORM lockstep.set_events('alice', jsonb_build_array(jsonb_build_object(
        'workflow_id', p_workflow_id, 'attempt', v_attempt, 'step_id', 2, 'key', 'early', 'value', 'e'
    )));
    PERFORM lockstep.write_streams('alice', jsonb_build_array(jsonb_build_object(
        'workflow_id', p_workflow_id, 'attempt', v_attempt, 'step_id', 3, 'key', 's', 'value', 'first'
    )));
    PERFORM lockstep.receive_messages('alice', jsonb_build_array(jsonb_build_object(
        'workflow_id', p_workflow_id, 'attempt', v_attempt, 'step_id', 4, 'topic', ''
    )));
    PERFORM lockstep.set_events('alice', jsonb_build_array(jsonb_build_object(
        'workflow_id', p_workflow_id, 'attempt', v_attempt, 'step_id', 5, 'key', 'late', 'value', 'l'
    )));
    -- a branch that began after step 3
    PERFORM lockstep.record_steps('alice', jsonb_build_array(jsonb_build_object(
        'workflow_id', p_workflow_id, 'attempt', v_attempt, 'step_id', 65536 + 3, 'step_name', 'branch', 'output', 2
    )));
    PERFORM lockstep.finish_workflows('alice', jsonb_build_array(jsonb_build_object(
        'workflow_id', p_workflow_id, 'attempt', v_attempt, coalesce(p_outcome, 'output'),
        CASE WHEN p_outcome IS NULL THEN to_jsonb('done'::text) ELSE '{"type": "E", "message": "m"}' END
    )));
END
$$;
CREATE FUNCTION pg_temp.recorded(p_workflow_id text)
RETURNS text
LANGUAGE sql
AS $$
    SELECT concat_ws(
        ' ',
        (SELECT string_agg(s.step_id || ':' || s.step_name, ',') FROM lockstep.list_steps(p_workflow_id) AS s),
        (SELECT 'events ' || string_agg(v.key, ',' ORDER BY v.key) FROM lockstep.workflow_events AS v WHERE v.workflow_id = p_workflow_id),
        (SELECT 'streams ' || count(*) FROM lockstep.workflow_streams AS v WHERE v.workflow_id = p_workflow_id),
        (SELECT 'unread ' || count(*) FROM lockstep.notifications AS n WHERE n.destination_id = p_workflow_id AND n.consumed_at IS NULL)
    )
$$;

-- list_steps

SELECT pg_temp.run('w');
SELECT is(
    pg_temp.recorded('w'),
    '1:one,2:set_event,3:write_stream,65539:branch,4:receive,5:set_event events early,late streams 1 unread 0',
    'steps are listed in the order of the code, a branch after the step at which it began'
);
INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name, status, waiting_for)
VALUES ('steps', 'greet', 'q', 'WAITING', '{message:}');
INSERT INTO lockstep.operation_outputs (workflow_id, step_id, step_name, error, attempts, started_at, completed_at)
VALUES
    ('steps', 1, 'a', NULL, 1, now(), now()), ('steps', 2, 'b', '{}', 1, now(), now()),
    ('steps', 3, 'c', NULL, 0, now(), now()), ('steps', 4, 'd', '{}', 1, now(), NULL),
    ('steps', 5, 'e', NULL, 0, now(), NULL);
SELECT results_eq(
    $$SELECT s.status FROM lockstep.list_steps('steps') AS s$$,
    $$VALUES ('SUCCESS'), ('ERROR'), ('TIMED_OUT'), ('RETRYING'), ('WAITING')$$,
    'a step tells how it went'
);

-- get

SELECT results_eq(
    $$
    SELECT
        g.status, g.output, g.inputs, g.priority, g.queue_partition_key, g.headers, g.max_attempts,
        g.executor_id, g.deadline_at - g.started_at, g.failures, g.progress
    FROM lockstep.get_workflow('w') AS g
    $$,
    $$
    VALUES (
        'SUCCESS', '"done"'::jsonb, '{"namedArgs": {}, "positionalArgs": ["world"]}'::jsonb, 3, 'p',
        '{"h": 1}'::jsonb, 5, 'alice', interval '1 hour', 0, NULL::jsonb
    )
    $$,
    'a workflow is read with its options'
);

-- fork

SELECT is(lockstep.fork_workflow('w', 4, 'fork'), 'fork', 'a fork has the id that it was given');
SELECT is(lockstep.fork_workflow('w', 4, 'fork'), 'fork', 'the same fork is made once');
SELECT results_eq(
    $$
    SELECT w.status, w.inputs, w.priority, w.queue_partition_key, w.headers, w.retries, w.timeout,
        w.deadline_at, w.attempts, w.forked_from, w.enqueued_by, w.queue_name, w.output
    FROM lockstep.workflow_status AS w WHERE w.workflow_id = 'fork'
    $$,
    $$
    VALUES (
        'ENQUEUED', '{"namedArgs": {}, "positionalArgs": ["world"]}'::jsonb, 3, 'p', '{"h": 1}'::jsonb,
        '{"max_attempts": 1}'::jsonb, interval '1 hour', NULL::timestamptz, 0, 'w', current_user::text COLLATE "default", 'q', NULL::jsonb
    )
    $$,
    'a fork has the arguments and options of its source'
);
SELECT is(
    pg_temp.recorded('fork'), '1:one,2:set_event,3:write_stream,65539:branch events early streams 1 unread 0',
    'a fork has the steps before from_step, their branches, and what was published by then'
);
SELECT is(
    (SELECT json_array_length(c.steps) FROM lockstep.claim_workflows('alice', 1) AS c WHERE c.workflow_id = 'fork'),
    4, 'the claim of a fork brings the copied steps'
);
SELECT lockstep.fork_workflow('w', 1, 'first', app_version => '2', queue_name => 'other');
SELECT is(pg_temp.recorded('first'), 'streams 0 unread 0', 'a fork from step 1 has nothing recorded');
SELECT results_eq(
    $$SELECT w.app_version, w.queue_name FROM lockstep.workflow_status AS w WHERE w.workflow_id = 'first'$$,
    $$VALUES ('2', 'other')$$,
    'a fork may ask for another version and queue'
);
SELECT is(
    f.code || ' ' || f.detail, '23505 It runs "greet" and is no fork of "w".', 'a fork does not take the id of another workflow'
)
FROM pg_temp.failure_of($$SELECT lockstep.fork_workflow('w', 1, 'steps')$$) AS f;
SELECT lockstep.fork_workflow('steps', 9, 'fork of a waiting one');
SELECT is(
    pg_temp.recorded('fork of a waiting one'), '1:a,2:b,3:c streams 0 unread 0', 'a fork has no unfinished step of its source'
);
DELETE FROM lockstep.workflow_status WHERE workflow_id IN ('fork', 'first', 'fork of a waiting one', 'steps');

-- restart

SELECT lockstep.restart_workflow('w');
SELECT is(pg_temp.recorded('w'), 'streams 0 unread 1', 'a restart forgets what was recorded and makes messages unread');
SELECT results_eq(
    $$
    SELECT w.status, w.attempts, w.max_attempts, w.failures, w.started_at, w.deadline_at, w.output, w.executor_id
    FROM lockstep.workflow_status AS w WHERE w.workflow_id = 'w'
    $$,
    $$VALUES ('ENQUEUED', 1, 6, 0, NULL::timestamptz, NULL::timestamptz, NULL::jsonb, NULL::text)$$,
    'a restarted workflow is as new, but for its attempts, which are a fence'
);
SELECT results_eq(
    $$SELECT c.workflow_id, c.attempt, c.steps::text FROM lockstep.claim_workflows('alice', 1) AS c$$,
    $$VALUES ('w', 2, NULL)$$,
    'the claim of a restarted workflow brings no steps'
);
SELECT results_eq(
    $$SELECT * FROM lockstep.record_steps('alice', '[{"workflow_id": "w", "attempt": 1, "step_id": 1, "step_name": "s"}]')$$,
    $$VALUES ('w')$$,
    'an attempt from before a restart has lost the workflow'
);
SELECT lockstep.cancel_workflow('w');
SELECT is(
    f.code || ' ' || f.message,
    '55000 workflow "w" is CANCELLED and cannot become ENQUEUED in the transaction that cancelled it while it ran',
    'what this transaction cancelled while it ran is not restarted before the commit'
)
FROM pg_temp.failure_of($$SELECT lockstep.restart_workflow('w')$$) AS f;

INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name, status, completed_at, deduplication_id, error)
VALUES ('old', 'greet', 'q', 'ERROR', now(), 'd', '{"type": "E", "message": "m"}');
INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name, deduplication_id, status, available_at)
VALUES ('rival', 'greet', 'q', 'd', 'DELAYED', '2099-01-01'), ('mover', 'greet', 'elsewhere', 'd', 'DELAYED', '2099-01-01');
SELECT alike(f.code || ' ' || f.detail, '23505 It is workflow "rival"%', s || ' gives way to the unfinished workflow with its deduplication_id')
FROM unnest(ARRAY[
    $$SELECT lockstep.restart_workflow('old')$$, $$SELECT lockstep.resume_workflow('old')$$,
    $$SELECT lockstep.move_workflow('mover', 'q')$$
]) AS s
CROSS JOIN LATERAL pg_temp.failure_of(s) AS f;
SELECT is_empty(s, s || ' passes over a workflow whose deduplication_id is taken')
FROM unnest(ARRAY[
    $$SELECT lockstep.resume_workflows('{"id_prefix": "old"}')$$, $$SELECT lockstep.restart_workflows('{"id_prefix": "old"}')$$,
    $$SELECT lockstep.move_workflows('{"id_prefix": "mover"}', 'q')$$
]) AS s;

-- compensation

INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name, status, started_at, completed_at, error)
VALUES ('undone', 'greet', 'q', 'ERROR', now(), now(), '{"type": "E", "message": "m"}');
INSERT INTO lockstep.operation_outputs (workflow_id, step_id, step_name, output, started_at, completed_at)
VALUES ('undone', 2, 'compensate', '{}', now(), now());
INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name, parent_workflow_id)
VALUES ('undo', 'lockstep.compensate', 'undo', 'undone');
SELECT is(f.code || ' ' || f.message, '55000 ' || s.message, s.statement || ' is refused while steps are being undone')
FROM (
    VALUES
    ($$SELECT lockstep.resume_workflow('undone')$$, 'workflow "undone" was compensated: ERROR cannot become ENQUEUED'),
    ($$SELECT lockstep.restart_workflow('undone')$$, 'workflow "undone" is being compensated: ERROR cannot become ENQUEUED'),
    ($$SELECT lockstep.fork_workflow('undone', 3)$$, 'workflow "undone" was compensated and cannot be forked from step 3')
) AS s (statement, message)
CROSS JOIN LATERAL pg_temp.failure_of(s.statement) AS f;
SELECT lives_ok(
    $$SELECT lockstep.fork_workflow('undone', 2, 'before undo')$$, 'a compensated workflow is forked from before what was undone'
);
UPDATE lockstep.workflow_status SET status = 'SUCCESS', completed_at = now() WHERE workflow_id = 'undo';
SELECT lives_ok(
    $$SELECT lockstep.restart_workflow('undone')$$, 'a compensated workflow is restarted when its compensation has ended'
);
UPDATE lockstep.workflow_status
SET status = 'ERROR', started_at = clock_timestamp(), completed_at = clock_timestamp(), error = '{"type": "E", "message": "m"}'
WHERE workflow_id = 'undone';
SELECT lives_ok(
    $$SELECT lockstep.resume_workflow('undone')$$, 'a restarted workflow that was not compensated since is resumed'
);
DELETE FROM lockstep.workflow_status WHERE workflow_id IN ('before undo', 'undone', 'undo');

-- priority and queue

SELECT is(lockstep.set_priority('rival', 5), true, 'a priority changes');
SELECT is(lockstep.set_priority('rival', 5), false, 'a priority that a workflow has stays');
SELECT is(lockstep.move_workflow('rival', 'other'), true, 'a workflow moves');
SELECT is(lockstep.move_workflow('rival', 'other'), false, 'a workflow stays in the queue that it is in');
SELECT results_eq(
    $$SELECT w.priority, w.queue_name, w.status FROM lockstep.workflow_status AS w WHERE w.workflow_id = 'rival'$$,
    $$VALUES (5, 'other', 'DELAYED')$$, 'what waits for a moment goes on waiting in the other queue'
);

-- fast_forward

INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name, status, executor_id, attempts, started_at)
SELECT 'ff ' || n.name, 'greet', 'q', 'PENDING', 'alice', 1, now()
FROM unnest(ARRAY['sleep', 'receive', 'payload', 'two topics', 'child', 'child payload']) AS n (name);
SELECT lockstep.start_timers('alice', '[{"workflow_id": "ff sleep", "attempt": 1, "step_id": 1, "step_name": "sleep", "delay": 9999}]');
SELECT outcome FROM lockstep.receive_messages('alice', '[
    {"workflow_id": "ff receive", "attempt": 1, "step_id": 1, "topic": "t"},
    {"workflow_id": "ff payload", "attempt": 1, "step_id": 1, "topic": "t"}
]');
SELECT outcome FROM lockstep.await_workflows('alice', '[
    {"workflow_id": "ff child", "attempt": 1, "step_id": 1, "step_name": "result", "awaited_id": "rival"}
]');
SELECT outcome FROM lockstep.suspend_workflows('alice', '[
    {"workflow_id": "ff sleep", "attempt": 1, "step_ids": [1]},
    {"workflow_id": "ff receive", "attempt": 1, "step_ids": [1], "topics": ["t"]},
    {"workflow_id": "ff payload", "attempt": 1, "step_ids": [1], "topics": ["t"]},
    {"workflow_id": "ff two topics", "attempt": 1, "step_ids": [1], "topics": ["t", "u"]},
    {"workflow_id": "ff child", "attempt": 1, "step_ids": [1], "awaits": [{"awaited_id": "rival"}]},
    {"workflow_id": "ff child payload", "attempt": 1, "step_ids": [1], "awaits": [{"awaited_id": "rival"}]}
]');
SELECT is(f.code || ' ' || f.message, s.message, s.statement || ' is refused')
FROM (
    VALUES
    ($$SELECT lockstep.fast_forward('ff sleep', '1')$$, '55000 workflow "ff sleep" waits for no message: it is DELAYED'),
    ($$SELECT lockstep.fast_forward('ff child payload', '1')$$, '55000 workflow "ff child payload" waits for no message: it is WAITING'),
    ($$SELECT lockstep.fast_forward('ff two topics', '1')$$, '22023 workflow "ff two topics" waits for messages of 2 topics')
) AS s (statement, message)
CROSS JOIN LATERAL pg_temp.failure_of(s.statement) AS f;
SELECT lockstep.fast_forward('ff ' || n.name) FROM unnest(ARRAY['sleep', 'receive', 'child']) AS n (name);
SELECT lockstep.fast_forward('ff payload', '"now"');
SELECT is(
    (SELECT string_agg(c.workflow_id, ',' ORDER BY c.workflow_id) FROM lockstep.claim_workflows('alice', 10) AS c),
    'ff child,ff payload,ff receive,ff sleep', 'what is fast-forwarded is claimable'
);
SELECT is(
    lockstep._recorded_steps('ff sleep') -> 0 ->> 'remaining', '0', 'nothing remains of a sleep that was fast-forwarded'
);
SELECT results_eq(
    $$
    SELECT r.workflow_id, r.outcome, r.message
    FROM lockstep.receive_messages('alice', '[
        {"workflow_id": "ff receive", "attempt": 1, "step_id": 1, "topic": "t"},
        {"workflow_id": "ff payload", "attempt": 1, "step_id": 1, "topic": "t"}
    ]') AS r
    $$,
    $$VALUES ('ff receive', 'timed_out', NULL::jsonb), ('ff payload', 'received', '"now"'::jsonb)$$,
    'a wait without a timeout times out, or receives the payload'
);
SELECT is(
    r.outcome, 'timed_out', 'the wait for another workflow times out'
)
FROM lockstep.await_workflows('alice', '[
    {"workflow_id": "ff child", "attempt": 1, "step_id": 1, "step_name": "result", "awaited_id": "rival"}
]') AS r;

-- purge

DELETE FROM lockstep.workflow_status;
DELETE FROM lockstep.operation_outputs;
DELETE FROM lockstep.notifications;
DELETE FROM lockstep.workflow_events;
DELETE FROM lockstep.workflow_streams;
DELETE FROM lockstep.waiter;
SELECT pg_temp.run('ended ' || n) FROM generate_series(1, 3) AS n;
SELECT lockstep.send_message('ended 1', '1', 'unread');
SELECT pg_temp.run('recent');
UPDATE lockstep.workflow_status
SET created_at = created_at - interval '30 days', completed_at = completed_at - interval '30 days'
WHERE workflow_id LIKE 'ended %';
INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name, created_at, status, completed_at, parent_workflow_id)
VALUES
    ('unfinished', 'greet', 'q', '2020-01-01', 'ENQUEUED', NULL, NULL),
    ('long', 'greet', 'q', '2020-01-01', 'CANCELLED', clock_timestamp(), NULL),
    ('child', 'greet', 'q', '2020-01-01', 'CANCELLED', '2020-01-01', 'unfinished');
INSERT INTO lockstep.operation_outputs (workflow_id, step_id, step_name, started_at, completed_at, child_workflow_id)
VALUES ('ended 1', 9, 'result', now(), now(), 'unfinished');
INSERT INTO lockstep.waiter (awaited_id, awaited_what, is_client, waiter)
VALUES ('ended 1', '', true, 'c'), ('unfinished', '', false, 'ended 1'), ('unfinished', '', false, 'another');
SELECT is(lockstep.purge_workflows('60 days'), 0, 'what ended more recently stays');
SELECT is(lockstep.purge_workflows('7 days', 2), 2, 'a purge deletes max_count at a time');
SELECT is(lockstep.purge_workflows('7 days', 2), 1, 'the next purge deletes the rest');
SELECT results_eq(
    $$SELECT w.workflow_id FROM lockstep.workflow_status AS w ORDER BY w.workflow_id$$,
    $$VALUES ('child'), ('long'), ('recent'), ('unfinished')$$,
    'a purge leaves what is unfinished, what ended recently, and children of what is unfinished'
);
SELECT is(
    ARRAY[
        (SELECT string_agg(DISTINCT o.workflow_id, ',') FROM lockstep.operation_outputs AS o),
        (SELECT string_agg(DISTINCT n.destination_id, ',') FROM lockstep.notifications AS n),
        (SELECT string_agg(DISTINCT v.workflow_id, ',') FROM lockstep.workflow_events AS v),
        (SELECT string_agg(DISTINCT s.workflow_id, ',') FROM lockstep.workflow_streams AS s),
        (SELECT string_agg(e.awaited_id || '<' || e.waiter, ',') FROM lockstep.waiter AS e)
    ],
    '{recent,recent,recent,recent,unfinished<another}', 'a purge leaves nothing of what it deletes, and all of the others'
);
SELECT is(lockstep.purge_workflows('0'), 2, 'a purge of all that has ended leaves what has a living parent');

SELECT * FROM finish();
ROLLBACK;
