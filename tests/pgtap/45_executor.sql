-- Leases: registration, heartbeat, recovery of what a dead executor held.
BEGIN;
SELECT no_plan();

\ir hint_of.psql

CREATE FUNCTION pg_temp.hire(p_executor_id text, p_queues text[], p_workflow_names text[])
RETURNS void
LANGUAGE sql
AS $$
    INSERT INTO lockstep.executor (executor_id, queues, workflow_names, lease_duration, expires_at)
    VALUES (p_executor_id, p_queues, p_workflow_names, '1 hour', clock_timestamp() + '1 hour')
$$;

-- A workflow that runs its p_attempts-th attempt.
CREATE FUNCTION pg_temp.run_workflow(
    p_workflow_id text, p_executor_id text, p_attempts int DEFAULT 1, p_max_attempts int DEFAULT 50
)
RETURNS void
LANGUAGE sql
AS $$
    INSERT INTO lockstep.workflow_status (
        workflow_id, workflow_name, queue_name, status, executor_id, attempts, max_attempts, started_at
    )
    VALUES (p_workflow_id, 'greet', 'q', 'PENDING', p_executor_id, p_attempts, p_max_attempts, now())
$$;

CREATE FUNCTION pg_temp.expire(p_executor_id text)
RETURNS void
LANGUAGE sql
AS $$
    UPDATE lockstep.executor SET expires_at = clock_timestamp() - interval '1 s' WHERE executor_id = p_executor_id
$$;

-- registration

CREATE TEMPORARY TABLE refused_call AS
SELECT c.*, 'SELECT lockstep.register_executor(' || c.arguments || ')' AS statement
FROM (
    VALUES
        ($$NULL, '{greet}'$$, 'queues must name at least one queue'),
        ($$'{}', '{greet}'$$, 'queues must name at least one queue'),
        ($$'{q}', '{greet}', NULL$$, 'lease_duration must be between 1 second and 1 day, not null'),
        ($$'{q}', '{greet}', '0.9 s'$$, 'lease_duration must be between 1 second and 1 day, not 00:00:00.9'),
        ($$'{q}', '{greet}', '-1 s'$$, 'lease_duration must be between 1 second and 1 day, not -00:00:01'),
        ($$'{q}', '{greet}', '25 h'$$, 'lease_duration must be between 1 second and 1 day, not 25:00:00')
) AS c (arguments, message);
SELECT throws_ok(r.statement, '22023', r.message, format('register_executor(%s) is refused', r.arguments))
FROM refused_call AS r;
SELECT isnt(
    coalesce(pg_temp.hint_of(r.statement), ''), '',
    format('the error for register_executor(%s) has a hint', r.arguments)
)
FROM refused_call AS r;
SELECT is_empty('SELECT e.executor_id FROM lockstep.executor AS e', 'a refused registration leaves no row');

SELECT lockstep.register_executor('{q,r}', '{greet}', '1 min', 'v1', 'localhost', 42, 'py 1') AS executor_id \gset
SELECT results_eq(
    $$
    SELECT
        e.executor_id, e.queues, e.workflow_names, e.app_version, e.host, e.pid, e.client_version, e.is_idle,
        e.lease_duration, round(extract(epoch FROM e.expires_at - clock_timestamp()) / 60)
    FROM lockstep.executor AS e
    $$,
    format(
        $$
        VALUES (
            %L, '{q,r}'::text[], '{greet}'::text[], 'v1', 'localhost', 42, 'py 1', false,
            interval '1 min', 1::numeric
        )
        $$,
        :'executor_id'
    ),
    'an executor is registered with what it told, and a lease from now'
);
SELECT isnt(
    lockstep.register_executor('{q}', NULL), lockstep.register_executor('{q}', NULL),
    'every registration gets an id of its own'
);
SELECT lives_ok(
    format('SELECT lockstep.register_executor(%L, %L, %L)', '{q}', '{}', d.lease),
    format('a lease of %s is accepted', d.lease)
)
FROM unnest(ARRAY['1 second', '1 day']) AS d (lease);

-- heartbeat

DELETE FROM lockstep.executor;
SELECT pg_temp.hire('alice', '{q}', '{greet}');
UPDATE lockstep.executor SET expires_at = clock_timestamp() + interval '1 s';
SELECT lockstep.heartbeat('alice', is_idle => true);
SELECT results_eq(
    'SELECT round(extract(epoch FROM e.expires_at - clock_timestamp()) / 60), e.is_idle FROM lockstep.executor AS e',
    'VALUES (60::numeric, true)',
    'a heartbeat extends the lease and says whether the executor is idle'
);
SELECT pg_temp.expire('alice');
SELECT lives_ok($$SELECT lockstep.heartbeat('alice')$$, 'a heartbeat revives a lease that ended and nobody took over');
SELECT results_eq(
    'SELECT e.expires_at > clock_timestamp(), e.is_idle FROM lockstep.executor AS e', 'VALUES (true, false)',
    'a heartbeat says that the executor is busy unless told otherwise'
);

INSERT INTO lockstep.workflow_status (workflow_name, queue_name)
VALUES ('greet', 'q'), ('part', 'q'), ('part', 'q'), ('elsewhere', 'r'), ('bob''s', 'q'), ('dead bob''s', 'q');
INSERT INTO lockstep.workflow_status (workflow_name, queue_name, status)
VALUES ('sleeper', 'q', 'DELAYED');
SELECT pg_temp.hire('bob', '{q}', '{bob''s}');
SELECT pg_temp.hire('dead bob', '{q}', '{dead bob''s}');
SELECT pg_temp.hire('carol', '{r}', '{part}');
SELECT pg_temp.expire('dead bob');
SELECT bag_eq(
    $$SELECT lockstep.heartbeat('alice')$$, $$VALUES ('part'), ('dead bob''s')$$,
    'a heartbeat reports names of waiting workflows of its queues that no live executor of the queue knows'
);

-- recovery

DELETE FROM lockstep.executor;
DELETE FROM lockstep.workflow_status;
SELECT results_eq(
    'SELECT r.recovered_count, r.next_expiry_in FROM lockstep.recover_workflows() AS r', 'VALUES (0, NULL::float8)',
    'without executors nothing is recovered and no lease ends next'
);
SELECT pg_temp.hire('alive', '{q}', '{greet}');
SELECT pg_temp.hire('dead', '{q}', '{greet}');
SELECT pg_temp.run_workflow('of the living', 'alive');
SELECT pg_temp.run_workflow('dies ' || a.attempts, 'dead', a.attempts)
FROM unnest(ARRAY[1, 3, 4, 5, 9, 10, 20]) AS a (attempts);
SELECT pg_temp.run_workflow('dies too often', 'dead', 3, 3);
SELECT pg_temp.run_workflow('dies but once', 'dead', 2, 3);
INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name, status, executor_id, completed_at)
VALUES ('has ended', 'greet', 'q', 'SUCCESS', 'dead', now());
SELECT is((lockstep.recover_workflows()).recovered_count, 0, 'while leases run, nothing is recovered');

SELECT pg_temp.expire('dead');
SELECT results_eq(
    'SELECT r.recovered_count, round(r.next_expiry_in::numeric / 60) FROM lockstep.recover_workflows() AS r',
    'VALUES (9, 60::numeric)',
    'recovery puts back all that the dead executor ran and tells when the next lease ends'
);
SELECT results_eq(
    $$
    SELECT
        w.workflow_id, w.status, w.attempts, w.executor_id,
        greatest(round(extract(epoch FROM w.available_at - clock_timestamp())), 0), w.error ->> 'type'
    FROM lockstep.workflow_status AS w
    ORDER BY w.workflow_id
    $$,
    $$
    VALUES
        ('dies 1', 'ENQUEUED', 1, NULL, 0::numeric, NULL),
        ('dies 10', 'DELAYED', 10, NULL, 60, NULL),
        ('dies 20', 'DELAYED', 20, NULL, 60, NULL),
        ('dies 3', 'ENQUEUED', 3, NULL, 0, NULL),
        ('dies 4', 'DELAYED', 4, NULL, 1, NULL),
        ('dies 5', 'DELAYED', 5, NULL, 2, NULL),
        ('dies 9', 'DELAYED', 9, NULL, 32, NULL),
        ('dies but once', 'ENQUEUED', 2, NULL, 0, NULL),
        ('dies too often', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED', 3, 'dead', 0, 'MaxRecoveryAttemptsExceeded'),
        ('has ended', 'SUCCESS', 0, 'dead', 0, NULL),
        ('of the living', 'PENDING', 1, 'alive', 0, NULL)
    $$,
    'recovery counts attempts, backs off from the fourth death and ends in the dead letter'
);
SELECT results_eq(
    $$
    SELECT w.error, w.completed_at IS NOT NULL
    FROM lockstep.workflow_status AS w
    WHERE w.workflow_id = 'dies too often'
    $$,
    $$
    VALUES (
        '{"type": "MaxRecoveryAttemptsExceeded", "message": "its executor died under each of its 3 attempts"}'::jsonb,
        true
    )
    $$,
    'a dead letter tells why it is one'
);
SELECT results_eq(
    'SELECT e.executor_id FROM lockstep.executor AS e', $$VALUES ('alive')$$,
    'an executor that holds nothing any more is removed'
);
SELECT results_eq(
    $$SELECT c.workflow_id, c.attempt FROM lockstep.claim_workflows('alive', 3) AS c ORDER BY c.workflow_id$$,
    $$VALUES ('dies 1', 2)$$,
    'what was recovered runs again, as the next attempt'
);
SELECT is(lockstep.resume_workflow('dies too often'), true, 'a dead letter can be resumed');
SELECT pg_temp.hire('next', '{q}', '{greet}');
SELECT results_eq(
    $$SELECT c.workflow_id, c.attempt FROM lockstep.claim_workflows('next', 3) AS c$$, $$VALUES ('dies 3', 4)$$,
    'what died often runs again where nothing else runs'
);
SELECT lockstep.unregister_executor('next');
UPDATE lockstep.workflow_status SET priority = 1 WHERE workflow_id <> 'dies too often';
SELECT pg_temp.hire('next', '{q}', '{greet}');
SELECT workflow_id FROM lockstep.claim_workflows('next', 1);
SELECT pg_temp.expire('next');
SELECT lockstep.recover_workflows();
SELECT is(
    (SELECT w.status FROM lockstep.workflow_status AS w WHERE w.workflow_id = 'dies too often'), 'DELAYED',
    'a resumed dead letter has attempts left'
);

-- fencing: an executor that is unknown or declared dead cannot write

INSERT INTO lockstep.executor (executor_id, queues, workflow_names, lease_duration, expires_at)
VALUES ('declared dead', '{q}', '{greet}', '30 s', '-infinity');
SELECT pg_temp.run_workflow('w', 'declared dead');
SELECT throws_ok(
    format('SELECT lockstep.' || c.call, quote_literal(x.executor_id)), 'WF001', NULL,
    format(
        '%s raises WF001 for an executor that is %s',
        regexp_replace(replace(c.call, '%s', 'id'), '\s+', ' ', 'g'), x.executor_id
    )
)
FROM (
    VALUES
        ('heartbeat(%s)'),
        ('claim_workflows(%s, 1)'),
        ('record_step(%s, ''w'', 1, 1, ''s'')'),
        ('record_steps(%s, ''[{"workflow_id": "w", "attempt": 1, "step_id": 1, "step_name": "s"}]'')'),
        ('start_timers(%s, ''[{"workflow_id": "w", "attempt": 1, "step_id": 1, "step_name": "s", "delay": 1}]'')'),
        ('set_events(%s, ''[{"workflow_id": "w", "attempt": 1, "step_id": 1, "key": "k", "value": 1}]'')'),
        (
            'send_step_messages(%s, ''[
                {"workflow_id": "w", "attempt": 1, "step_id": 1, "destination_id": "w", "message": 1}
            ]'')'
        ),
        ('receive_messages(%s, ''[{"workflow_id": "w", "attempt": 1, "step_id": 1, "timeout": 0}]'')'),
        ('suspend_workflows(%s, ''[{"workflow_id": "w", "attempt": 1, "step_ids": [], "topics": ["a"]}]'')'),
        ('finish_workflows(%s, ''[{"workflow_id": "w", "attempt": 1, "output": 1}]'')'),
        ('advance_workflows(%s, ''{}'', 1)'),
        ('advance_workflows(%s, ''{"outcomes": [{"workflow_id": "w", "attempt": 1, "output": 1}]}'')')
) AS c (call)
CROSS JOIN (VALUES ('declared dead'), ('unknown')) AS x (executor_id);
SELECT results_eq(
    $$
    SELECT
        w.status,
        (SELECT count(*) FROM lockstep.operation_outputs),
        (SELECT count(*) FROM lockstep.notifications),
        (SELECT count(*) FROM lockstep.workflow_events)
    FROM lockstep.workflow_status AS w
    WHERE w.workflow_id = 'w'
    $$,
    $$VALUES ('PENDING', 0::bigint, 0::bigint, 0::bigint)$$,
    'the calls of a dead executor leave nothing'
);
SELECT is((lockstep.recover_workflows()).recovered_count, 1, 'recovery finishes what an earlier one began');

-- a clean end

DELETE FROM lockstep.executor;
DELETE FROM lockstep.workflow_status;
SELECT pg_temp.hire('alice', '{q}', '{greet}');
SELECT pg_temp.run_workflow('first', 'alice');
SELECT pg_temp.run_workflow('second', 'alice', 2);
SELECT is(lockstep.unregister_executor('alice'), 2, 'unregister tells how many workflows it handed back');
SELECT results_eq(
    'SELECT w.workflow_id, w.status, w.attempts, w.executor_id FROM lockstep.workflow_status AS w ORDER BY 1',
    $$VALUES ('first', 'ENQUEUED', 0, NULL), ('second', 'ENQUEUED', 1, NULL)$$,
    'unregister hands back at once and counts no attempt'
);
SELECT is_empty('SELECT e.executor_id FROM lockstep.executor AS e', 'unregister removes the executor');
SELECT is(lockstep.unregister_executor('alice'), 0, 'unregistering twice does nothing');

-- the view for people

SELECT pg_temp.hire('bob', '{q}', '{greet}');
DELETE FROM lockstep.workflow_status;
INSERT INTO lockstep.workflow_status (workflow_name, queue_name, app_version)
VALUES ('greet', 'q', NULL), ('greet', 'q', 'v1'), ('greet', 'q', 'v1'), ('greet', 'r', NULL), ('part', 'q', NULL);
SELECT bag_eq(
    'SELECT u.queue_name, u.workflow_name, u.app_version, u.workflow_count FROM lockstep.unserved_workflows AS u',
    $$VALUES ('q', 'greet', 'v1', 2::bigint), ('r', 'greet', NULL, 1), ('q', 'part', NULL, 1)$$,
    'unserved_workflows shows what no live executor can run: by queue, name or version'
);

SELECT * FROM finish();
ROLLBACK;
