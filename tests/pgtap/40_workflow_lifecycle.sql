-- From the claim to the end: claim, finish, suspend, release, cancel, resume, deadline.
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

CREATE FUNCTION pg_temp.claimed(p_executor_id text, p_max_count int DEFAULT 10)
RETURNS SETOF text
LANGUAGE sql
AS $$ SELECT c.workflow_id FROM lockstep.claim_workflows(p_executor_id, p_max_count) AS c $$;

CREATE FUNCTION pg_temp.state_of(p_workflow_id text)
RETURNS text
LANGUAGE sql
AS $$
    SELECT concat_ws(' ', w.status, 'attempts=' || w.attempts, 'executor=' || w.executor_id)
    FROM lockstep.workflow_status AS w
    WHERE w.workflow_id = p_workflow_id
$$;

-- claim: which ones, in which order

INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name, priority, available_at)
VALUES
    ('late and urgent', 'greet', 'order', 0, '2026-01-02'),
    ('early', 'greet', 'order', 1, '2026-01-01'),
    ('late', 'greet', 'order', 1, '2026-01-02'),
    ('last', 'greet', 'order', 2, '2026-01-01');
SELECT pg_temp.hire('orderly', '{order}');
SELECT results_eq(
    $$SELECT * FROM pg_temp.claimed('orderly', 3)$$,
    $$VALUES ('late and urgent'), ('early'), ('late')$$,
    'a claim takes max_count workflows by priority, then by available_at'
);
SELECT results_eq(
    $$SELECT * FROM pg_temp.claimed('orderly', 3)$$, $$VALUES ('last')$$, 'the next claim takes the rest'
);
SELECT is_empty($$SELECT * FROM pg_temp.claimed('orderly', 3)$$, 'what is claimed is not claimed again');

INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name, priority, available_at)
VALUES
    ('b1', 'greet', 'b', 0, '2026-01-01'),
    ('a1', 'greet', 'a', 1, '2026-01-01'),
    ('b2', 'greet', 'b', 2, '2026-01-01'),
    ('a2', 'greet', 'a', 3, '2026-01-01'),
    ('c1', 'greet', 'c', 0, '2026-01-01');
SELECT pg_temp.hire('reader', '{a,b}');
SELECT results_eq(
    $$SELECT * FROM pg_temp.claimed('reader', 2)$$, $$VALUES ('b1'), ('a1')$$,
    'one order holds over all the queues of an executor'
);
SELECT results_eq(
    $$SELECT * FROM pg_temp.claimed('reader')$$, $$VALUES ('b2'), ('a2')$$,
    'a queue that the executor does not serve is left alone'
);
SELECT lockstep.register_executor('{twice,twice}', '{greet}') AS repeating \gset
INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name)
VALUES ('t1', 'greet', 'twice'), ('t2', 'greet', 'twice');
SELECT results_eq(
    format('SELECT * FROM pg_temp.claimed(%L, 2) AS c (id) ORDER BY c.id', :'repeating'), $$VALUES ('t1'), ('t2')$$,
    'a queue that is named twice counts once'
);

INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name, app_version)
VALUES
    ('known', 'greet', 'filter', NULL),
    ('known v1', 'greet', 'filter', 'v1'),
    ('known v2', 'greet', 'filter', 'v2'),
    ('unknown', 'part', 'filter', NULL);
SELECT pg_temp.hire('v2', '{filter}', '{greet,other}', 'v2');
SELECT pg_temp.hire('unversioned', '{filter}', '{greet,part}');
SELECT pg_temp.hire('knows nothing', '{filter}', '{}');
SELECT is_empty($$SELECT * FROM pg_temp.claimed('knows nothing')$$, 'an executor without names claims nothing');
SELECT bag_eq(
    $$SELECT * FROM pg_temp.claimed('v2')$$, $$VALUES ('known'), ('known v2')$$,
    'a claim takes the names that the executor registered, of its version or of none'
);
SELECT bag_eq(
    $$SELECT * FROM pg_temp.claimed('unversioned')$$, $$VALUES ('unknown')$$,
    'an executor without a version takes no workflow that asks for one'
);

-- claim: what comes with it

SELECT lockstep.enqueue_workflow(
    'greet', 'q', '[1]', '{"two": 2}', workflow_id => 'w', headers => '{"trace": "t"}',
    run_at => clock_timestamp() - interval '1 min'
);
SELECT pg_temp.hire('alice');
SELECT results_eq(
    $$SELECT c.*::text FROM lockstep.claim_workflows('alice', 1) AS c$$,
    $$SELECT
        ROW(
            'w'::text, 'greet'::text, 'q'::text, '{"positionalArgs": [1], "namedArgs": {"two": 2}}'::jsonb,
            '{"trace": "t"}'::jsonb, 1, NULL::json, NULL::float8, 0, w.available_at
        )::text
    FROM lockstep.workflow_status AS w
    WHERE w.workflow_id = 'w'$$,
    'a first claim brings arguments and headers, attempt 1 and no steps'
);
SELECT is(pg_temp.state_of('w'), 'PENDING attempts=1 executor=alice', 'a claimed workflow runs and counts an attempt');

SELECT lockstep.record_steps('alice', jsonb_build_array(
    jsonb_build_object('workflow_id', 'w', 'attempt', 1, 'step_id', 1, 'step_name', 'one', 'output', '{"a": 1}'::jsonb),
    jsonb_build_object(
        'workflow_id', 'w', 'attempt', 1, 'step_id', 2, 'step_name', 'two',
        'error', '{"type": "E"}'::jsonb, 'attempts', 3
    )
));
SELECT lockstep.start_timers('alice', jsonb_build_array(
    jsonb_build_object('workflow_id', 'w', 'attempt', 1, 'step_id', 3, 'step_name', 'sleep', 'delay', 3600),
    jsonb_build_object('workflow_id', 'w', 'attempt', 1, 'step_id', 4, 'step_name', 'nap', 'delay', 0)
));
SELECT is(lockstep.release_workflows('alice'), 1, 'a workflow can be handed back');
SELECT is(pg_temp.state_of('w'), 'ENQUEUED attempts=0', 'handing back does not count the attempt');

CREATE TEMPORARY TABLE claim_of_w AS SELECT c.* FROM lockstep.claim_workflows('alice', 1) AS c;
SELECT results_eq(
    $$
    SELECT s.step_id, s.step_name, s.output, s.error, s.attempts, round(s.remaining / 60)
    FROM claim_of_w AS c
    CROSS JOIN json_to_recordset(c.steps)
        AS s (step_id int, step_name text, output jsonb, error jsonb, attempts int, remaining numeric)
    ORDER BY s.step_id
    $$,
    $$
    VALUES
        (1, 'one', to_jsonb('{"a": 1}'::text), NULL::jsonb, 1, NULL::numeric),
        (2, 'two', NULL, to_jsonb('{"type": "E"}'::text), 3, NULL),
        (3, 'sleep', NULL, NULL, 0, 60),
        (4, 'nap', NULL, NULL, 0, 0)
    $$,
    'a later claim brings the recorded steps and what their timers have left'
);

-- claim: how long until the deadline

SELECT pg_temp.hire('punctual', '{deadlines}');
SELECT lockstep.enqueue_workflow('greet', 'deadlines', workflow_id => 'none');
SELECT lockstep.enqueue_workflow('greet', 'deadlines', workflow_id => 'timeout', timeout => '90 seconds');
SELECT lockstep.enqueue_workflow(
    'greet', 'deadlines', workflow_id => 'deadline', deadline => clock_timestamp() + interval '1 hour'
);
SELECT lockstep.enqueue_workflow(
    'greet', 'deadlines', workflow_id => 'overdue', deadline => clock_timestamp() - interval '1 hour'
);
CREATE TEMPORARY VIEW deadline_of_claimed AS
SELECT c.workflow_id, c.attempt, round(c.deadline_in) AS deadline_in
FROM lockstep.claim_workflows('punctual', 10) AS c;
SELECT bag_eq(
    'SELECT d.* FROM deadline_of_claimed AS d',
    $$VALUES ('none', 1, NULL::float8), ('timeout', 1, 90), ('deadline', 1, 3600), ('overdue', 1, -3600)$$,
    'a claim brings the seconds until the deadline, be it named or that of a timeout'
);
UPDATE lockstep.workflow_status SET deadline_at = deadline_at - interval '1 min' WHERE workflow_id = 'timeout';
SELECT lockstep.release_workflows('punctual');
SELECT bag_eq(
    'SELECT d.workflow_id, d.deadline_in FROM deadline_of_claimed AS d',
    $$VALUES ('none', NULL::float8), ('timeout', 30), ('deadline', 3600), ('overdue', -3600)$$,
    'a later claim brings what is left of it'
);
SELECT lockstep.cancel_workflow(d.id)
FROM unnest(ARRAY['none', 'timeout', 'deadline', 'overdue']) AS d (id);

-- finish

SELECT is_empty(
    $$SELECT lockstep.finish_workflows('alice', '[{"workflow_id": "w", "attempt": 1, "output": {"hello": 1}}]')$$,
    'finishing what the executor runs loses nothing'
);
SELECT results_eq(
    $$SELECT g.status, g.output, g.error, g.completed_at IS NOT NULL FROM lockstep.get_workflow('w') AS g$$,
    $$VALUES ('SUCCESS', '{"hello": 1}'::jsonb, NULL::jsonb, true)$$,
    'an output is a success'
);
SELECT is_empty(
    $$SELECT lockstep.finish_workflows('alice', '[{"workflow_id": "w", "attempt": 1, "output": 2}]')$$,
    'what this attempt finished before is not lost'
);
SELECT results_eq(
    $$SELECT g.output FROM lockstep.get_workflow('w') AS g$$, $$VALUES ('{"hello": 1}'::jsonb)$$,
    'a second finish changes nothing'
);

SELECT lockstep.enqueue_workflow('greet', 'q', workflow_id => id)
FROM unnest(ARRAY['fails', 'returns nothing', 'cancelled', 'taken over', 'older attempt']) AS f (id);
SELECT pg_temp.claimed('alice');
SELECT lockstep.cancel_workflow('cancelled');
UPDATE lockstep.workflow_status SET executor_id = 'bob', attempts = 2 WHERE workflow_id = 'taken over';
UPDATE lockstep.workflow_status SET attempts = 2 WHERE workflow_id = 'older attempt';
SELECT bag_eq(
    $$
    SELECT lockstep.finish_workflows('alice', '[
        {"workflow_id": "fails", "attempt": 1, "error": {"type": "E", "message": "m"}},
        {"workflow_id": "returns nothing", "attempt": 1, "output": null},
        {"workflow_id": "cancelled", "attempt": 1, "output": 1},
        {"workflow_id": "taken over", "attempt": 1, "output": 1},
        {"workflow_id": "older attempt", "attempt": 1, "output": 1},
        {"workflow_id": "nowhere", "attempt": 1, "output": 1}
    ]')
    $$,
    $$VALUES ('cancelled'), ('taken over'), ('older attempt'), ('nowhere')$$,
    'finish returns the workflows that the executor had lost'
);
SELECT results_eq(
    $$SELECT g.status, g.output, g.error FROM lockstep.get_workflow('fails') AS g$$,
    $$VALUES ('ERROR', NULL::jsonb, '{"type": "E", "message": "m"}'::jsonb)$$,
    'an error is a failure'
);
SELECT results_eq(
    $$SELECT g.status, g.output, g.error FROM lockstep.get_workflow('returns nothing') AS g$$,
    $$VALUES ('SUCCESS', NULL::jsonb, NULL::jsonb)$$,
    'a workflow that returns nothing succeeds'
);
SELECT is(pg_temp.state_of(s.workflow_id), s.expected, format('the lost workflow "%s" stays as it was', s.workflow_id))
FROM (
    VALUES
        ('cancelled', 'CANCELLED attempts=1 executor=alice'),
        ('taken over', 'PENDING attempts=2 executor=bob'),
        ('older attempt', 'PENDING attempts=2 executor=alice')
) AS s (workflow_id, expected);

-- suspend

DELETE FROM lockstep.workflow_status;
SELECT lockstep.enqueue_workflow('greet', 'q', workflow_id => id)
FROM unnest(ARRAY['sleeps', 'waits', 'waits an hour', 'has mail', 'waits for other mail', 'runs']) AS s (id);
SELECT pg_temp.claimed('alice');
SELECT lockstep.start_timers('alice', '[
    {"workflow_id": "sleeps", "attempt": 1, "step_id": 1, "step_name": "sleep", "delay": 7200},
    {"workflow_id": "sleeps", "attempt": 1, "step_id": 2, "step_name": "sleep", "delay": 3600},
    {"workflow_id": "sleeps", "attempt": 1, "step_id": 3, "step_name": "sleep", "delay": 60}
]');
SELECT lockstep.receive_messages('alice', '[
    {"workflow_id": "waits an hour", "attempt": 1, "step_id": 1, "topic": "a", "timeout": 3600}
]');
SELECT lockstep.send_message('has mail', '1', topic => 'a');
SELECT lockstep.send_message('waits for other mail', '1', topic => 'b');
SELECT bag_eq(
    $$
    SELECT s.workflow_id, s.outcome
    FROM lockstep.suspend_workflows('alice', '[
        {"workflow_id": "sleeps", "attempt": 1, "step_ids": [1, 2]},
        {"workflow_id": "waits", "attempt": 1, "step_ids": [1], "topics": ["a", ""]},
        {"workflow_id": "waits an hour", "attempt": 1, "step_ids": [1], "topics": ["a"]},
        {"workflow_id": "has mail", "attempt": 1, "step_ids": [1], "topics": ["a"]},
        {"workflow_id": "waits for other mail", "attempt": 1, "step_ids": [1], "topics": ["a"]},
        {"workflow_id": "runs", "attempt": 2, "step_ids": [1], "topics": ["a"]},
        {"workflow_id": "nowhere", "attempt": 1, "step_ids": [1], "topics": ["a"]}
    ]') AS s
    $$,
    $$
    VALUES
        ('sleeps', 'suspended'), ('waits', 'suspended'), ('waits an hour', 'suspended'), ('has mail', 'ready'),
        ('waits for other mail', 'suspended'), ('runs', 'lost'), ('nowhere', 'lost')
    $$,
    'suspend answers for each workflow how it went'
);
SELECT is(
    pg_temp.state_of(s.workflow_id), s.expected,
    format('after suspend, the workflow that %s is %s', s.workflow_id, s.expected)
)
FROM (
    VALUES
        ('sleeps', 'DELAYED attempts=0'),
        ('waits', 'WAITING attempts=0'),
        ('waits an hour', 'WAITING attempts=0'),
        ('has mail', 'PENDING attempts=1 executor=alice'),
        ('waits for other mail', 'WAITING attempts=0'),
        ('runs', 'PENDING attempts=1 executor=alice')
) AS s (workflow_id, expected);
SELECT results_eq(
    $$
    SELECT w.workflow_id, w.waiting_for, round(extract(epoch FROM w.available_at - now()) / 3600)
    FROM lockstep.workflow_status AS w
    WHERE w.status IN ('DELAYED', 'WAITING')
    ORDER BY w.workflow_id
    $$,
    $$
    VALUES
        ('sleeps', NULL::text[], 1::numeric),
        ('waits', ARRAY['message:a', 'message:'], NULL),
        ('waits an hour', ARRAY['message:a'], 1),
        ('waits for other mail', ARRAY['message:a'], NULL)
    $$,
    'a suspended workflow wakes at the earliest of the timers that it named'
);
SELECT is_empty($$SELECT * FROM pg_temp.claimed('alice')$$, 'a suspended workflow is not claimed');

-- release

SELECT is(lockstep.release_workflows('alice', ARRAY['runs']), 1, 'release hands back all but what is kept');
SELECT is(pg_temp.state_of('runs'), 'PENDING attempts=1 executor=alice', 'what is kept runs on');
SELECT is(pg_temp.state_of('has mail'), 'ENQUEUED attempts=0', 'what is handed back can be claimed');
SELECT is(lockstep.release_workflows('nobody'), 0, 'an executor without workflows hands back none');

-- reconcile: connection 2 looked first, and what began since is not known to connection 1

SELECT is(lockstep.reconcile_workflows('alice', 2, ARRAY['runs']), 0, 'a new connection keeps what runs');
SELECT is(lockstep.reconcile_workflows('alice', 1), 0, 'what comes late from the connection before it');
SELECT is(pg_temp.state_of('runs'), 'PENDING attempts=1 executor=alice', 'hands nothing back');
SELECT throws_ok(
    $$
    SELECT lockstep.advance_workflows('alice', '{
        "connection_number": 1, "outcomes": [{"workflow_id": "runs", "attempt": 1, "output": 1}]
    }')
    $$,
    '40001', 'executor "alice" has made another connection since', 'and changes nothing'
);
SELECT is(pg_temp.state_of('runs'), 'PENDING attempts=1 executor=alice', 'what runs goes on');
SELECT lives_ok(
    $$SELECT lockstep.advance_workflows('alice', '{"connection_number": 2, "steps": []}')$$, 'as the new connection says'
);
SELECT is(lockstep.reconcile_workflows('alice', 2), 1, 'the same connection may look again');
SELECT is(pg_temp.state_of('runs'), 'ENQUEUED attempts=0', 'and hands back what is not kept');
SELECT is(lockstep.reconcile_workflows('nobody', 1), 0, 'an executor that is gone holds nothing');

-- cancel and resume, from each status

DELETE FROM lockstep.workflow_status;
DELETE FROM lockstep.operation_outputs;
CREATE TEMPORARY TABLE state (status text, can_cancel boolean, can_resume boolean);
INSERT INTO state
VALUES
    ('ENQUEUED', true, false), ('DELAYED', true, false), ('PENDING', true, false), ('WAITING', true, false),
    ('SUCCESS', NULL, NULL), ('ERROR', NULL, true), ('MAX_RECOVERY_ATTEMPTS_EXCEEDED', NULL, true),
    ('CANCELLED', false, true);
CREATE FUNCTION pg_temp.insert_each_state(p_prefix text)
RETURNS void
LANGUAGE sql
AS $$
    INSERT INTO lockstep.workflow_status (
        workflow_id, workflow_name, queue_name, status, waiting_for, executor_id, attempts, max_attempts,
        started_at, completed_at, error, deadline_at
    )
    SELECT
        p_prefix || s.status, 'greet', p_prefix, s.status,
        CASE WHEN s.status = 'WAITING' THEN ARRAY['message:'] END,
        CASE WHEN s.status IN ('PENDING', 'SUCCESS', 'ERROR', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED') THEN 'alice' END,
        3, 3, now(),
        CASE WHEN s.status IN ('SUCCESS', 'ERROR', 'CANCELLED', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED') THEN now() END,
        CASE WHEN s.status IN ('ERROR', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED') THEN '{}'::jsonb END,
        '2100-01-01'
    FROM state AS s
$$;

SELECT pg_temp.insert_each_state('cancel ');
SELECT is(
    lockstep.cancel_workflow('cancel ' || s.status), s.can_cancel,
    format('cancelling a workflow that is %s returns %s', s.status, s.can_cancel)
)
FROM state AS s
WHERE s.can_cancel IS NOT NULL;
SELECT throws_ok(
    format('SELECT lockstep.cancel_workflow(%L)', 'cancel ' || s.status), '55000',
    format('workflow "cancel %1$s" is %1$s and cannot become CANCELLED', s.status),
    format('a workflow that is %s cannot be cancelled', s.status)
)
FROM state AS s
WHERE s.can_cancel IS NULL;
SELECT results_eq(
    $$
    SELECT w.workflow_id, w.status, w.completed_at IS NOT NULL
    FROM lockstep.workflow_status AS w
    ORDER BY w.workflow_id
    $$,
    $$
    SELECT
        'cancel ' || s.status, CASE WHEN s.can_cancel IS NULL THEN s.status ELSE 'CANCELLED' END,
        s.status NOT IN ('ENQUEUED', 'DELAYED', 'PENDING', 'WAITING') OR s.can_cancel
    FROM state AS s
    ORDER BY 1
    $$,
    'what was cancelled is CANCELLED, what had ended is as it was'
);
SELECT is(lockstep.cancel_workflow('cancel PENDING'), false, 'a second cancel returns false');
SELECT throws_ok(
    $$SELECT lockstep.cancel_workflow('nowhere')$$, 'P0002', 'workflow "nowhere" does not exist',
    'a workflow that does not exist cannot be cancelled'
);

SELECT pg_temp.insert_each_state('resume ');
SELECT is(
    lockstep.resume_workflow('resume ' || s.status), s.can_resume,
    format('resuming a workflow that is %s returns %s', s.status, s.can_resume)
)
FROM state AS s
WHERE s.can_resume IS NOT NULL;
SELECT throws_ok(
    $$SELECT lockstep.resume_workflow('resume SUCCESS')$$, '55000',
    'workflow "resume SUCCESS" is SUCCESS and cannot become ENQUEUED',
    'a workflow that succeeded cannot be resumed'
);
SELECT throws_ok(
    $$SELECT lockstep.resume_workflow('nowhere')$$, 'P0002', 'workflow "nowhere" does not exist',
    'a workflow that does not exist cannot be resumed'
);
SELECT results_eq(
    $$
    SELECT
        w.workflow_id, w.status, w.attempts, w.max_attempts, w.deadline_at,
        num_nulls(w.error, w.completed_at, w.executor_id, w.output)
    FROM lockstep.workflow_status AS w
    WHERE w.queue_name = 'resume '
        AND w.workflow_id IN (SELECT 'resume ' || s.status FROM state AS s WHERE s.can_resume)
    ORDER BY w.workflow_id
    $$,
    $$
    SELECT 'resume ' || s.status, 'ENQUEUED', 3, 6, '2100-01-01'::timestamptz, 4
    FROM state AS s
    WHERE s.can_resume
    ORDER BY 1
    $$,
    'a resumed workflow is claimable, with as many attempts left as it began with'
);
SELECT is(
    pg_temp.state_of('resume ' || s.status),
    concat_ws(' ', s.status, 'attempts=3', CASE WHEN s.status = 'PENDING' THEN 'executor=alice' END),
    format('resume leaves a workflow that is %s alone', s.status)
)
FROM state AS s
WHERE NOT s.can_resume;

INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name, status, completed_at, error, deadline_at)
VALUES
    ('overdue', 'greet', 'q', 'CANCELLED', now(), '{}', '2026-01-01'),
    ('failed step', 'greet', 'q', 'ERROR', now(), '{}', NULL),
    ('handled failure', 'greet', 'q', 'ERROR', now(), '{}', NULL),
    ('failed branch', 'greet', 'q', 'ERROR', now(), '{"type": "E", "message": "m"}', NULL),
    ('cancelled', 'greet', 'q', 'CANCELLED', now(), NULL, NULL);
INSERT INTO lockstep.operation_outputs (workflow_id, step_id, step_name, error, started_at, completed_at)
SELECT s.workflow_id, s.step_id, s.step_name, s.error, now() + s.began, now() + s.ended
FROM (
    VALUES
    ('failed step', 1, 'a', '{}'::jsonb, interval '1 s', interval '2 s'), ('failed step', 2, 'b', '{}', '3 s', '4 s'),
    ('handled failure', 1, 'a', '{}', '1 s', '2 s'), ('handled failure', 2, 'b', NULL, '3 s', '4 s'),
    -- of three branches that began together two failed, and the third went on for a while
    ('failed branch', 1, 'a', '{"type": "E", "message": "m"}', '1 s', '3 s'),
    ('failed branch', 2, 'b', '{"type": "F", "message": "m"}', '1 s', '2 s'),
    ('failed branch', 3, 'c', NULL, '1 s', '2 s'), ('failed branch', 65539, 'd', NULL, '2.5 s', '4 s'),
    ('failed branch', 131075, 'd', NULL, '5 s', '6 s'),
    ('cancelled', 1, 'a', '{}', '1 s', '2 s')
) AS s (workflow_id, step_id, step_name, error, began, ended);
SELECT lockstep.resume_workflow(r.id)
FROM unnest(ARRAY['overdue', 'failed step', 'handled failure', 'failed branch', 'cancelled']) AS r (id);
SELECT is(
    (SELECT w.deadline_at FROM lockstep.workflow_status AS w WHERE w.workflow_id = 'overdue'), NULL::timestamptz,
    'a resumed workflow is not cancelled again by a deadline that has passed'
);
SELECT results_eq(
    'SELECT o.workflow_id, o.step_id FROM lockstep.operation_outputs AS o ORDER BY 1, 2',
    $$
    VALUES
        ('cancelled', 1), ('failed branch', 2), ('failed branch', 3), ('failed branch', 65539),
        ('failed branch', 131075), ('failed step', 1), ('handled failure', 1), ('handled failure', 2)
    $$,
    'resume forgets the failed step that ended the workflow and no other'
);

INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name, status, completed_at, deduplication_id)
VALUES ('old', 'greet', 'dedup', 'CANCELLED', now(), 'd'), ('new', 'greet', 'dedup', 'ENQUEUED', NULL, 'd');
SELECT throws_ok(
    $$SELECT lockstep.resume_workflow('old')$$, '23505',
    'queue "dedup" has an unfinished workflow with deduplication_id "d"',
    'a workflow cannot be resumed while another has its deduplication_id'
);

-- deadlines and due times

DELETE FROM lockstep.workflow_status;
SELECT results_eq(
    'SELECT p.promoted_count, p.next_due_in FROM lockstep.promote_due_workflows() AS p',
    'VALUES (0, NULL::float8)',
    'when nothing is scheduled, nothing is promoted and nothing is next'
);

SELECT pg_temp.insert_each_state('overdue ');
SELECT pg_temp.insert_each_state('in time ');
UPDATE lockstep.workflow_status SET deadline_at = clock_timestamp() - interval '1 s' WHERE queue_name = 'overdue ';
UPDATE lockstep.workflow_status SET available_at = '2100-01-01' WHERE status IN ('DELAYED', 'WAITING');
SELECT is((lockstep.promote_due_workflows()).promoted_count, 4, 'promote counts what it cancelled');
SELECT is(
    concat(w.status, ' ', w.error ->> 'type', ' ', w.waiting_for), 'CANCELLED DeadlineExceeded ',
    format('an %s workflow is cancelled at its deadline', lower(w.workflow_id))
)
FROM lockstep.workflow_status AS w
WHERE w.workflow_id IN ('overdue ENQUEUED', 'overdue DELAYED', 'overdue PENDING', 'overdue WAITING');
SELECT results_eq(
    $$
    SELECT substr(w.workflow_id, 9), w.status
    FROM lockstep.workflow_status AS w
    WHERE w.queue_name = 'in time '
    ORDER BY 1
    $$,
    'SELECT s.status, s.status FROM state AS s ORDER BY 1',
    'a deadline to come changes nothing'
);
SELECT is_empty(
    $$
    SELECT w.workflow_id
    FROM lockstep.workflow_status AS w
    INNER JOIN state AS s ON w.workflow_id = 'overdue ' || s.status
    WHERE w.status <> s.status AND s.status NOT IN ('ENQUEUED', 'DELAYED', 'PENDING', 'WAITING')
    $$,
    'a deadline changes nothing about a workflow that has ended'
);

DELETE FROM lockstep.workflow_status;
INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name, status, waiting_for, available_at)
VALUES
    ('slept', 'greet', 'q', 'DELAYED', NULL, clock_timestamp() - interval '2 s'),
    ('timed out', 'greet', 'q', 'WAITING', ARRAY['message:'], clock_timestamp() - interval '1 s'),
    ('sleeps', 'greet', 'q', 'DELAYED', NULL, clock_timestamp() + interval '1 hour'),
    ('waits', 'greet', 'q', 'WAITING', ARRAY['message:'], NULL);
SELECT results_eq(
    'SELECT p.promoted_count, p.next_due_in FROM lockstep.promote_due_workflows(1) AS p', 'VALUES (1, 0::float8)',
    'when there is more to do than max_count, the next is due now'
);
SELECT results_eq(
    'SELECT p.promoted_count, round(p.next_due_in::numeric / 60) FROM lockstep.promote_due_workflows() AS p',
    'VALUES (1, 60::numeric)',
    'promote tells the seconds until the next workflow falls due'
);
SELECT results_eq(
    'SELECT w.workflow_id, w.status, w.waiting_for FROM lockstep.workflow_status AS w ORDER BY w.workflow_id',
    $$
    VALUES
        ('sleeps', 'DELAYED', NULL::text[]), ('slept', 'ENQUEUED', NULL),
        ('timed out', 'ENQUEUED', NULL), ('waits', 'WAITING', ARRAY['message:'])
    $$,
    'what was due is claimable, what was not due sleeps on'
);
SELECT results_eq(
    $$SELECT * FROM pg_temp.claimed('alice')$$, $$VALUES ('slept'), ('timed out')$$,
    'a workflow that was due first is claimed first'
);
UPDATE lockstep.workflow_status SET deadline_at = clock_timestamp() + interval '1 min' WHERE workflow_id = 'waits';
SELECT is(
    round((lockstep.promote_due_workflows()).next_due_in::numeric), 60::numeric,
    'a deadline counts as the next due time'
);

-- get_workflow

SELECT throws_ok(
    $$SELECT * FROM lockstep.get_workflow('nowhere')$$, 'P0002', 'workflow "nowhere" does not exist',
    'a workflow that does not exist cannot be read'
);

SELECT * FROM finish();
ROLLBACK;
