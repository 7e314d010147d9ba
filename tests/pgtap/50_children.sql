-- Children: started once per step, with their parent's deadline, and in the order of the call.
BEGIN;
SELECT no_plan();

\ir failure_of.psql

CREATE FUNCTION pg_temp.run(p_workflow_id text, p_deadline_at timestamptz DEFAULT NULL)
RETURNS void
LANGUAGE sql
AS $$
    INSERT INTO lockstep.workflow_status (
        workflow_id, workflow_name, queue_name, status, executor_id, attempts, started_at, deadline_at, enqueued_by
    )
    VALUES (p_workflow_id, 'greet', 'q', 'PENDING', 'alice', 1, now(), p_deadline_at, 'the parent''s role')
$$;

-- One child of the first attempt of a workflow, for start_children().
CREATE FUNCTION pg_temp.child(p_parent_id text, p_step_id int, p_fields jsonb DEFAULT '{}')
RETURNS jsonb
LANGUAGE sql
AS $$
    SELECT jsonb_build_object(
        'workflow_id', p_parent_id, 'attempt', 1, 'step_id', p_step_id, 'step_name', 'shout',
        'workflow_name', 'shout', 'queue_name', 'loud', 'inputs', '{"positionalArgs": [1], "namedArgs": {}}'::jsonb
    ) || p_fields
$$;

CREATE FUNCTION pg_temp.start(VARIADIC p_children jsonb[])
RETURNS TABLE (workflow_id text, step_id int, child_id text)
LANGUAGE sql
AS $$ SELECT * FROM lockstep.start_children('alice', to_jsonb(p_children)) $$;

INSERT INTO lockstep.executor (executor_id, queues, workflow_names, lease_duration, expires_at)
VALUES
    ('alice', '{q}', '{greet}', '1 hour', clock_timestamp() + interval '1 hour'),
    ('bob', '{q}', '{greet}', '1 hour', clock_timestamp() + interval '1 hour'),
    ('dead', '{q}', '{greet}', '1 hour', '-infinity');

-- a child and its step

SELECT pg_temp.run('p');
SELECT results_eq(
    $$SELECT * FROM pg_temp.start(pg_temp.child('p', 1, '{"child_id": "started"}'))$$, $$VALUES ('p', 1, 'started')$$,
    'a start returns the step and the id of the child'
);
SELECT results_eq(
    $$
    SELECT
        w.workflow_name, w.queue_name, w.status, w.inputs, w.priority, w.parent_workflow_id, w.enqueued_by,
        w.max_attempts, w.deadline_at, w.timeout, w.retries, w.headers, w.app_version
    FROM lockstep.workflow_status AS w
    WHERE w.workflow_id = 'started'
    $$,
    $$
    VALUES (
        'shout', 'loud', 'ENQUEUED', '{"positionalArgs": [1], "namedArgs": {}}'::jsonb, 0, 'p', 'the parent''s role',
        50, NULL::timestamptz, NULL::interval, NULL::jsonb, NULL::jsonb, NULL::text
    )
    $$,
    'a child is a workflow of its own, of its parent''s role'
);
SELECT results_eq(
    $$
    SELECT o.step_name, o.output, o.error, o.attempts, o.completed_at IS NOT NULL, o.child_workflow_id
    FROM lockstep.operation_outputs AS o
    WHERE o.workflow_id = 'p'
    $$,
    $$VALUES ('shout', '"started"'::jsonb, NULL::jsonb, 1, true, 'started')$$,
    'a child that is not awaited is recorded as a step that returned its id'
);
SELECT pg_temp.start(pg_temp.child('p', 2, '{"child_id": "awaited", "is_awaited": true}'));
SELECT results_eq(
    $$
    SELECT o.step_name, o.output, o.attempts, o.completed_at IS NOT NULL, o.available_at, o.child_workflow_id
    FROM lockstep.operation_outputs AS o
    WHERE o.workflow_id = 'p' AND o.step_id = 2
    $$,
    $$VALUES ('shout', NULL::jsonb, 0, false, NULL::timestamptz, 'awaited')$$,
    'the step of a child that is awaited stays open'
);
SELECT pg_temp.start(pg_temp.child('p', 3, '{
    "child_id": "with everything", "priority": 7, "queue_partition_key": "k", "delay": 60, "timeout": 30,
    "app_version": "v2", "max_attempts": 3, "headers": {"trace": 1}, "retries": {"max_attempts": 2}
}'));
SELECT results_eq(
    $$
    SELECT
        w.status, w.priority, w.queue_partition_key, w.available_at - w.created_at BETWEEN '59.9 s' AND '60 s',
        w.timeout,
        w.app_version, w.max_attempts, w.headers, w.retries
    FROM lockstep.workflow_status AS w
    WHERE w.workflow_id = 'with everything'
    $$,
    $$VALUES ('DELAYED', 7, 'k', true, interval '30 s', 'v2', 3, '{"trace": 1}'::jsonb, '{"max_attempts": 2}'::jsonb)$$,
    'a child takes what a workflow is enqueued with'
);
SELECT pg_temp.start(pg_temp.child('p', 4, '{
    "child_id": "with nulls", "priority": null, "queue_partition_key": null, "delay": null, "timeout": null,
    "app_version": null, "max_attempts": null, "headers": null, "retries": null, "is_awaited": null
}'));
SELECT results_eq(
    $$
    SELECT w.status, w.priority, w.max_attempts, num_nulls(
        w.queue_partition_key, w.timeout, w.app_version, w.headers, w.retries
    )
    FROM lockstep.workflow_status AS w
    WHERE w.workflow_id = 'with nulls'
    $$,
    $$VALUES ('ENQUEUED', 0, 50, 5)$$,
    'an option that is JSON null is one that is left out'
);

-- sent twice, replayed

SELECT results_eq(
    $$SELECT s.child_id FROM pg_temp.start(pg_temp.child('p', 1, '{"child_id": "started"}')) AS s$$,
    $$VALUES ('started')$$,
    'a start that is sent again returns the same child'
);
SELECT pg_temp.run('once');
SELECT s.child_id FROM pg_temp.start(pg_temp.child('once', 1)) AS s \gset
SELECT is(
    (SELECT s.child_id FROM pg_temp.start(pg_temp.child('once', 1)) AS s), :'child_id',
    'a start that is sent again returns the id that was generated at first'
);
SELECT is(
    (
        SELECT s.child_id
        FROM pg_temp.start(pg_temp.child('once', 1, '{"child_id": "other", "queue_name": "other"}')) AS s
    ),
    :'child_id', 'a step that has started a child starts no other'
);
SELECT is(
    (SELECT count(*) FROM lockstep.workflow_status AS w WHERE w.parent_workflow_id = 'once'), 1::bigint,
    'a step starts one child, however often the start is sent'
);
SELECT is_empty(
    $$SELECT w.workflow_id FROM lockstep.workflow_status AS w WHERE w.workflow_id = 'other'$$,
    'a start that came too late leaves no child'
);

SELECT pg_temp.run('twice in one call');
SELECT s.child_id
FROM pg_temp.start(pg_temp.child('twice in one call', 1), pg_temp.child('twice in one call', 1)) AS s
LIMIT 1 \gset
SELECT results_eq(
    $$SELECT w.workflow_id FROM lockstep.workflow_status AS w WHERE w.parent_workflow_id = 'twice in one call'$$,
    ARRAY[:'child_id'], 'a step starts one child also if one call has it twice'
);

-- an id that a workflow has

SELECT lockstep.enqueue_workflow('shout', 'loud', workflow_id => 'existing');
SELECT pg_temp.run('adopter');
SELECT is(
    (SELECT s.child_id FROM pg_temp.start(pg_temp.child('adopter', 1, '{"child_id": "existing"}')) AS s), 'existing',
    'an id that a workflow of the same name and queue has means that workflow'
);
SELECT is(
    (SELECT w.parent_workflow_id FROM lockstep.workflow_status AS w WHERE w.workflow_id = 'existing'), NULL::text,
    'a workflow that was there before is nobody''s child'
);
SELECT pg_temp.run('other adopter');
SELECT is(
    (SELECT s.child_id FROM pg_temp.start(pg_temp.child('other adopter', 1, '{"child_id": "started"}')) AS s),
    'started',
    'two workflows may start one child by its id'
);
SELECT is(
    (SELECT w.parent_workflow_id FROM lockstep.workflow_status AS w WHERE w.workflow_id = 'started'), 'p',
    'a child stays with the parent that started it first'
);
SELECT results_eq(
    $$
    SELECT s.step_id, s.child_id
    FROM pg_temp.start(
        pg_temp.child('adopter', 2, '{"child_id": "same"}'), pg_temp.child('adopter', 3, '{"child_id": "same"}')
    ) AS s
    $$,
    $$VALUES (2, 'same'), (3, 'same')$$,
    'two steps of one call may name one child'
);
SELECT is(
    concat_ws(' | ', f.code, f.message, f.detail, f.hint),
    '23505 | workflow "existing" exists already | It runs "shout" in queue "loud".'
        || ' | Use another workflow_id for another workflow or queue.',
    format('the id of a workflow of another %s is refused', c.what)
)
FROM (VALUES ('name', '{"workflow_name": "greet"}'), ('queue', '{"queue_name": "q"}')) AS c (what, fields)
CROSS JOIN LATERAL pg_temp.failure_of(format(
    'SELECT pg_temp.start(pg_temp.child(%L, 9), pg_temp.child(%L, 8, %L))', 'adopter', 'adopter',
    c.fields::jsonb || '{"child_id": "existing"}'
)) AS f;
SELECT is_empty(
    $$SELECT o.step_id FROM lockstep.operation_outputs AS o WHERE o.workflow_id = 'adopter' AND o.step_id > 3$$,
    'a call that is refused starts none of its children'
);

-- what is refused

SELECT pg_temp.run('refused');
SELECT is(
    concat_ws(': ', f.code, f.message), '22023: ' || c.message, format('a child with %s is refused', left(c.fields, 60))
)
FROM (
    VALUES
        ('{"workflow_name": null}', 'workflow_name must have 1 to 512 characters'),
        ('{"workflow_name": " "}', 'workflow_name must have 1 to 512 characters'),
        ('{"queue_name": null}', 'queue_name must have 1 to 512 characters'),
        ('{"queue_name": ""}', 'queue_name must have 1 to 512 characters'),
        ('{"child_id": ""}', 'workflow_id must have 1 to 512 characters'),
        (format('{"child_id": "%s"}', repeat('x', 513)), 'workflow_id must have 1 to 512 characters'),
        ('{"priority": -1}', 'priority must be 0 or greater'),
        ('{"queue_partition_key": " "}', 'queue_partition_key must have 1 to 512 characters'),
        ('{"app_version": ""}', 'app_version must have 1 to 512 characters'),
        ('{"delay": -1}', 'delay must not be negative, nor over 1000 years'),
        ('{"delay": 1e12}', 'delay must not be negative, nor over 1000 years'),
        ('{"timeout": 0}', 'timeout must be positive, and at most 1000 years'),
        ('{"timeout": 1e12}', 'timeout must be positive, and at most 1000 years'),
        ('{"max_attempts": 0}', 'max_attempts must be 1 or greater'),
        ('{"headers": []}', 'headers must be a JSON object'),
        ('{"retries": {"unknown": 1}}', 'retries must be a retry policy'),
        ('{"retries": 5}', 'retries must be a retry policy')
) AS c (fields, message)
CROSS JOIN LATERAL pg_temp.failure_of(
    format('SELECT pg_temp.start(pg_temp.child(%L, 1), pg_temp.child(%L, 2, %L))', 'refused', 'refused', c.fields)
) AS f;
SELECT matches(
    f.code, '^(22|23)', format('a child with %s is refused as a value, with %s', c.fields, f.code)
)
FROM (
    VALUES
        ('{"delay": 1e300}'), ('{"delay": -1e300}'), ('{"delay": "NaN"}'), ('{"delay": "Infinity"}'),
        ('{"delay": "soon"}'),
        ('{"timeout": 1e300}'), ('{"timeout": "NaN"}'), ('{"timeout": "-Infinity"}'), ('{"priority": 1e300}'),
        ('{"priority": 1.5}'), ('{"max_attempts": 2147483648}'), ('{"inputs": null}'), ('{"inputs": []}'),
        ('{"inputs": {"positionalArgs": {}}}'), ('{"step_id": null}'), ('{"step_id": 0}'), ('{"step_name": null}'),
        ('{"is_awaited": "maybe"}')
) AS c (fields)
CROSS JOIN LATERAL pg_temp.failure_of(
    format('SELECT pg_temp.start(pg_temp.child(%L, 1, %L))', 'refused', c.fields)
) AS f;
SELECT is_empty(
    $$
    SELECT w.workflow_id FROM lockstep.workflow_status AS w WHERE w.parent_workflow_id = 'refused'
    UNION ALL
    SELECT o.step_name FROM lockstep.operation_outputs AS o WHERE o.workflow_id = 'refused'
    $$,
    'a refused start leaves neither a child nor a step'
);

-- whoever has lost the parent

INSERT INTO lockstep.workflow_status (
    workflow_id, workflow_name, queue_name, status, executor_id, attempts, started_at, completed_at, waiting_for
)
VALUES
    ('lost cancelled', 'greet', 'q', 'CANCELLED', 'alice', 1, now(), now(), NULL),
    ('lost finished', 'greet', 'q', 'SUCCESS', 'alice', 1, now(), now(), NULL),
    ('lost waiting', 'greet', 'q', 'WAITING', NULL, 1, now(), NULL, '{message:}'),
    ('lost enqueued', 'greet', 'q', 'ENQUEUED', NULL, 1, now(), NULL, NULL),
    ('lost to bob', 'greet', 'q', 'PENDING', 'bob', 1, now(), NULL, NULL),
    ('lost attempt', 'greet', 'q', 'PENDING', 'alice', 2, now(), NULL, NULL);
SELECT pg_temp.run('held');
SELECT results_eq(
    $$
    SELECT s.workflow_id
    FROM lockstep.start_children('alice', (
        SELECT jsonb_agg(pg_temp.child(p.id, 1, jsonb_build_object('child_id', 'child of ' || p.id)))
        FROM (
            SELECT w.workflow_id FROM lockstep.workflow_status AS w WHERE w.workflow_id LIKE 'lost %'
            UNION ALL VALUES ('nowhere'), ('held')
        ) AS p (id)
    )) AS s
    $$,
    $$VALUES ('held')$$,
    'a start answers for those workflows alone that the executor holds'
);
SELECT results_eq(
    $$SELECT w.workflow_id FROM lockstep.workflow_status AS w WHERE w.workflow_id LIKE 'child of %'$$,
    $$VALUES ('child of held')$$,
    'no child is started for a workflow that the executor lost'
);
SELECT throws_ok(
    $$SELECT lockstep.start_children('dead', '[]')$$, 'WF001', 'executor "dead" has lost its lease',
    'an executor that lost its lease starts nothing'
);
SELECT throws_ok(
    $$SELECT lockstep.start_children('unknown', '[]')$$, 'WF001', 'executor "unknown" has lost its lease',
    'an executor that is not registered starts nothing'
);
SELECT is_empty($$SELECT lockstep.start_children('alice', '[]')$$, 'a start of no children starts none');

-- deadlines

SELECT pg_temp.run('hurried', '2100-01-01');
SELECT pg_temp.start(
    pg_temp.child('hurried', 1, '{"child_id": "hurried child", "queue_name": "deadline"}'),
    pg_temp.child('hurried', 2, '{"child_id": "hurried timeout", "queue_name": "deadline", "timeout": 60}'),
    pg_temp.child('hurried', 3, '{"child_id": "late timeout", "queue_name": "deadline", "timeout": 9999999999}')
);
INSERT INTO lockstep.executor (executor_id, queues, workflow_names, lease_duration, expires_at)
VALUES ('claimer', '{deadline}', '{shout}', '1 hour', clock_timestamp() + interval '1 hour');
SELECT results_eq(
    $$
    SELECT w.workflow_id, w.deadline_at
    FROM lockstep.workflow_status AS w
    WHERE w.parent_workflow_id = 'hurried'
    ORDER BY w.workflow_id
    $$,
    $$
    VALUES
        ('hurried child', timestamptz '2100-01-01'), ('hurried timeout', timestamptz '2100-01-01'),
        ('late timeout', timestamptz '2100-01-01')
    $$,
    'a child has its parent''s deadline before it starts'
);
SELECT results_eq(
    $$
    SELECT c.workflow_id, c.deadline_in < 61
    FROM lockstep.claim_workflows('claimer', 10) AS c
    ORDER BY c.workflow_id
    $$,
    $$VALUES ('hurried child', false), ('hurried timeout', true), ('late timeout', false)$$,
    'a child with a timeout has the earlier of the two when it starts'
);
SELECT results_eq(
    $$
    SELECT w.workflow_id
    FROM lockstep.workflow_status AS w
    WHERE w.parent_workflow_id = 'hurried' AND w.deadline_at = '2100-01-01'
    ORDER BY w.workflow_id
    $$,
    $$VALUES ('hurried child'), ('late timeout')$$,
    'a timeout cannot put off the deadline of the parent'
);
SELECT is(
    extract(EPOCH FROM max(w.available_at - w.created_at)), 0::numeric, 'a child without a delay can be claimed at once'
)
FROM lockstep.workflow_status AS w
WHERE w.parent_workflow_id = 'hurried';

-- many in one call

SELECT pg_temp.run('wide');
CREATE TEMPORARY TABLE started AS
SELECT s.*
FROM lockstep.start_children('alice', (
    SELECT jsonb_agg(
        pg_temp.child('wide', n, jsonb_build_object('queue_name', 'wide', 'is_awaited', n % 2 = 0)) ORDER BY n
    )
    FROM generate_series(1, 500) AS n
)) AS s;
SELECT is(count(DISTINCT s.child_id), 500::bigint, '500 children of one call have 500 ids') FROM started AS s;
SELECT is(
    array_agg(s.step_id ORDER BY s.child_id), array_agg(s.step_id ORDER BY s.step_id),
    'the ids of children sort in the order of their steps'
)
FROM started AS s;
SELECT is(
    array_agg(s.step_id ORDER BY w.available_at), array_agg(s.step_id ORDER BY s.step_id),
    'children become claimable in the order of their steps'
)
FROM started AS s
INNER JOIN lockstep.workflow_status AS w ON s.child_id = w.workflow_id;
SELECT is(
    count(*) FILTER (WHERE (o.completed_at IS NULL) = (o.step_id % 2 = 0)), 500::bigint,
    'each of many children is recorded as the step that started it'
)
FROM started AS s
INNER JOIN lockstep.operation_outputs AS o
    ON s.workflow_id = o.workflow_id AND s.step_id = o.step_id AND s.child_id = o.child_workflow_id;

SELECT * FROM finish();
ROLLBACK;
