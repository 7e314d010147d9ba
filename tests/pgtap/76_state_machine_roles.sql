-- State machines and roles: whose rights are used, and who did it.
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT no_plan();

\ir failure_as.psql

CREATE ROLE lockstep_test_owner;
CREATE ROLE lockstep_test_app;
CREATE ROLE lockstep_test_reader;
CREATE ROLE lockstep_test_stranger;
SELECT lockstep.grant_usage('lockstep_test_app', 'client');
SELECT lockstep.grant_usage('lockstep_test_reader', 'client');
SELECT lockstep.grant_usage('lockstep_test_stranger', 'admin');
CREATE SCHEMA shop AUTHORIZATION lockstep_test_owner;
GRANT USAGE ON SCHEMA shop TO PUBLIC;

SELECT lockstep.create_state_machine('order');
SELECT lockstep.add_transition('order', NULL, 'place', 'new');
SELECT lockstep.add_transition('order', 'new', 'pay', 'paid', 'fulfil');
SELECT lockstep.add_transition('order', 'paid', 'ship', 'shipped');

-- who may attach

SET LOCAL ROLE lockstep_test_owner;
CREATE TYPE shop.stage AS ENUM ('new', 'paid', 'shipped');
CREATE TABLE shop.orders (id int PRIMARY KEY, state shop.stage NOT NULL DEFAULT 'new');
GRANT SELECT, INSERT, UPDATE, DELETE ON shop.orders TO lockstep_test_app;
GRANT SELECT ON shop.orders TO lockstep_test_reader;
GRANT SELECT, UPDATE, TRIGGER ON shop.orders TO lockstep_test_stranger;
GRANT CREATE ON SCHEMA shop TO lockstep_test_stranger;
RESET ROLE;

SELECT is(
    pg_temp.failure_as(current_user, $$SELECT lockstep.attach_state_machine('shop.orders', 'state', 'order')$$),
    '42501: role lockstep_test_owner may not record transitions',
    'the owner of the table must be able to record, whoever attaches'
);
SELECT lockstep.grant_usage('lockstep_test_owner', 'admin');
SELECT matches(
    pg_temp.failure_as('lockstep_test_stranger', $$SELECT lockstep.attach_state_machine('shop.orders', 'state', 'order')$$),
    '^42501: must be (member of role|able to SET ROLE) "lockstep_test_owner"$',
    'who does not own the table cannot attach, with all rights on it'
);
SELECT is(
    pg_temp.failure_as('lockstep_test_app', $$SELECT lockstep.attach_state_machine('shop.orders', 'state', 'order')$$),
    '42501: permission denied for function attach_state_machine',
    'an application cannot attach'
);
ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO lockstep_test_app;
ALTER DEFAULT PRIVILEGES IN SCHEMA shop GRANT EXECUTE ON FUNCTIONS TO lockstep_test_stranger, PUBLIC;
SELECT lockstep.attach_state_machine('shop.orders', 'state', 'order');
SELECT ok(
    NOT has_function_privilege(r.role, 'shop.orders_state_machine()', 'EXECUTE'),
    format('default privileges do not let %s make triggers with the function', r.role)
)
FROM (VALUES ('lockstep_test_app'), ('lockstep_test_stranger'), ('public')) AS r (role);
SELECT is(
    p.proowner::regrole::text, 'lockstep_test_owner',
    'the trigger function belongs to the owner of the table, though a superuser attached'
)
FROM pg_proc AS p
WHERE p.oid = 'shop.orders_state_machine()'::regprocedure;
SELECT is(
    pg_temp.failure_as('lockstep_test_stranger', 'SELECT lockstep.detach_state_machine(''shop.orders'')'),
    '42501: must be owner of relation orders', 'who does not own the table cannot detach'
);

-- who may move rows

SELECT is(
    pg_temp.failure_as('lockstep_test_app', c.statement), c.failure, 'an application: ' || c.statement
)
FROM (
    VALUES
        ('INSERT INTO shop.orders VALUES (1), (2), (3)', NULL),
        ($$SELECT lockstep.fire_event(o, 'pay') FROM shop.orders AS o WHERE id = 1$$, NULL),
        ($$UPDATE shop.orders SET state = 'paid' WHERE id = 2$$, NULL),
        ('DELETE FROM shop.orders WHERE id = 3', NULL),
        (
            $$UPDATE shop.orders SET state = 'new' WHERE id = 2$$,
            '23514: no event of state machine "order" leads from "paid" to "new"'
        ),
        ('TABLE lockstep.state_history', '42501: permission denied for table state_history'),
        (
            $$SELECT lockstep.record_transition('shop.orders', 'UPDATE', 'order', 1, '{}', 'new', 'paid')$$,
            '42501: permission denied for function record_transition'
        ),
        (
            $$SELECT lockstep.add_transition('order', 'new', 'steal', 'shipped')$$,
            '42501: permission denied for function add_transition'
        ),
        (
            'CREATE TEMPORARY TABLE orders (id int, state text);'
            'CREATE TRIGGER forge AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION shop.orders_state_machine()',
            '42501: permission denied for function shop.orders_state_machine'
        )
) AS c (statement, failure);
SELECT is(
    pg_temp.failure_as('lockstep_test_reader', $$SELECT lockstep.fire_event(o, 'ship') FROM shop.orders AS o WHERE id = 1$$),
    '42501: permission denied for table orders',
    'who may not write to the table cannot fire an event'
);
SELECT is(o.state, 'paid', 'and did not') FROM shop.orders AS o WHERE o.id = 1;
SELECT results_eq(
    $$
    SELECT h.key -> 'id', h.event, h.changed_by, w.enqueued_by
    FROM lockstep.state_history AS h
    LEFT JOIN lockstep.workflow_status AS w USING (workflow_id)
    ORDER BY h.transition_id
    $$,
    $$
    VALUES
        ('1'::jsonb, 'place', 'lockstep_test_app', NULL), ('2', 'place', 'lockstep_test_app', NULL),
        ('3', 'place', 'lockstep_test_app', NULL),
        ('1', 'pay', 'lockstep_test_app', 'lockstep_test_app'),
        ('2', 'pay', 'lockstep_test_app', 'lockstep_test_app'),
        ('3', NULL, 'lockstep_test_app', NULL)
    $$,
    'the history names the role that did it, and so does the workflow'
);

-- a role without any right on lockstep

REVOKE ALL ON SCHEMA lockstep FROM lockstep_test_app;
SELECT is(
    pg_temp.failure_as('lockstep_test_app', $$UPDATE shop.orders SET state = 'shipped' WHERE id = 2$$), NULL,
    'who may write to the table needs no right on lockstep to move its rows'
);

-- what the owner's types execute does not run with the rights of Lockstep's owner

SET LOCAL ROLE lockstep_test_owner;
CREATE TABLE shop.witness (is_superuser text, as_role text);
CREATE FUNCTION shop.spy(shop.stage) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO shop.witness VALUES (current_setting('is_superuser'), current_user);
    RETURN pg_catalog.format('%s', $1);
END
$$;
CREATE FUNCTION shop.spy_json(shop.stage) RETURNS json LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO shop.witness VALUES (current_setting('is_superuser'), current_user);
    RETURN pg_catalog.to_json(pg_catalog.format('%s', $1));
END
$$;
CREATE CAST (shop.stage AS text) WITH FUNCTION shop.spy(shop.stage);
CREATE CAST (shop.stage AS json) WITH FUNCTION shop.spy_json(shop.stage);
CREATE TABLE shop.spied (id shop.stage PRIMARY KEY, state text NOT NULL DEFAULT 'new', other shop.stage);
SELECT lockstep.attach_state_machine('shop.spied', 'state', 'order');
GRANT ALL ON shop.spied TO lockstep_test_app;
RESET ROLE;
INSERT INTO shop.spied VALUES ('paid');
UPDATE shop.spied SET state = 'paid';
DELETE FROM shop.spied;
SELECT results_eq(
    'SELECT DISTINCT w.as_role FROM shop.witness AS w', $$VALUES ('lockstep_test_owner')$$,
    'casts of the key run as the owner of the table'
);

SELECT * FROM finish();
ROLLBACK;
