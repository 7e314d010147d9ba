-- An executor that pins its version keeps what it started; others leave workflows free.
BEGIN;
SELECT no_plan();

\ir failure_of.psql

CREATE FUNCTION pg_temp.claimed(p_executor_id text)
RETURNS text
LANGUAGE sql
AS $$
    SELECT string_agg(c.workflow_id, ', ' ORDER BY c.workflow_id)
    FROM lockstep.claim_workflows(p_executor_id, 10) AS c
$$;

CREATE FUNCTION pg_temp.version_of(p_workflow_id text)
RETURNS text
LANGUAGE sql
AS $$ SELECT w.app_version FROM lockstep.workflow_status AS w WHERE w.workflow_id = p_workflow_id $$;

SELECT is(
    concat_ws(': ', f.code, f.message), '22023: pins_version needs an app_version',
    'an executor without a version has none to pin'
)
FROM pg_temp.failure_of($$SELECT lockstep.register_executor('{q}', '{greet}', pins_version => true)$$) AS f;
SELECT isnt(
    coalesce(
        (pg_temp.failure_of($$SELECT lockstep.register_executor('{q}', '{greet}', pins_version => true)$$)).hint, ''
    ),
    '', 'the error has a hint'
);
SELECT lives_ok(
    $$SELECT lockstep.register_executor('{other}', '{greet}', pins_version => NULL)$$,
    'a pins_version that is null is false'
);
SELECT results_eq(
    $$SELECT e.pins_version FROM lockstep.executor AS e WHERE e.queues = '{other}'$$, 'VALUES (false)',
    'an executor pins no version unless it says so'
);

SELECT lockstep.register_executor('{q}', '{greet}', app_version => 'v1', pins_version => true) AS pinner \gset
SELECT lockstep.register_executor('{q}', '{greet}', app_version => 'v1') AS same \gset
SELECT lockstep.register_executor('{q}', '{greet}', app_version => 'v2', pins_version => true) AS newer \gset
SELECT lockstep.register_executor('{q}', '{greet}') AS plain \gset

SELECT lockstep.enqueue_workflow('greet', 'q', workflow_id => 'w');
SELECT is(pg_temp.version_of('w'), NULL::text, 'a workflow has no version until it is started');
SELECT is(pg_temp.claimed(:'pinner'), 'w', 'an executor that pins takes a workflow without a version');
SELECT is(pg_temp.version_of('w'), 'v1', 'and leaves it its own');
SELECT lockstep.release_workflows(:'pinner');
SELECT is(pg_temp.claimed(:'newer'), NULL::text, 'another version does not take it after that');
SELECT is(pg_temp.claimed(:'plain'), NULL::text, 'nor does an executor without a version');
SELECT is(pg_temp.claimed(:'same'), 'w', 'any executor of its version does');
SELECT is(pg_temp.version_of('w'), 'v1', 'it stays with that version');
SELECT lockstep.start_children(:'same', '[
    {"workflow_id": "w", "attempt": 1, "step_id": 1, "step_name": "s", "workflow_name": "greet", "queue_name": "q",
    "inputs": {"positionalArgs": [], "namedArgs": {}}, "child_id": "child"}
]');
SELECT is(pg_temp.version_of('child'), NULL::text, 'a child is free to start under another version');
SELECT is(pg_temp.claimed(:'newer'), 'child', 'which takes it');
SELECT is(pg_temp.version_of('child'), 'v2', 'and pins it');

SELECT lockstep.enqueue_workflow('greet', 'q', workflow_id => 'free');
SELECT is(pg_temp.claimed(:'same'), 'free', 'an executor that does not pin takes a workflow without a version');
SELECT is(pg_temp.version_of('free'), NULL::text, 'and leaves it without one');
SELECT lockstep.release_workflows(:'same', '{w}');
SELECT is(pg_temp.claimed(:'plain'), 'free', 'so that any other can go on with it');
SELECT lockstep.enqueue_workflow('greet', 'q', workflow_id => 'for v2', app_version => 'v2');
SELECT is(pg_temp.claimed(:'pinner'), NULL::text, 'an executor that pins takes no workflow of another version');

-- after a failure, and an end

SELECT lockstep.finish_workflows(:'same', '[
    {"workflow_id": "w", "attempt": 1, "error": {"type": "E", "message": "m"}, "retries": {"delay": 0}}
]');
SELECT lockstep.promote_due_workflows();
SELECT is(pg_temp.claimed(:'newer'), 'for v2', 'a workflow that is tried again is left to its version');
SELECT is(pg_temp.claimed(:'pinner'), 'w', 'which tries it again');
UPDATE lockstep.executor SET expires_at = '2026-01-01' WHERE executor_id = :'pinner';
SELECT lockstep.recover_workflows();
SELECT is(pg_temp.claimed(:'newer'), NULL::text, 'a workflow whose executor died is left to its version');
SELECT is(pg_temp.claimed(:'same'), 'w', 'which goes on with it');

-- limited queues

SELECT lockstep.create_queue('limited', 1);
SELECT lockstep.register_executor('{limited}', '{greet}', app_version => 'v1', pins_version => true) AS limited \gset
SELECT lockstep.enqueue_workflow('greet', 'limited', workflow_id => 'limited');
SELECT is(pg_temp.claimed(:'limited'), 'limited', 'an executor that pins takes workflows of limited queues');
SELECT is(pg_temp.version_of('limited'), 'v1', 'and pins them');

SELECT * FROM finish();
ROLLBACK;
