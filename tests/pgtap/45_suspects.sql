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

-- many suspects, and a backlog

CREATE FUNCTION pg_temp.start_anew(p_executor_ids text[], p_queues text[] DEFAULT '{q}')
RETURNS void
LANGUAGE sql
AS $$
    DELETE FROM lockstep.executor;
    DELETE FROM lockstep.workflow_status;
    DELETE FROM lockstep.queue;
    DELETE FROM lockstep.queue_start;
    SELECT pg_temp.hire(x.executor_id, p_queues) FROM unnest(p_executor_ids) AS x (executor_id);
$$;

SELECT pg_temp.start_anew('{a,b,c,d,e,f,g,h}');
SELECT pg_temp.put_back('innocent ' || n, 0) FROM generate_series(1, 8) AS n;
SELECT pg_temp.put_back('suspect ' || n, 3) FROM generate_series(1, 8) AS n;
UPDATE lockstep.workflow_status AS w
SET available_at = w.available_at - interval '45 s'
WHERE w.workflow_id LIKE 'suspect %';
CREATE TEMPORARY TABLE claim AS
SELECT e.executor_id, c.id AS workflow_id
FROM lockstep.executor AS e
CROSS JOIN LATERAL pg_temp.claimed(e.executor_id, 1) AS c (id);
SELECT results_eq(
    $$
    SELECT count(*) FILTER (WHERE c.workflow_id LIKE 'suspect %') BETWEEN 1 AND 7, count(*)
    FROM claim AS c
    $$,
    'VALUES (true, 8::bigint)',
    'of many executors without work not all take a suspect, once suspects have waited for a lease'
);
SELECT is(
    (
        SELECT array_agg(c.executor_id ORDER BY c.executor_id)
        FROM claim AS c
        WHERE c.workflow_id LIKE 'suspect %'
    ),
    (
        SELECT array_agg(e.executor_id ORDER BY e.executor_id)
        FROM lockstep.executor AS e
        WHERE abs(hashtext(e.executor_id) % 2) = 0
    ),
    'those do that would run dry for one'
);
SELECT pg_temp.finish(c.executor_id, c.workflow_id) FROM claim AS c;
SELECT lives_ok(
    $$
    SELECT pg_temp.finish(c.executor_id, w.id)
    FROM claim AS c
    CROSS JOIN LATERAL pg_temp.claimed(c.executor_id, 8) AS w (id)
    WHERE c.workflow_id LIKE 'innocent %'
    $$,
    'the others take what is not suspected'
);
SELECT ok(
    (
        SELECT pg_temp.claimed(c.executor_id) LIKE 'suspect %'
        FROM claim AS c
        WHERE c.workflow_id LIKE 'innocent %'
        LIMIT 1
    ),
    'and a suspect when nothing else waits'
);

SELECT pg_temp.start_anew('{a,b,p}');
UPDATE lockstep.executor SET queues = '{parts}' WHERE executor_id = 'p';
INSERT INTO lockstep.queue (queue_name, partition_concurrency) VALUES ('parts', 1);
INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name, queue_partition_key)
SELECT format('%s %s', q.queue_name, n), 'greet', q.queue_name, CASE WHEN n % 2 = 0 THEN 'k' END
FROM generate_series(1, 2400) AS n
CROSS JOIN unnest('{q,parts}'::text[]) AS q (queue_name);
SELECT pg_temp.put_back('late', 3);
SELECT pg_temp.put_back('keyless', 3, p_queue_name => 'parts');
SELECT pg_temp.put_back('keyed', 4, p_queue_name => 'parts');
UPDATE lockstep.workflow_status SET queue_partition_key = 'k' WHERE workflow_id = 'keyed';
UPDATE lockstep.workflow_status SET available_at = available_at + interval '1 s' WHERE attempts > 0;

CREATE FUNCTION pg_temp.rows_read()
RETURNS bigint
LANGUAGE sql
AS $$
    SELECT sum(t.seq_tup_read + coalesce(t.idx_tup_fetch, 0))::bigint
    FROM pg_stat_xact_user_tables AS t
    WHERE t.schemaname = 'lockstep'
$$;
CREATE TEMPORARY TABLE reads AS SELECT pg_temp.rows_read() AS row_count;
SELECT results_eq(
    $$SELECT * FROM pg_temp.claimed('a')$$, $$VALUES ('late')$$, 'a suspect is found behind a backlog'
);
SELECT cmp_ok(
    pg_temp.rows_read() - (SELECT r.row_count FROM reads AS r), '<', 100::bigint, 'without reading it'
);
SELECT results_eq(
    $$SELECT * FROM pg_temp.claimed('p')$$, $$VALUES ('keyless')$$,
    'so is one without a key, behind thousands of a queue with partitions'
);
SELECT pg_temp.finish('p', 'keyless');
UPDATE lockstep.workflow_status SET status = 'PENDING', executor_id = 'b', attempts = 1, started_at = now()
WHERE workflow_id = 'parts 2';
SELECT results_eq(
    $$SELECT c.id LIKE 'parts %', c.id = 'keyed' FROM pg_temp.claimed('p', 1) AS c (id)$$, 'VALUES (true, false)',
    'a suspect of a partition that is full waits'
);
UPDATE lockstep.workflow_status SET status = 'SUCCESS', completed_at = now() WHERE status = 'PENDING';
SELECT results_eq($$SELECT * FROM pg_temp.claimed('p')$$, $$VALUES ('keyed')$$, 'until it has room');
SELECT pg_temp.finish('p', 'keyed');

SELECT pg_temp.start_anew('{a}');
SELECT pg_temp.put_back('suspect', 3);
SELECT results_eq(
    $$SELECT c.workflow_id, c.priority, c.available_at FROM lockstep.claim_workflows('a', 1, '[]') AS c$$,
    $$VALUES ('suspect', NULL::int, NULL::timestamptz)$$,
    'the place of a suspect is no mark, behind which others may wait'
);

-- rate limits

SELECT pg_temp.start_anew('{a,b,c,d,e,f,g,h}');
INSERT INTO lockstep.workflow_status (
    workflow_id, workflow_name, queue_name, status, executor_id, attempts, started_at
)
SELECT 'runs in ' || e.executor_id, 'greet', 'q', 'PENDING', e.executor_id, 1, now() FROM lockstep.executor AS e;
SELECT pg_temp.put_back('suspect', 3);
INSERT INTO lockstep.queue (queue_name, rate_limit, rate_period) VALUES ('q', 1, '1 hour');
SELECT isnt(pg_temp.waiting_turns('45 s'), NULL, 'executors run dry for a suspect that a rate limit lets start');
INSERT INTO lockstep.queue_start (queue_name, is_partition, partition_key, started_at, count_before, count_after)
VALUES ('q', false, '', clock_timestamp() - interval '50 min', 0, 1);
SELECT is(pg_temp.waiting_turns('45 s'), NULL, 'not for one that it keeps back for longer than a lease');
UPDATE lockstep.queue_start SET started_at = clock_timestamp() - interval '59 min 5 s';
SELECT isnt(pg_temp.waiting_turns('45 s'), NULL, 'but for one that it lets start soon');
UPDATE lockstep.queue
SET rate_limit = NULL, rate_period = NULL, partition_rate_limit = 1, partition_rate_period = '1 hour';
UPDATE lockstep.queue_start
SET is_partition = true, partition_key = 'k', started_at = clock_timestamp() - interval '50 min';
UPDATE lockstep.workflow_status SET queue_partition_key = 'k' WHERE workflow_id = 'suspect';
SELECT is(pg_temp.waiting_turns('45 s'), NULL, 'nor for one that the limit of its partition keeps back');
UPDATE lockstep.queue_start SET partition_key = 'l';
SELECT isnt(pg_temp.waiting_turns('45 s'), NULL, 'that of another does not count');

-- acquittal

SELECT pg_temp.start_anew('{a}');
SELECT pg_temp.put_back('sleeper', 3);
SELECT is(pg_temp.claimed('a'), 'sleeper', 'a suspect begins alone');
SELECT lockstep.suspend_workflows(
    'a', '[{"workflow_id": "sleeper", "attempt": 4, "step_ids": [], "topics": ["t"]}]'
);
CREATE FUNCTION pg_temp.deaths(p_workflow_id text)
RETURNS int
LANGUAGE sql
AS $$ SELECT w.attempts FROM lockstep.workflow_status AS w WHERE w.workflow_id = p_workflow_id $$;
SELECT is(pg_temp.deaths('sleeper'), 2, 'one that comes to wait for something is forgiven a death');
SELECT lockstep.send_message('sleeper', '1', topic => 't');
SELECT pg_temp.put_back('innocent', 0);
SELECT set_eq(
    $$SELECT * FROM pg_temp.claimed('a')$$, $$VALUES ('sleeper'), ('innocent')$$,
    'and goes on beside others when it wakes'
);
SELECT lockstep.suspend_workflows(
    'a', '[{"workflow_id": "sleeper", "attempt": 3, "step_ids": [], "topics": ["u"]}]'
);
SELECT is(pg_temp.deaths('sleeper'), 2, 'one that was not alone is not');

SELECT pg_temp.start_anew('{a}');
SELECT pg_temp.put_back('long', 4);
SELECT is(pg_temp.claimed('a'), 'long', 'a long suspect begins alone');
UPDATE lockstep.executor SET alone_until = clock_timestamp();
SELECT pg_temp.put_back('company', 0);
SELECT is(pg_temp.claimed('a'), 'company', 'and gets company');
SELECT lockstep.suspend_workflows('a', '[{"workflow_id": "long", "attempt": 5, "step_ids": [], "topics": ["t"]}]');
SELECT is(pg_temp.deaths('long'), 3, 'it is forgiven a death though it ended beside others');

SELECT pg_temp.start_anew('{a}');
SELECT pg_temp.put_back('failing', 4);
SELECT is(pg_temp.claimed('a'), 'failing', 'another suspect begins alone');
UPDATE lockstep.executor SET alone_until = clock_timestamp();
SELECT pg_temp.put_back('innocent', 0);
SELECT is(pg_temp.claimed('a'), 'innocent', 'and gets company after a lease');
SELECT lockstep.finish_workflows('a', jsonb_build_array(jsonb_build_object(
    'workflow_id', 'failing', 'attempt', 5, 'error', '{"type": "E", "message": "m"}'::jsonb,
    'retries', '{"max_attempts": 3}'::jsonb
)));
SELECT is(pg_temp.deaths('failing'), 4, 'one that fails and is tried again is forgiven nothing');

SELECT * FROM finish();
ROLLBACK;
