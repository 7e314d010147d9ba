-- Debounce: calls for one deduplication id become one workflow, which starts when they pause.
BEGIN;
SELECT no_plan();

\ir failure_of.psql

-- Enqueues a debounced workflow of queue q; p_arguments overrides and adds.
CREATE FUNCTION pg_temp.call(p_inputs jsonb, p_arguments text DEFAULT NULL)
RETURNS text
LANGUAGE plpgsql
AS $$
DECLARE
    v_workflow_id text;
BEGIN
    EXECUTE format(
        'SELECT lockstep.enqueue_workflow(%s)',
        concat_ws(
            ', ', $q$'greet'$q$, $q$'q'$q$, format('named_args => %L', p_inputs),
            CASE WHEN coalesce(p_arguments, '') NOT LIKE '%deduplication_id =>%' THEN $q$deduplication_id => 'd'$q$ END,
            CASE WHEN coalesce(p_arguments, '') NOT LIKE '%debounce =>%' THEN $q$debounce => '10 s'$q$ END,
            p_arguments
        )
    )
    INTO v_workflow_id;
    RETURN v_workflow_id;
END
$$;

-- Lets a workflow have been enqueued earlier, and fall due as much earlier.
CREATE FUNCTION pg_temp.age(p_workflow_id text, p_age interval)
RETURNS void
LANGUAGE sql
AS $$
    UPDATE lockstep.workflow_status AS w
    SET created_at = w.created_at - p_age, available_at = w.available_at - p_age
    WHERE w.workflow_id = p_workflow_id;
$$;

-- Seconds from now until a workflow may start.
CREATE FUNCTION pg_temp.starts_in(p_workflow_id text)
RETURNS int
LANGUAGE sql
AS $$
    SELECT round(extract(EPOCH FROM w.available_at - clock_timestamp()))
    FROM lockstep.workflow_status AS w
    WHERE w.workflow_id = p_workflow_id;
$$;

CREATE FUNCTION pg_temp.inputs_of(p_workflow_id text)
RETURNS jsonb
LANGUAGE sql
AS $$
    SELECT w.inputs -> 'namedArgs'
    FROM lockstep.workflow_status AS w
    WHERE w.workflow_id = p_workflow_id;
$$;

-- the first call and the following

SELECT pg_temp.call('{"n": 1}') AS first_id \gset
SELECT results_eq(
    $$SELECT w.status, w.available_at - w.created_at FROM lockstep.workflow_status AS w$$,
    $$VALUES ('DELAYED', interval '10 s')$$,
    'the first call delays the workflow'
);
SELECT pg_temp.age(:'first_id', '9 s');
SELECT is(pg_temp.call('{"n": 2}'), :'first_id', 'a later call returns the id of the workflow that waits');
SELECT is(pg_temp.starts_in(:'first_id'), 10, 'a later call moves the start to its own moment plus debounce');
SELECT is(pg_temp.inputs_of(:'first_id'), '{"n": 2}', 'a later call replaces the inputs');
SELECT is(
    (SELECT count(*) FROM lockstep.workflow_status), 1::bigint, 'calls for one deduplication id are one workflow'
);
SELECT isnt(
    pg_temp.call('{}', $$deduplication_id => 'other'$$), :'first_id', 'another deduplication id is another workflow'
);
SELECT isnt(
    lockstep.enqueue_workflow('greet', 'other', deduplication_id => 'd', debounce => '10 s'), :'first_id',
    'the same deduplication id in another queue is another workflow'
);
SELECT is(pg_temp.call('{}', $$debounce => '1 s'$$), :'first_id', 'a later call may ask for another pause');
SELECT is(pg_temp.starts_in(:'first_id'), 1, 'a shorter pause moves the start to an earlier moment');
SELECT throws_ok(
    $$SELECT lockstep.enqueue_workflow('greet', 'q', deduplication_id => 'd')$$, '23505', NULL,
    'a call without debounce is refused as for any unfinished workflow'
);

-- what the newest call replaces

SELECT pg_temp.call(
    '{"n": 1}',
    $$deduplication_id => 'all', workflow_id => 'all', priority => 1, queue_partition_key => 'k', timeout => '1 h',
    max_attempts => 7, app_version => 'v', headers => '{"h": 1}', retries => '{"max_attempts": 3}'$$
);
SELECT to_jsonb(w) AS before FROM lockstep.workflow_status AS w WHERE w.workflow_id = 'all' \gset
SELECT pg_temp.call(
    '{"n": 2}',
    $$deduplication_id => 'all', priority => 2, queue_partition_key => 'l', deadline => '2100-01-01 00:00+00',
    max_attempts => 8, app_version => 'w', headers => '{"h": 2}', debounce => '1 h'$$
);
SELECT results_eq(
    $$
    SELECT c.key
    FROM lockstep.workflow_status AS w
    CROSS JOIN jsonb_each(to_jsonb(w)) AS c
    WHERE w.workflow_id = 'all'
        AND c.value <> $$ || quote_literal(:'before') || $$::jsonb -> c.key
    ORDER BY c.key COLLATE "C"
    $$,
    $$
    VALUES
        ('app_version'), ('available_at'), ('deadline_at'), ('headers'), ('inputs'), ('max_attempts'),
        ('priority'), ('queue_partition_key'), ('retries'), ('timeout')
    $$,
    'the newest call replaces all that it says, and what it leaves out'
);
SELECT is(
    (
        SELECT jsonb_build_array(
            w.inputs -> 'namedArgs' -> 'n', w.priority, w.queue_partition_key, w.app_version, w.headers -> 'h',
            w.max_attempts, w.retries, w.timeout
        )
        FROM lockstep.workflow_status AS w
        WHERE w.workflow_id = 'all'
    ),
    '[2, 2, "l", "w", 2, 8, null, null]',
    'the values are those of the newest call'
);
CREATE ROLE "lockstep test Client";
SELECT lockstep.grant_usage('lockstep test Client', 'client');
SET LOCAL ROLE "lockstep test Client";
SELECT lockstep.enqueue_workflow('greet', 'q', deduplication_id => 'all', debounce => '1 h');
RESET ROLE;
SELECT is(
    (SELECT w.enqueued_by FROM lockstep.workflow_status AS w WHERE w.workflow_id = 'all'), 'lockstep test Client',
    'enqueued_by is the role of the newest call'
);

-- the longest delay

SELECT pg_temp.call('{"n": 1}', $$deduplication_id => 'max', debounce_max_delay => '30 s'$$) AS max_id \gset
SELECT is(pg_temp.starts_in(:'max_id'), 10, 'a longest delay that is further away changes nothing');
SELECT pg_temp.age(:'max_id', '25 s');
SELECT pg_temp.call('{"n": 2}', $$deduplication_id => 'max', debounce_max_delay => '30 s'$$);
SELECT is(
    pg_temp.starts_in(:'max_id'), 5, 'a start is not moved beyond debounce_max_delay after the first call'
);
SELECT pg_temp.age(:'max_id', '25 s');
SELECT pg_temp.call('{"n": 3}', $$deduplication_id => 'max', debounce_max_delay => '30 s'$$);
SELECT results_eq(
    format(
        $$
        SELECT w.status, w.available_at - w.created_at, w.inputs -> 'namedArgs'
        FROM lockstep.workflow_status AS w
        WHERE w.workflow_id = %L
        $$,
        :'max_id'
    ),
    $$VALUES ('ENQUEUED', interval '30 s', '{"n": 3}'::jsonb)$$,
    'when that time is over, a call makes the workflow claimable, with its inputs'
);
SELECT is(
    pg_temp.starts_in(
        pg_temp.call('{}', $$deduplication_id => 'short', debounce => '1 h', debounce_max_delay => '5 s'$$)
    ),
    5,
    'the first call heeds debounce_max_delay too'
);

-- what is claimable has not started

UPDATE lockstep.workflow_status AS w
SET status = 'ENQUEUED', available_at = clock_timestamp()
WHERE w.workflow_id = :'first_id';
SELECT is(pg_temp.call('{"n": 4}'), :'first_id', 'a workflow that is claimable takes the newest call');
SELECT is(
    (SELECT w.status FROM lockstep.workflow_status AS w WHERE w.workflow_id = :'first_id'), 'DELAYED',
    'and is delayed again'
);
SELECT lockstep.enqueue_workflow('greet', 'q', deduplication_id => 'plain') AS plain_id \gset
SELECT is(
    pg_temp.call('{"n": 5}', $$deduplication_id => 'plain'$$), :'plain_id',
    'so does one that was enqueued without debounce'
);

-- a workflow that has started

SELECT lockstep.register_executor('{started}', '{greet}') AS executor_id \gset
SELECT lockstep.enqueue_workflow(
    'greet', 'started', '[]', '{"n": 1}', workflow_id => 'running', deduplication_id => 'd'
);
SELECT workflow_id FROM lockstep.claim_workflows(:'executor_id', 1);
SELECT lockstep.enqueue_workflow(
    'greet', 'started', '[]', '{"n": 2}', deduplication_id => 'd', debounce => '10 s', workflow_id => 'next'
);
SELECT results_eq(
    $$
    SELECT w.workflow_id, w.status, w.deduplication_id, w.inputs -> 'namedArgs'
    FROM lockstep.workflow_status AS w
    WHERE w.queue_name = 'started'
    ORDER BY w.workflow_id
    $$,
    $$VALUES ('next', 'DELAYED', 'd', '{"n": 2}'::jsonb), ('running', 'PENDING', NULL, '{"n": 1}')$$,
    'a new workflow takes the deduplication id over from one that runs'
);
SELECT is(
    lockstep.enqueue_workflow('greet', 'started', '[]', '{"n": 3}', deduplication_id => 'd', debounce => '10 s'),
    'next', 'the next call finds the new one'
);
SELECT is(
    (
        SELECT count(*)
        FROM lockstep.finish_workflows(
            :'executor_id', '[{"workflow_id": "running", "attempt": 1, "output": "done"}]'
        )
    ),
    0::bigint,
    'the workflow that gave its deduplication id up is not lost by its executor'
);
SELECT is(
    (SELECT w.status FROM lockstep.workflow_status AS w WHERE w.workflow_id = 'running'), 'SUCCESS', 'and can finish'
);

UPDATE lockstep.workflow_status AS w
SET status = 'WAITING', waiting_for = '{message:}', started_at = clock_timestamp(), available_at = NULL
WHERE w.workflow_id = 'next';
SELECT isnt(
    lockstep.enqueue_workflow('greet', 'started', deduplication_id => 'd', debounce => '10 s'), 'next',
    'a workflow that started and waits for a message takes no new inputs either'
);
SELECT lockstep.enqueue_workflow('greet', 'q', workflow_id => 'ended', deduplication_id => 'e');
SELECT lockstep.cancel_workflow('ended');
SELECT isnt(
    pg_temp.call('{}', $$deduplication_id => 'e'$$), 'ended', 'a workflow that has ended is not in the way'
);

-- other workflows in the way

SELECT is(
    pg_temp.failure_of(
        $$SELECT lockstep.enqueue_workflow('part', 'q', deduplication_id => 'all', debounce => '1 s')$$
    )::text,
    (
        '23505', 'queue "q" has an unfinished workflow with deduplication_id "all"',
        'It is workflow "all", DELAYED, and runs "greet".', 'Use another deduplication_id for another workflow_name.'
    )::text,
    'another workflow_name under the same deduplication_id is refused'
);
SELECT throws_ok(
    $$
    SELECT lockstep.enqueue_workflow(
        'part', 'q', deduplication_id => 'all', debounce => '1 s', on_duplicate => 'return'
    )
    $$,
    '23505', NULL, 'also if duplicates without debounce would be returned'
);
SELECT is(
    pg_temp.call('{"n": 6}', $$deduplication_id => 'all', workflow_id => 'all'$$), 'all',
    'a workflow_id that the waiting workflow has is no obstacle'
);
SELECT is(
    pg_temp.call('{"n": 7}', $$deduplication_id => 'all', workflow_id => 'unused'$$), 'all',
    'a workflow_id is not used for a workflow that waits already'
);
SELECT is(
    pg_temp.failure_of(
        $$
        SELECT lockstep.enqueue_workflow('greet', 'q', workflow_id => 'ended', deduplication_id => 'f', debounce => '1 s')
        $$
    )::text,
    (
        '23505', 'workflow "ended" exists already', 'It runs "greet" in queue "q".',
        'Leave workflow_id out: with debounce, calls are told apart by deduplication_id.'
    )::text,
    'a workflow_id that another workflow has is refused, because the inputs would be lost'
);

-- when the workflow was restarted

SELECT lockstep.restart_workflow('running');
UPDATE lockstep.workflow_status AS w
SET deduplication_id = 'r', attempts = 5
WHERE w.workflow_id = 'running';
SELECT lockstep.enqueue_workflow('greet', 'started', deduplication_id => 'r', debounce => '1 s', max_attempts => 2);
SELECT is(
    (SELECT w.max_attempts FROM lockstep.workflow_status AS w WHERE w.workflow_id = 'running'), 7,
    'a restarted workflow keeps what it used of its attempts'
);

-- many at once

SELECT lockstep.enqueue_workflow(
    'greet', 'many', '[]', '{"n": 0}', workflow_id => 'waits', deduplication_id => 'a', debounce => '10 s'
);
SELECT lockstep.enqueue_workflow('greet', 'many', workflow_id => 'runs', deduplication_id => 'b');
UPDATE lockstep.workflow_status AS w
SET started_at = clock_timestamp()
WHERE w.workflow_id = 'runs';
CREATE TEMPORARY TABLE returned AS
SELECT e.id, e.place
FROM lockstep.enqueue_workflows(
    'greet', 'many', ARRAY['{"n": 1}', '{"n": 2}', '{"n": 3}', '{"n": 4}', '{"n": 5}']::jsonb[],
    workflow_ids => ARRAY[NULL, 'new c', NULL, 'new b', NULL], deduplication_ids => '{a,c,c,b,a}',
    queue_partition_keys => ARRAY['k', NULL, 'l', NULL, NULL], debounce => '20 s', debounce_max_delay => '1 h'
) WITH ORDINALITY AS e (id, place);
SELECT results_eq(
    'SELECT r.id FROM returned AS r ORDER BY r.place',
    $$VALUES ('waits'), ('new c'), ('new c'), ('new b'), ('waits')$$,
    'many calls return the ids in the order of the arrays, a repeated one twice'
);
SELECT results_eq(
    $$
    SELECT
        w.workflow_id, w.deduplication_id, (w.inputs -> 'namedArgs' -> 'n')::int, w.queue_partition_key,
        round(extract(EPOCH FROM w.available_at - clock_timestamp()))::int
    FROM lockstep.workflow_status AS w
    WHERE w.queue_name = 'many'
        AND w.status = 'DELAYED'
    ORDER BY w.workflow_id
    $$,
    $$VALUES ('new b', 'b', 4, NULL, 20), ('new c', 'c', 3, 'l', 20), ('waits', 'a', 5, NULL, 20)$$,
    'of elements with one deduplication id the last one is the newest'
);
SELECT results_eq(
    $$SELECT w.status, w.deduplication_id FROM lockstep.workflow_status AS w WHERE w.workflow_id = 'runs'$$,
    $$VALUES ('ENQUEUED', NULL::text)$$,
    'one of many takes its deduplication id over from a workflow that has started'
);
SELECT is_empty(
    $$
    SELECT e
    FROM lockstep.enqueue_workflows(
        'greet', 'many', '{}', deduplication_ids => '{}', debounce => '1 s'
    ) AS e
    $$,
    'none at once is none'
);
SELECT is(
    (
        SELECT count(DISTINCT e)
        FROM lockstep.enqueue_workflows(
            'greet', 'thousand', array_fill(NULL::jsonb, ARRAY[1000]),
            deduplication_ids => ARRAY(SELECT g::text FROM generate_series(1, 1000) AS g), debounce => '1 s'
        ) AS e
    ),
    1000::bigint,
    'a thousand deduplication ids are a thousand workflows'
);

SELECT * FROM finish();
ROLLBACK;
