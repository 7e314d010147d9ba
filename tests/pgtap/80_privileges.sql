-- Each capability may call its functions and nothing else; tables are the viewer's, to read.
BEGIN;
-- a GRANT that fails warns before it does
SET LOCAL client_min_messages = error;
SELECT no_plan();

CREATE ROLE lockstep_test_client;
CREATE ROLE lockstep_test_worker;
CREATE ROLE lockstep_test_viewer;
CREATE ROLE lockstep_test_admin;
CREATE ROLE lockstep_test_nobody;
CREATE ROLE "lockstep ""test"" Client; --";

-- What a statement fails with when a role runs it; NULL if it succeeds.
CREATE FUNCTION pg_temp.failure_as(p_role name, p_statement text)
RETURNS text
LANGUAGE plpgsql
AS $$
DECLARE
    v_code text;
BEGIN
    EXECUTE format('SET LOCAL ROLE %I', p_role);
    EXECUTE p_statement;
    RESET ROLE;
    RETURN NULL;
EXCEPTION
    WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS v_code = RETURNED_SQLSTATE;
        RETURN v_code;
END
$$;

-- grant_usage: refused arguments

SELECT throws_ok(
    format('SELECT lockstep.grant_usage(%L, %L)', 'lockstep_test_nobody', c.capability), '22023',
    format('capability must be client, worker, viewer or admin, not %s', coalesce(quote_literal(c.capability), 'null')),
    format('capability %s is refused', coalesce(quote_literal(c.capability), 'null'))
)
FROM (VALUES ('owner'), (''), ('Client'), (NULL)) AS c (capability);
SELECT throws_ok(
    format('SELECT lockstep.grant_usage(%L, %L)', r.role, 'client'), '42704',
    format('role "%s" does not exist', coalesce(r.role, '')),
    format('role %s is refused', coalesce(quote_literal(r.role), 'null'))
)
FROM (VALUES ('lockstep_test_stranger'), (''), (NULL), ('public')) AS r (role);

SELECT lockstep.grant_usage('lockstep_test_' || c.capability, c.capability)
FROM (VALUES ('client'), ('worker'), ('viewer'), ('admin')) AS c (capability);
SELECT lives_ok(
    $$SELECT lockstep.grant_usage('lockstep_test_client', 'client')$$, 'a capability can be granted twice'
);
SELECT lives_ok(
    $$SELECT lockstep.grant_usage('lockstep "test" Client; --', 'client')$$,
    'a capability can be granted to a role with a name that needs quotes'
);
SELECT is(
    pg_temp.failure_as('lockstep "test" Client; --', $$SELECT lockstep.enqueue_workflow('greet', 'q')$$), NULL::text,
    'a role with a name that needs quotes can use its capability'
);

-- functions: exactly those of the matrix

CREATE TEMPORARY TABLE included AS
SELECT *
FROM (
    VALUES
        ('client', 'client'), ('worker', 'client'), ('worker', 'worker'),
        ('viewer', 'viewer'),
        ('admin', 'client'), ('admin', 'worker'), ('admin', 'viewer'), ('admin', 'admin')
) AS i (capability, includes);
SELECT is(
    has_function_privilege('lockstep_test_' || r.role, p.oid, 'EXECUTE'),
    EXISTS (
        SELECT
        FROM lockstep._capabilities() AS c
        INNER JOIN included AS i ON i.includes = c.capability
        WHERE i.capability = r.role
            AND c.function_name = p.proname
    ),
    format('%s executes %s only if the matrix says so', r.role, p.proname)
)
FROM pg_proc AS p
CROSS JOIN (VALUES ('client'), ('worker'), ('viewer'), ('admin'), ('nobody')) AS r (role)
WHERE p.pronamespace = 'lockstep'::regnamespace
ORDER BY r.role, p.proname;

-- the matrix itself, for what matters most
SELECT bag_eq(
    $$SELECT c.function_name FROM lockstep._capabilities() AS c WHERE c.capability = 'client'$$,
    $$
    VALUES
        ('enqueue_workflow'), ('enqueue_workflows'), ('send_message'), ('send_messages'),
        ('get_event'), ('get_workflow'), ('read_stream'), ('watch_workflows'), ('check_watches'),
        ('fire_event'), ('list_transitions'), ('newest_machine_version'), ('version'), ('attach_workflow'),
        ('detach_workflow'), ('enqueue_rows'), ('_attachment_problem'), ('_place_triggers'),
        ('_state_machine_of')
    $$,
    'a client may enqueue, from triggers too, send, fire events and read results, and no more'
);

-- tables: SELECT for the viewer and the admin, nothing for anybody else

CREATE TEMPORARY TABLE relation AS
SELECT c.relname, c.relkind, a.attname
FROM pg_class AS c
INNER JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = 1
WHERE c.relnamespace = 'lockstep'::regnamespace
    AND c.relkind IN ('r', 'v');
SELECT is(
    pg_temp.failure_as('lockstep_test_' || r.role, format(v.statement, t.relname, t.attname)),
    CASE WHEN NOT (v.verb = 'SELECT' AND r.role IN ('viewer', 'admin')) THEN '42501' END,
    format(
        '%s %s %s %s', r.role,
        CASE WHEN v.verb = 'SELECT' AND r.role IN ('viewer', 'admin') THEN 'may' ELSE 'may not' END,
        v.verb, t.relname
    )
)
FROM relation AS t
CROSS JOIN (VALUES ('client'), ('worker'), ('viewer'), ('admin'), ('nobody')) AS r (role)
CROSS JOIN (
    VALUES
        ('SELECT', 'SELECT * FROM lockstep.%1$I'),
        ('INSERT', 'INSERT INTO lockstep.%1$I (%2$I) VALUES (NULL)'),
        ('UPDATE', 'UPDATE lockstep.%1$I SET %2$I = NULL'),
        ('DELETE', 'DELETE FROM lockstep.%1$I'),
        ('TRUNCATE', 'TRUNCATE lockstep.%1$I')
) AS v (verb, statement)
-- nobody can write to the view: Postgres says so before it looks at privileges
WHERE t.relkind = 'r' OR v.verb = 'SELECT'
ORDER BY r.role, t.relname, v.verb;

SELECT is(
    pg_temp.failure_as('lockstep_test_' || r.role, 'CREATE TABLE lockstep.squatter ()'), '42501',
    format('%s may not create anything in the schema', r.role)
)
FROM (VALUES ('client'), ('worker'), ('viewer'), ('admin'), ('nobody')) AS r (role);

-- a client, whole: from a trigger on its own table

GRANT CREATE ON SCHEMA public TO lockstep_test_client;
SET LOCAL ROLE lockstep_test_client;
CREATE TABLE public.lockstep_test_orders (order_id int);
CREATE FUNCTION public.lockstep_test_enqueue_order()
RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM lockstep.enqueue_workflow(
        'greet', 'q', named_args => jsonb_build_object('order_id', new.order_id),
        workflow_id => 'order-' || new.order_id
    );
    RETURN NULL;
END
$$;
CREATE TRIGGER enqueue_order
AFTER INSERT ON public.lockstep_test_orders
FOR EACH ROW EXECUTE FUNCTION public.lockstep_test_enqueue_order();
INSERT INTO public.lockstep_test_orders VALUES (1), (2);
SELECT lockstep.send_message('order-1', '"paid"', 'payment');
RESET ROLE;
SELECT results_eq(
    $$
    SELECT w.workflow_id, w.enqueued_by
    FROM lockstep.workflow_status AS w
    WHERE w.workflow_id LIKE 'order-%'
    ORDER BY w.workflow_id
    $$,
    $$VALUES ('order-1', 'lockstep_test_client'), ('order-2', 'lockstep_test_client')$$,
    'a client enqueues from a trigger on its own table'
);
SELECT is(
    pg_temp.failure_as('lockstep_test_client', statement), expected,
    format('a client that runs %s gets %s', statement, coalesce(expected, 'an answer'))
)
FROM (
    VALUES
        ($$SELECT lockstep.get_event('order-1', 'state')$$, NULL),
        ($$SELECT * FROM lockstep.get_workflow('order-1')$$, NULL),
        ($$SELECT lockstep.version()$$, NULL),
        ($$SELECT lockstep.cancel_workflow('order-1')$$, '42501'),
        ($$SELECT lockstep.claim_workflows('x', 1)$$, '42501'),
        ($$SELECT lockstep._generate_id()$$, '42501'),
        ($$SELECT lockstep.grant_usage('lockstep_test_client', 'admin')$$, '42501')
) AS c (statement, expected);

-- a worker, whole: the protocol from registration to the end

DELETE FROM lockstep.workflow_status WHERE workflow_id NOT LIKE 'order-%';
SELECT lockstep.create_queue('limited', 5, 5);
SELECT lockstep.enqueue_workflow('greet', 'limited', workflow_id => 'limited');
SET LOCAL ROLE lockstep_test_worker;
SELECT lockstep.register_executor('{q,limited}', '{greet}') AS executor_id \gset
SELECT lockstep.heartbeat(:'executor_id', true);
SELECT workflow_id FROM lockstep.claim_workflows(:'executor_id', 10);
SELECT lockstep.record_step(:'executor_id', 'order-1', 1, 1, 'transaction');
SELECT lockstep.record_steps(
    :'executor_id', '[{"workflow_id": "order-1", "attempt": 1, "step_id": 2, "step_name": "step"}]'
);
SELECT * FROM lockstep.get_step('order-1', 2);
SELECT * FROM lockstep.start_timers(
    :'executor_id', '[{"workflow_id": "order-1", "attempt": 1, "step_id": 3, "step_name": "sleep", "delay": 60}]'
);
SELECT lockstep.set_events(
    :'executor_id', '[{"workflow_id": "order-1", "attempt": 1, "step_id": 4, "key": "state", "value": "paid"}]'
);
SELECT * FROM lockstep.send_step_messages(
    :'executor_id',
    '[{"workflow_id": "order-1", "attempt": 1, "step_id": 5, "destination_id": "order-2", "message": "hello"}]'
);
SELECT outcome FROM lockstep.receive_messages(
    :'executor_id', '[{"workflow_id": "order-1", "attempt": 1, "step_id": 6, "topic": "payment"}]'
);
SELECT * FROM lockstep.start_children(:'executor_id', '[
    {"workflow_id": "order-1", "attempt": 1, "step_id": 7, "step_name": "child", "workflow_name": "greet",
    "queue_name": "children", "inputs": {"positionalArgs": [], "namedArgs": {}}, "child_id": "order-1 child"}
]');
SELECT outcome FROM lockstep.await_workflows(:'executor_id', '[
    {"workflow_id": "order-1", "attempt": 1, "step_id": 8, "step_name": "await", "awaited_id": "order-1 child"}
]');
SELECT * FROM lockstep.write_streams(
    :'executor_id', '[{"workflow_id": "order-1", "attempt": 1, "step_id": 9, "key": "log", "value": "paid"}]'
);
SELECT lockstep.set_progress(:'executor_id', '[{"workflow_id": "order-1", "attempt": 1, "done": 1}]');
SELECT value FROM lockstep.read_stream('order-1', 'log');
SELECT outcome FROM lockstep.suspend_workflows(
    :'executor_id', '[{"workflow_id": "order-2", "attempt": 1, "step_ids": [1], "topics": ["none"]}]'
);
SELECT lockstep.finish_workflows(:'executor_id', '[{"workflow_id": "order-1", "attempt": 1, "output": 1}]');
SELECT lockstep.advance_workflows(:'executor_id', '{}', 1);
SELECT lockstep.promote_due_workflows();
SELECT lockstep.recover_workflows();
SELECT lockstep.release_workflows(:'executor_id', '{}');
SELECT lockstep.reconcile_workflows(:'executor_id', 1, '{}');
SELECT lockstep.unregister_executor(:'executor_id');
RESET ROLE;
SELECT results_eq(
    'SELECT w.workflow_id, w.status FROM lockstep.workflow_status AS w ORDER BY w.workflow_id',
    $$
    VALUES
        ('limited', 'ENQUEUED'), ('order-1', 'SUCCESS'), ('order-1 child', 'ENQUEUED'), ('order-2', 'WAITING')
    $$,
    'a worker runs the whole protocol without access to a table'
);
SELECT results_eq(
    'SELECT o.step_name FROM lockstep.operation_outputs AS o ORDER BY o.step_id',
    $$
    VALUES
        ('transaction'), ('step'), ('sleep'), ('set_event'), ('send'), ('receive'), ('child'), ('await'),
        ('write_stream')
    $$,
    'a worker records steps of every kind without access to a table'
);

-- an admin, whole

SELECT is(
    pg_temp.failure_as('lockstep_test_admin', statement), expected,
    format('an admin that runs %s gets %s', statement, coalesce(expected, 'an answer'))
)
FROM (
    VALUES
        ($$SELECT lockstep.cancel_workflow('limited')$$, NULL),
        ($$SELECT lockstep.resume_workflow('limited')$$, NULL),
        ($$SELECT lockstep.create_queue('q', 1)$$, NULL),
        ($$SELECT lockstep.pause_queue('q')$$, NULL),
        ($$SELECT lockstep.unpause_queue('q')$$, NULL),
        ($$SELECT * FROM lockstep.unserved_workflows$$, NULL),
        ($$SELECT lockstep.enqueue_workflow('greet', 'q')$$, NULL),
        ($$SELECT lockstep.grant_usage('lockstep_test_client', 'client')$$, NULL)
) AS c (statement, expected);

-- a role without grants

SELECT is(
    pg_temp.failure_as('lockstep_test_nobody', statement), '42501',
    format('a role without grants may not %s', statement)
)
FROM (
    VALUES
        ('SELECT lockstep.version()'),
        ('SELECT lockstep.enqueue_workflow(''greet'', ''q'')'),
        ('SELECT lockstep.get_workflow(''order-1'')'),
        ('SELECT lockstep.recover_workflows()'),
        ('SELECT lockstep.grant_usage(''lockstep_test_nobody'', ''admin'')')
) AS c (statement);

-- the functions run as their owner: the caller's schemas must not lead them astray

SET LOCAL ROLE lockstep_test_client;
CREATE FUNCTION public.btrim(text)
RETURNS text
LANGUAGE plpgsql
AS $$ BEGIN RAISE EXCEPTION 'hijacked as %', current_user; END $$;
SET LOCAL search_path = public, pg_catalog;
SELECT lockstep.enqueue_workflow('greet', 'q', workflow_id => 'not hijacked') AS workflow_id \gset
RESET search_path;
RESET ROLE;
SELECT is(:'workflow_id'::text, 'not hijacked', 'a function of the caller cannot stand in for one of pg_catalog');

SELECT * FROM finish();
ROLLBACK;
