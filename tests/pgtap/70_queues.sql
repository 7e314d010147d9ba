-- Limits of queues: exact, whoever claims, and lifted as soon as they are lifted.
BEGIN;
SELECT no_plan();

\ir hint_of.psql

CREATE FUNCTION pg_temp.claimed(p_executor_id text, p_max_count int DEFAULT 10)
RETURNS SETOF text
LANGUAGE sql
AS $$ SELECT c.workflow_id FROM lockstep.claim_workflows(p_executor_id, p_max_count) AS c $$;

CREATE FUNCTION pg_temp.finish_workflow(p_executor_id text, p_workflow_id text)
RETURNS void
LANGUAGE sql
AS $$
    SELECT lockstep.finish_workflows(p_executor_id, jsonb_build_array(
        jsonb_build_object('workflow_id', p_workflow_id, 'attempt', 1, 'output', 1)
    ))
$$;

-- refused arguments

CREATE TEMPORARY TABLE refused_call (call text, code text, thing text);
INSERT INTO refused_call
VALUES
    ($$create_queue(NULL)$$, '22023', 'queue_name'),
    ($$create_queue('')$$, '22023', 'queue_name'),
    ($$create_queue(repeat('x', 513))$$, '22023', 'queue_name'),
    ($$create_queue('q', concurrency => 0)$$, '22023', 'concurrency'),
    ($$create_queue('q', concurrency => -1)$$, '22023', 'concurrency'),
    ($$create_queue('q', partition_concurrency => 0)$$, '22023', 'partition_concurrency'),
    ($$create_queue('q', 1, 0)$$, '22023', 'partition_concurrency'),
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

-- a limit per partition

SELECT lockstep.create_queue('tenants', concurrency => 4, partition_concurrency => 2);
INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name, queue_partition_key, priority)
VALUES
    ('a1', 'greet', 'tenants', 'a', 1), ('a2', 'greet', 'tenants', 'a', 2), ('a3', 'greet', 'tenants', 'a', 3),
    ('b1', 'greet', 'tenants', 'b', 4), ('none1', 'greet', 'tenants', NULL, 5), ('none2', 'greet', 'tenants', NULL, 6),
    ('none3', 'greet', 'tenants', NULL, 6), ('c1', 'greet', 'tenants', 'c', 7);
SELECT results_eq(
    $$SELECT * FROM pg_temp.claimed('alice', 1)$$, $$VALUES ('a1')$$, 'a partition below its limit gives its first'
);
SELECT results_eq(
    $$SELECT * FROM pg_temp.claimed('bob')$$, $$VALUES ('a2'), ('b1'), ('none1')$$,
    'a partition at its limit lets the next one pass, up to the limit of the queue'
);
SELECT pg_temp.finish_workflow('bob', 'b1');
SELECT results_eq(
    $$SELECT * FROM pg_temp.claimed('alice')$$, $$VALUES ('none2')$$,
    'workflows without a key are a partition too'
);
SELECT pg_temp.finish_workflow('alice', 'a1');
SELECT results_eq(
    $$SELECT * FROM pg_temp.claimed('alice')$$, $$VALUES ('a3')$$,
    'a finished workflow makes room in its partition'
);
SELECT lockstep.create_queue('tenants', partition_concurrency => 1);
SELECT results_eq(
    $$SELECT * FROM pg_temp.claimed('alice')$$, $$VALUES ('c1')$$,
    'a partition limit works without a queue limit, also for workflows without a key'
);

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
SELECT pg_temp.claimed('alice', 1);
SELECT lockstep.pause_queue('free');
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

SELECT * FROM finish();
ROLLBACK;
