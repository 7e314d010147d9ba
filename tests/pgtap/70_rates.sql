-- Limits by rate: exact in every window, and the answer tells when to look again.
BEGIN;
SELECT no_plan();

CREATE FUNCTION pg_temp.claimed(p_max_count int DEFAULT 10)
RETURNS bigint
LANGUAGE sql
AS $$ SELECT count(*) FROM lockstep.claim_workflows('alice', p_max_count) $$;

CREATE FUNCTION pg_temp.again_in()
RETURNS double precision
LANGUAGE sql
AS $$ SELECT (lockstep.advance_workflows('alice', claim_count => 10) ->> 'claim_again_in')::double precision $$;

-- as if that much time had gone by
CREATE FUNCTION pg_temp.pass(p_time interval)
RETURNS void
LANGUAGE sql
AS $$
    UPDATE lockstep.queue_start AS s SET started_at = s.started_at - p_time - interval '1 year';
    UPDATE lockstep.queue_start AS s SET started_at = s.started_at + interval '1 year';
$$;

INSERT INTO lockstep.executor (executor_id, queues, workflow_names, lease_duration, expires_at)
VALUES ('alice', '{q}', '{greet}', '1 hour', clock_timestamp() + interval '1 hour');
INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name, available_at)
SELECT 'w' || g.n, 'greet', 'q', clock_timestamp() + g.n * interval '1 us'
FROM generate_series(1, 100) AS g (n);

-- a queue

SELECT lockstep.create_queue('q', rate_limit => 5, rate_period => '1 hour');
SELECT is(pg_temp.claimed(2), 2::bigint, 'below the limit a queue gives as many as are asked for');
SELECT pg_temp.pass('20 min');
SELECT is(pg_temp.claimed(), 3::bigint, 'and not more than the limit leaves');
SELECT is(pg_temp.claimed(), 0::bigint, 'at the limit it gives nothing');
SELECT ok(
    pg_temp.again_in() BETWEEN 2390 AND 2400, 'the answer tells when the first start leaves the window'
);
SELECT pg_temp.pass('39 min 50 s');
SELECT is(pg_temp.claimed(), 0::bigint, 'a start counts for the whole period');
SELECT pg_temp.pass('10 s');
SELECT is(pg_temp.claimed(), 2::bigint, 'what leaves the window makes room for as many, not for a new window');
SELECT is(pg_temp.claimed(), 0::bigint, 'the later starts still count');
SELECT ok(pg_temp.again_in() BETWEEN 1190 AND 1200, 'now these are what is waited for');
SELECT pg_temp.pass('2 hours');
SELECT is(pg_temp.claimed(), 5::bigint, 'an empty window takes the whole limit');
SELECT is(
    (SELECT count(*) FROM lockstep.queue_start), 1::bigint, 'what has left the window is removed'
);
SELECT is((SELECT w.started_at FROM lockstep.workflow_status AS w WHERE w.workflow_id = 'w8'),
    (SELECT max(s.started_at) FROM lockstep.queue_start AS s), 'the time that counts is that of the workflow');

-- ends, waits and retries do not give a start back; each execution counts

SELECT lockstep.finish_workflows('alice', (
    SELECT jsonb_agg(jsonb_build_object('workflow_id', w.workflow_id, 'attempt', 1, 'output', 1))
    FROM lockstep.workflow_status AS w
    WHERE w.status = 'PENDING' AND w.workflow_id <> 'w12'
));
SELECT is(pg_temp.claimed(), 0::bigint, 'a workflow that ends makes no room for another start');
SELECT lockstep.release_workflows('alice');
SELECT pg_temp.pass('2 hours');
SELECT is(pg_temp.claimed(1), 1::bigint, 'a workflow that was handed back');
SELECT is(pg_temp.claimed(), 4::bigint, 'counts as another start');

-- changing the limit

SELECT lockstep.alter_queue('q', rate_limit => 7);
SELECT is(pg_temp.claimed(), 2::bigint, 'a raised limit counts what has started already');
SELECT lockstep.alter_queue('q', rate_limit => 1);
SELECT is(pg_temp.claimed(), 0::bigint, 'a lowered one too');
SELECT lockstep.alter_queue('q', concurrency => 10, reset => '{rate_limit}');
SELECT is(pg_temp.claimed(), 3::bigint, 'without a rate only the other limits hold');
SELECT is((SELECT count(*) FROM lockstep.queue_start), 0::bigint, 'and nothing is kept of what started');
SELECT lockstep.create_queue('q', concurrency => 11, rate_limit => 5, rate_period => '1 hour');
SELECT is(pg_temp.claimed(), 1::bigint, 'a rate and a concurrency hold both');

-- a clock that is set back

SELECT lockstep.create_queue('q', rate_limit => 5, rate_period => '1 hour');
UPDATE lockstep.queue_start AS s SET started_at = clock_timestamp() + interval '10 min';
SELECT is(pg_temp.claimed(2), 2::bigint, 'starts in the future do not stop a queue');
SELECT is(pg_temp.claimed(), 2::bigint, 'but count');
SELECT ok(
    pg_temp.again_in() BETWEEN 3590 AND 3600, 'as if they had been now, and not when the clock comes to them'
);
UPDATE lockstep.queue_start AS s SET started_at = s.started_at + interval '1 year';
SELECT is(pg_temp.claimed(), 0::bigint, 'a limit that was used up before the clock was set back');
SELECT ok(pg_temp.again_in() BETWEEN 3590 AND 3600, 'is used up for one more period');
SELECT pg_temp.pass('1 hour');
SELECT is(pg_temp.claimed(), 5::bigint, 'and then again there');

-- partitions

DELETE FROM lockstep.workflow_status;
SELECT lockstep.create_queue('q', partition_rate_limit => 2, partition_rate_period => '1 hour');
SELECT is((SELECT count(*) FROM lockstep.queue_start), 0::bigint, 'another kind of rate begins anew');
INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name, queue_partition_key)
SELECT format('%s%s', k.key, g.n), 'greet', 'q', k.key
FROM (VALUES ('a'), ('b'), (NULL)) AS k (key)
CROSS JOIN generate_series(1, 5) AS g (n);
SELECT is(pg_temp.claimed(3), 3::bigint, 'each partition has a rate of its own');
SELECT is(pg_temp.claimed(), 3::bigint, 'up to its limit');
SELECT is(pg_temp.claimed(), 0::bigint, 'and no further');
SELECT ok(pg_temp.again_in() BETWEEN 3590 AND 3600, 'the answer tells when the first partition goes on');
UPDATE lockstep.queue_start AS s
SET started_at = s.started_at - interval '1 hour'
WHERE s.partition_key = 'b';
SELECT is(pg_temp.claimed(), 2::bigint, 'which does not wait for the others');
UPDATE lockstep.queue_start AS s SET started_at = s.started_at + interval '1 day';
SELECT is(pg_temp.claimed(), 0::bigint, 'after the clock was set back the partitions have used up their rate');
SELECT ok(pg_temp.again_in() BETWEEN 3590 AND 3600, 'for one more period');
SELECT is(
    (SELECT count(*) FROM lockstep.queue_start AS s WHERE s.started_at > clock_timestamp()), 0::bigint,
    'nothing stays in the future'
);
SELECT results_eq(
    $$SELECT w.queue_partition_key, count(*) FROM lockstep.workflow_status AS w WHERE w.status = 'PENDING' GROUP BY 1 ORDER BY 1$$,
    $$VALUES ('a', 2::bigint), ('b', 4), (NULL, 2)$$, 'every partition started as many as it might'
);
SELECT lockstep.create_queue(
    'q', rate_limit => 1, rate_period => '1 hour', partition_concurrency => 3,
    partition_rate_limit => 2, partition_rate_period => '1 hour'
);
SELECT is(pg_temp.claimed(), 0::bigint, 'partitions without room start nothing');
SELECT pg_temp.pass('1 hour');
SELECT is(pg_temp.claimed(), 1::bigint, 'a rate of the queue holds beside those of its partitions');

-- workflows without a key, and what they share with the queue

DELETE FROM lockstep.workflow_status;
SELECT lockstep.create_queue(
    'q', rate_limit => 6, rate_period => '2 hours', partition_rate_limit => 4, partition_rate_period => '1 hour'
);
DELETE FROM lockstep.queue_start;
INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name)
SELECT 'none' || g.n, 'greet', 'q' FROM generate_series(1, 20) AS g (n);
SELECT is(pg_temp.claimed(1), 1::bigint, 'workflows without a key');
SELECT is(pg_temp.claimed(), 3::bigint, 'have the rate of a partition');
SELECT is(pg_temp.claimed(), 0::bigint, 'in all of its rounds');
SELECT pg_temp.pass('1 hour');
SELECT is(pg_temp.claimed(), 2::bigint, 'and of the queue, whose window is longer');
SELECT is(pg_temp.claimed(), 0::bigint, 'and does not forget what the partition may');
SELECT pg_temp.pass('1 hour');
SELECT is(pg_temp.claimed(), 4::bigint, 'until the first have left it');

DELETE FROM lockstep.queue_start;
DELETE FROM lockstep.workflow_status;
SELECT lockstep.create_queue(
    'q', rate_limit => 10, rate_period => '1 hour', partition_rate_limit => 3, partition_rate_period => '1 hour'
);
INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name, queue_partition_key)
VALUES ('a1', 'greet', 'q', 'a'), ('a2', 'greet', 'q', 'a');
SELECT is(pg_temp.claimed(), 2::bigint, 'what has a key');
INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name)
SELECT 'none' || g.n, 'greet', 'q' FROM generate_series(1, 5) AS g (n);
SELECT is(pg_temp.claimed(), 3::bigint, 'counts for the queue, and not for what has none');

-- when to look again

DELETE FROM lockstep.queue_start;
DELETE FROM lockstep.workflow_status;
SELECT lockstep.create_queue('q', partition_rate_limit => 1, partition_rate_period => '1 hour');
INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name, queue_partition_key)
SELECT format('%s%s', k.key, g.n), 'greet', 'q', k.key
FROM (VALUES ('a'), ('b')) AS k (key)
CROSS JOIN generate_series(1, 2) AS g (n);
SELECT pg_temp.claimed();
UPDATE lockstep.queue_start AS s SET started_at = s.started_at - interval '30 min' WHERE s.partition_key = 'b';
SELECT ok(pg_temp.again_in() BETWEEN 1790 AND 1800, 'the partition that is first to have room is waited for');
DELETE FROM lockstep.workflow_status AS w WHERE w.status = 'ENQUEUED';
SELECT is(pg_temp.again_in(), NULL, 'where nothing waits nothing is waited for');

-- a window has one length

DELETE FROM lockstep.queue_start;
SELECT lockstep.create_queue('q', rate_limit => 5, rate_period => '1 month');
INSERT INTO lockstep.queue_start (queue_name, is_partition, partition_key, started_at, count_before, count_after)
VALUES ('q', false, '', '2024-01-31 12:00:00+00', 0, 5);
SELECT is(
    (lockstep._ready_in_limited_queue(q, e, 10, '2024-02-29 13:00:00+00', NULL, false)).look_again_in,
    extract(EPOCH FROM interval '23 hours')::double precision, 'a month is 30 days, also of a start that had no such day'
)
FROM lockstep.queue AS q
CROSS JOIN lockstep.executor AS e
WHERE q.queue_name = 'q';
DELETE FROM lockstep.queue_start;
SELECT lockstep.create_queue('q', partition_rate_limit => 1, partition_rate_period => '1 hour');

-- a thousand partitions in vain

INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name, queue_partition_key)
SELECT g.n || '-1', 'greet', 'q', to_char(g.n, 'FM0000') FROM generate_series(1, 1100) AS g (n);
SELECT is(pg_temp.claimed(1100), 1100::bigint, 'each of many partitions starts one');
INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name, queue_partition_key)
SELECT g.n || '-2', 'greet', 'q', to_char(g.n, 'FM0000') FROM generate_series(1, 1100) AS g (n);
UPDATE lockstep.queue AS q SET partition_cursor = NULL WHERE q.queue_name = 'q';
DELETE FROM lockstep.queue_start AS s WHERE s.partition_key = '1010';
SET LOCAL track_functions = 'all';
SELECT is(pg_temp.again_in(), 0.05::double precision, 'a claim passes a thousand partitions in vain, and no more');
SELECT is(
    (
        SELECT f.calls
        FROM pg_stat_xact_user_functions AS f
        WHERE f.funcid = 'lockstep._rate_room(text,boolean,text,int,interval,timestamptz)'::regprocedure
    ),
    1010::bigint, 'with one look at the rate of each'
);
SET LOCAL track_functions = 'none';
SELECT is(pg_temp.claimed(1), 1::bigint, 'the next claim begins with the one that it did not look at');

SELECT lockstep.drop_queue('q', force => true);
SELECT is((SELECT count(*) FROM lockstep.queue_start), 0::bigint, 'a dropped queue leaves no starts behind');

SELECT * FROM finish();
ROLLBACK;
