-- Queues that applications declare: created once, never changed behind somebody's back.
BEGIN;
SELECT no_plan();

\ir failure_of.psql

CREATE FUNCTION pg_temp.limits_of(p_queue_name text)
RETURNS jsonb
LANGUAGE sql
AS $$
    SELECT jsonb_strip_nulls(to_jsonb(q)) - '{queue_name,created_at,is_paused}'::text[]
    FROM lockstep.queue AS q
    WHERE q.queue_name = p_queue_name;
$$;

SELECT is(
    (pg_temp.failure_of(format('SELECT lockstep.declare_queue(%s)', c.arguments))).code, '22023',
    format('declare_queue(%s) is refused', c.arguments)
)
FROM (VALUES ('NULL'), ($$' '$$), ($$'q', 0$$), ($$'q', rate_limit => 1$$)) AS c (arguments);
SELECT is_empty('SELECT q.queue_name FROM lockstep.queue AS q', 'a refused declaration leaves no row');

SELECT is_empty(
    $$
    SELECT *
    FROM lockstep.declare_queue(
        'mail', concurrency => 1, worker_concurrency => 2, rate_limit => 3, rate_period => '1 day',
        partition_concurrency => 4, partition_rate_limit => 5, partition_rate_period => '1 min'
    )
    $$,
    'a queue that is new differs in nothing'
);
SELECT is(
    pg_temp.limits_of('mail'),
    '{
        "concurrency": 1, "worker_concurrency": 2, "rate_limit": 3, "rate_period": "1 day",
        "partition_concurrency": 4, "partition_rate_limit": 5, "partition_rate_period": "00:01:00"
    }',
    'a queue that is new has all limits that are declared'
);
SELECT is_empty(
    $$
    SELECT *
    FROM lockstep.declare_queue('mail', 1, 2, 3, '24 hours', 4, 5, '60 s')
    $$,
    'the same declaration in other units differs in nothing'
);

SELECT ctid AS ctid FROM lockstep.queue \gset
SELECT results_eq(
    $$
    SELECT d.limit_name, d.declared, d.actual
    FROM lockstep.declare_queue(
        'mail', 10, worker_concurrency => 2, partition_concurrency => 40, partition_rate_limit => 5,
        partition_rate_period => '2 min', rate_limit => 3, rate_period => '24 hours'
    ) AS d
    $$,
    $$
    VALUES
        ('concurrency', '10', '1'), ('partition_concurrency', '40', '4'),
        ('partition_rate_period', '00:02:00', '00:01:00')
    $$,
    'another declaration tells in what it differs'
);
SELECT results_eq(
    $$SELECT d.limit_name FROM lockstep.declare_queue('mail') AS d ORDER BY d.limit_name$$,
    $$
    VALUES
        ('concurrency'), ('partition_concurrency'), ('partition_rate_limit'), ('partition_rate_period'),
        ('rate_limit'), ('rate_period'), ('worker_concurrency')
    $$,
    'a declaration without limits differs in each'
);
SELECT is(pg_temp.limits_of('mail') -> 'concurrency', '1', 'and changes none of them');
SELECT is((SELECT q.ctid::text FROM lockstep.queue AS q), :'ctid', 'nor writes the row');

SELECT lockstep.pause_queue('mail');
SELECT is_empty(
    $$SELECT * FROM lockstep.declare_queue('mail', 7, overwrite => true)$$, 'an overwrite leaves no difference'
);
SELECT is(pg_temp.limits_of('mail'), '{"concurrency": 7}', 'an overwrite makes the declaration hold');
SELECT ok((SELECT q.is_paused FROM lockstep.queue AS q), 'a paused queue stays paused');

SELECT * FROM finish();
ROLLBACK;
