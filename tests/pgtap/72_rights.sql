-- With whose rights an attached workflow is enqueued, and who may attach one.
BEGIN;
SET LOCAL client_min_messages = error;
SELECT no_plan();

\ir failure_as.psql

CREATE ROLE lockstep_test_owner;
CREATE ROLE lockstep_test_app;
CREATE ROLE lockstep_test_stranger;
CREATE SCHEMA shop AUTHORIZATION lockstep_test_owner;
GRANT USAGE ON SCHEMA shop TO lockstep_test_app, lockstep_test_stranger;

SET LOCAL ROLE lockstep_test_owner;
CREATE TABLE shop.orders (id int PRIMARY KEY, note text);
CREATE TABLE shop.secrets (word text);
INSERT INTO shop.secrets VALUES ('open sesame');
GRANT INSERT ON shop.orders TO lockstep_test_app;
RESET ROLE;

-- who may attach

SELECT is(
    pg_temp.failure_as('lockstep_test_owner', $$SELECT lockstep.attach_workflow('shop.orders', 'fulfil', 'q')$$),
    '42501: permission denied for schema lockstep',
    'attaching takes the capability client'
);
SELECT lockstep.grant_usage('lockstep_test_owner', 'client');
SELECT lockstep.grant_usage('lockstep_test_stranger', 'client');
SELECT is(
    pg_temp.failure_as('lockstep_test_stranger', $$SELECT lockstep.attach_workflow('shop.orders', 'fulfil', 'q')$$),
    '42501: permission denied for table orders',
    'attaching takes the table''s owner, or the privilege TRIGGER'
);
SELECT is(
    pg_temp.failure_as(
        'lockstep_test_owner',
        $$
        SELECT lockstep.attach_workflow(
            'shop.orders', 'fulfil', 'q',
            named_args => 'jsonb_build_object(''id'', new.id, ''by'', current_user)'
        )
        $$
    ),
    NULL::text, 'the owner of a table attaches with the capability client'
);
SELECT is(
    pg_temp.failure_as(
        'lockstep_test_stranger', $$SELECT lockstep.attach_workflow('shop.orders', 'fulfil', 'other')$$
    ),
    '42501: permission denied for table orders', 'a stranger does not replace the settings'
);
SELECT is(
    pg_temp.failure_as('lockstep_test_stranger', $$SELECT lockstep.detach_workflow('shop.orders', 'fulfil')$$),
    '42501: must be owner of relation orders', 'a stranger does not detach'
);
GRANT TRIGGER ON shop.orders TO lockstep_test_stranger;
SELECT is(
    pg_temp.failure_as('lockstep_test_stranger', $$SELECT lockstep.attach_workflow('shop.orders', 'watch', 'q')$$),
    NULL::text, 'the privilege TRIGGER is enough to attach'
);
SELECT is(
    pg_temp.failure_as('lockstep_test_owner', $$SELECT lockstep.detach_workflow('shop.orders', 'watch')$$),
    NULL::text, 'the owner detaches what another role attached'
);

-- who writes rows

SELECT is(
    pg_temp.failure_as('lockstep_test_app', $$INSERT INTO shop.orders VALUES (1)$$),
    '42501: permission denied for schema lockstep',
    'a role that writes rows needs the capability client'
);
SELECT lockstep.grant_usage('lockstep_test_app', 'client');
SELECT is(
    pg_temp.failure_as('lockstep_test_app', $$INSERT INTO shop.orders VALUES (1)$$),
    NULL::text, 'with it the right to write is enough: nothing is read from the table'
);
SELECT results_eq(
    $$SELECT w.enqueued_by, w.inputs -> 'namedArgs' FROM lockstep.workflow_status AS w$$,
    $$VALUES ('lockstep_test_app', '{"id": 1, "by": "lockstep_test_app"}'::jsonb)$$,
    'expressions run as the role that writes the rows'
);

-- expressions have the rights of that role, and of nobody else

SET LOCAL ROLE lockstep_test_owner;
SELECT lockstep.attach_workflow(
    'shop.orders', 'fulfil', 'q', named_args => '(SELECT to_jsonb(s) FROM shop.secrets AS s)'
);
RESET ROLE;
SELECT is(
    pg_temp.failure_as('lockstep_test_app', $$INSERT INTO shop.orders VALUES (2)$$),
    '42501: permission denied for table secrets',
    'an expression reads nothing that the role that writes the rows may not read'
);
SELECT is(
    pg_temp.failure_as(
        'lockstep_test_owner',
        $$
        SELECT lockstep.attach_workflow(
            'shop.orders', 'fulfil', 'q', condition => 'EXISTS (SELECT FROM lockstep.workflow_status)'
        )
        $$
    ),
    '22023: condition cannot be evaluated',
    'nor does one read the tables of the extension because it is parsed by a function of it'
);
SELECT is(
    (
        SELECT bool_or(p.prosecdef)
        FROM pg_proc AS p
        WHERE p.pronamespace = 'lockstep'::regnamespace
            AND p.proname IN (
                'attach_workflow', 'detach_workflow', 'enqueue_rows', '_attachment_problem', '_place_triggers'
            )
    ),
    false,
    'no function that handles expressions runs with the rights of the extension''s owner'
);

-- nor those of who may create functions in a schema of the search_path

CREATE TABLE shop.parcels (id int PRIMARY KEY, label varchar(9));
SELECT lockstep.attach_workflow(
    'shop.parcels', 'fulfil', 'q', '{INSERT,UPDATE}', '{label}', search_path => '{shop}'
);
CREATE FUNCTION shop.trap(int) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'trapped';
END
$$;
CREATE FUNCTION shop.jsonb_build_object(text, int) RETURNS jsonb LANGUAGE sql AS
    $$SELECT jsonb_build_object('trap', shop.trap(1))$$;
CREATE FUNCTION shop.collect(jsonb[], jsonb) RETURNS jsonb[] LANGUAGE sql AS
    $$SELECT $1 || jsonb_build_object('trap', shop.trap(2))$$;
CREATE AGGREGATE shop.array_agg (jsonb) (sfunc = shop.collect, stype = jsonb []);
CREATE FUNCTION shop.collect(text[], text) RETURNS text[] LANGUAGE sql AS $$SELECT $1 || shop.trap(3)::text$$;
CREATE AGGREGATE shop.array_agg (text) (sfunc = shop.collect, stype = text []);
CREATE FUNCTION shop.is_equal(varchar, varchar) RETURNS boolean LANGUAGE sql AS 'SELECT shop.trap(4)';
CREATE OPERATOR shop.= (FUNCTION = shop.is_equal, LEFTARG = varchar, RIGHTARG = varchar);
CREATE FUNCTION shop.unnest(shop.parcels[]) RETURNS shop.parcels LANGUAGE sql IMMUTABLE AS
    'SELECT NULL::shop.parcels WHERE shop.trap(5)';
SELECT is(
    pg_temp.failure_as(current_user, s.statement), NULL,
    'functions that fit better than those of Postgres are not called: ' || s.statement
)
FROM (
    VALUES
        ($$INSERT INTO shop.parcels VALUES (1, 'a'), (2, 'b')$$),
        ($$UPDATE shop.parcels SET label = 'c'$$),
        ($$UPDATE shop.parcels SET label = 'd' WHERE id = 1$$),
        (
            $$SELECT lockstep.attach_workflow('shop.parcels', 'w', 'q', workflow_id => 'new.id', search_path => '{shop}')$$
        ),
        ($$INSERT INTO shop.parcels VALUES (3, 'a'), (4, 'b')$$)
) AS s (statement);

-- who writes through a view

CREATE SCHEMA hidden;
CREATE TABLE hidden.orders (id int PRIMARY KEY, note text);
SELECT lockstep.attach_workflow('hidden.orders', 'fulfil', 'hidden', '{INSERT,UPDATE,DELETE}', '{note}');
CREATE VIEW shop.orders_seen AS SELECT * FROM hidden.orders;
GRANT ALL ON shop.orders_seen TO lockstep_test_app;
SELECT is(
    pg_temp.failure_as('lockstep_test_app', s.statement), NULL,
    'who may write to a view needs no right on the schema of the table: ' || s.statement
)
FROM (
    VALUES
        ('INSERT INTO shop.orders_seen VALUES (1), (2)'),
        ($$UPDATE shop.orders_seen SET note = 'x'$$),
        ('DELETE FROM shop.orders_seen')
) AS s (statement);
SELECT is(
    count(*), 6::bigint, 'and each row enqueues a workflow'
)
FROM lockstep.workflow_status AS w
WHERE w.queue_name = 'hidden';

SELECT * FROM finish();
ROLLBACK;
