-- Nothing of ours resolves a name in a schema of the caller's.
--
-- A role has a stand-in for each function, operator and type of pg_catalog that it can make, in a
-- schema that comes first in its search_path, and tables and types in pg_temp, and calls everything
-- that it may. A stand-in that is called or read with the rights of another gives itself away.
BEGIN;
SET LOCAL client_min_messages = error;
SET LOCAL search_path = pg_catalog, public, pg_temp;
SELECT no_plan();

CREATE ROLE lockstep_test_thief;
CREATE SCHEMA evil AUTHORIZATION lockstep_test_thief;
SELECT lockstep.grant_usage('lockstep_test_thief', 'admin');
SELECT lockstep.create_state_machine('order');
SELECT lockstep.add_transition('order', NULL, 'place', 'new');
SELECT lockstep.add_transition('order', 'new', 'pay', 'paid', 'fulfil');

-- what the thief owns, made while its path is still honest
SET LOCAL ROLE lockstep_test_thief;
CREATE TABLE evil.orders (id int PRIMARY KEY, state text NOT NULL DEFAULT 'new');
SELECT lockstep.attach_workflow('evil.orders', 'fulfil', 'q', '{INSERT,UPDATE,DELETE}', workflow_id => '''order '' || new.id');
SELECT lockstep.attach_state_machine('evil.orders', 'state', 'order');

CREATE TEMPORARY TABLE stand_in (kind text, made int);
DO $$
DECLARE
    r_object record;
    v_functions int := 0;
    v_operators int := 0;
    v_types int := 0;
BEGIN
    FOR r_object IN
        SELECT
            p.proname, pg_get_function_identity_arguments(p.oid) AS arguments,
            pg_get_function_result(p.oid) AS result
        FROM pg_proc AS p
        WHERE p.pronamespace = 'pg_catalog'::regnamespace
            AND p.prokind = 'f'
            AND p.provariadic = 0
            AND p.proargmodes IS NULL
            AND NOT p.proretset
            AND NOT EXISTS (
                SELECT
                FROM unnest(p.proargtypes::oid[] || p.prorettype) AS a (type)
                INNER JOIN pg_type AS t ON t.oid = a.type
                WHERE t.typtype = 'p'
            )
    LOOP
        EXECUTE format(
            'CREATE OR REPLACE FUNCTION evil.%I(%s) RETURNS %s LANGUAGE plpgsql AS %L',
            r_object.proname, r_object.arguments, r_object.result,
            'BEGIN RAISE ''hijacked as %'', current_user USING ERRCODE = ''ZZ001''; END'
        );
        v_functions := v_functions + 1;
    END LOOP;

    FOR r_object IN
        SELECT o.oprname, p.proname, nullif(o.oprleft, 0)::regtype AS oprleft, o.oprright::regtype
        FROM pg_operator AS o
        INNER JOIN pg_proc AS p ON p.oid = o.oprcode
        INNER JOIN pg_proc AS e ON (e.proname, e.proargtypes) = (p.proname, p.proargtypes)
        WHERE o.oprnamespace = 'pg_catalog'::regnamespace
            AND e.pronamespace = 'evil'::regnamespace
    LOOP
        EXECUTE format(
            'CREATE OPERATOR evil.%s (%s RIGHTARG = %s, FUNCTION = evil.%I)', r_object.oprname,
            'LEFTARG = ' || r_object.oprleft || ',', r_object.oprright, r_object.proname
        );
        v_operators := v_operators + 1;
    END LOOP;

    FOR r_object IN
        SELECT t.typname
        FROM pg_type AS t
        WHERE t.typnamespace = 'pg_catalog'::regnamespace
            AND t.typtype = 'b'
            AND t.typelem = 0
            AND t.typname !~ '^_'
    LOOP
        EXECUTE format('CREATE DOMAIN pg_temp.%I AS text CHECK (false)', r_object.typname);
        EXECUTE format('CREATE DOMAIN evil.%I AS text CHECK (false)', r_object.typname);
        v_types := v_types + 1;
    END LOOP;

    FOR r_object IN
        SELECT c.relname
        FROM pg_class AS c
        WHERE c.relnamespace IN ('pg_catalog'::regnamespace, 'lockstep'::regnamespace)
            AND c.relkind IN ('r', 'v')
    LOOP
        EXECUTE format('CREATE TEMPORARY TABLE %I (hijacked pg_catalog.int4)', r_object.relname);
        EXECUTE format('CREATE TABLE evil.%I (hijacked pg_catalog.int4)', r_object.relname);
    END LOOP;

    INSERT INTO stand_in VALUES ('functions', v_functions), ('operators', v_operators), ('types', v_types);
END
$$;
RESET ROLE;
SELECT cmp_ok(s.made, '>=', 50, format('%s %s have stand-ins', s.made, s.kind)) FROM stand_in AS s;

-- What a statement fails with under the thief's search_path, as code and message, or 'done'.
CREATE FUNCTION pg_temp.attempt(p_statement pg_catalog.text, p_undone pg_catalog.bool DEFAULT true)
RETURNS pg_catalog.text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_code text;
    v_message text;
BEGIN
    SET LOCAL ROLE lockstep_test_thief;
    PERFORM set_config('search_path', 'pg_temp, evil, public, pg_catalog', true);
    EXECUTE p_statement;
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    RESET ROLE;
    IF p_undone THEN
        RAISE EXCEPTION USING ERRCODE = 'ZZ000', MESSAGE = 'undo';
    END IF;
    RETURN 'done';
EXCEPTION
    WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS v_code = RETURNED_SQLSTATE, v_message = MESSAGE_TEXT;
        RETURN CASE v_code WHEN 'ZZ000' THEN 'done' ELSE v_code || ': ' || v_message END;
END
$$;

-- the traps work
SELECT is(pg_temp.attempt(t.statement), t.answer, 'the trap works: ' || t.statement)
FROM (
    VALUES
        ('SELECT btrim(''x''::pg_catalog.text)', 'ZZ001: hijacked as lockstep_test_thief'),
        ('SELECT ''a''::pg_catalog.text = ''b''::pg_catalog.text', 'ZZ001: hijacked as lockstep_test_thief'),
        ('SELECT hijacked FROM pg_class', 'done'),
        ('SELECT ''a''::jsonb', '23514: value for domain jsonb violates check constraint "jsonb_check"')
) AS t (statement, answer);

SELECT doesnt_match(a.answer, '^(ZZ001|42[^5]|XX|23514: value for domain)', format('%s: %s', c.statement, a.answer))
FROM (
    SELECT
        p.proname,
        format(
            'SELECT lockstep.%I(%s)', p.proname,
            (
                SELECT string_agg(
                    CASE
                        WHEN t.typname = 'anyelement' THEN 'NULL::evil.orders'
                        ELSE format(
                            '%L::%s',
                            CASE
                                WHEN k.kind = 'null' THEN NULL
                                WHEN t.typcategory = 'N' THEN '1'
                                WHEN t.typcategory = 'B' THEN 'true'
                                WHEN t.typcategory = 'A' THEN '{}'
                                WHEN t.typname = 'jsonb' THEN k.kind
                                WHEN t.typname = 'timestamptz' THEN '2020-01-01'
                                WHEN t.typname = 'interval' THEN '1 s'
                                WHEN t.typname = 'regclass' THEN 'evil.orders'
                                ELSE 'x'
                            END, CASE WHEN n.nspname = 'pg_catalog' THEN 'pg_catalog.' || quote_ident(t.typname) END
                        )
                    END, ', ' ORDER BY a.place
                )
                FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY AS a (type, place)
                INNER JOIN pg_type AS t ON t.oid = a.type
                INNER JOIN pg_namespace AS n ON n.oid = t.typnamespace
            )
        ) AS statement
    FROM pg_proc AS p
    CROSS JOIN (VALUES ('null'), ('[]'), ('{}')) AS k (kind)
    WHERE p.pronamespace = 'lockstep'::regnamespace
        AND has_function_privilege('lockstep_test_thief', p.oid, 'EXECUTE')
        AND p.prorettype <> 'trigger'::regtype
        -- takes expressions, which are the caller's and are evaluated as such
        AND p.proname NOT IN ('_attachment_problem', '_place_triggers')
) AS c
CROSS JOIN LATERAL pg_temp.attempt(c.statement) AS a (answer)
ORDER BY c.statement;

-- the life of a workflow, and of rows with triggers
SELECT lockstep.register_executor('{q}', '{greet,fulfil}') AS executor_id \gset
SELECT is(pg_temp.attempt(format(s.statement, :'executor_id'), false), 'done', s.statement)
FROM (
    VALUES
        (1, $$SELECT lockstep.enqueue_workflow('greet', 'q', workflow_id => 'w', deduplication_id => 'd')$$),
        (2, $$SELECT lockstep.enqueue_workflow('greet', 'q', workflow_id => 'w')$$),
        (3, $$SELECT lockstep.enqueue_workflow('greet', 'q', deduplication_id => 'd', on_duplicate => 'return')$$),
        (4, $$SELECT lockstep.enqueue_workflow('later', 'q', deduplication_id => 'e', debounce => '1 h')$$),
        (5, $$SELECT lockstep.enqueue_workflows('greet', 'q', '{"{}","{}"}', workflow_ids => '{v,w}')$$),
        (6, $$SELECT lockstep.create_queue('q', 5, 5, rate_limit => 100, rate_period => '1 s')$$),
        (7, $$SELECT lockstep.claim_workflows(%L, 10)$$),
        (8, $$SELECT lockstep.heartbeat(%L)$$),
        (
            9,
            $$
            SELECT lockstep.advance_workflows(%L, '{
                "record_steps": [{"workflow_id": "w", "attempt": 1, "step_id": 1, "step_name": "s", "output": 1}],
                "set_events": [{"workflow_id": "w", "attempt": 1, "step_id": 2, "key": "k", "value": 1}],
                "write_streams": [{"workflow_id": "w", "attempt": 1, "step_id": 3, "key": "k", "value": 1}],
                "start_children": [{"workflow_id": "w", "attempt": 1, "step_id": 4, "step_name": "c", "workflow_name": "greet",
                    "queue_name": "q", "inputs": {"positionalArgs": [], "namedArgs": {}}, "child_id": "child"}]
            }', 1)
            $$
        ),
        (10, $$SELECT lockstep.send_message('w', '1', 't', 'k')$$),
        (11, $$SELECT lockstep.send_messages('{w,v}', '{1,2}', 't', '{k,k}')$$),
        (12, $$SELECT lockstep.get_workflow('w'), lockstep.get_event('w', 'k'), lockstep.read_stream('w', 'k')$$),
        (
            13,
            $$
            SELECT lockstep.check_watches(
                '[{"workflow_id": "w"}, {"workflow_id": "w", "event_key": "k"}, {"workflow_id": "w", "stream_key": "l"}]', true
            )
            $$
        ),
        (
            14,
            $$SELECT lockstep.watch_workflows('lockstep_0123456789abcdef0123456789abcdef', '[{"workflow_id": "w"}]')$$
        ),
        (15, $$SELECT lockstep.list_workflows('{PENDING,ENQUEUED}')$$),
        (16, $$SELECT lockstep.explain_workflow('w')$$),
        (17, $$SELECT lockstep.finish_workflows(%L, '[{"workflow_id": "w", "attempt": 1, "output": 1}]')$$),
        (18, $$SELECT lockstep.fork_workflow('w', 2, 'f')$$),
        (19, $$SELECT lockstep.cancel_workflows('{"queue_name": "q"}')$$),
        (20, $$SELECT lockstep.restart_workflow('w')$$),
        (21, $$SELECT lockstep.schedule_workflow('s', '* * * * *', 'greet', 'q')$$),
        (22, $$INSERT INTO evil.orders VALUES (1), (2)$$),
        (23, $$SELECT lockstep.create_state_machine('order')$$),
        (24, $$SELECT lockstep.state_machine_diagram('order', 1)$$),
        (25, $$DELETE FROM evil.orders$$),
        (26, $$SELECT lockstep.enable_tenant_isolation(), lockstep.get_workflow('w')$$),
        (27, $$SELECT lockstep.grant_usage('lockstep_test_thief', 'worker')$$)
) AS s (place, statement)
ORDER BY s.place;

SELECT * FROM finish();
ROLLBACK;
