-- Limits of queues: exact, whoever claims, and lifted as soon as they are lifted.
BEGIN;
SELECT no_plan();

\ir claims.psql
\ir failure_of.psql
\ir hint_of.psql

-- refused arguments

CREATE TEMPORARY TABLE refused_call (call text, code text, thing text);
INSERT INTO refused_call
VALUES
    ($$create_queue(NULL)$$, '22023', 'queue_name'),
    ($$create_queue('')$$, '22023', 'queue_name'),
    ($$create_queue(repeat('x', 513))$$, '22023', 'queue_name'),
    ($$create_queue('q', concurrency => 0)$$, '22023', 'concurrency'),
    ($$create_queue('q', concurrency => -1)$$, '22023', 'concurrency'),
    ($$create_queue('q', 1, 0)$$, '22023', 'worker_concurrency'),
    ($$create_queue('q', partition_concurrency => 0)$$, '22023', 'partition_concurrency'),
    ($$create_queue('q', rate_limit => 0, rate_period => '1 s')$$, '22023', 'rate_limit'),
    ($$create_queue('q', rate_limit => 1)$$, '22023', 'rate_limit and rate_period'),
    ($$create_queue('q', rate_period => '1 s')$$, '22023', 'rate_limit and rate_period'),
    ($$create_queue('q', rate_limit => 1, rate_period => '0 s')$$, '22023', 'rate_period'),
    ($$create_queue('q', rate_limit => 1, rate_period => '-1 s')$$, '22023', 'rate_period'),
    ($$create_queue('q', rate_limit => 1, rate_period => '1001 years')$$, '22023', 'rate_period'),
    ($$create_queue('q', partition_rate_limit => 1)$$, '22023', 'partition_rate_limit and partition_rate_period'),
    ($$create_queue('q', partition_rate_limit => 1, partition_rate_period => '0')$$, '22023', 'partition_rate_period'),
    ($$alter_queue('nowhere', concurrency => 1)$$, 'P0002', 'queue "nowhere"'),
    ($$alter_queue(NULL, concurrency => 1)$$, 'P0002', 'queue'),
    ($$drop_queue('nowhere')$$, 'P0002', 'queue "nowhere"'),
    ($$pause_queue(NULL)$$, '22023', 'queue_name'),
    ($$pause_queue(' ')$$, '22023', 'queue_name'),
    ($$pause_queue(repeat('x', 513))$$, '22023', 'queue_name'),
    ($$unpause_queue('nowhere')$$, 'P0002', 'queue "nowhere"');
SELECT throws_ok('SELECT lockstep.' || r.call, r.code, NULL, format('%s is refused with %s', r.call, r.code))
FROM refused_call AS r;
SELECT throws_like(
    'SELECT lockstep.' || r.call, '%' || r.thing || '%', format('the error for %s names %s', r.call, r.thing)
)
FROM refused_call AS r;
SELECT isnt(
    coalesce(pg_temp.hint_of('SELECT lockstep.' || r.call), ''), '', format('the error for %s has a hint', r.call)
)
FROM refused_call AS r;
SELECT is_empty('SELECT q.queue_name FROM lockstep.queue AS q', 'a refused call leaves no row');

-- a limit over all executors

INSERT INTO lockstep.executor (executor_id, queues, workflow_names, lease_duration, expires_at)
SELECT e.executor_id, '{free,limited,tenants}', '{greet}', '1 hour', clock_timestamp() + interval '1 hour'
FROM unnest(ARRAY['alice', 'bob']) AS e (executor_id);

SELECT lockstep.create_queue('limited', concurrency => 3);
INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name, priority)
SELECT 'l' || g.n, 'greet', 'limited', g.n
FROM generate_series(1, 9) AS g (n);
SELECT results_eq(
    $$SELECT * FROM pg_temp.claimed('alice', 2)$$, $$VALUES ('l1'), ('l2')$$,
    'below its limit a queue gives as many as are asked for, in order'
);
SELECT results_eq(
    $$SELECT * FROM pg_temp.claimed('bob')$$, $$VALUES ('l3')$$, 'a limit counts what every executor runs'
);
SELECT is_empty($$SELECT * FROM pg_temp.claimed('alice')$$, 'a queue at its limit gives nothing');
SELECT pg_temp.finish_workflow('bob', 'l3');
SELECT results_eq(
    $$SELECT * FROM pg_temp.claimed('alice')$$, $$VALUES ('l4')$$, 'a finished workflow makes room for one'
);
SELECT lockstep.suspend_workflows('alice', '[{"workflow_id": "l4", "attempt": 1, "step_ids": [], "topics": [""]}]');
SELECT results_eq(
    $$SELECT * FROM pg_temp.claimed('bob')$$, $$VALUES ('l5')$$, 'a suspended workflow makes room for another'
);
SELECT lockstep.cancel_workflow('l5');
SELECT results_eq(
    $$SELECT * FROM pg_temp.claimed('bob')$$, $$VALUES ('l6')$$, 'a cancelled workflow makes room for another'
);
SELECT lockstep.create_queue('limited', concurrency => 4);
SELECT results_eq(
    $$SELECT * FROM pg_temp.claimed('alice')$$, $$VALUES ('l7')$$, 'a raised limit holds at the next claim'
);
SELECT lockstep.create_queue('limited', concurrency => 1);
SELECT pg_temp.finish_workflow('alice', 'l7');
SELECT is_empty($$SELECT * FROM pg_temp.claimed('alice')$$, 'a lowered limit waits until fewer run');

INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name)
VALUES ('f1', 'greet', 'free'), ('f2', 'greet', 'free');
SELECT results_eq(
    $$SELECT * FROM pg_temp.claimed('alice')$$, $$VALUES ('f1'), ('f2')$$,
    'a queue at its limit does not hold up another one'
);
SELECT lockstep.create_queue('limited');
SELECT results_eq(
    $$SELECT * FROM pg_temp.claimed('alice')$$, $$VALUES ('l8'), ('l9')$$, 'a queue without limits gives everything'
);

-- a limit per worker

SELECT lockstep.create_queue('limited', worker_concurrency => 2);
INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name, priority)
SELECT 'k' || g.n, 'greet', 'limited', g.n
FROM generate_series(1, 9) AS g (n);
SELECT lockstep.release_workflows('alice');
SELECT lockstep.release_workflows('bob');
DELETE FROM lockstep.workflow_status AS w WHERE w.workflow_id NOT LIKE 'k%';
SELECT results_eq(
    $$SELECT * FROM pg_temp.claimed('alice')$$, $$VALUES ('k1'), ('k2')$$, 'a worker gets what it may run at once'
);
SELECT is_empty($$SELECT * FROM pg_temp.claimed('alice')$$, 'a worker at its limit gets nothing');
SELECT results_eq(
    $$SELECT * FROM pg_temp.claimed('bob')$$, $$VALUES ('k3'), ('k4')$$, 'another worker has a limit of its own'
);
SELECT pg_temp.finish_workflow('bob', 'k3');
SELECT is_empty($$SELECT * FROM pg_temp.claimed('alice')$$, 'a place in one worker is none in another');
SELECT results_eq($$SELECT * FROM pg_temp.claimed('bob')$$, $$VALUES ('k5')$$, 'a worker gets its own places again');
SELECT lockstep.create_queue('limited', concurrency => 5, worker_concurrency => 4);
SELECT results_eq(
    $$SELECT * FROM pg_temp.claimed('alice')$$, $$VALUES ('k6')$$, 'the limit of the queue holds beside that of the worker'
);

-- changing some limits

SELECT lockstep.create_queue('changed', concurrency => 5, rate_limit => 3, rate_period => '1 min');
CREATE FUNCTION pg_temp.limits()
RETURNS text
LANGUAGE sql
AS $$
    SELECT concat_ws(
        ' ', q.concurrency, q.worker_concurrency, q.rate_limit, q.rate_period, q.partition_concurrency,
        q.partition_rate_limit, q.partition_rate_period
    )
    FROM lockstep.queue AS q
    WHERE q.queue_name = 'changed'
$$;
SELECT lockstep.alter_queue('changed', worker_concurrency => 2);
SELECT is(pg_temp.limits(), '5 2 3 00:01:00', 'a limit is set and the others stay');
SELECT lockstep.alter_queue('changed', rate_period => '2 min');
SELECT is(pg_temp.limits(), '5 2 3 00:02:00', 'a period can change alone');
SELECT lockstep.alter_queue('changed', reset => '{rate_limit,concurrency}');
SELECT is(pg_temp.limits(), '2', 'limits are removed, a rate with its period');
SELECT lockstep.alter_queue('changed', partition_rate_limit => 4, partition_rate_period => '5 s');
SELECT is(pg_temp.limits(), '2 4 00:00:05', 'a rate can be set later');
SELECT lockstep.alter_queue('changed');
SELECT is(pg_temp.limits(), '2 4 00:00:05', 'a call that says nothing changes nothing');

CREATE TEMPORARY TABLE refused_change (call text, thing text);
INSERT INTO refused_change
VALUES
    ($$alter_queue('changed', concurrency => 0)$$, 'concurrency'),
    ($$alter_queue('changed', rate_limit => 1)$$, 'rate_limit and rate_period'),
    ($$alter_queue('changed', reset => '{speed}')$$, '"speed"'),
    ($$alter_queue('changed', reset => '{NULL}')$$, '"null"'),
    ($$alter_queue('changed', reset => '{rate_period}')$$, '"rate_period"'),
    ($$alter_queue('changed', concurrency => 1, reset => '{concurrency}')$$, '"concurrency"'),
    ($$alter_queue('changed', rate_period => '1 s', reset => '{rate_limit}')$$, '"rate_limit"');
SELECT throws_ok('SELECT lockstep.' || r.call, '22023', NULL, format('%s is refused', r.call))
FROM refused_change AS r;
SELECT throws_like(
    'SELECT lockstep.' || r.call, '%' || r.thing || '%', format('the error for %s names %s', r.call, r.thing)
)
FROM refused_change AS r;
SELECT isnt(
    coalesce(pg_temp.hint_of('SELECT lockstep.' || r.call), ''), '', format('the error for %s has a hint', r.call)
)
FROM refused_change AS r;
SELECT is(pg_temp.limits(), '2 4 00:00:05', 'a refused change changes nothing');

-- dropping

SELECT lives_ok($$SELECT lockstep.drop_queue('changed')$$, 'a queue with nothing in it is dropped');
SELECT is_empty($$SELECT FROM lockstep.queue AS q WHERE q.queue_name = 'changed'$$, 'a dropped queue has no row');
SELECT lockstep.create_queue('changed', concurrency => 1);
CREATE FUNCTION pg_temp.put_into_changed(p_status text)
RETURNS void
LANGUAGE sql
AS $$
    DELETE FROM lockstep.workflow_status AS w WHERE w.queue_name = 'changed';
    INSERT INTO lockstep.workflow_status (
        workflow_id, workflow_name, queue_name, status, completed_at, executor_id, attempts, started_at, waiting_for
    )
    VALUES (
        'c', 'greet', 'changed', p_status, CASE WHEN p_status = 'SUCCESS' THEN now() END,
        CASE WHEN p_status = 'PENDING' THEN 'alice' END, 1, now(), CASE WHEN p_status = 'WAITING' THEN '{message:}'::text[] END
    );
$$;
SELECT is(
    concat(pg_temp.put_into_changed(s.status)) || (pg_temp.failure_of($$SELECT lockstep.drop_queue('changed')$$)).code, '55000',
    format('a queue with a workflow that is %s is not dropped', s.status)
)
FROM unnest(ARRAY['ENQUEUED', 'DELAYED', 'WAITING', 'PENDING']) AS s (status);
SELECT lives_ok($$SELECT lockstep.drop_queue('changed', force => true)$$, 'unless it is told');
SELECT lockstep.create_queue('changed', concurrency => 1);
SELECT pg_temp.put_into_changed('SUCCESS');
SELECT lives_ok($$SELECT lockstep.drop_queue('changed')$$, 'a finished workflow keeps no queue from being dropped');

-- other conditions hold in a limited queue too

INSERT INTO lockstep.executor (executor_id, queues, workflow_names, app_version, lease_duration, expires_at)
VALUES ('v1', '{versions}', '{greet}', 'v1', '1 hour', clock_timestamp() + interval '1 hour');
INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name, app_version)
VALUES
    ('other name', 'part', 'versions', NULL), ('other version', 'greet', 'versions', 'v2'),
    ('mine', 'greet', 'versions', 'v1');
SELECT lockstep.create_queue('versions', concurrency => 1);
SELECT results_eq(
    $$SELECT * FROM pg_temp.claimed('v1')$$, $$VALUES ('mine')$$,
    'a limited queue passes over names and versions that the executor does not run'
);
SELECT lockstep.release_workflows('v1');
SELECT lockstep.create_queue('versions', partition_concurrency => 1);
SELECT results_eq(
    $$SELECT * FROM pg_temp.claimed('v1')$$, $$VALUES ('mine')$$,
    'a partitioned queue passes over names and versions that the executor does not run'
);

-- pause

DELETE FROM lockstep.workflow_status;
INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name, priority)
VALUES
    ('f1', 'greet', 'free', 1), ('f2', 'greet', 'free', 2),
    ('l1', 'greet', 'limited', 1), ('l2', 'greet', 'limited', 2);
SELECT lockstep.create_queue('limited', concurrency => 1);
SELECT lockstep.pause_queue('free');
SELECT pg_temp.claimed('alice', 1);
SELECT lockstep.pause_queue('limited');
SELECT is_empty($$SELECT * FROM pg_temp.claimed('alice')$$, 'a paused queue gives nothing');
SELECT lives_ok($$SELECT pg_temp.finish_workflow('alice', 'l1')$$, 'what runs when its queue is paused goes on');
SELECT results_eq(
    $$SELECT q.concurrency, q.is_paused FROM lockstep.queue AS q WHERE q.queue_name = 'limited'$$, 'VALUES (1, true)',
    'a pause keeps the limits'
);
SELECT lockstep.create_queue('limited', concurrency => 2);
SELECT is_empty($$SELECT * FROM pg_temp.claimed('alice')$$, 'a change of limits does not end a pause');
SELECT lockstep.unpause_queue('free');
SELECT results_eq($$SELECT * FROM pg_temp.claimed('alice', 1)$$, $$VALUES ('f1')$$, 'an unpaused queue gives again');
SELECT lockstep.unpause_queue('limited');
SELECT bag_eq(
    $$SELECT * FROM pg_temp.claimed('alice')$$, $$VALUES ('f2'), ('l2')$$,
    'an unpaused queue heeds its limits as before'
);
SELECT lives_ok($$SELECT lockstep.unpause_queue('free')$$, 'a queue that is not paused can be unpaused');

-- several queues with a backlog

INSERT INTO lockstep.executor (executor_id, queues, workflow_names, lease_duration, expires_at)
VALUES ('zoe', '{first,second,third}', '{greet}', '1 hour', clock_timestamp() + interval '1 hour');
SELECT lockstep.create_queue('first', concurrency => 1000), lockstep.create_queue('second', worker_concurrency => 1000);
INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name)
SELECT q.name || g.n, 'greet', q.name
FROM generate_series(1, 3) AS g (n)
CROSS JOIN unnest(ARRAY['third', 'first', 'second']) AS q (name)
ORDER BY g.n, q.name;
INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name, available_at)
SELECT q.name || ' old', 'greet', q.name, clock_timestamp() - interval '1 hour'
FROM unnest(ARRAY['third']) AS q (name);
SELECT results_eq(
    $$
        SELECT c.id
        FROM generate_series(1, 7) AS g (n)
        CROSS JOIN LATERAL pg_temp.claimed('zoe', 1 + 0 * g.n) AS c (id)
    $$,
    $$VALUES ('third old'), ('first1'), ('second1'), ('third1'), ('first2'), ('second2'), ('third2')$$,
    'the oldest of all is taken first, so none starves behind the backlog of another'
);

-- the list

DELETE FROM lockstep.workflow_status;
DELETE FROM lockstep.queue;
SELECT lockstep.create_queue('limited', concurrency => 3);
SELECT lockstep.pause_queue('paused');
INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name, status, executor_id, attempts, started_at, waiting_for)
VALUES
    ('1', 'greet', 'limited', 'ENQUEUED', NULL, 0, NULL, NULL),
    ('2', 'greet', 'limited', 'ENQUEUED', NULL, 0, NULL, NULL),
    ('3', 'greet', 'limited', 'PENDING', 'alice', 1, now(), NULL),
    ('4', 'greet', 'unserved', 'DELAYED', NULL, 0, NULL, NULL),
    ('5', 'greet', 'unserved', 'WAITING', NULL, 0, NULL, '{message:}');
SELECT results_eq(
    $$
        SELECT
            l.queue_name, l.is_paused, l.concurrency, l.enqueued_count, l.delayed_count, l.waiting_count,
            l.pending_count, l.worker_count
        FROM lockstep.list_queues() AS l
        WHERE l.queue_name NOT IN ('versions', 'first', 'second', 'third')
    $$,
    $$
        VALUES
            ('free', false, NULL::int, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 2::bigint),
            ('limited', false, 3, 2, 0, 0, 1, 2),
            ('paused', true, NULL, 0, 0, 0, 0, 0),
            ('tenants', false, NULL, 0, 0, 0, 0, 2),
            ('unserved', false, NULL, 0, 1, 1, 0, 0)
    $$,
    'queues with limits, with workers and with workflows are listed'
);

SELECT * FROM finish();
ROLLBACK;
