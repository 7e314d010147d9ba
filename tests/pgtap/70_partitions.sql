-- Partitions of a queue: each has its own limits, and all have their turn.
BEGIN;
SELECT no_plan();

\ir claims.psql

INSERT INTO lockstep.executor (executor_id, queues, workflow_names, lease_duration, expires_at)
SELECT e.executor_id, ARRAY[e.queue_name], '{greet}', '1 hour', clock_timestamp() + interval '1 hour'
FROM (
    VALUES ('alice', 'tenants'), ('bob', 'tenants'), ('carol', 'fair'), ('dave', 'many'), ('erin', 'head')
) AS e (executor_id, queue_name);

-- a limit per partition

SELECT lockstep.create_queue('tenants', concurrency => 4, partition_concurrency => 2);
INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name, queue_partition_key, priority)
VALUES
    ('a1', 'greet', 'tenants', 'a', 1), ('a2', 'greet', 'tenants', 'a', 2), ('a3', 'greet', 'tenants', 'a', 3),
    ('b1', 'greet', 'tenants', 'b', 4), ('none1', 'greet', 'tenants', NULL, 5), ('none2', 'greet', 'tenants', NULL, 6),
    ('none3', 'greet', 'tenants', NULL, 7);
SELECT results_eq(
    $$SELECT * FROM pg_temp.claimed('alice', 1)$$, $$VALUES ('a1')$$, 'a partition below its limit gives its first'
);
SELECT results_eq(
    $$SELECT * FROM pg_temp.claimed('bob')$$, $$VALUES ('a2'), ('b1'), ('none1')$$,
    'the partitions give one each, up to the limit of the queue'
);
SELECT pg_temp.finish_workflow('bob', 'b1');
SELECT results_eq(
    $$SELECT * FROM pg_temp.claimed('alice')$$, $$VALUES ('none2')$$,
    'a partition at its limit lets the next one pass; workflows without a key are one too'
);
SELECT pg_temp.finish_workflow('alice', 'a1');
SELECT results_eq(
    $$SELECT * FROM pg_temp.claimed('alice')$$, $$VALUES ('a3')$$,
    'a finished workflow makes room in its partition'
);
SELECT lockstep.create_queue('tenants', partition_concurrency => 1);
INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name, queue_partition_key)
VALUES ('c1', 'greet', 'tenants', 'c'), ('c2', 'greet', 'tenants', 'c');
SELECT results_eq(
    $$SELECT * FROM pg_temp.claimed('alice')$$, $$VALUES ('c1')$$,
    'a partition limit works without a queue limit, also for workflows without a key'
);

-- turns

SELECT lockstep.create_queue('fair', partition_concurrency => 100);
INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name, queue_partition_key, available_at)
SELECT p.key || g.n, 'greet', 'fair', p.key, clock_timestamp() + g.n * interval '1 us'
FROM (VALUES ('big', 1000), ('mid', 3), ('one', 1)) AS p (key, size)
CROSS JOIN LATERAL generate_series(1, p.size) AS g (n);
SELECT bag_eq(
    $$SELECT * FROM pg_temp.claimed('carol', 3)$$, $$VALUES ('big1'), ('mid1'), ('one1')$$,
    'each partition has its turn, however much waits in one'
);
SELECT bag_eq(
    $$SELECT * FROM pg_temp.claimed('carol', 1)$$, $$VALUES ('big2')$$, 'the turns go on in the next claim'
);
SELECT bag_eq(
    $$SELECT * FROM pg_temp.claimed('carol', 1)$$, $$VALUES ('mid2')$$, 'and go on behind the partition served last'
);
SELECT bag_eq(
    $$SELECT * FROM pg_temp.claimed('carol', 6)$$,
    $$VALUES ('mid3'), ('big3'), ('big4'), ('big5'), ('big6'), ('big7')$$,
    'what the others leave a single partition gets'
);
INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name, queue_partition_key, priority)
VALUES ('urgent', 'greet', 'fair', 'mid', 0), ('later', 'greet', 'fair', 'mid', 9);
SELECT bag_eq(
    $$SELECT * FROM pg_temp.claimed('carol', 2)$$, $$VALUES ('urgent'), ('big8')$$,
    'priority counts within a partition'
);
SELECT is(
    (SELECT count(*) FROM pg_temp.claimed('carol', 1000)), 93::bigint,
    'a partition gets up to its limit in one claim, and the others the rest'
);

-- further rounds

INSERT INTO lockstep.executor (executor_id, queues, workflow_names, lease_duration, expires_at)
VALUES ('fred', '{few}', '{greet}', '1 hour', clock_timestamp() + interval '1 hour');
SELECT lockstep.create_queue('few', partition_concurrency => 100);
INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name, queue_partition_key)
SELECT format('%s few %s', coalesce(p.key, 'none'), g.n), 'greet', 'few', p.key
FROM (VALUES ('a'), ('b'), (NULL)) AS p (key)
CROSS JOIN generate_series(1, 50) AS g (n);
SELECT results_eq(
    $$
        SELECT left(c.id, 1), count(DISTINCT c.id)
        FROM pg_temp.claimed('fred', 45) AS c (id)
        GROUP BY 1 ORDER BY 1
    $$,
    $$VALUES ('a', 15::bigint), ('b', 15), ('n', 15)$$,
    'where few partitions have all the work, each gets as much, also the one without a key'
);

-- many partitions without room

SELECT lockstep.create_queue('many', partition_concurrency => 1);
INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name, queue_partition_key, available_at)
SELECT format('%s-%s', k.n, g.n), 'greet', 'many', to_char(k.n, 'FM0000'), clock_timestamp() + g.n * interval '1 s'
FROM generate_series(1, 1500) AS k (n)
CROSS JOIN generate_series(1, 2) AS g (n);
SELECT is(
    (SELECT count(*) FROM pg_temp.claimed('dave', 2000)), 1500::bigint, 'a claim may take one of each of many partitions'
);
UPDATE lockstep.queue AS q SET partition_cursor = NULL WHERE q.queue_name = 'many';
SELECT pg_temp.finish_workflow('dave', '1400-1');
SELECT is(
    (lockstep.advance_workflows('dave', claim_count => 10) -> 'claim_again_in')::text::double precision, 0.05::double precision,
    'a claim that passed a thousand partitions in vain asks to be called again'
);
SELECT results_eq(
    $$SELECT * FROM pg_temp.claimed('dave')$$, $$VALUES ('1400-2')$$, 'and goes on where it stopped'
);

-- the head of a partition

SELECT lockstep.create_queue('head', partition_concurrency => 1);
INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name, queue_partition_key)
VALUES ('unknown', 'not served', 'head', 'a'), ('known', 'greet', 'head', 'a');
SELECT results_eq(
    $$SELECT * FROM pg_temp.claimed('erin')$$, $$VALUES ('known')$$,
    'what the executor does not run does not hide the rest of its partition'
);

SELECT * FROM finish();
ROLLBACK;
