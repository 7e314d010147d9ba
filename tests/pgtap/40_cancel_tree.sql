-- A cancellation reaches the unfinished descendants of a workflow, and nobody else.
BEGIN;
SELECT no_plan();

-- A workflow of any status, child of another.
CREATE FUNCTION pg_temp.make(p_workflow_id text, p_parent_id text, p_status text DEFAULT 'ENQUEUED')
RETURNS void
LANGUAGE sql
AS $$
    INSERT INTO lockstep.workflow_status (
        workflow_id, workflow_name, queue_name, status, parent_workflow_id, executor_id, attempts, started_at,
        completed_at, available_at, waiting_for, error
    )
    SELECT
        p_workflow_id, 'greet', 'q', p_status, p_parent_id, CASE p_status WHEN 'PENDING' THEN 'alice' END, 1, now(),
        CASE WHEN s.is_end THEN now() END, CASE p_status WHEN 'DELAYED' THEN timestamptz '2100-01-01' ELSE now() END,
        CASE p_status WHEN 'WAITING' THEN '{message:}'::text[] END,
        CASE p_status WHEN 'ERROR' THEN e.error WHEN 'MAX_RECOVERY_ATTEMPTS_EXCEEDED' THEN e.error END
    FROM (VALUES (p_status NOT IN ('ENQUEUED', 'DELAYED', 'PENDING', 'WAITING'))) AS s (is_end)
    CROSS JOIN (VALUES ('{"type": "E", "message": "m"}'::jsonb)) AS e (error)
$$;

CREATE FUNCTION pg_temp.status_of(p_workflow_id text)
RETURNS text
LANGUAGE sql
AS $$ SELECT w.status FROM lockstep.workflow_status AS w WHERE w.workflow_id = p_workflow_id $$;

INSERT INTO lockstep.executor (executor_id, queues, workflow_names, lease_duration, expires_at)
VALUES ('alice', '{q}', '{greet}', '1 hour', clock_timestamp() + interval '1 hour');

-- children of every status

SELECT pg_temp.make('parent', 'grandparent', 'WAITING');
SELECT pg_temp.make('grandparent', NULL, 'PENDING');
SELECT pg_temp.make('child ' || s.status, 'parent', s.status)
FROM unnest(ARRAY[
    'ENQUEUED', 'DELAYED', 'PENDING', 'WAITING', 'SUCCESS', 'ERROR', 'CANCELLED', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED'
]) AS s (status);
SELECT pg_temp.make('grandchild of ' || s.status, 'child ' || s.status)
FROM unnest(ARRAY['ENQUEUED', 'WAITING', 'SUCCESS', 'CANCELLED']) AS s (status);
SELECT pg_temp.make('sibling', 'grandparent');
SELECT pg_temp.make('stranger', NULL);
UPDATE lockstep.workflow_status SET completed_at = '2026-01-01' WHERE completed_at IS NOT NULL;
SELECT is(lockstep.cancel_workflow('parent'), true, 'a cancellation says that it cancelled');
SELECT is(
    pg_temp.status_of(e.id), e.status, format('after the cancellation of the parent, %s is %s', e.id, e.status)
)
FROM (
    VALUES
        ('parent', 'CANCELLED'), ('child ENQUEUED', 'CANCELLED'), ('child DELAYED', 'CANCELLED'),
        ('child PENDING', 'CANCELLED'), ('child WAITING', 'CANCELLED'), ('child SUCCESS', 'SUCCESS'),
        ('child ERROR', 'ERROR'), ('child CANCELLED', 'CANCELLED'),
        ('child MAX_RECOVERY_ATTEMPTS_EXCEEDED', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED'),
        ('grandchild of ENQUEUED', 'CANCELLED'), ('grandchild of WAITING', 'CANCELLED'),
        -- who ended has let its children go
        ('grandchild of SUCCESS', 'ENQUEUED'), ('grandchild of CANCELLED', 'ENQUEUED'),
        ('grandparent', 'PENDING'), ('sibling', 'ENQUEUED'), ('stranger', 'ENQUEUED')
) AS e (id, status);
SELECT is(
    array_agg(w.workflow_id ORDER BY w.workflow_id),
    ARRAY['child CANCELLED', 'child ERROR', 'child MAX_RECOVERY_ATTEMPTS_EXCEEDED', 'child SUCCESS'],
    'a child that had ended keeps the moment of its end'
)
FROM lockstep.workflow_status AS w
WHERE w.completed_at = '2026-01-01';
SELECT is_empty(
    $$
    SELECT w.workflow_id
    FROM lockstep.workflow_status AS w
    WHERE w.status = 'CANCELLED' AND (w.completed_at IS NULL OR w.waiting_for IS NOT NULL)
    $$,
    'who is cancelled has ended and waits for nothing'
);
SELECT results_eq(
    $$
    SELECT lost
    FROM lockstep.finish_workflows('alice', '[
        {"workflow_id": "child PENDING", "attempt": 1, "output": 1},
        {"workflow_id": "grandparent", "attempt": 1, "output": 1}
    ]') AS f (lost)
    $$,
    $$VALUES ('child PENDING')$$,
    'a child that was running is lost to its executor; its grandparent is not'
);
SELECT is(lockstep.cancel_workflow('parent'), false, 'a second cancellation says that it did nothing');
SELECT is(pg_temp.status_of('grandchild of SUCCESS'), 'ENQUEUED', 'and reaches nobody that the first did not');
SELECT throws_ok(
    $$SELECT lockstep.cancel_workflow('child SUCCESS')$$, '55000', NULL, 'a child that has ended cannot be cancelled'
);
SELECT throws_ok(
    $$SELECT lockstep.cancel_workflow('nowhere')$$, 'P0002', NULL, 'a workflow that does not exist cannot be cancelled'
);

-- a cancelled child leaves its parent alone, and wakes it

SELECT pg_temp.make('waits', NULL, 'WAITING');
SELECT pg_temp.make('awaited', 'waits', 'PENDING');
INSERT INTO lockstep.waiter (awaited_id, is_client, waiter) VALUES ('awaited', false, 'waits');
SELECT lockstep.cancel_workflow('awaited');
SELECT is(pg_temp.status_of('waits'), 'ENQUEUED', 'the cancellation of a child wakes its parent');

SELECT pg_temp.make('awaiting parent', NULL, 'WAITING');
SELECT pg_temp.make('awaited child', 'awaiting parent', 'PENDING');
SELECT pg_temp.make('onlooker', NULL, 'WAITING');
INSERT INTO lockstep.waiter (awaited_id, is_client, waiter)
VALUES ('awaited child', false, 'awaiting parent'), ('awaited child', false, 'onlooker');
SELECT lockstep.cancel_workflow('awaiting parent');
SELECT is(
    pg_temp.status_of('awaiting parent'), 'CANCELLED', 'a parent that is cancelled is not woken by its child''s end'
);
SELECT is(pg_temp.status_of('onlooker'), 'ENQUEUED', 'somebody else who waits for the child is');
SELECT is_empty('SELECT w.waiter FROM lockstep.waiter AS w', 'nobody waits for a cancelled workflow any more');

-- deep and wide

SELECT pg_temp.make('deep ' || n, CASE WHEN n > 1 THEN 'deep ' || n - 1 END) FROM generate_series(1, 200) AS n;
SELECT lockstep.cancel_workflow('deep 1');
SELECT is(
    count(*), 200::bigint, 'a cancellation goes down 200 generations'
)
FROM lockstep.workflow_status AS w
WHERE w.workflow_id LIKE 'deep %' AND w.status = 'CANCELLED';
SELECT pg_temp.make('wide', NULL);
SELECT pg_temp.make('wide ' || n, 'wide') FROM generate_series(1, 1000) AS n;
SELECT lockstep.cancel_workflow('wide');
SELECT is(
    count(*), 1001::bigint, 'a cancellation reaches 1000 children'
)
FROM lockstep.workflow_status AS w
WHERE w.workflow_id LIKE 'wide%' AND w.status = 'CANCELLED';

-- workflows that are each other's parents, which start_children() does not make

SELECT pg_temp.make('ring 1', 'ring 2');
SELECT pg_temp.make('ring 2', 'ring 1');
SELECT pg_temp.make('own parent', 'own parent');
SELECT is(lockstep.cancel_workflow(r.id), true, format('a cancellation of %s ends', r.id))
FROM unnest(ARRAY['ring 1', 'own parent']) AS r (id);
SELECT is(pg_temp.status_of('ring 2'), 'CANCELLED', 'a cancellation goes around a ring once');

-- the deadline of a parent is that of its children

SELECT pg_temp.make('overdue', NULL, 'PENDING');
UPDATE lockstep.workflow_status SET deadline_at = clock_timestamp() + interval '1 h' WHERE workflow_id = 'overdue';
SELECT lockstep.start_children('alice', '[{
    "workflow_id": "overdue", "attempt": 1, "step_id": 1, "step_name": "s", "workflow_name": "greet", "queue_name": "q",
    "inputs": {"positionalArgs": [], "namedArgs": {}}, "child_id": "overdue child"
}]');
UPDATE lockstep.workflow_status SET deadline_at = deadline_at - interval '2 h' WHERE workflow_id LIKE 'overdue%';
SELECT lockstep.promote_due_workflows();
SELECT is(
    array_agg(concat_ws(' ', w.status, w.error ->> 'type')),
    ARRAY['CANCELLED DeadlineExceeded', 'CANCELLED DeadlineExceeded'],
    'a parent and its child are cancelled at the parent''s deadline'
)
FROM lockstep.workflow_status AS w
WHERE w.workflow_id LIKE 'overdue%';

-- a free place in a limited queue

SELECT lockstep.create_queue('limited', 1);
SELECT pg_temp.make('holder', NULL, 'PENDING');
SELECT pg_temp.make('holder''s child', 'holder', 'PENDING');
UPDATE lockstep.workflow_status SET queue_name = 'limited' WHERE workflow_id = 'holder''s child';
SELECT lockstep.enqueue_workflow('greet', 'limited', workflow_id => 'next');
INSERT INTO lockstep.executor (executor_id, queues, workflow_names, lease_duration, expires_at)
VALUES ('bob', '{limited}', '{greet}', '1 hour', clock_timestamp() + interval '1 hour');
SELECT is_empty($$SELECT workflow_id FROM lockstep.claim_workflows('bob', 1)$$, 'a child holds a place in its queue');
SELECT lockstep.cancel_workflow('holder');
SELECT results_eq(
    $$SELECT workflow_id FROM lockstep.claim_workflows('bob', 1)$$, $$VALUES ('next')$$,
    'the cancellation of its parent frees the place'
);

SELECT * FROM finish();
ROLLBACK;
