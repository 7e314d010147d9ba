-- A workflow waits for the end or an event of another: what it gets, when it wakes, what stays.
BEGIN;
SELECT no_plan();

\ir failure_of.psql

CREATE FUNCTION pg_temp.run(p_workflow_id text, p_executor_id text DEFAULT 'alice')
RETURNS void
LANGUAGE sql
AS $$
    INSERT INTO lockstep.workflow_status (
        workflow_id, workflow_name, queue_name, status, executor_id, attempts, started_at
    )
    VALUES (p_workflow_id, 'greet', 'q', 'PENDING', p_executor_id, 1, now())
$$;

CREATE FUNCTION pg_temp.finish(p_workflow_id text, p_outcome jsonb, p_executor_id text DEFAULT 'alice')
RETURNS void
LANGUAGE sql
AS $$
    SELECT lockstep.finish_workflows(p_executor_id, jsonb_build_array(
        jsonb_build_object('workflow_id', p_workflow_id, 'attempt', 1) || p_outcome
    ))
$$;

CREATE FUNCTION pg_temp.set_event(p_workflow_id text, p_step_id int, p_key text, p_value jsonb)
RETURNS void
LANGUAGE sql
AS $$
    SELECT lockstep.set_events('alice', jsonb_build_array(jsonb_build_object(
        'workflow_id', p_workflow_id, 'attempt', 1, 'step_id', p_step_id, 'key', p_key, 'value', p_value
    )))
$$;

-- What a step of a workflow that alice runs gets: outcome, output, error, remaining seconds.
CREATE FUNCTION pg_temp.look(p_workflow_id text, p_step_id int, p_awaited_id text, p_fields jsonb DEFAULT '{}')
RETURNS text
LANGUAGE sql
AS $$
    SELECT concat_ws(' ', a.outcome, a.output, a.error, round(a.remaining::numeric))
    FROM lockstep.await_workflows('alice', jsonb_build_array(jsonb_build_object(
        'workflow_id', p_workflow_id, 'attempt', 1, 'step_id', p_step_id, 'step_name', 'await', 'awaited_id',
        p_awaited_id
    ) || p_fields)) AS a
$$;

-- How a suspension of a workflow that alice runs goes.
CREATE FUNCTION pg_temp.suspend(p_workflow_id text, p_awaits jsonb, p_fields jsonb DEFAULT '{}')
RETURNS text
LANGUAGE sql
AS $$
    SELECT s.outcome
    FROM lockstep.suspend_workflows('alice', jsonb_build_array(
        jsonb_build_object('workflow_id', p_workflow_id, 'attempt', 1, 'awaits', p_awaits) || p_fields
    )) AS s
$$;

CREATE FUNCTION pg_temp.state_of(p_workflow_id text)
RETURNS text
LANGUAGE sql
AS $$
    SELECT concat_ws(
        ' ', w.status, w.waiting_for, 'attempts=' || w.attempts,
        round(extract(EPOCH FROM w.available_at - clock_timestamp()))
    )
    FROM lockstep.workflow_status AS w
    WHERE w.workflow_id = p_workflow_id
$$;

CREATE FUNCTION pg_temp.waiters_of(p_awaited_id text)
RETURNS text
LANGUAGE sql
AS $$
    SELECT string_agg(
        format('%s:%s', w.waiter, w.awaited_what), ', ' ORDER BY w.waiter COLLATE "C", w.awaited_what COLLATE "C"
    )
    FROM lockstep.waiter AS w
    WHERE w.awaited_id = p_awaited_id
$$;

INSERT INTO lockstep.executor (executor_id, queues, workflow_names, lease_duration, expires_at)
SELECT e.id, '{q}', '{greet}', '1 hour', clock_timestamp() + interval '1 hour'
FROM unnest(ARRAY['alice', 'bob']) AS e (id);

-- the end of a workflow, of every kind

SELECT pg_temp.run('p');
SELECT pg_temp.run('success');
SELECT pg_temp.run('nothing');
SELECT pg_temp.run('null');
SELECT pg_temp.run('failure');
SELECT is(pg_temp.look('p', 1, 'success'), 'waiting', 'a workflow that has not ended is waited for, without a limit');
SELECT is(pg_temp.look('p', 1, 'success'), 'waiting', 'a look that is sent again still waits');
SELECT pg_temp.finish('success', '{"output": {"total": 3}}');
SELECT is(pg_temp.look('p', 1, 'success'), 'ended {"total": 3}', 'who waits gets what the workflow returned');
SELECT pg_temp.finish('nothing', '{}');
SELECT is(pg_temp.look('p', 2, 'nothing'), 'ended', 'a workflow that returned nothing has ended');
SELECT pg_temp.finish('null', '{"output": null}');
SELECT is(pg_temp.look('p', 3, 'null'), 'ended', 'a workflow that returned JSON null has ended');
SELECT pg_temp.finish(
    'failure', '{"error": {"type": "E", "message": "m", "traceback": "long", "args": [1], "extra": 1}}'
);
SELECT is(
    pg_temp.look('p', 4, 'failure'),
    'ended {"type": "E", "status": "ERROR", "message": "m", "workflow_id": "failure"}',
    'who waits gets the type and the message of the error of a workflow that failed'
);
SELECT pg_temp.run('scalar');
SELECT pg_temp.finish('scalar', '{"error": "boom"}');
SELECT is(
    pg_temp.look('p', 9, 'scalar'), 'ended {"type": "", "status": "ERROR", "message": "", "workflow_id": "scalar"}',
    'an error of another form than documented is told without its text'
);
INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name, status, error, completed_at, failures)
VALUES
    ('cancelled', 'greet', 'q', 'CANCELLED', NULL, now(), 0),
    ('overdue', 'greet', 'q', 'CANCELLED', '{"type": "DeadlineExceeded", "message": "m"}', now(), 0),
    ('dead', 'greet', 'q', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED', '{"type": "M", "message": "m"}', now(), 0);
SELECT is(
    pg_temp.look('p', e.step_id, e.id), 'ended ' || e.error::jsonb::text,
    format('a %s workflow has ended with an error', e.id)
)
FROM (
    VALUES
        (5, 'cancelled', '{"type": "", "message": "", "status": "CANCELLED", "workflow_id": "cancelled"}'),
        (7, 'overdue', '{"type": "DeadlineExceeded", "message": "m", "status": "CANCELLED", "workflow_id": "overdue"}'),
        (8, 'dead', '{"type": "M", "message": "m", "status": "MAX_RECOVERY_ATTEMPTS_EXCEEDED", "workflow_id": "dead"}')
) AS e (step_id, id, error);
SELECT results_eq(
    $$
    SELECT
        o.step_id, o.step_name, o.output, o.error ->> 'status', o.attempts, o.completed_at IS NOT NULL,
        o.child_workflow_id
    FROM lockstep.operation_outputs AS o
    WHERE o.workflow_id = 'p' AND o.step_id IN (1, 2, 4)
    ORDER BY o.step_id
    $$,
    $$
    VALUES
        (1, 'await', '{"total": 3}'::jsonb, NULL, 1, true, 'success'), (2, 'await', NULL, NULL, 1, true, 'nothing'),
        (4, 'await', NULL, 'ERROR', 1, true, 'failure')
    $$,
    'what a workflow ended with is recorded as the outcome of the step'
);
UPDATE lockstep.workflow_status SET output = '"changed"' WHERE workflow_id = 'success';
SELECT is(pg_temp.look('p', 1, 'success'), 'ended {"total": 3}', 'a recorded end stays as it was first seen');
SELECT is(pg_temp.look('p', 1, 'failure'), 'ended {"total": 3}', 'a recorded step is not another workflow''s end');
SELECT is(pg_temp.look('p', 20, 'nowhere'), 'unknown', 'a workflow that does not exist is unknown');
SELECT is(
    (SELECT count(*) FROM lockstep.operation_outputs AS o WHERE o.workflow_id = 'p' AND o.step_id = 20), 0::bigint,
    'nothing is recorded for a workflow that does not exist'
);
SELECT pg_temp.run('is deleted');
SELECT pg_temp.look('p', 21, 'is deleted');
DELETE FROM lockstep.workflow_status WHERE workflow_id = 'is deleted';
SELECT is(
    pg_temp.look('p', 21, 'is deleted'), 'unknown', 'a workflow that was deleted while it was waited for is unknown'
);
DELETE FROM lockstep.workflow_status WHERE workflow_id = 'nothing';
SELECT is(pg_temp.look('p', 2, 'nothing'), 'ended', 'the end of a workflow that was deleted since stays recorded');

-- a child whose step stayed open

SELECT lockstep.start_children('alice', '[{
    "workflow_id": "p", "attempt": 1, "step_id": 30, "step_name": "shout", "workflow_name": "greet", "queue_name": "c",
    "inputs": {"positionalArgs": [], "namedArgs": {}}, "child_id": "child", "is_awaited": true
}]');
SELECT is(
    pg_temp.look('p', 30, 'child', '{"step_name": "shout", "timeout": 60}'), 'waiting 60',
    'a child is waited for from the first look on'
);
UPDATE lockstep.workflow_status
SET status = 'SUCCESS', output = '"loud"', completed_at = now()
WHERE workflow_id = 'child';
SELECT is(
    pg_temp.look('p', 30, 'child', '{"step_name": "shout"}'), 'ended "loud"',
    'the open step of a child takes its result'
);

-- timeouts

SELECT pg_temp.run('runs on');
SELECT is(
    pg_temp.look('p', 40, 'runs on', '{"timeout": 3600}'), 'waiting 3600', 'a wait has its whole timeout left at first'
);
UPDATE lockstep.operation_outputs SET available_at = available_at - interval '30 min' WHERE step_id = 40;
SELECT is(pg_temp.look('p', 40, 'runs on', '{"timeout": 3600}'), 'waiting 1800', 'a timeout runs from the first look');
SELECT is(pg_temp.look('p', 40, 'runs on'), 'waiting 1800', 'a later look does not lift the timeout');
UPDATE lockstep.operation_outputs SET available_at = clock_timestamp() WHERE step_id = 40;
SELECT is(
    pg_temp.look('p', 40, 'runs on', '{"timeout": 3600}'), 'timed_out', 'a wait ends when its timeout has run out'
);
SELECT results_eq(
    $$
    SELECT o.output, o.error, o.attempts, o.completed_at IS NOT NULL
    FROM lockstep.operation_outputs AS o
    WHERE o.step_id = 40
    $$,
    $$VALUES (NULL::jsonb, NULL::jsonb, 0, true)$$,
    'a timeout is recorded as no output and 0 attempts'
);
SELECT is(pg_temp.look('p', 41, 'runs on', '{"timeout": 0}'), 'timed_out', 'a timeout of 0 only looks');
SELECT is(pg_temp.look('p', 42, 'runs on', '{"timeout": -1}'), 'timed_out', 'a timeout below 0 only looks');
SELECT is(pg_temp.look('p', 43, 'success', '{"timeout": 0}'), 'ended "changed"', 'a timeout of 0 finds what has ended');
SELECT is(pg_temp.look('p', 44, 'runs on'), 'waiting', 'a wait begins without a timeout');
SELECT is(
    pg_temp.look('p', 44, 'runs on', '{"timeout": 0}'), 'timed_out',
    'a wait that is open ends with a look that does not wait'
);
SELECT pg_temp.look('p', 45, 'runs on', '{"timeout": 3600}');
UPDATE lockstep.operation_outputs SET available_at = clock_timestamp() WHERE step_id = 45;
SELECT pg_temp.look('p', 46, 'runs on', '{"timeout": 3600}');
SELECT pg_temp.finish('runs on', '{"output": 1}');
SELECT is(
    pg_temp.look('p', 45, 'runs on', '{"timeout": 3600}'), 'ended 1',
    'an end that is there counts, also after the timeout'
);
SELECT is(pg_temp.look('p', 46, 'runs on', '{"timeout": 3600}'), 'ended 1', 'an end in time counts');
SELECT is(
    pg_temp.look('p', 40, 'runs on', '{"timeout": 3600}'), 'timed_out', 'a wait that timed out has timed out for good'
);
SELECT is(
    left(f.code, 2), '22', format('a timeout of %s is refused as a value', t.timeout)
)
FROM unnest(ARRAY['1e300', '-1e300', '"NaN"', '"Infinity"', '"soon"', '1e14']) AS t (timeout)
CROSS JOIN LATERAL pg_temp.failure_of(
    format('SELECT pg_temp.look(%L, 47, %L, %L)', 'p', 'p', format('{"timeout": %s}', t.timeout))
) AS f;
SELECT is(pg_temp.look('p', 48, 'p', '{"timeout": null}'), 'waiting', 'a timeout that is JSON null is none');

-- events

SELECT pg_temp.run('publisher');
SELECT is(pg_temp.look('p', 50, 'publisher', '{"key": "k"}'), 'waiting', 'an event that is not set is waited for');
SELECT pg_temp.set_event('publisher', 1, 'other', '0');
SELECT is(
    pg_temp.look('p', 50, 'publisher', '{"key": "k"}'), 'waiting', 'another event is not the one that is waited for'
);
SELECT pg_temp.set_event('publisher', 2, 'k', '[1]');
SELECT is(pg_temp.look('p', 50, 'publisher', '{"key": "k"}'), 'ended [1]', 'who waits for an event gets its value');
SELECT pg_temp.set_event('publisher', 3, 'k', '[2]');
SELECT is(
    pg_temp.look('p', 50, 'publisher', '{"key": "k"}'), 'ended [1]', 'a recorded event stays as it was first seen'
);
SELECT is(pg_temp.look('p', 51, 'publisher', '{"key": "k"}'), 'ended [2]', 'the next wait gets the last value');
SELECT pg_temp.set_event('publisher', 4, 'n', 'null');
SELECT is(pg_temp.look('p', 52, 'publisher', '{"key": "n"}'), 'ended null', 'an event that is JSON null is set');
SELECT is(
    pg_temp.look('p', 53, 'publisher', '{"key": "none", "timeout": 60}'), 'waiting 60',
    'the wait for an event has a timeout'
);
SELECT pg_temp.finish('publisher', '{"error": {"type": "E", "message": "m"}}');
SELECT is(
    pg_temp.look('p', 53, 'publisher', '{"key": "none", "timeout": 60}'), 'timed_out',
    'an event that its workflow ended without does not come any more'
);
SELECT is(
    pg_temp.look('p', 54, 'publisher', '{"key": "k"}'), 'ended [2]', 'an event of a workflow that failed is no error'
);
SELECT is(
    pg_temp.look('p', 55, 'nowhere', '{"key": "k"}'), 'unknown', 'an event of a workflow that does not exist is unknown'
);

-- whoever has lost the workflow that waits

SELECT pg_temp.run('of bob', 'bob');
SELECT results_eq(
    $$
    SELECT a.workflow_id, a.step_id, a.outcome, a.remaining
    FROM lockstep.await_workflows('alice', '[
        {"workflow_id": "of bob", "attempt": 1, "step_id": 1, "step_name": "s", "awaited_id": "success"},
        {"workflow_id": "p", "attempt": 2, "step_id": 60, "step_name": "s", "awaited_id": "success"},
        {"workflow_id": "p", "attempt": null, "step_id": 61, "step_name": "s", "awaited_id": "success"},
        {"workflow_id": "cancelled", "attempt": 0, "step_id": 1, "step_name": "s", "awaited_id": "success"},
        {"workflow_id": "nowhere", "attempt": 1, "step_id": 1, "step_name": "s", "awaited_id": "success"},
        {"workflow_id": "p", "attempt": 1, "step_id": 62, "step_name": "s", "awaited_id": "success"}
    ]') AS a
    ORDER BY a.workflow_id, a.step_id
    $$,
    $$
    VALUES
        ('cancelled', 1, 'lost', NULL::double precision), ('nowhere', 1, 'lost', NULL), ('of bob', 1, 'lost', NULL),
        ('p', 60, 'lost', NULL), ('p', 61, 'lost', NULL), ('p', 62, 'ended', NULL)
    $$,
    'a look for a workflow that the executor lost is answered with lost'
);
SELECT is_empty(
    $$SELECT o.step_id FROM lockstep.operation_outputs AS o WHERE o.workflow_id = 'of bob' OR o.step_id IN (60, 61)$$,
    'nothing is recorded for a workflow that the executor lost'
);
SELECT throws_ok(
    $$SELECT lockstep.await_workflows('nobody', '[]')$$, 'WF001', 'executor "nobody" has lost its lease',
    'an executor without a lease waits for nothing'
);
SELECT is_empty($$SELECT lockstep.await_workflows('alice', '[]')$$, 'a look for nothing is answered with nothing');

-- suspended until an end

SELECT pg_temp.run(t.n) FROM unnest(ARRAY['a', 'b', 'c', 'waits', 'waits, too', 'waits for both']) AS t (n);
SELECT is(pg_temp.suspend('waits', '[{"awaited_id": "a"}]'), 'suspended', 'a workflow is suspended until another ends');
SELECT is(pg_temp.state_of('waits'), 'WAITING {workflow:a} attempts=0', 'it shows what it waits for');
SELECT is(pg_temp.suspend('waits', '[{"awaited_id": "a"}]'), 'lost', 'a suspension that is sent again finds it gone');
SELECT pg_temp.suspend('waits, too', '[{"awaited_id": "a", "key": null}]');
SELECT pg_temp.suspend('waits for both', '[{"awaited_id": "a"}, {"awaited_id": "b"}, {"awaited_id": "a"}]');
SELECT is(
    pg_temp.waiters_of('a'), 'waits:, waits for both:, waits, too:',
    'who waits stands in the list, once for each that it waits for'
);
SELECT pg_temp.finish('c', '{}');
SELECT is(pg_temp.state_of('waits'), 'WAITING {workflow:a} attempts=0', 'the end of another workflow wakes nobody');
SELECT pg_temp.finish('a', '{}');
SELECT is(
    pg_temp.state_of(t.n), 'ENQUEUED attempts=0 0', format('the end of one wakes the workflow that %s', t.n)
)
FROM unnest(ARRAY['waits', 'waits, too', 'waits for both']) AS t (n);
SELECT is(pg_temp.waiters_of('a'), NULL::text, 'nobody waits for a workflow that has ended');
SELECT is(pg_temp.waiters_of('b'), 'waits for both:', 'who was woken by one stays in the list of the other');

-- stale rows of waiters

SELECT c.workflow_id FROM lockstep.claim_workflows('alice', 10) AS c;
SELECT is(
    pg_temp.suspend('waits for both', '[{"awaited_id": "b"}]'), 'suspended',
    'who stands in the list already can wait again'
);
SELECT is(pg_temp.waiters_of('b'), 'waits for both:', 'and stands there once');
SELECT pg_temp.finish('b', '{}');
SELECT is(pg_temp.state_of('waits for both'), 'ENQUEUED attempts=0 0', 'and is woken');
SELECT pg_temp.run(t.n)
FROM unnest(
    ARRAY['d', 'stale running', 'stale sleeping', 'stale cancelled', 'stale deleted', 'stale waiting']
) AS t (n);
INSERT INTO lockstep.waiter (awaited_id, awaited_what, is_client, waiter)
SELECT 'd', CASE t.n WHEN 'stale running' THEN 'event:k' ELSE '' END, false, t.n
FROM unnest(ARRAY['stale running', 'stale sleeping', 'stale cancelled', 'stale deleted', 'stale waiting']) AS t (n);
UPDATE lockstep.workflow_status
SET status = 'DELAYED', executor_id = NULL, available_at = '2100-01-01'
WHERE workflow_id = 'stale sleeping';
SELECT lockstep.cancel_workflow('stale cancelled');
DELETE FROM lockstep.workflow_status WHERE workflow_id = 'stale deleted';
UPDATE lockstep.workflow_status
SET status = 'WAITING', executor_id = NULL, waiting_for = '{message:}', available_at = NULL
WHERE workflow_id = 'stale waiting';
CREATE TEMPORARY TABLE before AS
SELECT w.workflow_id, w.status, w.executor_id, w.available_at
FROM lockstep.workflow_status AS w
WHERE w.workflow_id LIKE 'stale %';
SELECT lives_ok(
    $$SELECT pg_temp.finish('d', '{}')$$, 'a workflow ends, whoever stands in its list from an earlier wait'
);
SELECT results_eq(
    $$
    SELECT w.workflow_id, w.status, w.executor_id, w.available_at
    FROM lockstep.workflow_status AS w
    WHERE w.workflow_id LIKE 'stale %' AND w.workflow_id <> 'stale waiting'
    ORDER BY w.workflow_id
    $$,
    $$SELECT * FROM before WHERE workflow_id <> 'stale waiting' ORDER BY workflow_id$$,
    'who does not wait any more is left as it is'
);
SELECT is(
    (SELECT w.status FROM lockstep.workflow_status AS w WHERE w.workflow_id = 'stale waiting'), 'ENQUEUED',
    'who waits for something else by now is woken once too often, and looks'
);
SELECT is(pg_temp.waiters_of('d'), NULL::text, 'the end takes away the rows of all who waited');

-- every way to end wakes

CREATE FUNCTION pg_temp.wait_for(p_workflow_id text, p_awaited_id text, p_what text DEFAULT '')
RETURNS void
LANGUAGE sql
AS $$
    INSERT INTO lockstep.workflow_status (
        workflow_id, workflow_name, queue_name, status, waiting_for, started_at, available_at
    )
    VALUES (p_workflow_id, 'greet', 'parents', 'WAITING', ARRAY['workflow:' || p_awaited_id], now(), NULL);
    INSERT INTO lockstep.waiter (awaited_id, awaited_what, is_client, waiter)
    VALUES (p_awaited_id, p_what, false, p_workflow_id)
$$;
SELECT pg_temp.run('ends by ' || t.n, CASE t.n WHEN 'death' THEN 'bob' ELSE 'alice' END)
FROM unnest(ARRAY[
    'success', 'error', 'cancel', 'deadline', 'death', 'retry', 'recovery', 'suspension', 'release'
]) AS t (n);
SELECT pg_temp.wait_for('parent of ' || w.workflow_id, w.workflow_id)
FROM lockstep.workflow_status AS w
WHERE w.workflow_id LIKE 'ends by %';
SELECT pg_temp.finish('ends by success', '{"output": 1}');
SELECT pg_temp.finish('ends by error', '{"error": {"type": "E", "message": "m"}}');
SELECT pg_temp.finish('ends by retry', '{"error": {"type": "E", "message": "m"}, "retries": {}}');
SELECT lockstep.cancel_workflow('ends by cancel');
UPDATE lockstep.workflow_status SET deadline_at = '2026-01-01' WHERE workflow_id = 'ends by deadline';
SELECT lockstep.promote_due_workflows();
SELECT pg_temp.suspend('ends by suspension', '[]', '{"topics": ["t"]}');
UPDATE lockstep.workflow_status SET max_attempts = 1 WHERE workflow_id = 'ends by death';
UPDATE lockstep.workflow_status SET executor_id = 'bob' WHERE workflow_id = 'ends by recovery';
UPDATE lockstep.executor SET expires_at = '2026-01-01' WHERE executor_id = 'bob';
SELECT lockstep.recover_workflows();
SELECT lockstep.release_workflows('alice', ARRAY(
    SELECT w.workflow_id FROM lockstep.workflow_status AS w WHERE w.workflow_id <> 'ends by release'
));
SELECT is(
    (SELECT w.status FROM lockstep.workflow_status AS w WHERE w.workflow_id = 'parent of ends by ' || e.how),
    CASE WHEN e.is_end THEN 'ENQUEUED' ELSE 'WAITING' END,
    format('%s %s who waits for the end', e.how, CASE WHEN e.is_end THEN 'wakes' ELSE 'does not wake' END)
)
FROM (
    VALUES
        ('success', true), ('error', true), ('cancel', true), ('deadline', true), ('death', true),
        ('retry', false), ('recovery', false), ('suspension', false), ('release', false)
) AS e (how, is_end);
SELECT is(
    array_agg(w.awaited_id ORDER BY w.awaited_id),
    ARRAY['ends by recovery', 'ends by release', 'ends by retry', 'ends by suspension'],
    'only those that have not ended are still waited for'
)
FROM lockstep.waiter AS w
WHERE w.waiter LIKE 'parent of %';

-- suspended until an event

INSERT INTO lockstep.executor (executor_id, queues, workflow_names, lease_duration, expires_at)
VALUES ('bob', '{q}', '{greet}', '1 hour', clock_timestamp() + interval '1 hour');
SELECT pg_temp.run(t.n) FROM unnest(ARRAY['setter', 'on event', 'on other', 'on end', 'on either']) AS t (n);
SELECT is(
    pg_temp.suspend('on event', '[{"awaited_id": "setter", "key": "k"}]'), 'suspended',
    'a workflow is suspended until an event'
);
SELECT is(
    pg_temp.state_of('on event'), 'WAITING {"event:k of workflow:setter"} attempts=0',
    'it shows the event that it waits for'
);
SELECT pg_temp.suspend('on other', '[{"awaited_id": "setter", "key": "other"}]');
SELECT pg_temp.suspend('on end', '[{"awaited_id": "setter"}]');
SELECT pg_temp.suspend('on either', '[{"awaited_id": "setter"}, {"awaited_id": "setter", "key": "k"}]');
SELECT is(
    pg_temp.waiters_of('setter'), 'on either:, on either:event:k, on end:, on event:event:k, on other:event:other',
    'who waits for an event stands in the list for it'
);
SELECT lockstep.set_progress('alice', '[{"workflow_id": "setter", "attempt": 1, "done": 1}]');
SELECT pg_temp.set_event('setter', 1, 'k', '1');
SELECT is(
    pg_temp.state_of(e.id), e.state, format('an event finds the workflow that waits %s to be %s', e.id, e.state)
)
FROM (
    VALUES
        ('on event', 'ENQUEUED attempts=0 0'), ('on either', 'ENQUEUED attempts=0 0'),
        ('on other', 'WAITING {"event:other of workflow:setter"} attempts=0'),
        ('on end', 'WAITING {workflow:setter} attempts=0')
) AS e (id, state);
SELECT pg_temp.run('late');
SELECT is(
    pg_temp.suspend('late', '[{"awaited_id": "setter", "key": "k"}]'), 'ready',
    'who would wait for an event that is set is ready'
);
SELECT pg_temp.finish('setter', '{}');
SELECT is(pg_temp.state_of('on end'), 'ENQUEUED attempts=0 0', 'the end wakes who waits for it after an event, too');
SELECT is(pg_temp.state_of('on other'), 'ENQUEUED attempts=0 0', 'the end wakes who waits for an event that it ends without');
SELECT is(
    pg_temp.suspend('late', '[{"awaited_id": "setter", "key": "other"}]'), 'ready',
    'who would wait for an event of a workflow that has ended is ready'
);
SELECT is(
    pg_temp.suspend('late', '[{"awaited_id": "setter"}]'), 'ready',
    'who would wait for a workflow that has ended is ready'
);
SELECT pg_temp.run('sets in vain', 'bob');
SELECT pg_temp.wait_for('hopes', 'sets in vain', 'event:k');
SELECT lockstep.set_events(
    'alice', '[{"workflow_id": "sets in vain", "attempt": 1, "step_id": 1, "key": "k", "value": 1}]'
);
SELECT is(
    lockstep.get_event('sets in vain', 'k'), NULL::jsonb, 'an event of a workflow that the executor lost is not set'
);

-- suspended for several things at once, and with a timeout

SELECT pg_temp.run(t.n) FROM unnest(ARRAY['x', 'y', 'mixed', 'timed', 'none', 'nothing yet', 'deleted']) AS t (n);
SELECT is(
    pg_temp.suspend(
        'mixed', '[{"awaited_id": "x"}, {"awaited_id": "y", "key": "k"}]', '{"topics": ["t"], "step_ids": []}'
    ),
    'suspended', 'a workflow can wait for a message, an end and an event at once'
);
SELECT is(
    pg_temp.state_of('mixed'), 'WAITING {message:t,workflow:x,"event:k of workflow:y"} attempts=0',
    'it shows all of them'
);
SELECT lockstep.send_message('mixed', '1', 't');
SELECT is(pg_temp.state_of('mixed'), 'ENQUEUED attempts=0 0', 'any of them wakes it');
SELECT is(
    pg_temp.look('timed', 1, 'x', '{"timeout": 600}') || ', ' || pg_temp.look('timed', 2, 'y', '{"timeout": 300}'),
    'waiting 600, waiting 300', 'two waits have their own timeouts'
);
SELECT pg_temp.suspend('timed', '[{"awaited_id": "x"}, {"awaited_id": "y"}]', '{"step_ids": [1, 2]}');
SELECT is(
    pg_temp.state_of('timed'), 'WAITING {workflow:x,workflow:y} attempts=0 300',
    'the earliest timeout is when a workflow is woken at the latest'
);
UPDATE lockstep.workflow_status SET available_at = '2026-01-01' WHERE workflow_id = 'timed';
SELECT lockstep.promote_due_workflows();
SELECT is(
    (SELECT w.status FROM lockstep.workflow_status AS w WHERE w.workflow_id = 'timed'), 'ENQUEUED',
    'a timeout wakes who waits for a workflow'
);
SELECT is(
    pg_temp.suspend('none', 'null', '{"topics": null, "step_ids": null}'), 'suspended',
    'a workflow that waits for nothing goes to the end of its queue'
);
SELECT is(pg_temp.state_of('none'), 'DELAYED attempts=0 0', 'and is claimable when it is promoted');
SELECT lockstep.send_message('nothing yet', '1', 't');
SELECT is(
    pg_temp.suspend('nothing yet', '[{"awaited_id": "x"}]', '{"topics": ["t"]}'), 'ready',
    'a message that is there comes before a wait for an end'
);
SELECT is(pg_temp.waiters_of('x'), 'mixed:, timed:', 'who is not suspended does not enter the list');
SELECT is(
    pg_temp.suspend('nothing yet', '[{"awaited_id": "x"}, {"awaited_id": "success"}]'), 'ready',
    'one end among several is enough to be ready'
);
SELECT is(
    pg_temp.suspend('deleted', '[{"awaited_id": "nowhere"}]'), 'busy', 'nobody waits for a workflow that does not exist'
);
SELECT is(
    left((pg_temp.failure_of(format('SELECT pg_temp.suspend(%L, %L)', 'deleted', a.awaits))).code, 2), '22',
    format('awaits of %s are refused as a value', a.awaits)
)
FROM unnest(ARRAY['{}', '5', '"x"', '[5]']) AS a (awaits);

-- cycles

SELECT pg_temp.run(t.n) FROM unnest(ARRAY['egg', 'hen']) AS t (n);
SELECT results_eq(
    $$
    SELECT s.workflow_id, s.outcome
    FROM lockstep.suspend_workflows('alice', '[
        {"workflow_id": "egg", "attempt": 1, "awaits": [{"awaited_id": "hen"}]},
        {"workflow_id": "hen", "attempt": 1, "awaits": [{"awaited_id": "egg"}]}
    ]') AS s
    $$,
    $$VALUES ('egg', 'suspended'), ('hen', 'suspended')$$,
    'workflows of one call that wait for each other are suspended, not refused'
);
SELECT lockstep.cancel_workflow('egg');
SELECT is(pg_temp.state_of('hen'), 'ENQUEUED attempts=0 0', 'the cancellation of one wakes the other');

-- many at once

SELECT pg_temp.run('fan-in');
SELECT pg_temp.run('many ' || n) FROM generate_series(1, 300) AS n;
SELECT is(
    pg_temp.suspend(
        'fan-in', (SELECT jsonb_agg(jsonb_build_object('awaited_id', 'many ' || n)) FROM generate_series(1, 300) AS n)
    ),
    'suspended', 'a workflow can wait for 300 others'
);
SELECT pg_temp.wait_for('parent ' || n, 'many 7') FROM generate_series(1, 300) AS n;
SELECT lockstep.finish_workflows('alice', (
    SELECT jsonb_agg(jsonb_build_object('workflow_id', 'many ' || n, 'attempt', 1, 'output', n))
    FROM generate_series(1, 300) AS n
));
SELECT is(
    array_agg(DISTINCT w.status), '{ENQUEUED}'::text[],
    '300 ends in one call wake one that waits for all, and 300 that wait for one'
)
FROM lockstep.workflow_status AS w
WHERE w.workflow_id = 'fan-in' OR w.workflow_id LIKE 'parent _%' AND w.workflow_id NOT LIKE 'parent of %';
SELECT is_empty(
    $$SELECT w.awaited_id FROM lockstep.waiter AS w WHERE w.awaited_id LIKE 'many %'$$, 'none of them is left in a list'
);

-- clients

INSERT INTO lockstep.waiter (awaited_id, awaited_what, is_client, waiter)
VALUES ('x', '', true, 'channel a'), ('x', '', true, 'channel b'), ('x', 'event:k', true, 'channel a');
SELECT lives_ok($$SELECT pg_temp.finish('x', '{}')$$, 'a workflow that clients and workflows wait for ends');
SELECT is(pg_temp.waiters_of('x'), NULL::text, 'clients do not stay in the list either');

SELECT * FROM finish();
ROLLBACK;
