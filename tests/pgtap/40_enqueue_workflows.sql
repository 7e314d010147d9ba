-- Enqueueing many: order, defaults, arguments, idempotency, deduplication, all or nothing.
BEGIN;
SELECT no_plan();

\ir failure_of.psql

CREATE FUNCTION pg_temp.numbered(p_count int)
RETURNS jsonb[]
LANGUAGE sql
AS $$ SELECT array_agg(jsonb_build_object('n', g.n) ORDER BY g.n) FROM generate_series(1, p_count) AS g (n) $$;

-- refused arguments

CREATE TEMPORARY TABLE refused_call AS
SELECT c.argument, c.arguments, f.code, f.message, f.detail, f.hint
FROM (
    VALUES
        ('workflow_name', $$workflow_name => NULL$$),
        ('workflow_name', $$workflow_name => ' '$$),
        ('workflow_name', $$workflow_name => repeat('x', 513)$$),
        ('queue_name', $$queue_name => NULL$$),
        ('queue_name', $$queue_name => ''$$),
        ('queue_name', $$queue_name => repeat('x', 513)$$),
        ('named_args', $$named_args => NULL$$),
        ('named_args', $$named_args => ARRAY['{}']::jsonb[], workflow_ids => '{a,b}'$$),
        ('named_args', $$named_args => '{}', workflow_ids => '{a,b}'$$),
        ('named_args', $$named_args => ARRAY['{}', '[]']::jsonb[]$$),
        ('named_args', $$named_args => ARRAY['{}', 'null']::jsonb[]$$),
        ('named_args', $$named_args => ARRAY['"x"', '{}']::jsonb[]$$),
        ('positional_args', $$positional_args => ARRAY['[]']::jsonb[]$$),
        ('positional_args', $$positional_args => ARRAY['[]', '[]', '[]']::jsonb[]$$),
        ('positional_args', $$positional_args => '{}'$$),
        ('positional_args', $$positional_args => ARRAY['[]', '{}']::jsonb[]$$),
        ('positional_args', $$positional_args => ARRAY['null', '[]']::jsonb[]$$),
        ('workflow_ids', $$workflow_ids => '{a}'$$),
        ('workflow_ids', $$workflow_ids => '{}'$$),
        ('workflow_id', $$workflow_ids => ARRAY['a', '']$$),
        ('workflow_id', $$workflow_ids => ARRAY[' ', 'b']$$),
        ('workflow_id', $$workflow_ids => ARRAY['a', repeat('x', 513)]$$),
        ('deduplication_ids', $$deduplication_ids => '{a,b,c}'$$),
        ('deduplication_id', $$deduplication_ids => ARRAY['a', ' ']$$),
        ('deduplication_id', $$deduplication_ids => ARRAY['a', repeat('x', 513)]$$),
        ('queue_partition_keys', $$queue_partition_keys => '{a}'$$),
        ('queue_partition_key', $$queue_partition_keys => ARRAY['a', '']$$),
        ('queue_partition_key', $$queue_partition_keys => ARRAY['a', repeat('x', 513)]$$),
        ('on_duplicate', $$on_duplicate => NULL$$),
        ('on_duplicate', $$on_duplicate => 'x'$$),
        ('priority', $$priority => NULL$$),
        ('priority', $$priority => -1$$),
        ('delay', $$delay => '-1 second'$$),
        ('delay', $$delay => '1 second', run_at => now()$$),
        ('run_at', $$delay => '1 second', run_at => now()$$),
        ('run_at', $$run_at => 'infinity'$$),
        ('timeout', $$timeout => '0'$$),
        ('timeout', $$timeout => '1 second', deadline => now()$$),
        ('deadline', $$timeout => '1 second', deadline => now()$$),
        ('deadline', $$deadline => '-infinity'$$),
        ('max_attempts', $$max_attempts => 0$$),
        ('app_version', $$app_version => ''$$),
        ('headers', $$headers => '[]'$$),
        ('debounce', $$debounce => '1 s'$$),
        ('debounce', $$debounce => '1 s', deduplication_ids => ARRAY['d', NULL]$$),
        ('debounce', $$debounce => '1 s', deduplication_ids => '{d,e}', delay => '1 s'$$),
        ('debounce', $$debounce => '0', deduplication_ids => '{d,e}'$$),
        ('debounce_max_delay', $$deduplication_ids => '{d,e}', debounce_max_delay => '1 s'$$),
        ('debounce_max_delay', $$debounce => '1 s', deduplication_ids => '{d,e}', debounce_max_delay => '0'$$)
) AS c (argument, arguments)
CROSS JOIN LATERAL pg_temp.failure_of(
    'SELECT lockstep.enqueue_workflows('
    || concat_ws(
        ', ',
        CASE WHEN c.arguments NOT LIKE '%workflow_name =>%' THEN $$workflow_name => 'greet'$$ END,
        CASE WHEN c.arguments NOT LIKE '%queue_name =>%' THEN $$queue_name => 'q'$$ END,
        CASE WHEN c.arguments NOT LIKE '%named_args =>%' THEN $$named_args => ARRAY['{}', '{}']::jsonb[]$$ END,
        c.arguments
    )
    || ')'
) AS f;

SELECT is(r.code, '22023', format('%s is refused with 22023', r.arguments)) FROM refused_call AS r;
SELECT matches(
    concat_ws(' ', r.message, r.detail), '\m' || r.argument || '\M',
    format('the error for %s names %s', r.arguments, r.argument)
)
FROM refused_call AS r;
SELECT isnt(coalesce(r.detail, ''), '', format('the error for %s tells what was seen', r.arguments))
FROM refused_call AS r;
SELECT isnt(coalesce(r.hint, ''), '', format('the error for %s has a hint', r.arguments)) FROM refused_call AS r;
SELECT is_empty('SELECT w.workflow_id FROM lockstep.workflow_status AS w', 'a refused call leaves no row');
SELECT is(
    (
        pg_temp.failure_of($$
            SELECT lockstep.enqueue_workflows('greet', 'q', ARRAY['{}', '{}', '{}']::jsonb[], workflow_ids => '{a,b}')
        $$)
    ).detail,
    'named_args has 3, positional_args, workflow_ids, deduplication_ids and queue_partition_keys have '
    'none, 2, none, none.',
    'the error for arrays of different lengths tells their lengths'
);
SELECT is(
    (
        pg_temp.failure_of($$
            SELECT lockstep.enqueue_workflows(
                'greet', 'q', ARRAY['{}', '{}', '{}']::jsonb[],
                workflow_ids => ARRAY['a', repeat('y', 514), repeat('x', 513)]
            )
        $$)
    ).detail,
    format('It has 514 characters and begins with "%s".', repeat('y', 40)),
    'of several bad elements the error is about the first'
);

-- order

CREATE TEMPORARY TABLE enqueued AS
SELECT e.id, e.place
FROM lockstep.enqueue_workflows('greet', 'order', pg_temp.numbered(1000)) WITH ORDINALITY AS e (id, place);
SELECT results_eq(
    $$
    SELECT (w.inputs -> 'namedArgs' ->> 'n')::bigint
    FROM enqueued AS e
    INNER JOIN lockstep.workflow_status AS w ON w.workflow_id = e.id
    ORDER BY e.place
    $$,
    'SELECT n FROM generate_series(1::bigint, 1000) AS g (n)',
    'the ids come in the order of the arrays'
);
SELECT results_eq(
    'SELECT e.place FROM enqueued AS e ORDER BY e.id COLLATE "C"', 'SELECT e.place FROM enqueued AS e ORDER BY e.place',
    'the ids sort in the order of the arrays'
);
SELECT results_eq(
    $$
    SELECT w.available_at - min(w.available_at) OVER ()
    FROM enqueued AS e
    INNER JOIN lockstep.workflow_status AS w ON w.workflow_id = e.id
    ORDER BY e.place
    $$,
    $$SELECT n * interval '1 us' FROM generate_series(0, 999) AS g (n)$$,
    'workflows of one call are a microsecond apart, so that their order is no accident'
);
SELECT results_eq(
    $$
    SELECT DISTINCT w.xmin::text
    FROM lockstep.workflow_status AS w
    $$,
    $$VALUES ((pg_current_xact_id()::text::numeric % 4294967296)::text)$$,
    'a call uses no transaction id but that of its transaction'
);
SELECT lockstep.register_executor('{order}', '{greet}') AS executor_id \gset
CREATE TEMPORARY TABLE claimed (place bigint GENERATED ALWAYS AS IDENTITY, id text);
INSERT INTO claimed (id) SELECT c.workflow_id FROM lockstep.claim_workflows(:'executor_id', 300) AS c;
INSERT INTO claimed (id) SELECT c.workflow_id FROM lockstep.claim_workflows(:'executor_id', 1000) AS c;
SELECT results_eq(
    'SELECT c.id FROM claimed AS c ORDER BY c.place', 'SELECT e.id FROM enqueued AS e ORDER BY e.place',
    'workflows are claimed in the order of the arrays'
);

SELECT results_eq(
    $$
    SELECT *
    FROM lockstep.enqueue_workflows(
        'greet', 'order', pg_temp.numbered(3), workflow_ids => '{z,m,a}', run_at => now() - interval '1 day'
    )
    $$,
    $$VALUES ('z'), ('m'), ('a')$$,
    'given ids come as they were given'
);
SELECT results_eq(
    format('SELECT c.workflow_id FROM lockstep.claim_workflows(%L, 2) AS c', :'executor_id'), $$VALUES ('z'), ('m')$$,
    'workflows with given ids are claimed in the order of the arrays'
);

-- what it writes is what enqueue_workflow() writes

-- The row that a call for one workflow writes, without its id and with times as minutes from now.
CREATE FUNCTION pg_temp.row_of(p_call text)
RETURNS jsonb
LANGUAGE plpgsql
AS $$
DECLARE
    v_workflow_id text;
    v_row jsonb;
BEGIN
    EXECUTE 'SELECT lockstep.' || p_call INTO STRICT v_workflow_id;
    DELETE FROM lockstep.workflow_status AS w
    WHERE w.workflow_id = v_workflow_id
    RETURNING to_jsonb(w) - 'workflow_id' || jsonb_build_object(
        'created_at', round(extract(epoch FROM w.created_at - clock_timestamp()) / 60),
        'available_at', round(extract(epoch FROM w.available_at - clock_timestamp()) / 60)
    )
    INTO STRICT v_row;
    RETURN v_row;
END
$$;

SELECT is(
    pg_temp.row_of(format($$enqueue_workflows('greet', 'q', %s)$$, c.of_many)),
    pg_temp.row_of(format($$enqueue_workflow('greet', 'q'%s)$$, ', ' || c.of_one)),
    format('enqueueing many with %s writes the row of a single call', c.of_many)
)
FROM (
    VALUES
        ($$ARRAY['{}']::jsonb[]$$, NULL),
        ('ARRAY[NULL]::jsonb[]', NULL),
        ('ARRAY[NULL]::jsonb[], ARRAY[NULL]::jsonb[], ARRAY[NULL], ARRAY[NULL]', NULL),
        ('ARRAY[NULL]::jsonb[], queue_partition_keys => ARRAY[NULL]', NULL),
        ($$ARRAY['{"a": 1}']::jsonb[]$$, $$named_args => '{"a": 1}'$$),
        ($$ARRAY[NULL]::jsonb[], ARRAY['[1, "two"]']::jsonb[]$$, $$positional_args => '[1, "two"]'$$),
        ($$ARRAY[NULL]::jsonb[], deduplication_ids => '{d}'$$, $$deduplication_id => 'd'$$),
        ($$ARRAY[NULL]::jsonb[], queue_partition_keys => '{k}'$$, $$queue_partition_key => 'k'$$)
) AS c (of_many, of_one);
SELECT is(
    pg_temp.row_of(format($$enqueue_workflows('greet', 'q', ARRAY['{}']::jsonb[], %s%s)$$, c.option, i.ids)),
    pg_temp.row_of(format($$enqueue_workflow('greet', 'q', %s)$$, c.option)),
    format('enqueueing many with %s%s writes the row of a single call', c.option, i.ids)
)
FROM (
    VALUES
        ($$on_duplicate => 'return'$$),
        ('priority => 3'),
        ($$delay => '1 hour'$$),
        ($$delay => '0'$$),
        ($$run_at => clock_timestamp() + interval '2 hours'$$),
        ($$run_at => clock_timestamp() - interval '2 hours'$$),
        ($$timeout => '1 hour'$$),
        ($$deadline => '2100-01-01'$$),
        ('max_attempts => 3'),
        ($$app_version => 'v2'$$),
        ($$headers => '{"traceparent": "00"}'$$),
        ($$retries => '{"max_attempts": 3}'$$)
) AS c (option)
-- without ids a call takes a shorter way
CROSS JOIN (VALUES (NULL), (', workflow_ids => ARRAY[NULL]')) AS i (ids);

-- each array speaks of each workflow

DELETE FROM lockstep.workflow_status;
SELECT results_eq(
    $$
    SELECT e.id IS NOT NULL, e.place
    FROM lockstep.enqueue_workflows(
        'greet', 'q',
        ARRAY[NULL, '{"a": 1}', '{"b": 2}']::jsonb[],
        ARRAY['[1]', NULL, '[3]']::jsonb[],
        ARRAY['first', 'second', NULL],
        ARRAY[NULL, 'd2', 'd3'],
        queue_partition_keys => ARRAY['k1', NULL, 'k3']
    ) WITH ORDINALITY AS e (id, place)
    $$,
    'SELECT true, n FROM generate_series(1::bigint, 3) AS g (n)',
    'there is an id for each element'
);
SELECT results_eq(
    $$
    SELECT
        CASE WHEN w.workflow_id IN ('first', 'second') THEN w.workflow_id END,
        w.inputs, w.deduplication_id, w.queue_partition_key
    FROM lockstep.workflow_status AS w
    ORDER BY w.available_at
    $$,
    $$
    VALUES
        ('first', '{"positionalArgs": [1], "namedArgs": {}}'::jsonb, NULL, 'k1'),
        ('second', '{"positionalArgs": [], "namedArgs": {"a": 1}}', 'd2', NULL),
        (NULL, '{"positionalArgs": [3], "namedArgs": {"b": 2}}', 'd3', 'k3')
    $$,
    'NULL in an array means for its workflow what leaving the argument out means'
);
SELECT matches(w.workflow_id, '^[0-9a-f]{8}-[0-9a-f]{4}-7', 'a workflow without a given id gets a UUID version 7')
FROM lockstep.workflow_status AS w
WHERE w.deduplication_id = 'd3';

DELETE FROM lockstep.workflow_status;
SELECT is_empty(
    format($$SELECT * FROM lockstep.enqueue_workflows('greet', 'q', '{}'%s)$$, c.others),
    format('empty arrays%s enqueue nothing', c.others)
)
FROM (VALUES (''), ($$, '{}', '{}', '{}', queue_partition_keys => '{}'$$)) AS c (others);
SELECT is_empty('SELECT w.workflow_id FROM lockstep.workflow_status AS w', 'an empty array leaves no row');

-- when they may start

SELECT lockstep.enqueue_workflows('greet', 'q', pg_temp.numbered(3), delay => '1 hour');
SELECT results_eq(
    $$
    SELECT
        (w.inputs -> 'namedArgs' ->> 'n')::int, w.status,
        w.available_at - w.created_at - interval '1 hour' < interval '1 ms'
    FROM lockstep.workflow_status AS w
    ORDER BY w.available_at
    $$,
    $$VALUES (1, 'DELAYED', true), (2, 'DELAYED', true), (3, 'DELAYED', true)$$,
    'delay makes all of them claimable that long after, in the order of the arrays'
);

-- workflow_ids: idempotency

DELETE FROM lockstep.workflow_status;
SELECT lockstep.enqueue_workflow('greet', 'ids', workflow_id => 'a', priority => 1);
SELECT lockstep.enqueue_workflow('part', 'ids', workflow_id => 'of another name');
SELECT lockstep.enqueue_workflow('greet', 'other', workflow_id => 'of another queue');
UPDATE lockstep.workflow_status SET status = 'SUCCESS', completed_at = now() WHERE workflow_id = 'a';
CREATE TEMPORARY TABLE before AS SELECT w.* FROM lockstep.workflow_status AS w;
SELECT results_eq(
    $$
    SELECT *
    FROM lockstep.enqueue_workflows(
        'greet', 'ids', pg_temp.numbered(3), workflow_ids => '{new,a,newer}', priority => 2
    )
    $$,
    $$VALUES ('new'), ('a'), ('newer')$$,
    'a workflow_id that exists is returned at its place'
);
SELECT results_eq(
    $$SELECT w.* FROM lockstep.workflow_status AS w WHERE w.priority <> 2 ORDER BY w.workflow_id$$,
    'SELECT b.* FROM before AS b ORDER BY b.workflow_id',
    'a workflow whose id is enqueued again is not changed'
);
SELECT results_eq(
    $$
    SELECT w.workflow_id, w.inputs -> 'namedArgs' -> 'n'
    FROM lockstep.workflow_status AS w
    WHERE w.priority = 2
    ORDER BY w.workflow_id
    $$,
    $$VALUES ('new', '1'::jsonb), ('newer', '3')$$,
    'its neighbours are enqueued'
);
DELETE FROM lockstep.workflow_status WHERE workflow_id IN ('new', 'newer');

SELECT is(
    pg_temp.failure_of(format(
        $$
        SELECT lockstep.enqueue_workflows('greet', 'ids', pg_temp.numbered(3), workflow_ids => ARRAY['new', %L, 'a'])
        $$,
        c.id
    ))::text,
    (
        '23505', format('workflow "%s" exists already', c.id), c.detail,
        'Use another workflow_id for another workflow or queue.'
    )::text,
    format('a workflow_id %s is an error that tells what it runs', c.id)
)
FROM (
    VALUES
        ('of another name', 'It runs "part" in queue "ids".'),
        ('of another queue', 'It runs "greet" in queue "other".')
) AS c (id, detail);
SELECT results_eq(
    'SELECT w.* FROM lockstep.workflow_status AS w ORDER BY w.workflow_id',
    'SELECT b.* FROM before AS b ORDER BY b.workflow_id',
    'one workflow_id that is refused refuses the whole call'
);

SELECT results_eq(
    $$
    SELECT *
    FROM lockstep.enqueue_workflows(
        'greet', 'twice', pg_temp.numbered(4), workflow_ids => '{x,y,x,x}', deduplication_ids => '{d,NULL,d,NULL}'
    )
    $$,
    $$VALUES ('x'), ('y'), ('x'), ('x')$$,
    'a workflow_id may come twice in a call'
);
SELECT results_eq(
    $$
    SELECT w.workflow_id, w.inputs -> 'namedArgs' -> 'n'
    FROM lockstep.workflow_status AS w
    WHERE w.queue_name = 'twice'
    ORDER BY w.workflow_id
    $$,
    $$VALUES ('x', '1'::jsonb), ('y', '2')$$,
    'a workflow_id that comes twice is enqueued once, as it came first'
);

-- deduplication_ids: one unfinished workflow

DELETE FROM lockstep.workflow_status;
SELECT lockstep.enqueue_workflow('greet', 'dedup', workflow_id => 'rival', deduplication_id => 'd');
SELECT lockstep.enqueue_workflow('greet', 'dedup', workflow_id => 'ended', deduplication_id => 'free');
UPDATE lockstep.workflow_status SET status = 'SUCCESS', completed_at = now() WHERE workflow_id = 'ended';
SELECT lockstep.enqueue_workflow('greet', 'elsewhere', workflow_id => 'elsewhere', deduplication_id => 'new');
SELECT is(
    pg_temp.failure_of(
        $$
        SELECT lockstep.enqueue_workflows('greet', 'dedup', pg_temp.numbered(3), deduplication_ids => '{new,d,NULL}')
        $$
    )::text,
    (
        '23505', 'queue "dedup" has an unfinished workflow with deduplication_id "d"',
        'It is workflow "rival", ENQUEUED, and runs "greet".', 'Pass on_duplicate => ''return'' to get its id instead of this error.'
    )::text,
    'a duplicate of a workflow in the queue is an error that tells which'
);
SELECT is(
    pg_temp.failure_of(
        $$
        SELECT lockstep.enqueue_workflows(
            'greet', 'dedup', pg_temp.numbered(3), workflow_ids => '{x,y,z}', deduplication_ids => '{new,NULL,new}'
        )
        $$
    )::text,
    (
        '23505', 'queue "dedup" has an unfinished workflow with deduplication_id "new"',
        'It is workflow "x", ENQUEUED, and runs "greet".', 'Pass on_duplicate => ''return'' to get its id instead of this error.'
    )::text,
    'a duplicate within the call is an error that tells which'
);
SELECT results_eq(
    'SELECT w.workflow_id FROM lockstep.workflow_status AS w ORDER BY w.workflow_id',
    $$VALUES ('elsewhere'), ('ended'), ('rival')$$,
    'one duplicate refuses the whole call'
);
SELECT results_eq(
    $$
    SELECT *
    FROM lockstep.enqueue_workflows(
        'greet', 'dedup', pg_temp.numbered(6), workflow_ids => '{u,v,w,x,y,z}',
        deduplication_ids => '{new,d,NULL,new,free,d}', on_duplicate => 'return'
    )
    $$,
    $$VALUES ('u'), ('rival'), ('w'), ('u'), ('y'), ('rival')$$,
    'a duplicate gets the id of the unfinished workflow if the call asks for it'
);
SELECT results_eq(
    $$
    SELECT w.workflow_id, w.deduplication_id, w.inputs -> 'namedArgs' -> 'n'
    FROM lockstep.workflow_status AS w
    WHERE w.queue_name = 'dedup'
    ORDER BY w.workflow_id
    $$,
    $$
    VALUES
        ('ended', 'free', NULL::jsonb), ('rival', 'd', NULL), ('u', 'new', '1'), ('w', NULL, '3'), ('y', 'free', '5')
    $$,
    'a duplicate leaves no row, its neighbours do'
);

-- transactions

SAVEPOINT before_call;
SELECT lockstep.enqueue_workflows('greet', 'rolled_back', pg_temp.numbered(3));
ROLLBACK TO SAVEPOINT before_call;
RELEASE SAVEPOINT before_call;
SELECT is_empty(
    $$SELECT w.workflow_id FROM lockstep.workflow_status AS w WHERE w.queue_name = 'rolled_back'$$,
    'a call that is rolled back leaves no workflow'
);

CREATE TEMPORARY TABLE orders (order_id int);
CREATE FUNCTION pg_temp.enqueue_orders()
RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM lockstep.enqueue_workflows(
        'fulfil', 'orders', array_agg(jsonb_build_object('order_id', i.order_id) ORDER BY i.order_id),
        workflow_ids => array_agg('order-' || i.order_id ORDER BY i.order_id)
    )
    FROM inserted AS i;
    RETURN NULL;
END
$$;
CREATE TRIGGER enqueue_orders
AFTER INSERT ON orders
REFERENCING NEW TABLE AS inserted
FOR EACH STATEMENT EXECUTE FUNCTION pg_temp.enqueue_orders();
INSERT INTO orders
SELECT g.order_id
FROM generate_series(1, 1000) AS g (order_id);
SELECT results_eq(
    $$
    SELECT w.workflow_id
    FROM lockstep.workflow_status AS w
    WHERE w.queue_name = 'orders'
    ORDER BY w.available_at
    $$,
    $$SELECT 'order-' || g.order_id FROM generate_series(1, 1000) AS g (order_id)$$,
    'a trigger on a statement enqueues one workflow per inserted row'
);

-- who enqueued them

CREATE ROLE "lockstep test Client";
SELECT lockstep.grant_usage('lockstep test Client', 'client');
SET LOCAL ROLE "lockstep test Client";
SELECT lockstep.enqueue_workflows('greet', 'roles', ARRAY['{}']::jsonb[], workflow_ids => '{by the client}');
RESET ROLE;
SELECT lockstep.enqueue_workflows('greet', 'roles', ARRAY['{}']::jsonb[], workflow_ids => '{by myself}');
SET SESSION AUTHORIZATION "lockstep test Client";
SELECT lockstep.enqueue_workflows('greet', 'roles', ARRAY['{}']::jsonb[], workflow_ids => '{by the session}');
RESET SESSION AUTHORIZATION;
SELECT results_eq(
    $$
    SELECT w.workflow_id, w.enqueued_by
    FROM lockstep.workflow_status AS w
    WHERE w.queue_name = 'roles'
    ORDER BY w.workflow_id
    $$,
    format(
        'VALUES (%L, %L), (%L, %L), (%L, %L)',
        'by myself', current_user,
        'by the client', 'lockstep test Client',
        'by the session', 'lockstep test Client'
    ),
    'enqueued_by is the role that called, not the owner of the function'
);

-- ids that repeat are decided one after the other, as by enqueue_workflow()

SELECT lockstep.enqueue_workflow('greet', 'repeats', workflow_id => 'repeats rival', deduplication_id => 'd');
SELECT throws_ok(
    $$
    SELECT lockstep.enqueue_workflows(
        'greet', 'repeats', ARRAY['{}', '{}']::jsonb[],
        workflow_ids => ARRAY['repeated', 'repeated'], deduplication_ids => ARRAY['d', NULL]
    )
    $$,
    '23505', NULL, 'a rival of the first of two elements with one id is not passed over'
);

SELECT * FROM finish();
ROLLBACK;
