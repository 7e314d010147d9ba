-- With tenant isolation a client sees the workflows that it enqueued, and no trace of others.
BEGIN;
SET LOCAL client_min_messages = error;
SELECT no_plan();

\ir failure_as.psql

-- What a query answers to a role, as JSON.
CREATE FUNCTION pg_temp.answer_to(p_role name, p_query text)
RETURNS jsonb
LANGUAGE plpgsql
AS $$
DECLARE
    v_answer jsonb;
BEGIN
    EXECUTE format('SET LOCAL ROLE %I', p_role);
    EXECUTE format('SELECT coalesce(jsonb_agg(to_jsonb(a)), ''[]'') FROM (%s) AS a', p_query) INTO v_answer;
    RESET ROLE;
    RETURN v_answer;
END
$$;

CREATE ROLE red;
CREATE ROLE "Blue ""tenant""";
CREATE ROLE red_batch IN ROLE red;
CREATE ROLE red_outsider NOINHERIT IN ROLE red;
CREATE ROLE worker;
CREATE ROLE viewer;
CREATE ROLE admin;
SELECT lockstep.grant_usage(r.role, 'client')
FROM unnest(ARRAY['red', 'Blue "tenant"', 'red_batch', 'red_outsider', 'viewer']) AS r (role);
SELECT lockstep.grant_usage(r.role, r.role) FROM unnest(ARRAY['worker', 'viewer', 'admin']) AS r (role);

SET LOCAL ROLE red;
SELECT lockstep.enqueue_workflow('pay', 'q', workflow_id => 'red', deduplication_id => 'order 1');
SELECT lockstep.enqueue_workflow(
    'index', 'q', workflow_id => 'red debounced', deduplication_id => 'order 2', debounce => '1 hour',
    named_args => '{"secret": 1}'
);
SELECT lockstep.send_message('red', '"for red"', 'topic', 'key');
SET LOCAL ROLE "Blue ""tenant""";
SELECT lockstep.enqueue_workflow('pay', 'q', workflow_id => 'blue');
RESET ROLE;

SELECT lockstep.register_executor('{q}', '{pay}') AS executor_id \gset
SELECT workflow_id FROM lockstep.claim_workflows(:'executor_id', 10);
SELECT lockstep.set_events(
    :'executor_id', '[{"workflow_id": "red", "attempt": 1, "step_id": 1, "key": "state", "value": "paid"}]'
);
SELECT * FROM lockstep.write_streams(
    :'executor_id', '[{"workflow_id": "red", "attempt": 1, "step_id": 2, "key": "log", "value": "paid"}]'
);
SELECT * FROM lockstep.start_children(:'executor_id', '[
    {"workflow_id": "red", "attempt": 1, "step_id": 3, "step_name": "child", "workflow_name": "ship",
    "queue_name": "children", "inputs": {"positionalArgs": [], "namedArgs": {}}, "child_id": "red child"}
]');
SELECT lockstep.finish_workflows(:'executor_id', '[{"workflow_id": "red", "attempt": 1, "output": "red result"}]');
SELECT lockstep.fork_workflow('red', 2, 'red fork');

CREATE TEMPORARY TABLE reading AS
SELECT *
FROM (
    VALUES
        ('get_workflow', 'SELECT status FROM lockstep.get_workflow(%L)'),
        ('get_event', 'SELECT lockstep.get_event(%L, ''state'')'),
        ('read_stream', 'SELECT value FROM lockstep.read_stream(%L, ''log'')'),
        ('send_message', 'SELECT length(lockstep.send_message(%L, ''1''))'),
        ('send_messages', 'SELECT count(*) FROM lockstep.send_messages(ARRAY[''blue'', %1$L, %1$L], ''{1,2,3}'')')
) AS r (function_name, query);
GRANT SELECT ON reading TO PUBLIC;

-- without it, nothing is hidden

SELECT is(
    pg_temp.failure_as('Blue "tenant"', format(r.query, 'red')), NULL,
    format('a client may %s of any workflow as long as tenants are not isolated', r.function_name)
)
FROM reading AS r;

SELECT is(
    pg_temp.failure_as(r.role, 'SELECT lockstep.enable_tenant_isolation()'),
    '42501: permission denied for function enable_tenant_isolation',
    format('%s may not isolate tenants', r.role)
)
FROM unnest(ARRAY['red', 'worker', 'viewer']) AS r (role);
SELECT is(pg_temp.failure_as('admin', 'SELECT lockstep.enable_tenant_isolation()'), NULL, 'an admin may');
SELECT lives_ok('SELECT lockstep.enable_tenant_isolation()', 'tenants that are isolated can be isolated');

-- who sees what

SELECT is(
    pg_temp.failure_as(r.role, format('SELECT * FROM lockstep.get_workflow(%L)', w.workflow_id)) IS NULL,
    w.is_of_red OR r.sees = 'everything',
    format('%s sees %s if it should', r.role, w.workflow_id)
)
FROM (
    VALUES
        ('red', 'red'), ('red_batch', 'red'),
        ('worker', 'everything'), ('viewer', 'everything'), ('admin', 'everything'), (current_user::text, 'everything')
) AS r (role, sees)
CROSS JOIN (
    VALUES ('red', true), ('red child', true), ('red fork', true), ('red debounced', true), ('blue', false)
) AS w (workflow_id, is_of_red);

-- another's workflow answers as none does

SELECT is(
    pg_temp.failure_as(o.role, format(r.query, 'red')),
    'P0002: workflow "red" does not exist',
    format('%s of another tenant''s workflow fails for %s', r.function_name, o.role)
)
FROM reading AS r
CROSS JOIN (VALUES ('Blue "tenant"'), ('red_outsider')) AS o (role)
WHERE o.role = 'Blue "tenant"' OR r.function_name <> 'send_messages';
SELECT is(
    replace(pg_temp.failure_as('Blue "tenant"', format(r.query, 'red')), 'red', '*'),
    replace(pg_temp.failure_as('Blue "tenant"', format(r.query, 'nothing')), 'nothing', '*'),
    format('%s answers the same for no workflow', r.function_name)
)
FROM reading AS r;
SELECT is(
    pg_temp.failure_as('red', replace(format(r.query, 'red'), 'blue', 'red fork')), NULL,
    format('%s of its own answers', r.function_name)
)
FROM reading AS r;

CREATE TEMPORARY TABLE watches AS
SELECT jsonb_agg(
    jsonb_build_object('workflow_id', i.workflow_id) || k.what ORDER BY i.place, k.place
) AS watches
FROM (VALUES (1, 'red'), (2, 'nothing')) AS i (place, workflow_id)
CROSS JOIN (
    VALUES (1, jsonb '{}'), (2, '{"event_key": "state"}'), (3, '{"stream_key": "log"}'), (4, '{"event_key": "none"}')
) AS k (place, what);
GRANT SELECT ON watches TO PUBLIC;
SELECT is(
    pg_temp.answer_to(
        'Blue "tenant"',
        format('SELECT c.* FROM watches AS w, lockstep.check_watches(w.watches, %L) AS c ORDER BY c.place', t.tells_busy)
    ),
    (
        SELECT jsonb_agg(jsonb_build_object(
            'place', g, 'outcome', 'unknown', 'status', NULL, 'output', NULL, 'error', NULL
        ))
        FROM generate_series(1, 8) AS g
    ),
    format('check_watches does not know another tenant''s workflow, tells_busy %s', t.tells_busy)
)
FROM (VALUES (true), (false)) AS t (tells_busy);
SELECT is_empty(
    $$SELECT l.objid FROM pg_locks AS l WHERE l.locktype = 'advisory' AND l.mode = 'ExclusiveLock' AND l.pid = pg_backend_pid()$$,
    'nor does it lock what another tenant publishes'
);
SELECT is(
    pg_temp.answer_to(
        'red', 'SELECT c.outcome, c.output FROM watches AS w, lockstep.check_watches(w.watches) AS c ORDER BY c.place LIMIT 3'
    ),
    '[{"outcome": "ended", "output": "red result"}, {"outcome": "published", "output": "paid"},
    {"outcome": "published", "output": null}]',
    'and knows its own'
);
SELECT pg_temp.answer_to(
    'Blue "tenant"',
    $$
    SELECT lockstep.watch_workflows(
        'lockstep_0123456789abcdef0123456789abcdef',
        '[{"workflow_id": "red child"}, {"workflow_id": "red debounced", "event_key": "x"}, {"workflow_id": "blue"}]'
    )
    $$
);
SELECT results_eq(
    'SELECT awaited_id FROM lockstep.waiter WHERE is_client', $$VALUES ('blue')$$,
    'a tenant is not notified of another tenant''s workflows'
);

-- ids and deduplication ids are shared: refused, and no more is told

CREATE TEMPORARY TABLE collision AS
SELECT *
FROM (
    VALUES
        ($$SELECT lockstep.enqueue_workflow('pay', 'q', workflow_id => 'red')$$, 'workflow "red" exists already'),
        (
            $$SELECT lockstep.enqueue_workflows('pay', 'q', '{"{}"}', workflow_ids => '{red}')$$,
            'workflow "red" exists already'
        ),
        (
            $$SELECT lockstep.enqueue_workflow('index', 'q', deduplication_id => 'order 2', on_duplicate => 'return')$$,
            'queue "q" has an unfinished workflow with deduplication_id "order 2"'
        ),
        (
            $$SELECT lockstep.enqueue_workflow('index', 'q', deduplication_id => 'order 2', debounce => '1 s')$$,
            'queue "q" has an unfinished workflow with deduplication_id "order 2"'
        ),
        (
            $$SELECT lockstep.enqueue_workflow('other', 'q', deduplication_id => 'order 2', debounce => '1 s')$$,
            'queue "q" has an unfinished workflow with deduplication_id "order 2"'
        ),
        (
            $$
            SELECT lockstep.enqueue_workflow(
                'index', 'q', workflow_id => 'red debounced', deduplication_id => 'order 2', debounce => '1 s'
            )
            $$,
            'workflow "red debounced" exists already'
        )
) AS c (statement, message);
GRANT SELECT ON collision TO PUBLIC;
GRANT CREATE ON SCHEMA public TO PUBLIC;
SET LOCAL ROLE "Blue ""tenant""";
\ir failure_of.psql
SELECT is(
    format('%s: %s (%s)', f.code, f.message, f.detail),
    format('23505: %s (%s)', c.message, 'It is not visible to this role.'), c.statement
)
FROM collision AS c
CROSS JOIN LATERAL pg_temp.failure_of(c.statement) AS f;
SELECT ok(f.hint NOT LIKE '%return%', 'the hint is one that helps') FROM collision AS c
CROSS JOIN LATERAL pg_temp.failure_of(c.statement) AS f;
RESET ROLE;
SELECT is(
    w.inputs -> 'namedArgs', '{"secret": 1}', 'a debounced workflow keeps the arguments of its own tenant'
)
FROM lockstep.workflow_status AS w
WHERE w.workflow_id = 'red debounced';
SELECT is(
    pg_temp.answer_to(
        'red_batch',
        $$
        SELECT lockstep.enqueue_workflow('index', 'q', deduplication_id => 'order 2', on_duplicate => 'return') AS id
        $$
    ),
    '[{"id": "red debounced"}]', 'a member of the tenant meets its own'
);

-- tables: whoever is granted SELECT on them reads what is its own

SELECT is(
    pg_temp.failure_as('red', 'TABLE lockstep.workflow_status'), '42501: permission denied for table workflow_status',
    'isolation grants nothing'
);
GRANT SELECT ON lockstep.workflow_status, lockstep.operation_outputs, lockstep.notifications,
    lockstep.workflow_events, lockstep.workflow_streams
TO red, "Blue ""tenant""", red_outsider;
SELECT is(
    pg_temp.answer_to(r.role, format('SELECT count(*) AS n FROM lockstep.%I', t.table_name)),
    jsonb_build_array(jsonb_build_object('n', CASE r.role WHEN 'red' THEN t.of_red WHEN 'Blue "tenant"' THEN t.of_blue ELSE 0 END)),
    format('%s reads its own rows of %s', r.role, t.table_name)
)
FROM (
    VALUES
        ('workflow_status', 4, 1), ('operation_outputs', 4, 0), ('workflow_events', 2, 0), ('workflow_streams', 1, 0)
) AS t (table_name, of_red, of_blue)
CROSS JOIN (VALUES ('red'), ('Blue "tenant"'), ('red_outsider')) AS r (role);
SELECT is(
    pg_temp.answer_to(r.role, 'SELECT DISTINCT destination_id FROM lockstep.notifications ORDER BY 1'),
    jsonb_build_array(jsonb_build_object('destination_id', r.own))
    || CASE r.role WHEN 'red' THEN '[{"destination_id": "red fork"}]' ELSE jsonb '[]' END,
    format('%s reads its own messages', r.role)
)
FROM (VALUES ('red', 'red'), ('Blue "tenant"', 'blue')) AS r (role, own);
SELECT is(
    pg_temp.answer_to(r.role, 'SELECT count(*) AS n FROM lockstep.workflow_status'),
    (SELECT jsonb_build_array(jsonb_build_object('n', count(*))) FROM lockstep.workflow_status),
    format('%s reads all rows', r.role)
)
FROM (VALUES ('viewer'), ('admin')) AS r (role);

CREATE FUNCTION pg_temp.look_count()
RETURNS bigint
LANGUAGE sql
AS $$
    SELECT t.seq_scan + t.idx_scan
    FROM pg_stat_xact_user_tables AS t
    WHERE t.relid = 'lockstep.workflow_status'::regclass
$$;
CREATE TEMPORARY TABLE looks AS SELECT pg_temp.look_count() AS look_count;
SELECT is(
    pg_temp.answer_to('viewer', format('SELECT count(*) AS n FROM lockstep.%I', t.name)) -> 0 ->> 'n' > '0', true,
    format('a viewer reads all of %s', t.name)
)
FROM unnest('{operation_outputs,notifications,workflow_events,workflow_streams}'::text[]) AS t (name);
SELECT is(
    pg_temp.look_count(), (SELECT l.look_count FROM looks AS l), 'without a look at the workflow of each row'
);

ANALYZE lockstep.workflow_status;
SELECT is(
    pg_temp.answer_to('red', 'SELECT count(*) AS n FROM pg_stats WHERE tablename = ''workflow_status'''), '[{"n": 0}]',
    'the statistics of a table, which hold values of all rows, are hidden'
);
SELECT is(
    pg_temp.failure_as('red', 'SET LOCAL row_security = off; SELECT FROM lockstep.workflow_status'),
    '42501: query would be affected by row-level security policy for table "workflow_status"',
    'and row-level security is not turned off by who is subject to it'
);

-- a condition with a function of the reader's is asked about visible rows only
SET LOCAL ROLE "Blue ""tenant""";
CREATE FUNCTION public.lockstep_test_leak(text, jsonb)
RETURNS boolean
LANGUAGE plpgsql
COST 0.0001
AS $$ BEGIN RAISE NOTICE 'saw %', $1; IF $1 NOT LIKE 'blue%' THEN RAISE 'leaked % %', $1, $2; END IF; RETURN true; END $$;
SELECT is(
    pg_temp.failure_as(
        'Blue "tenant"', 'SELECT FROM lockstep.workflow_status AS w WHERE public.lockstep_test_leak(w.workflow_id, w.inputs)'
    ), NULL, 'a function in a condition does not see the rows of others'
);
RESET ROLE;

-- roles that were renamed or dropped

CREATE ROLE green;
SELECT lockstep.grant_usage('green', 'client');
SET LOCAL ROLE green;
SELECT lockstep.enqueue_workflow('pay', 'q', workflow_id => 'green');
RESET ROLE;
ALTER ROLE green RENAME TO lime;
SELECT is(
    pg_temp.failure_as(r.role, $$SELECT * FROM lockstep.get_workflow('green')$$),
    CASE WHEN r.role IN ('lime', 'red') THEN 'P0002: workflow "green" does not exist' END,
    format('%s asks for a workflow of a role that is called otherwise now', r.role)
)
FROM unnest(ARRAY['lime', 'red', 'worker']) AS r (role);
SELECT lives_ok('DROP OWNED BY lime', 'a role with workflows gives up its rights');
SELECT lives_ok('DROP ROLE lime', 'and is dropped');
SELECT is(
    (SELECT w.status FROM lockstep.workflow_status AS w WHERE w.workflow_id = 'green'), 'ENQUEUED',
    'its workflows stay'
);

-- the work goes on

SELECT lockstep.unregister_executor(:'executor_id');
SET LOCAL ROLE worker;
SELECT lockstep.register_executor('{q,children}', '{pay,ship}') AS executor_id \gset
SELECT set_eq(
    format('SELECT c.workflow_id FROM lockstep.claim_workflows(%L, 10) AS c', :'executor_id'),
    ARRAY['red fork', 'red child', 'blue', 'green'], 'a worker claims the workflows of all tenants'
);
RESET ROLE;

SELECT is(pg_temp.failure_as('admin', 'SELECT lockstep.disable_tenant_isolation()'), NULL, 'an admin may end it');
SELECT lives_ok('SELECT lockstep.disable_tenant_isolation()', 'what is not isolated can be un-isolated');
SELECT is(
    pg_temp.failure_as('Blue "tenant"', $$SELECT * FROM lockstep.get_workflow('red')$$), NULL, 'and all is visible again'
);
SELECT is(
    pg_temp.answer_to('Blue "tenant"', 'SELECT count(*) FROM lockstep.workflow_status'),
    (SELECT jsonb_agg(c) FROM (SELECT count(*) FROM lockstep.workflow_status) AS c),
    'by functions, and to who was granted SELECT on a table'
);

-- as a restored dump has it
SELECT lockstep.enable_tenant_isolation();
ALTER TABLE lockstep.workflow_status DISABLE ROW LEVEL SECURITY;
SELECT lockstep.register_executor('{q}', '{greet}', '1 min');
SELECT is(
    pg_temp.answer_to('Blue "tenant"', 'SELECT workflow_id FROM lockstep.workflow_status'), '[{"workflow_id": "blue"}]',
    'the first worker after a restore isolates the tables again'
);

SELECT * FROM finish();
ROLLBACK;
