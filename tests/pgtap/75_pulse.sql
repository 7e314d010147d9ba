-- One call does a worker's chores: the lease, dead executors, what fell due, what waits.
BEGIN;
SELECT no_plan();

CREATE FUNCTION pg_temp.hire(
    p_executor_id text,
    p_queues text[] DEFAULT '{q}',
    p_workflow_names text[] DEFAULT '{greet}',
    p_app_version text DEFAULT NULL
)
RETURNS void
LANGUAGE sql
AS $$
    INSERT INTO lockstep.executor (executor_id, queues, workflow_names, app_version, lease_duration, expires_at)
    VALUES (p_executor_id, p_queues, p_workflow_names, p_app_version, '1 hour', clock_timestamp() + '1 hour')
$$;

CREATE FUNCTION pg_temp.expire(p_executor_id text)
RETURNS void
LANGUAGE sql
AS $$
    UPDATE lockstep.executor SET expires_at = clock_timestamp() - interval '1 s' WHERE executor_id = p_executor_id
$$;

CREATE FUNCTION pg_temp.run_workflow(p_workflow_id text, p_executor_id text)
RETURNS void
LANGUAGE sql
AS $$
    INSERT INTO lockstep.workflow_status (
        workflow_id, workflow_name, queue_name, status, executor_id, attempts, started_at
    )
    VALUES (p_workflow_id, 'greet', 'q', 'PENDING', p_executor_id, 1, now())
$$;

-- the lease

SELECT pg_temp.hire('alice');
UPDATE lockstep.executor SET expires_at = clock_timestamp() + interval '1 s';
SELECT results_eq(
    $$
    SELECT
        p.unserved_names, p.recovered_count, round(p.next_expiry_in), p.promoted_count, p.next_due_in, p.has_ready
    FROM lockstep.pulse('alice', is_idle => true) AS p
    $$,
    $$VALUES ('{}'::text[], 0, 3600::float8, 0, NULL::float8, false)$$,
    'when there is nothing to do, a pulse tells when the next lease ends'
);
SELECT results_eq(
    'SELECT round(extract(epoch FROM e.expires_at - clock_timestamp()) / 60), e.is_idle FROM lockstep.executor AS e',
    'VALUES (60::numeric, true)',
    'a pulse extends the lease and says that the executor is idle'
);
SELECT lockstep.pulse('alice');
SELECT is(e.is_idle, false, 'a pulse says that the executor is not idle unless told otherwise')
FROM lockstep.executor AS e;

SELECT pg_temp.run_workflow('of alice', 'alice');
SELECT pg_temp.expire('alice');
SELECT is((lockstep.pulse('alice')).recovered_count, 0, 'a pulse that comes late but in time revives the lease');
SELECT is(
    (SELECT w.executor_id FROM lockstep.workflow_status AS w), 'alice',
    'an executor whose lease it revived keeps its workflows'
);

-- what nobody can run

INSERT INTO lockstep.workflow_status (workflow_name, queue_name)
VALUES ('greet', 'q'), ('part', 'q'), ('part', 'q'), ('elsewhere', 'r'), ('bob''s', 'q');
SELECT pg_temp.hire('bob', '{q}', '{bob''s}');
SELECT is(
    (lockstep.pulse('alice')).unserved_names, ARRAY['part'], 'a pulse reports names that no live executor can run'
);
SELECT is(
    (lockstep.pulse('alice', is_busy => true)).unserved_names, '{}'::text[],
    'a pulse of a busy executor does not look for such names'
);

-- what waits: each case has a queue and an executor of its own

DELETE FROM lockstep.workflow_status;
CREATE TEMPORARY TABLE waiting AS
SELECT c.*
FROM (
    VALUES
        ('a workflow that it knows', 'greet', NULL, 'ENQUEUED', 'v1', true),
        ('a workflow of its version', 'greet', 'v1', 'ENQUEUED', 'v1', true),
        ('a workflow of another version', 'greet', 'v2', 'ENQUEUED', 'v1', false),
        ('a workflow of a version, it has none', 'greet', 'v2', 'ENQUEUED', NULL, false),
        ('a workflow of an unknown name', 'part', NULL, 'ENQUEUED', 'v1', false),
        ('a workflow that runs', 'greet', NULL, 'PENDING', 'v1', false),
        ('a workflow that sleeps', 'greet', NULL, 'DELAYED', 'v1', false),
        ('a workflow that was cancelled', 'greet', NULL, 'CANCELLED', 'v1', false)
) AS c (title, workflow_name, app_version, status, version_of_executor, expected);
INSERT INTO lockstep.workflow_status (
    workflow_name, queue_name, app_version, status, executor_id, attempts, started_at, available_at, completed_at
)
SELECT
    w.workflow_name, w.title, w.app_version, w.status, CASE WHEN w.status = 'PENDING' THEN 'bob' END, 1, now(),
    '2100-01-01', CASE WHEN w.status = 'CANCELLED' THEN now() END
FROM waiting AS w;
SELECT pg_temp.hire(w.title, ARRAY['empty', w.title], '{other,greet}', w.version_of_executor) FROM waiting AS w;
SELECT is(
    (lockstep.pulse(w.title)).has_ready, w.expected,
    format('has_ready is %s if what is in its queues is %s', w.expected, w.title)
)
FROM waiting AS w;
SELECT is((lockstep.pulse('bob')).has_ready, false, 'has_ready is false if all that waits is in other queues');
SELECT is(
    (lockstep.pulse('a workflow that it knows', is_busy => true)).has_ready, false,
    'a pulse of a busy executor does not look whether anything waits'
);

-- what dead executors held

DELETE FROM lockstep.executor;
DELETE FROM lockstep.workflow_status;
SELECT pg_temp.hire('alice');
SELECT pg_temp.hire('bob');
SELECT pg_temp.run_workflow('of alice', 'alice');
SELECT pg_temp.run_workflow('of bob', 'bob');
SELECT pg_temp.run_workflow('also of bob', 'bob');
SELECT pg_temp.expire('bob');
SELECT results_eq(
    $$
    SELECT p.recovered_count, round(p.next_expiry_in), p.promoted_count, p.has_ready
    FROM lockstep.pulse('alice') AS p
    $$,
    'VALUES (2, 3600::float8, 0, true)',
    'a pulse puts back what a dead executor held, and says that it can be claimed'
);
SELECT results_eq(
    'SELECT w.workflow_id, w.status, w.executor_id FROM lockstep.workflow_status AS w ORDER BY w.workflow_id',
    $$VALUES ('also of bob', 'ENQUEUED', NULL), ('of alice', 'PENDING', 'alice'), ('of bob', 'ENQUEUED', NULL)$$,
    'a pulse puts back what the dead executor held and nothing else'
);
SELECT results_eq(
    'SELECT e.executor_id FROM lockstep.executor AS e', $$VALUES ('alice')$$, 'a pulse removes the dead executor'
);
SELECT pg_temp.hire('bob');
UPDATE lockstep.executor SET expires_at = clock_timestamp() + interval '90 s' WHERE executor_id = 'bob';
SELECT is(
    round((lockstep.pulse('alice')).next_expiry_in), 90::float8, 'a pulse tells when another executor''s lease ends'
);

-- what fell due

DELETE FROM lockstep.workflow_status;
INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name, status, available_at, deadline_at)
VALUES
    ('slept', 'greet', 'q', 'DELAYED', clock_timestamp() - interval '1 s', NULL),
    ('overdue', 'greet', 'q', 'ENQUEUED', clock_timestamp(), clock_timestamp() - interval '1 s'),
    ('sleeps', 'greet', 'q', 'DELAYED', clock_timestamp() + interval '5 min', NULL);
SELECT results_eq(
    $$
    SELECT p.promoted_count, round(p.next_due_in), p.recovered_count, p.has_ready
    FROM lockstep.pulse('alice', is_busy => true) AS p
    $$,
    'VALUES (2, 300::float8, 0, false)',
    'a pulse of a busy executor makes claimable what fell due, and tells what falls due next'
);
SELECT results_eq(
    'SELECT w.workflow_id, w.status FROM lockstep.workflow_status AS w ORDER BY w.workflow_id',
    $$VALUES ('overdue', 'CANCELLED'), ('sleeps', 'DELAYED'), ('slept', 'ENQUEUED')$$,
    'a pulse promotes and cancels what fell due'
);
DELETE FROM lockstep.workflow_status WHERE workflow_id = 'slept';
SELECT is((lockstep.pulse('alice')).has_ready, false, 'what sleeps is not ready');
UPDATE lockstep.workflow_status SET available_at = clock_timestamp() WHERE workflow_id = 'sleeps';
SELECT results_eq(
    $$SELECT p.promoted_count, p.next_due_in, p.has_ready FROM lockstep.pulse('alice') AS p$$,
    'VALUES (1, NULL::float8, true)',
    'what a pulse promoted is ready in the same call'
);

-- fencing

DELETE FROM lockstep.workflow_status;
SELECT pg_temp.hire('declared dead');
UPDATE lockstep.executor SET expires_at = '-infinity' WHERE executor_id = 'declared dead';
SELECT pg_temp.expire('bob');
SELECT pg_temp.run_workflow('of bob', 'bob');
SELECT pg_temp.run_workflow('of the dead', 'declared dead');
INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name, status, available_at)
VALUES ('slept', 'greet', 'q', 'DELAYED', '2026-01-01');
SELECT throws_ok(
    format('SELECT lockstep.pulse(%L)', x.executor_id), 'WF001', NULL,
    format('a pulse raises WF001 for an executor that is %s', x.executor_id)
)
FROM (VALUES ('declared dead'), ('unknown')) AS x (executor_id);
SELECT results_eq(
    'SELECT w.workflow_id, w.status, w.executor_id FROM lockstep.workflow_status AS w ORDER BY w.workflow_id',
    $$
    VALUES
        ('of bob', 'PENDING', 'bob'), ('of the dead', 'PENDING', 'declared dead'), ('slept', 'DELAYED', NULL)
    $$,
    'the pulse of a dead executor does nothing for others'
);
SELECT is(
    (SELECT e.expires_at FROM lockstep.executor AS e WHERE e.executor_id = 'declared dead'),
    '-infinity'::timestamptz,
    'the pulse of a dead executor does not revive it'
);

SELECT * FROM finish();
ROLLBACK;
