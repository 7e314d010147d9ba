-- Checkpoints and timers: recorded once, by the attempt that holds the workflow.
BEGIN;
SELECT no_plan();

CREATE FUNCTION pg_temp.step(p_workflow_id text, p_step_id int, p_fields jsonb DEFAULT '{}')
RETURNS jsonb
LANGUAGE sql
AS $$
    SELECT jsonb_build_object(
        'workflow_id', p_workflow_id, 'attempt', 1, 'step_id', p_step_id, 'step_name', 's' || p_step_id
    ) || p_fields
$$;

-- One workflow in each relation to executor "alice": she runs "w" and "other" in their first attempt.
INSERT INTO lockstep.executor (executor_id, queues, workflow_names, lease_duration, expires_at)
VALUES ('alice', '{q}', '{greet}', '1 hour', clock_timestamp() + interval '1 hour');
INSERT INTO lockstep.workflow_status (
    workflow_id, workflow_name, queue_name, status, executor_id, attempts, started_at, completed_at
)
VALUES
    ('w', 'greet', 'q', 'PENDING', 'alice', 1, now(), NULL),
    ('other', 'greet', 'q', 'PENDING', 'alice', 1, now(), NULL),
    ('of bob', 'greet', 'q', 'PENDING', 'bob', 1, now(), NULL),
    ('second attempt', 'greet', 'q', 'PENDING', 'alice', 2, now(), NULL),
    ('put back', 'greet', 'q', 'ENQUEUED', NULL, 1, now(), NULL),
    ('cancelled', 'greet', 'q', 'CANCELLED', 'alice', 1, now(), now()),
    ('finished', 'greet', 'q', 'SUCCESS', 'alice', 1, now(), now());
CREATE TEMPORARY TABLE lost AS
SELECT l.workflow_id
FROM unnest(ARRAY['of bob', 'second attempt', 'put back', 'cancelled', 'finished', 'nowhere']) AS l (workflow_id);

-- record_steps: a batch

SELECT is_empty(
    format($$SELECT lockstep.record_steps('alice', %L)$$, jsonb_build_array(
        pg_temp.step('w', 1, '{"output": {"a": 1}}'),
        pg_temp.step('w', 2, '{"error": {"type": "E"}, "attempts": 3, "duration": 60}'),
        pg_temp.step('other', 1)
    )),
    'recording steps of what the executor runs loses nothing'
);
SELECT results_eq(
    $$
    SELECT
        o.workflow_id, o.step_id, o.step_name, o.output, o.error, o.attempts,
        o.completed_at - o.started_at, o.available_at
    FROM lockstep.operation_outputs AS o
    ORDER BY o.workflow_id, o.step_id
    $$,
    $$
    VALUES
        ('other', 1, 's1', NULL::jsonb, NULL::jsonb, 1, interval '0', NULL::timestamptz),
        ('w', 1, 's1', '{"a": 1}', NULL, 1, '0', NULL),
        ('w', 2, 's2', NULL, '{"type": "E"}', 3, '1 min', NULL)
    $$,
    'a batch records every step with its output or error, attempts and duration'
);
SELECT is_empty(
    format($$SELECT lockstep.record_steps('alice', %L)$$, jsonb_build_array(
        pg_temp.step('w', 1, '{"output": "changed"}'), pg_temp.step('w', 3, '{"output": 3}')
    )),
    'a batch that is sent again with a new step loses nothing'
);
SELECT results_eq(
    $$SELECT o.step_id, o.output FROM lockstep.operation_outputs AS o WHERE o.workflow_id = 'w' ORDER BY o.step_id$$,
    $$VALUES (1, '{"a": 1}'::jsonb), (2, NULL), (3, '3')$$,
    'a recorded step stays as it is, a new one of the same batch is recorded'
);
SELECT bag_eq(
    format($$SELECT lockstep.record_steps('alice', %L)$$, (
        SELECT jsonb_agg(pg_temp.step(l.workflow_id, s.step_id))
        FROM lost AS l
        CROSS JOIN generate_series(1, 2) AS s (step_id)
    ) || pg_temp.step('w', 4)),
    'SELECT l.workflow_id FROM lost AS l',
    'record_steps returns the workflows that the executor had lost, once each'
);
SELECT is_empty(
    'SELECT o.* FROM lockstep.operation_outputs AS o INNER JOIN lost AS l ON l.workflow_id = o.workflow_id',
    'steps of lost workflows are not recorded'
);
SELECT ok(
    EXISTS (SELECT FROM lockstep.operation_outputs AS o WHERE o.workflow_id = 'w' AND o.step_id = 4),
    'lost workflows do not keep the rest of their batch from being recorded'
);
SELECT is_empty($$SELECT lockstep.record_steps('alice', '[]')$$, 'an empty batch loses nothing');

-- record_step: with the step's own writes

SELECT lives_ok(
    $$SELECT lockstep.record_step('alice', 'w', 1, 5, 'pay', '{"paid": true}', 2, 60)$$,
    'record_step records a step of what the executor runs'
);
SELECT results_eq(
    $$
    SELECT o.step_name, o.output, o.error, o.attempts, o.completed_at - o.started_at
    FROM lockstep.operation_outputs AS o
    WHERE o.workflow_id = 'w' AND o.step_id = 5
    $$,
    $$VALUES ('pay', '{"paid": true}'::jsonb, NULL::jsonb, 2, interval '1 min')$$,
    'record_step records output, attempts and duration'
);
SELECT throws_ok(
    $$SELECT lockstep.record_step('alice', 'w', 1, 5, 'pay', '{"paid": "twice"}')$$,
    'WF004', 'step 5 of workflow "w" is recorded already', 'a step that is recorded already is refused'
);
SELECT throws_ok(
    format($$SELECT lockstep.record_step('alice', %L, 1, 5, 'pay')$$, l.workflow_id),
    CASE WHEN l.workflow_id = 'cancelled' THEN 'WF002' ELSE 'WF001' END,
    CASE
        WHEN l.workflow_id = 'cancelled' THEN 'workflow "cancelled" was cancelled'
        ELSE format('executor "alice" has lost workflow "%s"', l.workflow_id)
    END,
    format('record_step is refused for a workflow that is lost: %s', l.workflow_id)
)
FROM lost AS l;
SELECT throws_ok(
    $$SELECT lockstep.record_step('bob', 'of bob', 1, 1, 'pay')$$, 'WF001', NULL,
    'record_step is refused for an executor whose row is gone'
);

SAVEPOINT before;
SELECT lockstep.record_step('alice', 'w', 1, 6, 'pay');
ROLLBACK TO SAVEPOINT before;
RELEASE SAVEPOINT before;
SELECT is_empty(
    $$SELECT g.* FROM lockstep.get_step('w', 6) AS g$$, 'a checkpoint is rolled back with the writes beside it'
);

-- timers

SELECT results_eq(
    format($$SELECT t.* FROM lockstep.start_timers('alice', %L) AS t ORDER BY t.step_id$$, jsonb_build_array(
        pg_temp.step('w', 10, '{"delay": 3600}'),
        pg_temp.step('w', 11, '{"delay": 60, "attempts": 1, "error": {"type": "E"}}'),
        pg_temp.step('w', 12, '{"delay": 0}')
    )),
    $$VALUES ('w', 10, 3600::float8), ('w', 11, 60), ('w', 12, 0)$$,
    'a timer that was started has its whole delay left'
);
SELECT results_eq(
    $$
    SELECT o.step_id, o.output, o.error, o.attempts, o.completed_at
    FROM lockstep.operation_outputs AS o
    WHERE o.workflow_id = 'w' AND o.step_id BETWEEN 10 AND 11
    ORDER BY o.step_id
    $$,
    $$
    VALUES (10, NULL::jsonb, NULL::jsonb, 0, NULL::timestamptz), (11, NULL, '{"type": "E"}', 1, NULL)
    $$,
    'a timer is a step that is not finished, with the attempts made and the last error'
);
UPDATE lockstep.operation_outputs SET available_at = available_at - interval '30 s' WHERE step_id IN (10, 11);
SELECT results_eq(
    format(
        $$SELECT t.step_id, round(t.remaining::numeric / 10) FROM lockstep.start_timers('alice', %L) AS t ORDER BY 1$$,
        jsonb_build_array(
            pg_temp.step('w', 10, '{"delay": 3600}'),
            pg_temp.step('w', 11, '{"delay": 60, "attempts": 1, "error": {"type": "E"}}')
        )
    ),
    'VALUES (10, 357::numeric), (11, 3)',
    'starting a timer again does not restart it'
);
SELECT results_eq(
    format($$SELECT round(t.remaining::numeric) FROM lockstep.start_timers('alice', %L) AS t$$, jsonb_build_array(
        pg_temp.step('w', 11, '{"delay": 120, "attempts": 2, "error": {"type": "F"}}')
    )),
    'VALUES (120::numeric)',
    'the pause before the next retry is a new one'
);
SELECT results_eq(
    $$
    SELECT o.attempts, o.error
    FROM lockstep.operation_outputs AS o
    WHERE o.workflow_id = 'w' AND o.step_id = 11
    $$,
    $$VALUES (2, '{"type": "F"}'::jsonb)$$,
    'a retry''s timer keeps the latest error'
);
UPDATE lockstep.operation_outputs SET available_at = clock_timestamp() - interval '1 hour' WHERE step_id = 12;
SELECT results_eq(
    format(
        $$SELECT t.remaining FROM lockstep.start_timers('alice', %L) AS t$$,
        jsonb_build_array(pg_temp.step('w', 12, '{"delay": 60}'))
    ),
    'VALUES (0::float8)',
    'a timer that has run out has nothing left'
);
SELECT is_empty(
    format(
        $$SELECT t.* FROM lockstep.start_timers('alice', %L) AS t$$,
        (SELECT jsonb_agg(pg_temp.step(l.workflow_id, 1, '{"delay": 60}')) FROM lost AS l)
    ),
    'timers of lost workflows are left out of the answer'
);
SELECT is_empty(
    'SELECT o.* FROM lockstep.operation_outputs AS o INNER JOIN lost AS l ON l.workflow_id = o.workflow_id',
    'timers of lost workflows are not started'
);
SELECT is_empty(
    format(
        $$SELECT t.* FROM lockstep.start_timers('alice', %L) AS t$$,
        jsonb_build_array(pg_temp.step('w', 1, '{"delay": 60, "attempts": 9}'))
    ),
    'a step that is finished starts no timer'
);
SELECT results_eq(
    $$SELECT g.output FROM lockstep.get_step('w', 1) AS g$$, $$VALUES ('{"a": 1}'::jsonb)$$,
    'a step that is finished keeps its outcome when a timer is asked for'
);

-- a timer that ends in an outcome

SELECT is_empty($$SELECT g.* FROM lockstep.get_step('w', 10) AS g$$, 'get_step returns no row while a step waits');
SELECT lockstep.record_steps('alice', jsonb_build_array(pg_temp.step('w', 10, '{"output": "woken"}')));
SELECT lockstep.record_step('alice', 'w', 1, 11, 's11', '"retried"', 3);
SELECT results_eq(
    $$
    SELECT o.step_id, o.output, o.error, o.attempts, o.completed_at IS NOT NULL
    FROM lockstep.operation_outputs AS o
    WHERE o.workflow_id = 'w' AND o.step_id IN (10, 11)
    ORDER BY o.step_id
    $$,
    $$VALUES (10, '"woken"'::jsonb, NULL::jsonb, 1, true), (11, '"retried"', NULL, 3, true)$$,
    'record_steps and record_step finish a step that waited, and forget its last error'
);

-- get_step

SELECT results_eq(
    $$SELECT g.step_name, g.output, g.error FROM lockstep.get_step('w', 2) AS g$$,
    $$VALUES ('s2', NULL::jsonb, '{"type": "E"}'::jsonb)$$,
    'get_step reads a recorded outcome'
);
SELECT is_empty(
    format('SELECT g.* FROM lockstep.get_step(%L, %s) AS g', g.workflow_id, g.step_id),
    format('get_step returns no row for step %s of workflow "%s", which is not recorded', g.step_id, g.workflow_id)
)
FROM (VALUES ('w', 99), ('nowhere', 1)) AS g (workflow_id, step_id);

SELECT * FROM finish();
ROLLBACK;
