-- What may have killed its workers runs alone, so that its next death is its own.
BEGIN;
SELECT no_plan();

\ir claims.psql

CREATE FUNCTION pg_temp.hire(p_executor_id text, p_queues text[] DEFAULT '{q}')
RETURNS void
LANGUAGE sql
AS $$
    INSERT INTO lockstep.executor (executor_id, queues, workflow_names, lease_duration, expires_at)
    VALUES (p_executor_id, p_queues, '{greet}', '30 s', clock_timestamp() + '1 hour')
$$;

-- A workflow that waits, under which workers died, in the order of the calls.
CREATE FUNCTION pg_temp.put_back(
    p_workflow_id text, p_deaths int, p_max_attempts int DEFAULT 50, p_queue_name text DEFAULT 'q'
)
RETURNS void
LANGUAGE sql
AS $$
    INSERT INTO lockstep.workflow_status (
        workflow_id, workflow_name, queue_name, attempts, max_attempts, started_at
    )
    VALUES (p_workflow_id, 'greet', p_queue_name, p_deaths, p_max_attempts, now())
$$;

CREATE FUNCTION pg_temp.finish(p_executor_id text, p_workflow_id text)
RETURNS void
LANGUAGE sql
AS $$
    SELECT lockstep.finish_workflows(p_executor_id, jsonb_build_array(jsonb_build_object(
        'workflow_id', p_workflow_id, 'output', 1, 'attempt', (
            SELECT w.attempts FROM lockstep.workflow_status AS w WHERE w.workflow_id = p_workflow_id
        )
    )))
$$;

CREATE FUNCTION pg_temp.die(p_executor_id text)
RETURNS void
LANGUAGE sql
AS $$
    UPDATE lockstep.executor SET expires_at = clock_timestamp() - interval '1 s' WHERE executor_id = p_executor_id;
    SELECT lockstep.recover_workflows();
$$;

SELECT results_eq(
    $$
    SELECT d.deaths, m.max_attempts
    FROM generate_series(0, 4) AS d (deaths)
    CROSS JOIN generate_series(1, 5) AS m (max_attempts)
    WHERE d.deaths < m.max_attempts
        AND lockstep._is_suspect(d.deaths, m.max_attempts)
    ORDER BY d.deaths, m.max_attempts
    $$,
    'VALUES (1, 2), (2, 3), (3, 4), (3, 5), (4, 5)',
    'a workflow is suspected from the third death on, and before its last attempt'
);

-- alone

SELECT pg_temp.hire('a');
SELECT pg_temp.put_back('suspect 1', 3);
SELECT pg_temp.put_back('suspect 2', 4);
SELECT pg_temp.put_back('innocent 1', 0);
SELECT pg_temp.put_back('innocent 2', 2);
SELECT results_eq(
    $$SELECT * FROM pg_temp.claimed('a')$$, $$VALUES ('suspect 1')$$, 'an executor that holds nothing takes one suspect'
);
SELECT is_empty($$SELECT * FROM pg_temp.claimed('a')$$, 'an executor that runs a suspect claims nothing else');
SELECT cmp_ok(
    (lockstep.advance_workflows('a', claim_count => 1) ->> 'claim_again_in')::float, '>', 29::float,
    'a claim that waits for a suspect tells how long'
);
SELECT pg_temp.finish('a', 'suspect 1');
SELECT results_eq(
    $$SELECT * FROM pg_temp.claimed('a')$$, $$VALUES ('suspect 2')$$, 'when a suspect has ended the next may run'
);
SELECT pg_temp.finish('a', 'suspect 2');
SELECT results_eq(
    $$SELECT * FROM pg_temp.claimed('a')$$, $$VALUES ('innocent 1'), ('innocent 2')$$,
    'after the suspects the others run, beside each other'
);
SELECT results_eq(
    $$SELECT e.suspect_id, e.alone_until FROM lockstep.executor AS e$$, 'VALUES (NULL::text, NULL::timestamptz)',
    'an executor forgets a suspect that has ended'
);

SELECT pg_temp.put_back('suspect 3', 3);
SELECT pg_temp.put_back('innocent 3', 0);
SELECT results_eq(
    $$SELECT * FROM pg_temp.claimed('a')$$, $$VALUES ('innocent 3')$$,
    'an executor that holds something passes over a suspect'
);
SELECT pg_temp.hire('b');
SELECT results_eq(
    $$SELECT * FROM pg_temp.claimed('b')$$, $$VALUES ('suspect 3')$$, 'a suspect runs in an executor that has just begun'
);

-- for how long

SELECT pg_temp.put_back('innocent 4', 0);
UPDATE lockstep.executor SET alone_until = clock_timestamp() WHERE executor_id = 'b';
SELECT results_eq(
    $$SELECT * FROM pg_temp.claimed('b')$$, $$VALUES ('innocent 4')$$,
    'a suspect that did no harm for the time of a lease gets company'
);

SELECT pg_temp.hire('c');
SELECT pg_temp.put_back('last attempt', 3, 4);
SELECT results_eq(
    $$SELECT * FROM pg_temp.claimed('c')$$, $$VALUES ('last attempt')$$, 'a last attempt is one of a suspect'
);
SELECT is(
    (SELECT e.alone_until FROM lockstep.executor AS e WHERE e.executor_id = 'c'), 'infinity',
    'in its last attempt a workflow stays alone to the end'
);
SELECT is(
    lockstep.advance_workflows('c', claim_count => 1) ->> 'claim_again_in', NULL,
    'then there is no time to look again at'
);
SELECT pg_temp.put_back('bystander', 0);
SELECT is_empty($$SELECT * FROM pg_temp.claimed('c')$$, 'nothing is claimed beside a last attempt');
SELECT pg_temp.die('c');
SELECT results_eq(
    $$
    SELECT w.workflow_id, w.status, w.attempts
    FROM lockstep.workflow_status AS w
    WHERE w.workflow_id IN ('last attempt', 'bystander')
    ORDER BY w.workflow_id
    $$,
    $$VALUES ('bystander', 'ENQUEUED', 0), ('last attempt', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED', 4)$$,
    'whoever dies in its last attempt has died alone'
);

-- turns, where no executor is without work

DELETE FROM lockstep.executor;
DELETE FROM lockstep.workflow_status;
SELECT pg_temp.hire(x.executor_id) FROM unnest('{a,b,c,d,e,f,g,h}'::text[]) AS x (executor_id);
INSERT INTO lockstep.workflow_status (
    workflow_id, workflow_name, queue_name, status, executor_id, attempts, started_at
)
SELECT 'runs in ' || e.executor_id, 'greet', 'q', 'PENDING', e.executor_id, 1, now() FROM lockstep.executor AS e;
SELECT pg_temp.put_back('suspect', 3);

CREATE FUNCTION pg_temp.waiting_turns(p_waited interval)
RETURNS text[]
LANGUAGE sql
AS $$
    SELECT array_agg(e.executor_id ORDER BY e.executor_id)
    FROM lockstep.executor AS e
    CROSS JOIN lockstep.workflow_status AS w
    CROSS JOIN LATERAL lockstep._turn_of_suspects(e, w.available_at + p_waited) AS t
    WHERE w.workflow_id = 'suspect'
        AND t.turn = 'wait'
$$;
SELECT is(pg_temp.waiting_turns('29 s'), NULL, 'for the time of a lease nobody runs dry for a suspect');
SELECT cmp_ok(
    cardinality(pg_temp.waiting_turns('45 s')), '<', 8, 'then some executors run dry'
);
SELECT set_eq(
    $$SELECT unnest(pg_temp.waiting_turns('45 s')) UNION ALL SELECT unnest(pg_temp.waiting_turns('100 s'))$$,
    'SELECT e.executor_id FROM lockstep.executor AS e', 'and the others in the next turn'
);
SELECT is(
    pg_temp.waiting_turns('130 s'), pg_temp.waiting_turns('59 s'), 'turns alternate'
);
SELECT is(
    pg_temp.waiting_turns('1 day'), pg_temp.waiting_turns('18 hours'), 'turns grow with the time that a suspect waits'
);

SELECT pg_temp.put_back('innocent', 0);
UPDATE lockstep.workflow_status SET available_at = available_at - interval '45 s' WHERE workflow_id = 'suspect';
SELECT is_empty(
    format('SELECT * FROM pg_temp.claimed(%L)', (pg_temp.waiting_turns('45 s'))[1]),
    'an executor that runs dry claims nothing'
);
INSERT INTO lockstep.queue (queue_name, is_paused) VALUES ('q', true);
SELECT is(pg_temp.waiting_turns('45 s'), NULL, 'nobody runs dry for a suspect in a paused queue');
DELETE FROM lockstep.queue;
UPDATE lockstep.workflow_status SET workflow_name = 'unknown' WHERE workflow_id = 'suspect';
SELECT is(pg_temp.waiting_turns('45 s'), NULL, 'nor for one that no executor knows');

-- limits of queues

DELETE FROM lockstep.executor;
DELETE FROM lockstep.workflow_status;
INSERT INTO lockstep.queue (queue_name, concurrency) VALUES ('limited', 1);
INSERT INTO lockstep.queue (queue_name, partition_concurrency) VALUES ('parts', 1);
SELECT pg_temp.hire('a', '{limited,q}');
SELECT pg_temp.hire('b', '{limited,q}');
SELECT pg_temp.hire('p', '{parts}');
SELECT pg_temp.put_back('limited 1', 0, p_queue_name => 'limited');
SELECT is(pg_temp.claimed('a'), 'limited 1', 'a limited queue is full');
SELECT pg_temp.put_back('limited suspect', 3, p_queue_name => 'limited');
SELECT pg_temp.put_back('free', 0);
SELECT results_eq(
    $$SELECT * FROM pg_temp.claimed('b')$$, $$VALUES ('free')$$,
    'a suspect that its queue keeps back does not keep back others'
);
SELECT pg_temp.finish('a', 'limited 1');
SELECT is(pg_temp.claimed('a'), 'limited suspect', 'a suspect of a limited queue runs when it has room');

SELECT pg_temp.put_back('keyed suspect', 3, p_queue_name => 'parts');
SELECT pg_temp.put_back('keyless suspect', 3, p_queue_name => 'parts');
SELECT pg_temp.put_back('keyed', 0, p_queue_name => 'parts');
SELECT pg_temp.put_back('keyless', 0, p_queue_name => 'parts');
UPDATE lockstep.workflow_status SET queue_partition_key = 'k' WHERE workflow_id IN ('keyed', 'keyed suspect');
CREATE TEMPORARY TABLE run (place serial, workflow_ids text[]);
DO $$
DECLARE
    v_claimed text[];
BEGIN
    FOR i IN 1 .. 3 LOOP
        v_claimed := ARRAY(SELECT c.id FROM pg_temp.claimed('p') AS c (id) ORDER BY c.id COLLATE "C");
        INSERT INTO run (workflow_ids) VALUES (v_claimed);
        PERFORM pg_temp.finish('p', c.id) FROM unnest(v_claimed) AS c (id);
    END LOOP;
END
$$;
SELECT bag_eq(
    'SELECT r.workflow_ids FROM run AS r',
    $$VALUES ('{keyed suspect}'::text[]), ('{keyless suspect}'), ('{keyed,keyless}')$$,
    'in a queue with partitions suspects run alone as well'
);

SELECT * FROM finish();
ROLLBACK;
