-- What a workflow registered to be undone is undone when it fails, and only then.
BEGIN;
SELECT no_plan();

\ir failure_of.psql

CREATE FUNCTION pg_temp.run(p_workflow_id text, p_queue_name text DEFAULT 'q')
RETURNS void
LANGUAGE sql
AS $$
    INSERT INTO lockstep.workflow_status (
        workflow_id, workflow_name, queue_name, status, executor_id, attempts, started_at, priority,
        queue_partition_key, app_version, enqueued_by, headers
    )
    VALUES (
        p_workflow_id, 'order', p_queue_name, 'PENDING', 'alice', 1, now(), 7, 'k', 'v2', 'somebody', '{"trace": 1}'
    )
$$;

-- Registers undo steps, as the worker does, one after the other.
CREATE FUNCTION pg_temp.register(p_workflow_id text, VARIADIC p_undo_steps text[])
RETURNS void
LANGUAGE sql
AS $$
    SELECT lockstep.record_steps('alice', jsonb_build_array(jsonb_build_object(
        'workflow_id', p_workflow_id, 'attempt', 1, 'step_id', u.place, 'step_name', 'compensate',
        'output',
        jsonb_build_object('step', u.step, 'positionalArgs', jsonb_build_array(u.place), 'namedArgs', '{}'::jsonb)
    )))
    FROM unnest(p_undo_steps) WITH ORDINALITY AS u (step, place)
    ORDER BY u.place
$$;

CREATE FUNCTION pg_temp.fail(p_workflow_id text, p_fields jsonb DEFAULT '{}')
RETURNS void
LANGUAGE sql
AS $$
    SELECT lockstep.finish_workflows('alice', jsonb_build_array(jsonb_build_object(
        'workflow_id', p_workflow_id, 'attempt', 1, 'error', '{"type": "E", "message": "m"}'::jsonb
    ) || p_fields))
$$;

-- The undo steps of the compensations of a workflow, in their order.
CREATE FUNCTION pg_temp.undone(p_workflow_id text)
RETURNS SETOF text[]
LANGUAGE sql
AS $$
    SELECT ARRAY(
        SELECT u.undo ->> 'step'
        FROM jsonb_array_elements(w.inputs -> 'positionalArgs' -> 0) WITH ORDINALITY AS u (undo, place)
        ORDER BY u.place
    )
    FROM lockstep.workflow_status AS w
    WHERE w.parent_workflow_id = p_workflow_id AND w.workflow_name = 'lockstep.compensate'
$$;

INSERT INTO lockstep.executor (executor_id, queues, workflow_names, app_version, lease_duration, expires_at)
VALUES
    ('alice', '{q}', '{order}', 'v2', '1 hour', clock_timestamp() + interval '1 hour'),
    ('bob', '{q}', '{order}', 'v2', '1 hour', clock_timestamp() + interval '1 hour');

-- what is undone, and by whom

SELECT pg_temp.run('w');
SELECT pg_temp.register('w', 'refund', 'restock', 'unship');
SELECT pg_temp.fail('w');
SELECT results_eq(
    $$SELECT * FROM pg_temp.undone('w')$$, $$VALUES ('{unship,restock,refund}'::text[])$$,
    'what was registered last is undone first'
);
SELECT results_eq(
    $$
    SELECT
        w.workflow_name, w.queue_name, w.status, w.inputs, w.priority, w.queue_partition_key, w.app_version,
        w.enqueued_by,
        w.headers, w.deadline_at, w.timeout, w.retries
    FROM lockstep.workflow_status AS w
    WHERE w.parent_workflow_id = 'w'
    $$,
    $$
    VALUES (
        'lockstep.compensate', 'q', 'ENQUEUED',
        '{"positionalArgs": [[
            {"step": "unship", "positionalArgs": [3], "namedArgs": {}},
            {"step": "restock", "positionalArgs": [2], "namedArgs": {}},
            {"step": "refund", "positionalArgs": [1], "namedArgs": {}}
        ]], "namedArgs": {}}'::jsonb,
        7, 'k', 'v2', 'somebody', '{"trace": 1}'::jsonb, NULL::timestamptz, NULL::interval, NULL::jsonb
    )
    $$,
    'the compensation is a child that runs where and as whom its parent ran, without its deadline'
);
SELECT pg_temp.fail('w');
SELECT is((SELECT count(*) FROM pg_temp.undone('w')), 1::bigint, 'a failure that is sent again undoes nothing again');

SELECT pg_temp.run('branches');
INSERT INTO lockstep.operation_outputs (workflow_id, step_id, step_name, output, started_at, completed_at)
SELECT 'branches', b.step_id, b.step_name, jsonb_build_object('step', b.step), b.completed_at, b.completed_at
FROM (
    VALUES
        (1, 'compensate', 'first', timestamptz '2026-01-01 00:01'), (65536, 'compensate', 'second', '2026-01-01 00:02'),
        (3, 'compensate', 'third', '2026-01-01 00:03'), (65537, 'compensate', 'also third', '2026-01-01 00:03'),
        (4, 'charge', 'no undo step', '2026-01-01 00:04')
) AS b (step_id, step_name, step, completed_at);
SELECT pg_temp.fail('branches');
SELECT results_eq(
    $$SELECT * FROM pg_temp.undone('branches')$$, $$VALUES ('{also third,third,second,first}'::text[])$$,
    'branches are undone in the order of time, and steps of one moment by their number'
);

-- which ends are undone

SELECT pg_temp.run(e.id)
FROM unnest(ARRAY[
    'succeeds', 'fails', 'is retried', 'is cancelled', 'is overdue', 'dies', 'registered nothing', 'suspends'
]) AS e (id);
SELECT pg_temp.register(w.workflow_id, 'undo')
FROM lockstep.workflow_status AS w
WHERE w.status = 'PENDING' AND w.workflow_id <> 'registered nothing';
SELECT lockstep.finish_workflows('alice', '[{"workflow_id": "succeeds", "attempt": 1, "output": 1}]');
SELECT pg_temp.fail('fails');
SELECT pg_temp.fail('registered nothing');
SELECT pg_temp.fail('is retried', '{"retries": {"max_attempts": 2, "delay": 60}}');
SELECT lockstep.cancel_workflow('is cancelled');
SELECT lockstep.suspend_workflows('alice', '[{"workflow_id": "suspends", "attempt": 1, "topics": ["t"]}]');
UPDATE lockstep.workflow_status SET deadline_at = '2026-01-01' WHERE workflow_id = 'is overdue';
UPDATE lockstep.workflow_status SET executor_id = 'bob', max_attempts = 1 WHERE workflow_id = 'dies';
UPDATE lockstep.executor SET expires_at = '2026-01-01' WHERE executor_id = 'bob';
SELECT lockstep.promote_due_workflows();
SELECT lockstep.recover_workflows();
SELECT is(
    (SELECT count(*) FROM pg_temp.undone(e.id)), e.count::bigint,
    format('a workflow that %s is undone %s times', e.id, e.count)
)
FROM (
    VALUES
        ('succeeds', 0), ('fails', 1), ('is retried', 0), ('is cancelled', 1), ('is overdue', 1), ('dies', 1),
        ('registered nothing', 0), ('suspends', 0)
) AS e (id, count);
UPDATE lockstep.workflow_status
SET status = 'PENDING', executor_id = 'alice', attempts = 1
WHERE workflow_id = 'is retried';
SELECT is(
    (SELECT count(*) FROM lockstep.operation_outputs AS o WHERE o.workflow_id = 'is retried'), 1::bigint,
    'a workflow that is tried again keeps what it registered'
);
SELECT pg_temp.fail('is retried', '{"retries": {"max_attempts": 2, "delay": 60}}');
SELECT is((SELECT count(*) FROM pg_temp.undone('is retried')), 1::bigint, 'its last failure is undone');

-- many at once, and each in a tree

SELECT pg_temp.run('many ' || n) FROM generate_series(1, 20) AS n;
SELECT pg_temp.register('many ' || n, 'undo ' || n) FROM generate_series(1, 20) AS n;
SELECT lockstep.finish_workflows('alice', (
    SELECT jsonb_agg(
        jsonb_build_object('workflow_id', 'many ' || n, 'attempt', 1)
        || CASE n % 2 WHEN 0 THEN '{"output": 1}' ELSE '{"error": {"type": "E", "message": "m"}}' END::jsonb
    )
    FROM generate_series(1, 20) AS n
));
SELECT is(
    (SELECT array_agg(u.u) FROM pg_temp.undone('many ' || n) AS u (u)),
    CASE n % 2 WHEN 1 THEN ARRAY[ARRAY['undo ' || n]] END,
    format('of many that end in one call, %s is undone if it failed', n)
)
FROM generate_series(1, 20) AS n;

SELECT pg_temp.run(t.id) FROM unnest(ARRAY['tree', 'tree child', 'tree grandchild']) AS t (id);
UPDATE lockstep.workflow_status SET parent_workflow_id = 'tree' WHERE workflow_id = 'tree child';
UPDATE lockstep.workflow_status SET parent_workflow_id = 'tree child' WHERE workflow_id = 'tree grandchild';
SELECT pg_temp.register(t.id, 'undo ' || t.id) FROM unnest(ARRAY['tree', 'tree child', 'tree grandchild']) AS t (id);
SELECT lockstep.cancel_workflow('tree');
SELECT is(
    (SELECT array_agg(u.u) FROM pg_temp.undone(t.id) AS u (u)), ARRAY[ARRAY['undo ' || t.id]],
    format('the cancellation of a tree undoes %s', t.id)
)
FROM unnest(ARRAY['tree', 'tree child', 'tree grandchild']) AS t (id);

-- a compensation is not cancelled with those above

SELECT pg_temp.run(t.id) FROM unnest(ARRAY['above', 'failed child']) AS t (id);
UPDATE lockstep.workflow_status SET parent_workflow_id = 'above' WHERE workflow_id = 'failed child';
SELECT pg_temp.register('failed child', 'undo');
SELECT pg_temp.fail('failed child');
SELECT lockstep.cancel_workflow('above');
SELECT is(
    w.status, 'ENQUEUED', 'the compensation of a child that failed survives the cancellation of those above'
)
FROM lockstep.workflow_status AS w
WHERE w.parent_workflow_id = 'failed child';
SELECT is(lockstep.cancel_workflow('tree'), false, 'a cancelled workflow is not cancelled again');
SELECT is(
    w.status, 'ENQUEUED', 'nor is its compensation'
)
FROM lockstep.workflow_status AS w
WHERE w.parent_workflow_id = 'tree' AND w.workflow_name = 'lockstep.compensate';
SELECT w.workflow_id AS compensation_id
FROM lockstep.workflow_status AS w
WHERE w.parent_workflow_id = 'failed child' \gset
SELECT is(lockstep.cancel_workflow(:'compensation_id'), true, 'a compensation can be cancelled by its own id');

-- no way back

SELECT is(
    concat_ws(' | ', f.code, f.message),
    format('55000 | workflow "%s" was compensated: %s cannot become ENQUEUED', e.id, e.status),
    format('a workflow that %s and was compensated is not resumed', e.id)
)
FROM (
    VALUES
        ('fails', 'ERROR'), ('is cancelled', 'CANCELLED'), ('dies', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED')
) AS e (id, status)
CROSS JOIN LATERAL pg_temp.failure_of(format('SELECT lockstep.resume_workflow(%L)', e.id)) AS f;
SELECT is(
    (pg_temp.failure_of($$SELECT lockstep.resume_workflow('failed child')$$)).code, '55000',
    'nor one whose compensation was cancelled, because it may have begun'
);
SELECT is(lockstep.resume_workflow('registered nothing'), true, 'a workflow that had nothing to undo is resumed');

-- registering

SELECT pg_temp.run('late');
SELECT lockstep.cancel_workflow('late');
SELECT results_eq(
    $$
    SELECT r.lost
    FROM lockstep.record_steps('alice', '[
        {"workflow_id": "late", "attempt": 1, "step_id": 1, "step_name": "compensate", "output": {"step": "undo"}}
    ]') AS r (lost)
    $$,
    $$VALUES ('late')$$,
    'who registers an undo step after the cancellation hears of it'
);

SELECT * FROM finish();
ROLLBACK;
