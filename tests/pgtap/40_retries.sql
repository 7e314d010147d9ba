-- A workflow that fails is tried again by its policy: how often, when, and from which step.
BEGIN;
SELECT no_plan();

\ir failure_of.psql

CREATE FUNCTION pg_temp.run(p_workflow_id text, p_retries jsonb DEFAULT NULL)
RETURNS void
LANGUAGE sql
AS $$
    INSERT INTO lockstep.workflow_status (
        workflow_id, workflow_name, queue_name, status, executor_id, attempts, started_at, retries
    )
    VALUES (p_workflow_id, 'greet', 'q', 'PENDING', 'alice', 1, now(), p_retries)
$$;

-- Has the attempt that runs fail; returns the ids that finish_workflows() calls lost.
CREATE FUNCTION pg_temp.fail(p_workflow_id text, p_fields jsonb DEFAULT '{}', p_message text DEFAULT 'm')
RETURNS text[]
LANGUAGE sql
AS $$
    SELECT array_agg(f.lost)
    FROM lockstep.finish_workflows('alice', jsonb_build_array(jsonb_build_object(
        'workflow_id', p_workflow_id, 'attempt', 1,
        'error', jsonb_build_object('type', 'E', 'message', p_message)
    ) || p_fields)) AS f (lost)
$$;

-- What a workflow is, with the seconds for which it is put off.
CREATE FUNCTION pg_temp.state_of(p_workflow_id text)
RETURNS text
LANGUAGE sql
AS $$
    SELECT concat_ws(
        ' ', w.status,
        CASE WHEN w.status = 'DELAYED' THEN round(extract(EPOCH FROM w.available_at - clock_timestamp())) END,
        'failures=' || w.failures, 'attempts=' || w.attempts, 'executor=' || w.executor_id
    )
    FROM lockstep.workflow_status AS w
    WHERE w.workflow_id = p_workflow_id
$$;

-- Claims the workflow again, as if its pause were over.
CREATE FUNCTION pg_temp.claim_again(p_workflow_id text)
RETURNS void
LANGUAGE sql
AS $$
    UPDATE lockstep.workflow_status SET available_at = '2026-01-01' WHERE workflow_id = p_workflow_id;
    SELECT lockstep.promote_due_workflows();
    SELECT lockstep.claim_workflows('alice', 10);
$$;

INSERT INTO lockstep.executor (executor_id, queues, workflow_names, lease_duration, expires_at)
VALUES ('alice', '{q}', '{greet}', '1 hour', clock_timestamp() + interval '1 hour');

-- policies that are refused

CREATE TEMPORARY TABLE refused_policy AS
SELECT p.*, f.*
FROM (
    VALUES
        ('[]', 'It is array.'),
        ('5', 'It is number.'),
        ('null', 'It is null.'),
        ('"5"', 'It is string.'),
        ('{"attempts": 5}', '"attempts" is no key of a policy.'),
        ('{"Max_attempts": 5}', '"Max_attempts" is no key of a policy.'),
        ('{"": 5}', '"" is no key of a policy.'),
        ('{"max_attempts": "5"}', '"max_attempts" is no number.'),
        ('{"max_attempts": null}', '"max_attempts" is no number.'),
        ('{"max_attempts": true}', '"max_attempts" is no number.'),
        ('{"max_attempts": 0}', '"max_attempts" is 0, not between 1 and 1000000.'),
        ('{"max_attempts": 1000001}', '"max_attempts" is 1000001, not between 1 and 1000000.'),
        ('{"max_attempts": 2.5}', '"max_attempts" is 2.5, not between 1 and 1000000.'),
        ('{"delay": "1 s"}', '"delay" is no number.'),
        ('{"delay": null}', '"delay" is no number.'),
        ('{"delay": -0.001}', '"delay" is -0.001, not between 0 and 31536000.'),
        ('{"delay": 31536000.1}', '"delay" is 31536000.1, not between 0 and 31536000.'),
        ('{"backoff": []}', '"backoff" is no number.'),
        ('{"backoff": 0.99}', '"backoff" is 0.99, not between 1 and 1000.'),
        ('{"backoff": 1000.5}', '"backoff" is 1000.5, not between 1 and 1000.'),
        ('{"max_delay": {}}', '"max_delay" is no number.'),
        ('{"max_delay": -1}', '"max_delay" is -1, not between 0 and 31536000.'),
        ('{"max_delay": 31536001}', '"max_delay" is 31536001, not between 0 and 31536000.'),
        ('{"jitter": false}', '"jitter" is no number.'),
        ('{"jitter": -0.1}', '"jitter" is -0.1, not between 0 and 1.'),
        ('{"jitter": 1.1}', '"jitter" is 1.1, not between 0 and 1.'),
        ('{"jitter": 0, "delay": -1, "unknown": 1}', '"delay" is -1, not between 0 and 31536000.')
) AS p (policy, expected_detail)
CROSS JOIN LATERAL pg_temp.failure_of(
    format('SELECT lockstep.enqueue_workflow(%L, %L, retries => %L)', 'greet', 'q', p.policy)
) AS f;
SELECT is(
    concat_ws(' | ', r.code, r.message, r.detail), '22023 | retries must be a retry policy | ' || r.expected_detail,
    format('the policy %s is refused with what is wrong with it', r.policy)
)
FROM refused_policy AS r;
SELECT is(
    count(DISTINCT r.hint), 1::bigint, 'the hint says what a policy is made of'
)
FROM refused_policy AS r
WHERE r.hint LIKE '%max_attempts, delay, backoff, max_delay and jitter%';
SELECT is(
    f.code, '22023', format('the policy {"%s": %s} is refused however large the number', p.key, p.value)
)
FROM unnest(ARRAY['max_attempts', 'delay', 'backoff', 'max_delay', 'jitter']) AS k (key)
CROSS JOIN unnest(ARRAY['1e300', '-1e300', '99999999999999999999999999']) AS v (value)
CROSS JOIN LATERAL (VALUES (k.key, v.value)) AS p (key, value)
CROSS JOIN LATERAL pg_temp.failure_of(
    format(
        'SELECT lockstep.enqueue_workflow(%L, %L, retries => %L)', 'greet', 'q', format('{"%s": %s}', p.key, p.value)
    )
) AS f;
SELECT is(
    (pg_temp.failure_of(
        $$
        SELECT *
        FROM lockstep.enqueue_workflows('greet', 'q', ARRAY['{}', '{}']::jsonb[], retries => '{"delay": -1}')
        $$
    )).detail,
    '"delay" is -1, not between 0 and 31536000.', 'enqueue_workflows() refuses a wrong policy, too'
);
SELECT is_empty(
    $$SELECT w.workflow_id FROM lockstep.workflow_status AS w$$, 'a refused policy leaves no workflow'
);

-- policies that are taken

SELECT lives_ok(
    format(
        'SELECT lockstep.enqueue_workflow(%L, %L, retries => %L, workflow_id => %L)', 'greet', 'taken', p.policy,
        p.policy
    ),
    format('the policy %s is taken', p.policy)
)
FROM (
    VALUES
        ('{}'), ('{"max_attempts": 1}'), ('{"max_attempts": 1000000}'), ('{"max_attempts": 5.0}'),
        ('{"delay": 0, "backoff": 1, "max_delay": 0, "jitter": 0}'),
        ('{"delay": 31536000, "backoff": 1000, "max_delay": 31536000, "jitter": 1}')
) AS p (policy);
SELECT results_eq(
    $$
    SELECT w.retries::text
    FROM lockstep.workflow_status AS w
    WHERE w.queue_name = 'taken' AND w.workflow_id <> w.retries::text
    $$,
    $$
    VALUES
        ('{"delay": 0, "jitter": 0, "backoff": 1, "max_delay": 0}'),
        ('{"delay": 31536000, "jitter": 1, "backoff": 1000, "max_delay": 31536000}')
    $$,
    'a policy is kept as it was passed'
);
SELECT lockstep.enqueue_workflows('greet', 'many', ARRAY['{}', '{}']::jsonb[], retries => '{"max_attempts": 2}');
SELECT is(
    array_agg(w.retries), ARRAY['{"max_attempts": 2}', '{"max_attempts": 2}']::jsonb[],
    'each of many workflows has the policy of the call'
)
FROM lockstep.workflow_status AS w
WHERE w.queue_name = 'many';

-- how long the pauses are

SELECT is(
    extract(EPOCH FROM lockstep._retry_pause(p.policy::jsonb, p.failures)), p.seconds,
    format(
        'after failure %s the policy %s pauses %s s', p.failures, p.policy,
        coalesce(p.seconds::text, 'for no next try, so for no')
    )
)
FROM (
    VALUES
        (NULL, 1, NULL), ('{}', 1, 1), ('{}', 2, 2), ('{}', 3, NULL),
        ('{"max_attempts": 1}', 1, NULL), ('{"max_attempts": 2}', 1, 1), ('{"max_attempts": 2}', 2, NULL),
        ('{"max_attempts": 9, "delay": 0.25, "backoff": 3}', 3, 2.25),
        ('{"max_attempts": 9, "delay": 10, "backoff": 1}', 8, 10),
        ('{"max_attempts": 99, "max_delay": 60}', 6, 32), ('{"max_attempts": 99, "max_delay": 60}', 7, 60),
        ('{"max_attempts": 99}', 13, 3600), ('{"delay": 7200}', 1, 3600),
        ('{"delay": 0}', 2, 0), ('{"max_delay": 0}', 2, 0),
        (
            '{"max_attempts": 1000000, "delay": 31536000, "backoff": 1000, "max_delay": 31536000, "jitter": 1}', 999999,
            31536000
        )
) AS p (policy, failures, seconds);
SELECT cmp_ok(
    extract(EPOCH FROM min(lockstep._retry_pause('{"delay": 100, "jitter": 0.5}', 1))), '>=', 50::numeric,
    'jitter shortens a pause by its share at most'
)
FROM generate_series(1, 1000);
SELECT cmp_ok(
    extract(EPOCH FROM max(lockstep._retry_pause('{"delay": 100, "jitter": 0.5}', 1))), '<=', 150::numeric,
    'jitter lengthens a pause by its share at most'
)
FROM generate_series(1, 1000);
SELECT cmp_ok(
    count(DISTINCT lockstep._retry_pause('{"delay": 100, "jitter": 0.5}', 1)), '>', 900::bigint,
    'jitter makes pauses differ'
)
FROM generate_series(1, 1000);
SELECT cmp_ok(
    extract(EPOCH FROM max(lockstep._retry_pause('{"delay": 100, "max_delay": 100, "jitter": 1}', 1))), '<=',
    100::numeric,
    'a pause with jitter is not over max_delay'
)
FROM generate_series(1, 1000);

-- a failure that is tried again

SELECT pg_temp.run('w', '{"max_attempts": 3, "delay": 10}');
SELECT is(pg_temp.fail('w', p_message => 'first'), NULL::text[], 'a workflow that fails is not lost');
SELECT is(
    pg_temp.state_of('w'), 'DELAYED 10 failures=1 attempts=0',
    'a failed workflow waits for its next try, and no executor has it'
);
SELECT is(
    (SELECT w.error ->> 'message' FROM lockstep.workflow_status AS w WHERE w.workflow_id = 'w'), 'first',
    'a workflow that waits for its next try shows why it failed'
);
SELECT is(
    pg_temp.fail('w', p_message => 'again'), '{w}'::text[],
    'a failure that is sent again finds the workflow gone, and does not count twice'
);
SELECT is(
    pg_temp.state_of('w'), 'DELAYED 10 failures=1 attempts=0',
    'a failure that is sent again does not start the pause anew'
);
SELECT pg_temp.claim_again('w');
SELECT is(
    pg_temp.state_of('w'), 'PENDING failures=1 attempts=1 executor=alice',
    'a failure is counted apart from attempts, which crashes use up'
);
SELECT pg_temp.fail('w', p_message => 'second');
SELECT is(pg_temp.state_of('w'), 'DELAYED 20 failures=2 attempts=0', 'the second pause is longer');
SELECT pg_temp.claim_again('w');
SELECT is(pg_temp.fail('w', p_message => 'third'), NULL::text[], 'the last failure is not lost');
SELECT is(
    pg_temp.state_of('w'), 'ERROR failures=3 attempts=1 executor=alice',
    'the failure number max_attempts ends the workflow'
);
SELECT is(pg_temp.fail('w', p_message => 'third'), NULL::text[], 'the last failure can be sent again');
SELECT is(
    (SELECT w.error ->> 'message' FROM lockstep.workflow_status AS w WHERE w.workflow_id = 'w'), 'third',
    'a workflow keeps the error of its last failure'
);

SELECT pg_temp.run('succeeds later', '{"max_attempts": 2}');
SELECT pg_temp.fail('succeeds later');
SELECT pg_temp.claim_again('succeeds later');
SELECT lockstep.finish_workflows('alice', '[{"workflow_id": "succeeds later", "attempt": 1, "output": 1}]');
SELECT results_eq(
    $$
    SELECT w.status, w.output, w.error, w.failures
    FROM lockstep.workflow_status AS w
    WHERE w.workflow_id = 'succeeds later'
    $$,
    $$VALUES ('SUCCESS', '1'::jsonb, NULL::jsonb, 1)$$,
    'a workflow that succeeds after a failure shows no error, and how often it failed'
);

SELECT pg_temp.run('dies, too', '{"max_attempts": 2}');
UPDATE lockstep.workflow_status SET attempts = 3, max_attempts = 4 WHERE workflow_id = 'dies, too';
SELECT pg_temp.fail('dies, too', '{"attempt": 3}');
SELECT is(
    pg_temp.state_of('dies, too'), 'DELAYED 1 failures=1 attempts=2',
    'a failure gives back the attempt, and no attempt that died'
);

-- whose policy it is

SELECT pg_temp.run('no policy');
SELECT pg_temp.fail('no policy');
SELECT is(
    pg_temp.state_of('no policy'), 'ERROR failures=1 attempts=1 executor=alice',
    'without a policy a failure ends a workflow'
);
SELECT pg_temp.run('null policy');
SELECT pg_temp.fail('null policy', '{"retries": null, "is_final": null}');
SELECT is(
    pg_temp.state_of('null policy'), 'ERROR failures=1 attempts=1 executor=alice', 'a policy that is JSON null is none'
);
SELECT pg_temp.run('policy of the function');
SELECT pg_temp.fail('policy of the function', '{"retries": {"delay": 30}, "is_final": false}');
SELECT is(
    pg_temp.state_of('policy of the function'), 'DELAYED 30 failures=1 attempts=0',
    'a workflow without a policy is tried again by that of its function'
);
SELECT pg_temp.run('both policies', '{"max_attempts": 5, "delay": 20}');
SELECT pg_temp.fail('both policies', '{"retries": {"max_attempts": 1}}');
SELECT is(
    pg_temp.state_of('both policies'), 'DELAYED 20 failures=1 attempts=0',
    'the policy of the workflow comes before its function''s'
);
SELECT pg_temp.run('once', '{"max_attempts": 1}');
SELECT pg_temp.fail('once', '{"retries": {"max_attempts": 5}}');
SELECT is(
    pg_temp.state_of('once'), 'ERROR failures=1 attempts=1 executor=alice',
    'a workflow that was enqueued for one try gets no more from its function'
);
SELECT pg_temp.run('final', '{"max_attempts": 5}');
SELECT pg_temp.fail('final', '{"is_final": true}');
SELECT is(
    pg_temp.state_of('final'), 'ERROR failures=1 attempts=1 executor=alice', 'an error that is final is not tried again'
);
SELECT pg_temp.run('final success');
SELECT lockstep.finish_workflows(
    'alice', '[{"workflow_id": "final success", "attempt": 1, "output": null, "error": null, "is_final": true}]'
);
SELECT is(
    pg_temp.state_of('final success'), 'SUCCESS failures=0 attempts=1 executor=alice',
    'an outcome whose error is JSON null is a success'
);

-- a function's own policy was not looked at before: whatever is in it, the failure is recorded
SELECT pg_temp.run('policy ' || p.policy)
FROM (
    VALUES
        ('{"max_attempts": 9223372036854775807}'), ('{"max_attempts": 1e300}'), ('{"max_attempts": 2.5}'),
        ('{"max_attempts": null, "delay": null}'),
        ('{"backoff": 1e300, "delay": 1e300}'), ('{"max_delay": 1e300, "delay": 1e300}'),
        ('{"backoff": "Infinity", "delay": "Infinity", "max_delay": "Infinity"}'),
        ('{"delay": "NaN", "jitter": "NaN"}'),
        ('{"delay": -5}')
) AS p (policy);
UPDATE lockstep.workflow_status SET failures = 1 WHERE workflow_id LIKE 'policy {%';
SELECT lives_ok(
    format(
        'SELECT pg_temp.fail(%L, %L)', w.workflow_id, jsonb_build_object('retries', substr(w.workflow_id, 8)::jsonb)
    ),
    format('a failure under the unchecked %s is recorded', w.workflow_id)
)
FROM lockstep.workflow_status AS w
WHERE w.workflow_id LIKE 'policy {%';
SELECT is_empty(
    $$
    SELECT w.workflow_id, w.status, w.available_at
    FROM lockstep.workflow_status AS w
    WHERE w.workflow_id LIKE 'policy {%'
        AND (w.status <> 'DELAYED' OR w.available_at > clock_timestamp() + interval '366 days')
    $$,
    'a workflow is tried again within a year, whatever an unchecked policy says'
);

-- many in one call

SELECT pg_temp.run('many ' || n, CASE n % 3 WHEN 0 THEN '{"delay": 5}'::jsonb END) FROM generate_series(1, 9) AS n;
SELECT results_eq(
    $$
    SELECT f.lost
    FROM lockstep.finish_workflows('alice', (
        SELECT jsonb_agg(jsonb_build_object('workflow_id', 'many ' || n, 'attempt', CASE n WHEN 8 THEN 2 ELSE 1 END)
            || CASE n % 3 WHEN 1 THEN '{"output": 1}' ELSE '{"error": {"type": "E", "message": "m"}}' END::jsonb)
        FROM generate_series(1, 10) AS n
    )) AS f (lost)
    ORDER BY f.lost
    $$,
    $$VALUES ('many 10'), ('many 8')$$,
    'of many outcomes in one call those of other attempts and of unknown workflows are lost'
);
SELECT is(
    pg_temp.state_of('many ' || e.n), e.state || CASE WHEN e.state LIKE 'DEL%' THEN '' ELSE ' executor=alice' END,
    format('outcome %s of many in one call is recorded as it is', e.n)
)
FROM (
    VALUES
        (1, 'SUCCESS failures=0 attempts=1'), (2, 'ERROR failures=1 attempts=1'),
        (3, 'DELAYED 5 failures=1 attempts=0'),
        (6, 'DELAYED 5 failures=1 attempts=0'), (7, 'SUCCESS failures=0 attempts=1'),
        (8, 'PENDING failures=0 attempts=1')
) AS e (n, state);

-- what ends the tries

SELECT pg_temp.run('cancelled while it pauses', '{"delay": 60}');
SELECT pg_temp.fail('cancelled while it pauses');
SELECT lockstep.cancel_workflow('cancelled while it pauses');
SELECT is(
    pg_temp.state_of('cancelled while it pauses'), 'CANCELLED failures=1 attempts=0',
    'a workflow that pauses before its next try can be cancelled'
);
SELECT pg_temp.run('overdue while it pauses', '{"delay": 60}');
SELECT pg_temp.fail('overdue while it pauses');
UPDATE lockstep.workflow_status SET deadline_at = '2026-01-01' WHERE workflow_id = 'overdue while it pauses';
SELECT lockstep.promote_due_workflows();
SELECT is(
    (
        SELECT concat_ws(' ', w.status, w.error ->> 'type')
        FROM lockstep.workflow_status AS w
        WHERE w.workflow_id = 'overdue while it pauses'
    ),
    'CANCELLED DeadlineExceeded', 'a deadline ends a workflow that pauses before its next try'
);

SELECT is(
    (SELECT w.error FROM lockstep.workflow_status AS w WHERE w.workflow_id = 'cancelled while it pauses'), NULL::jsonb,
    'a workflow that was cancelled does not show the failure before that'
);

-- which steps run again

SELECT pg_temp.run('steps', '{"max_attempts": 9, "delay": 0}');
INSERT INTO lockstep.operation_outputs (
    workflow_id, step_id, step_name, error, attempts, started_at, completed_at, available_at
)
VALUES
    ('steps', 1, 'succeeded', NULL, 1, '2026-01-01 00:01', '2026-01-01 00:02', NULL),
    ('steps', 2, 'was caught', '{"type": "Caught", "message": "c"}', 3, '2026-01-01 00:03', '2026-01-01 00:04', NULL),
    ('steps', 3, 'succeeded', NULL, 1, '2026-01-01 00:05', '2026-01-01 00:06', NULL),
    ('steps', 4, 'sleeps', NULL, 0, '2026-01-01 00:05', NULL, '2100-01-01'),
    ('steps', 5, 'pauses', '{"type": "E", "message": "m"}', 1, '2026-01-01 00:05', NULL, '2100-01-01'),
    ('steps', 6, 'failed', '{"type": "E", "message": "m"}', 3, '2026-01-01 00:07', '2026-01-01 00:08', NULL);
SELECT pg_temp.fail('steps');
SELECT results_eq(
    $$SELECT o.step_id FROM lockstep.operation_outputs AS o WHERE o.workflow_id = 'steps' ORDER BY o.step_id$$,
    'VALUES (1), (2), (3), (4), (5)',
    'the step whose failure ended the workflow runs again; what succeeded, what was caught and what waits is kept'
);
SELECT pg_temp.run('branches', '{"max_attempts": 9, "delay": 0}');
INSERT INTO lockstep.operation_outputs (workflow_id, step_id, step_name, error, started_at, completed_at)
VALUES
    ('branches', 1, 'failed', '{"type": "E", "message": "m"}', '2026-01-01 00:01', '2026-01-01 00:02'),
    ('branches', 65536, 'of another branch', NULL, '2026-01-01 00:03', '2026-01-01 00:04'),
    ('branches', 65537, 'was caught', '{"type": "Caught", "message": "c"}', '2026-01-01 00:01', '2026-01-01 00:02');
SELECT pg_temp.fail('branches');
SELECT results_eq(
    $$SELECT o.step_id FROM lockstep.operation_outputs AS o WHERE o.workflow_id = 'branches' ORDER BY o.step_id$$,
    'VALUES (65536), (65537)',
    'the failure that is the workflow''s own error is forgotten also if another branch went on after it'
);
SELECT pg_temp.run('kept', '{"max_attempts": 1}');
INSERT INTO lockstep.operation_outputs (workflow_id, step_id, step_name, error, started_at, completed_at)
VALUES ('kept', 1, 'failed', '{"type": "E", "message": "m"}', '2026-01-01 00:01', '2026-01-01 00:02');
SELECT pg_temp.fail('kept');
SELECT is(
    (SELECT count(*) FROM lockstep.operation_outputs AS o WHERE o.workflow_id = 'kept'), 1::bigint,
    'a workflow that failed for good keeps the failed step to look at'
);

-- resume

SELECT pg_temp.run('resumed', '{"max_attempts": 2, "delay": 5}');
SELECT pg_temp.fail('resumed');
SELECT pg_temp.claim_again('resumed');
SELECT pg_temp.fail('resumed');
SELECT is(pg_temp.state_of('resumed'), 'ERROR failures=2 attempts=1 executor=alice', 'a workflow runs out of tries');
SELECT lockstep.resume_workflow('resumed');
SELECT is(
    (
        SELECT concat_ws(' ', w.status, w.failures, w.error)
        FROM lockstep.workflow_status AS w
        WHERE w.workflow_id = 'resumed'
    ),
    'ENQUEUED 0', 'a workflow that is resumed has all its tries again, and shows no error'
);

SELECT * FROM finish();
ROLLBACK;
