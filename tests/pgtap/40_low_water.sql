-- Claims that begin where the last one got to: what a mark leaves out, and what it must not.
BEGIN;
SELECT no_plan();

INSERT INTO lockstep.executor (executor_id, queues, workflow_names, lease_duration, expires_at)
SELECT 'alice', '{q,r,limited,partitioned}', '{greet}', '1 hour', clock_timestamp() + interval '1 hour';
SELECT lockstep.create_queue('limited', concurrency => 100);
SELECT lockstep.create_queue('partitioned', partition_concurrency => 100);

INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name, priority, available_at)
SELECT concat_ws(' ', q.queue_name, p.priority, t.place), 'greet', q.queue_name, p.priority, t.at
FROM unnest(ARRAY['q', 'r', 'limited', 'partitioned', 'unserved']) AS q (queue_name)
CROSS JOIN generate_series(0, 2) AS p (priority)
CROSS JOIN (
    VALUES
        ('below', '2026-01-01 00:00:00+00'::timestamptz),
        ('just below', '2026-01-01 00:00:01+00'),
        ('at', '2026-01-01 00:00:01.000001+00'),
        ('above', '2026-01-01 00:00:02+00')
) AS t (place, at);

CREATE FUNCTION pg_temp.mark(p_queue_name text, p_priority int)
RETURNS jsonb
LANGUAGE sql
AS $$
    SELECT jsonb_build_object(
        'queue_name', p_queue_name, 'priority', p_priority, 'available_at', '2026-01-01T00:00:01.000001+00:00'
    )
$$;

-- What a claim takes, handed back at once.
CREATE FUNCTION pg_temp.claimed(p_low_water jsonb, p_max_count int DEFAULT 1000)
RETURNS SETOF text
LANGUAGE plpgsql
AS $$
BEGIN
    RETURN QUERY
    SELECT c.workflow_id
    FROM lockstep.claim_workflows('alice', p_max_count, p_low_water) AS c;
    UPDATE lockstep.workflow_status
    SET status = 'ENQUEUED', executor_id = NULL, attempts = 0
    WHERE executor_id = 'alice';
END
$$;

CREATE TEMPORARY VIEW served AS
SELECT w.workflow_id
FROM lockstep.workflow_status AS w
WHERE w.queue_name <> 'unserved';

SELECT set_eq(
    format('SELECT * FROM pg_temp.claimed(%L)', m.low_water), 'SELECT s.workflow_id FROM served AS s',
    format('with marks %s a claim looks from the head of every queue', coalesce(m.low_water, 'NULL'))
)
FROM (
    VALUES
        (NULL),
        ('[]'),
        (jsonb_build_array(pg_temp.mark('unserved', 1))::text),
        (jsonb_build_array(pg_temp.mark('nowhere', 1))::text),
        (jsonb_build_array(pg_temp.mark('partitioned', 1))::text)
) AS m (low_water);

SELECT set_eq(
    format('SELECT * FROM pg_temp.claimed(%L)', jsonb_build_array(pg_temp.mark(q.queue_name, m.priority))),
    format(
        'SELECT s.workflow_id FROM served AS s WHERE s.workflow_id NOT IN (%L, %L)',
        concat_ws(' ', q.queue_name, m.priority, 'below'), concat_ws(' ', q.queue_name, m.priority, 'just below')
    ),
    format(
        'a mark of %s at priority %s leaves out what is below it there, and neither other priorities nor other queues',
        q.queue_name, m.priority
    )
)
FROM unnest(ARRAY['q', 'limited']) AS q (queue_name)
CROSS JOIN generate_series(0, 2) AS m (priority);
SELECT set_eq(
    format(
        'SELECT * FROM pg_temp.claimed(%L)', jsonb_build_array(pg_temp.mark('q', 0), pg_temp.mark('r', 2))
    ),
    $$
    SELECT s.workflow_id
    FROM served AS s
    WHERE s.workflow_id NOT IN ('q 0 below', 'q 0 just below', 'r 2 below', 'r 2 just below')
    $$,
    'each queue has a mark of its own'
);

DELETE FROM lockstep.workflow_status WHERE queue_name IN ('limited', 'partitioned');
SELECT set_eq(
    format('SELECT * FROM pg_temp.claimed(%L, 6)', jsonb_build_array(pg_temp.mark('q', 1), pg_temp.mark('r', 0))),
    $$VALUES ('q 0 below'), ('q 0 just below'), ('q 0 at'), ('q 0 above'), ('r 0 at'), ('r 0 above')$$,
    'one order holds over all queues, with marks too'
);

DELETE FROM lockstep.workflow_status WHERE queue_name <> 'q';
SELECT results_eq(
    format('SELECT * FROM pg_temp.claimed(%L, 7)', jsonb_build_array(pg_temp.mark('q', 1))),
    $$
    VALUES
        ('q 0 below'), ('q 0 just below'), ('q 0 at'), ('q 0 above'), ('q 1 at'), ('q 1 above'), ('q 2 below')
    $$,
    'a claim with a mark takes no more than max_count, by priority and then by available_at'
);

-- what tells the places

CREATE TEMPORARY TABLE answer (call_number int GENERATED ALWAYS AS IDENTITY, answer jsonb);
CREATE FUNCTION pg_temp.advance(p_claim_count int, p_low_water jsonb)
RETURNS void
LANGUAGE sql
AS $$
    INSERT INTO answer (answer) VALUES (lockstep.advance_workflows('alice', '{}', p_claim_count, p_low_water)::jsonb)
$$;
CREATE TEMPORARY VIEW answered AS
SELECT a.call_number, c.workflow_id, c.priority, c.available_at
FROM answer AS a
CROSS JOIN jsonb_to_recordset(a.answer -> 'claimed')
    AS c (workflow_id text, priority int, available_at timestamptz);

SELECT pg_temp.advance(1, NULL);
SELECT pg_temp.advance(2, '[]');
SELECT pg_temp.advance(2, jsonb_build_array(pg_temp.mark('q', 1)));
SELECT pg_temp.advance(2, jsonb_build_array(pg_temp.mark('q', 3)));
SELECT results_eq(
    'SELECT a.* FROM answered AS a ORDER BY a.call_number, a.priority, a.available_at',
    $$
    VALUES
        (1, 'q 0 below', NULL::int, NULL::timestamptz),
        (2, 'q 0 just below', 0, '2026-01-01 00:00:01+00'),
        (2, 'q 0 at', 0, '2026-01-01 00:00:01.000001+00'),
        (3, 'q 0 above', 0, '2026-01-01 00:00:02+00'),
        (3, 'q 1 at', 1, '2026-01-01 00:00:01.000001+00'),
        (4, 'q 1 below', 1, '2026-01-01 00:00:00+00'),
        (4, 'q 1 just below', 1, '2026-01-01 00:00:01+00')
    $$,
    'advance_workflows() begins at the marks, and tells the places of what it claimed to whoever speaks of marks'
);
DELETE FROM answer;
DELETE FROM lockstep.workflow_status;
INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name, available_at)
SELECT n, 'greet', 'q', '2026-07-03 12:34:56.789012+00'::timestamptz + n * interval '1 us'
FROM generate_series(1, 6) AS g (n);
SELECT pg_temp.advance(2, '[]');
INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name, available_at)
VALUES ('committed late', 'greet', 'q', '2026-07-03 12:34:56.789013+00');
SELECT pg_temp.advance(
    2,
    (
        SELECT jsonb_build_array(c.claimed || '{"queue_name": "q"}')
        FROM answer AS a
        CROSS JOIN jsonb_array_elements(a.answer -> 'claimed') AS c (claimed)
        WHERE c.claimed ->> 'workflow_id' = '2'
    )
);
SELECT pg_temp.advance(2, '[]');
SELECT results_eq(
    'SELECT a.workflow_id FROM answered AS a ORDER BY a.call_number, a.available_at',
    $$VALUES ('1'), ('2'), ('3'), ('4'), ('committed late'), ('5')$$,
    'a place that an answer told is a mark for the next call, and what came below it is found from the head'
);

-- how long the claim took

DELETE FROM answer;
SELECT pg_temp.advance(0, '[]');
SELECT pg_temp.advance(1, NULL);
SELECT pg_temp.advance(1, NULL);
SELECT results_eq(
    $$
    SELECT
        jsonb_array_length(nullif(a.answer -> 'claimed', 'null')),
        (a.answer ->> 'claim_seconds')::float8 > 0, (a.answer ->> 'claim_seconds')::float8 < 10
    FROM answer AS a
    ORDER BY a.call_number
    $$,
    'VALUES (NULL, NULL, NULL), (1, true, true), (NULL, true, true)',
    'claim_seconds tells what a claim took, also one that found nothing, and is null when none was asked for'
);

-- what became available lately

DELETE FROM answer;
DELETE FROM lockstep.workflow_status;
INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name)
VALUES ('new', 'greet', 'q');
SELECT pg_temp.advance(2, '[]');
INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name, available_at)
VALUES ('fell due just before', 'greet', 'q', clock_timestamp() - interval '300 ms');
SELECT pg_temp.advance(
    2, (SELECT jsonb_build_array(a.answer -> 'claimed' -> 0 || '{"queue_name": "q"}') FROM answer AS a)
);
SELECT results_eq(
    'SELECT a.workflow_id FROM answered AS a ORDER BY a.call_number',
    $$VALUES ('new'), ('fell due just before')$$, 'a mark leaves out nothing that became available lately'
);

SELECT * FROM finish();
ROLLBACK;
