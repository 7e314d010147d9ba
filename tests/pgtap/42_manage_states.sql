-- Each way to manage a workflow, in each status: what it does, and what it refuses.
BEGIN;
SELECT no_plan();
\ir failure_of.psql

CREATE TEMPORARY TABLE status AS
SELECT *
FROM (
    VALUES
    ('ENQUEUED', false), ('DELAYED', false), ('PENDING', false), ('WAITING', false), ('SUCCESS', true),
    ('ERROR', true), ('CANCELLED', true), ('MAX_RECOVERY_ATTEMPTS_EXCEEDED', true)
) AS s (status, is_ended);

-- Makes a workflow of each status, named after what is to be done and the status.
CREATE FUNCTION pg_temp.make_all(p_purpose text)
RETURNS void
LANGUAGE sql
AS $$
    INSERT INTO lockstep.workflow_status (
        workflow_id, workflow_name, queue_name, status, executor_id, attempts, started_at,
        completed_at, waiting_for, available_at, error
    )
    SELECT
        p_purpose || ' ' || s.status, 'greet', 'q', s.status,
        CASE WHEN s.status IN ('PENDING', 'SUCCESS') THEN 'alice' END, 3, clock_timestamp(),
        CASE WHEN s.is_ended THEN clock_timestamp() END,
        CASE WHEN s.status = 'WAITING' THEN ARRAY['message:'] END,
        CASE WHEN s.status <> 'WAITING' THEN clock_timestamp() + CASE WHEN s.status = 'DELAYED' THEN interval '1 day' ELSE '0' END END,
        CASE WHEN s.status IN ('ERROR', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED') THEN '{"type": "E", "message": "m"}'::jsonb END
    FROM pg_temp.status AS s
$$;

-- What is done: allowed in which statuses, to what it leads, how the refusal ends.
CREATE TEMPORARY TABLE change AS
SELECT *
FROM (
    VALUES
    ('set_priority', 'SELECT lockstep.set_priority(%L, 7)', '{ENQUEUED,DELAYED,WAITING}'::text[], NULL, 'its priority cannot change'),
    ('move_workflow', 'SELECT lockstep.move_workflow(%L, ''other'')', '{ENQUEUED,DELAYED,WAITING}', NULL, 'cannot move to another queue'),
    ('fast_forward', 'SELECT lockstep.fast_forward(%L)', '{DELAYED,WAITING}', 'ENQUEUED', 'has no wait to end'),
    (
        'restart_workflow', 'SELECT lockstep.restart_workflow(%L)',
        '{SUCCESS,ERROR,CANCELLED,MAX_RECOVERY_ATTEMPTS_EXCEEDED}', 'ENQUEUED', 'cannot become ENQUEUED'
    ),
    (
        'fork_workflow', 'SELECT lockstep.fork_workflow(%L, 1)',
        '{ENQUEUED,DELAYED,PENDING,WAITING,SUCCESS,ERROR,CANCELLED,MAX_RECOVERY_ATTEMPTS_EXCEEDED}', NULL, ''
    )
) AS c (name, statement, allowed, becomes, refusal);

CREATE TEMPORARY TABLE outcome AS SELECT c.name, s.status, f.* FROM change AS c, status AS s, pg_temp.failure_of('SELECT 1') AS f LIMIT 0;
SELECT pg_temp.make_all(c.name) FROM change AS c;
INSERT INTO outcome
SELECT c.name, s.status, f.*
FROM change AS c
CROSS JOIN status AS s
CROSS JOIN LATERAL pg_temp.failure_of(format(c.statement, c.name || ' ' || s.status)) AS f;

SELECT is(
    o.code,
    CASE WHEN NOT o.status = ANY (c.allowed) THEN '55000' END,
    format(
        '%s of a workflow that is %s is %s', c.name, o.status,
        CASE WHEN o.status = ANY (c.allowed) THEN 'allowed' ELSE 'refused' END
    )
)
FROM outcome AS o
INNER JOIN change AS c ON c.name = o.name
ORDER BY o.name, o.status;
SELECT is(
    o.message, format('workflow "%s %s" is %2$s and %s', o.name, o.status, c.refusal),
    format('the refusal of %s names what the workflow is: %s', o.name, o.status)
)
FROM outcome AS o
INNER JOIN change AS c ON c.name = o.name
WHERE NOT o.status = ANY (c.allowed)
ORDER BY o.name, o.status;
SELECT isnt(o.hint, '', format('the refusal of %s of a workflow that is %s has a hint', o.name, o.status))
FROM outcome AS o
WHERE o.code IS NOT NULL
ORDER BY o.name, o.status;
SELECT is(
    w.status,
    CASE WHEN o.code IS NULL THEN coalesce(c.becomes, o.status) ELSE o.status END,
    format('%s of a workflow that is %s leaves it in the right status', o.name, o.status)
)
FROM outcome AS o
INNER JOIN change AS c ON c.name = o.name
INNER JOIN lockstep.workflow_status AS w ON w.workflow_id = o.name || ' ' || o.status
ORDER BY o.name, o.status;

-- unknown workflows and bad arguments

SELECT throws_ok(s.statement, 'P0002', 'workflow "none" does not exist', s.statement || ' needs a workflow')
FROM (
    VALUES
    ('SELECT lockstep.get_workflow(''none'')'), ('SELECT lockstep.list_steps(''none'')'),
    ('SELECT lockstep.explain_workflow(''none'')'), ('SELECT lockstep.restart_workflow(''none'')'),
    ('SELECT lockstep.fork_workflow(''none'', 1)'), ('SELECT lockstep.set_priority(''none'', 1)'),
    ('SELECT lockstep.move_workflow(''none'', ''q'')'), ('SELECT lockstep.fast_forward(''none'')'),
    ('SELECT lockstep.list_workflows(before_id => ''none'')')
) AS s (statement);
SELECT is(f.code || ' ' || f.message, '22023 ' || s.message, s.statement || ' is refused')
FROM (
    VALUES
    ('SELECT lockstep.set_priority(''x'', -1)', 'priority must be 0 or greater'),
    ('SELECT lockstep.set_priority(''x'', NULL)', 'priority must be 0 or greater'),
    ('SELECT lockstep.set_priorities(''{}'', -1)', 'priority must be 0 or greater'),
    ('SELECT lockstep.move_workflow(''x'', '' '')', 'queue_name must have 1 to 512 characters'),
    ('SELECT lockstep.move_workflow(''x'', NULL)', 'queue_name must have 1 to 512 characters'),
    ('SELECT lockstep.move_workflows(''{}'', NULL)', 'queue_name must have 1 to 512 characters'),
    ('SELECT lockstep.fork_workflow(''x'', 0)', 'from_step must be between 1 and 65535'),
    ('SELECT lockstep.fork_workflow(''x'', 65536)', 'from_step must be between 1 and 65535'),
    ('SELECT lockstep.fork_workflow(''x'', NULL)', 'from_step must be between 1 and 65535'),
    ('SELECT lockstep.fork_workflow(''x'', 1, '' '')', 'new_workflow_id must have 1 to 512 characters'),
    ('SELECT lockstep.fork_workflow(''x'', 1, app_version => '''')', 'app_version must have 1 to 512 characters'),
    ('SELECT lockstep.fork_workflow(''x'', 1, queue_name => '''')', 'queue_name must have 1 to 512 characters'),
    ('SELECT lockstep.explain_workflow(''x'', ''html'')', 'format must be ''text'' or ''mermaid'''),
    ('SELECT lockstep.purge_workflows(NULL)', 'older_than must not be negative, nor over 1000 years'),
    ('SELECT lockstep.purge_workflows(''-1 s'')', 'older_than must not be negative, nor over 1000 years'),
    ('SELECT lockstep.purge_workflows(''1 s'', 0)', 'max_count must be between 1 and 100000'),
    ('SELECT lockstep.list_workflows(max_count => NULL)', 'max_count must be between 1 and 100000'),
    ('SELECT lockstep.list_workflows(''{DONE}'')', 'filter has a condition that cannot be tested'),
    ('SELECT lockstep.list_workflows(headers => ''[]'')', 'filter has a condition that cannot be tested'),
    ('SELECT lockstep.cancel_workflows(NULL)', 'filter must be a JSON object'),
    ('SELECT lockstep.cancel_workflows(''[]'')', 'filter must be a JSON object'),
    ('SELECT lockstep.cancel_workflows(''{"name": "x"}'')', 'filter has a condition that cannot be tested'),
    ('SELECT lockstep.cancel_workflows(''{"queue_name": 1}'')', 'filter has a condition that cannot be tested'),
    ('SELECT lockstep.cancel_workflows(''{"queue_name": null}'')', 'filter has a condition that cannot be tested'),
    ('SELECT lockstep.cancel_workflows(''{"status": ["ENQUEUED", null]}'')', 'filter has a condition that cannot be tested'),
    ('SELECT lockstep.cancel_workflows(''{"status": "running"}'')', 'filter has a condition that cannot be tested'),
    ('SELECT lockstep.cancel_workflows(''{}'', 0)', 'max_count must be between 1 and 100000')
) AS s (statement, message)
CROSS JOIN LATERAL pg_temp.failure_of(s.statement) AS f;
SELECT is(
    (pg_temp.failure_of('SELECT lockstep.cancel_workflows(''{"name": "x"}'')')).detail,
    '"name" is no key of a filter.', 'a key that no filter has is named'
);
SELECT throws_ok(
    $$SELECT lockstep.cancel_workflows('{"created_after": "yesterday-ish"}')$$, '22007',
    NULL, 'a time that is none is refused'
);

SELECT * FROM finish();
ROLLBACK;
