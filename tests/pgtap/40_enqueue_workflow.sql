-- Enqueueing: arguments, idempotency, deduplication, transactions, triggers.
BEGIN;
SELECT no_plan();

\ir failure_of.psql

-- refused arguments

CREATE TEMPORARY TABLE refused_call AS
SELECT c.argument, c.arguments, f.code, f.message, f.detail, f.hint
FROM (
    VALUES
        ('workflow_name', $$workflow_name => NULL$$),
        ('workflow_name', $$workflow_name => ''$$),
        ('workflow_name', $$workflow_name => '  '$$),
        ('workflow_name', $$workflow_name => repeat('x', 513)$$),
        ('queue_name', $$queue_name => NULL$$),
        ('queue_name', $$queue_name => ''$$),
        ('queue_name', $$queue_name => repeat('x', 513)$$),
        ('positional_args', $$positional_args => NULL$$),
        ('positional_args', $$positional_args => '{}'$$),
        ('positional_args', $$positional_args => 'null'$$),
        ('positional_args', $$positional_args => '1'$$),
        ('named_args', $$named_args => NULL$$),
        ('named_args', $$named_args => '[]'$$),
        ('named_args', $$named_args => '"x"'$$),
        ('workflow_id', $$workflow_id => ''$$),
        ('workflow_id', $$workflow_id => ' '$$),
        ('workflow_id', $$workflow_id => repeat('x', 513)$$),
        ('deduplication_id', $$deduplication_id => ''$$),
        ('deduplication_id', $$deduplication_id => repeat('x', 513)$$),
        ('on_duplicate', $$on_duplicate => NULL$$),
        ('on_duplicate', $$on_duplicate => 'ignore'$$),
        ('priority', $$priority => NULL$$),
        ('priority', $$priority => -1$$),
        ('queue_partition_key', $$queue_partition_key => ''$$),
        ('queue_partition_key', $$queue_partition_key => repeat('x', 513)$$),
        ('delay', $$delay => '-1 second'$$),
        ('delay', $$delay => '1 second', run_at => now()$$),
        ('delay', $$delay => '300000 years'$$),
        ('run_at', $$delay => '1 second', run_at => now()$$),
        ('run_at', $$run_at => 'infinity'$$),
        ('run_at', $$run_at => '-infinity'$$),
        ('timeout', $$timeout => '0'$$),
        ('timeout', $$timeout => '-1 second'$$),
        ('timeout', $$timeout => '1 second', deadline => now()$$),
        -- one that no timestamp can hold would break the claim, for the whole queue
        ('timeout', $$timeout => '300000 years'$$),
        ('deadline', $$timeout => '1 second', deadline => now()$$),
        ('deadline', $$deadline => 'infinity'$$),
        ('deadline', $$deadline => '-infinity'$$),
        ('max_attempts', $$max_attempts => 0$$),
        ('max_attempts', $$max_attempts => -1$$),
        ('app_version', $$app_version => ''$$),
        ('app_version', $$app_version => repeat('x', 513)$$),
        ('headers', $$headers => '[]'$$),
        ('headers', $$headers => '"trace"'$$),
        ('debounce', $$debounce => '1 s'$$),
        ('deduplication_id', $$debounce => '1 s'$$),
        ('debounce', $$debounce => '1 s', deduplication_id => 'd', delay => '1 s'$$),
        ('debounce', $$debounce => '1 s', deduplication_id => 'd', run_at => now()$$),
        ('debounce', $$debounce => '0', deduplication_id => 'd'$$),
        ('debounce', $$debounce => '-1 s', deduplication_id => 'd'$$),
        ('debounce', $$debounce => '300000 years', deduplication_id => 'd'$$),
        ('debounce_max_delay', $$debounce_max_delay => '1 s'$$),
        ('debounce_max_delay', $$debounce => '1 s', debounce_max_delay => '0', deduplication_id => 'd'$$),
        ('debounce_max_delay', $$debounce => '1 s', debounce_max_delay => '-1 s', deduplication_id => 'd'$$),
        ('debounce_max_delay', $$debounce => '1 s', debounce_max_delay => '300000 years', deduplication_id => 'd'$$)
) AS c (argument, arguments)
CROSS JOIN LATERAL pg_temp.failure_of(
    'SELECT lockstep.enqueue_workflow('
    || concat_ws(
        ', ',
        CASE WHEN c.arguments NOT LIKE '%workflow_name =>%' THEN $$workflow_name => 'greet'$$ END,
        CASE WHEN c.arguments NOT LIKE '%queue_name =>%' THEN $$queue_name => 'q'$$ END,
        c.arguments
    )
    || ')'
) AS f;

SELECT is(r.code, '22023', format('%s is refused with 22023', r.arguments)) FROM refused_call AS r;
SELECT matches(r.message, '\m' || r.argument || '\M', format('the error for %s names %s', r.arguments, r.argument))
FROM refused_call AS r;
SELECT isnt(coalesce(r.detail, ''), '', format('the error for %s tells what was seen', r.arguments))
FROM refused_call AS r;
SELECT isnt(coalesce(r.hint, ''), '', format('the error for %s has a hint', r.arguments)) FROM refused_call AS r;
SELECT is_empty('SELECT w.workflow_id FROM lockstep.workflow_status AS w', 'a refused call leaves no row');
DELETE FROM lockstep.workflow_status;
SELECT is(
    (pg_temp.failure_of($$SELECT lockstep.enqueue_workflow(repeat('x', 513), 'q')$$)).detail,
    format('It has 513 characters and begins with "%s".', repeat('x', 40)),
    'the error for a name that is too long tells its length'
);

-- defaults and parameters

SELECT lockstep.enqueue_workflow('greet', 'q') AS workflow_id \gset
SELECT results_eq(
    $$
    SELECT
        w.workflow_name, w.queue_name, w.status, w.inputs, w.output, w.error, w.priority,
        w.attempts, w.max_attempts, w.available_at = w.created_at
    FROM lockstep.workflow_status AS w
    $$,
    $$
    VALUES (
        'greet', 'q', 'ENQUEUED', '{"positionalArgs": [], "namedArgs": {}}'::jsonb, NULL::jsonb, NULL::jsonb, 0,
        0, 50, true
    )
    $$,
    'a workflow of a name and a queue is claimable at once, without arguments'
);
SELECT results_eq(
    $$
    SELECT
        num_nulls(
            w.deduplication_id, w.queue_partition_key, w.app_version, w.executor_id, w.started_at, w.completed_at,
            w.deadline_at, w.timeout, w.waiting_for, w.parent_workflow_id, w.forked_from, w.headers
        )
    FROM lockstep.workflow_status AS w
    $$,
    'VALUES (12)',
    'what was not given is NULL'
);
SELECT is(
    (SELECT w.workflow_id FROM lockstep.workflow_status AS w), :'workflow_id', 'the returned id is that of the row'
);
SELECT matches(:'workflow_id'::text, '^[0-9a-f]{8}-[0-9a-f]{4}-7', 'a generated workflow id is a UUID version 7');

-- A call without options takes a shorter way to the same row; one with an option must not.

-- The row that a call writes, without its id and with times as minutes from now.
CREATE FUNCTION pg_temp.row_of(p_arguments text)
RETURNS jsonb
LANGUAGE plpgsql
AS $$
DECLARE
    v_workflow_id text;
    v_row jsonb;
BEGIN
    EXECUTE format('SELECT lockstep.enqueue_workflow(%s)', concat_ws(', ', $q$'greet', 'row'$q$, p_arguments))
    INTO v_workflow_id;
    DELETE FROM lockstep.workflow_status AS w
    WHERE w.workflow_id = v_workflow_id
    RETURNING to_jsonb(w) - 'workflow_id' || jsonb_build_object(
        'created_at', round(extract(epoch FROM w.created_at - clock_timestamp()) / 60),
        'available_at', round(extract(epoch FROM w.available_at - clock_timestamp()) / 60)
    )
    INTO v_row;
    RETURN v_row;
END
$$;

SELECT is(
    pg_temp.row_of($$'[1]', '{"two": 2}', NULL, NULL, 'raise', 0, NULL, $$ || c.arguments),
    pg_temp.row_of($$'[1]', '{"two": 2}'$$),
    format('a call that passes every default and ends with %s writes the row of one that passes none', c.arguments)
)
FROM (
    VALUES
        ('NULL, NULL, NULL, NULL, NULL, NULL, NULL'),
        ('NULL, NULL, NULL, NULL, 50, NULL, NULL'),
        ($$'0', NULL, NULL, NULL, NULL, NULL, NULL$$)
) AS c (arguments);
SELECT is(
    (
        SELECT jsonb_object_agg(o.key, o.value)
        FROM jsonb_each(pg_temp.row_of(c.argument)) AS o
        WHERE plain.row -> o.key <> o.value
    ),
    c.difference,
    format('a call with nothing but %s heeds it', c.argument)
)
FROM (SELECT pg_temp.row_of(NULL) AS row) AS plain
CROSS JOIN (
    VALUES
        ($$positional_args => '[1]'$$, '{"inputs": {"positionalArgs": [1], "namedArgs": {}}}'::jsonb),
        ($$named_args => '{"a": 1}'$$, '{"inputs": {"positionalArgs": [], "namedArgs": {"a": 1}}}'),
        ($$deduplication_id => 'd'$$, '{"deduplication_id": "d"}'),
        ($$on_duplicate => 'return'$$, NULL),
        ('priority => 3', '{"priority": 3}'),
        ($$queue_partition_key => 'k'$$, '{"queue_partition_key": "k"}'),
        ($$delay => '1 hour'$$, '{"status": "DELAYED", "available_at": 60}'),
        ($$run_at => clock_timestamp() - interval '1 hour'$$, '{"available_at": -60}'),
        ($$timeout => '1 hour'$$, '{"timeout": "01:00:00"}'),
        (
            $$deadline => '2100-01-01 00:00+00'$$,
            jsonb_build_object('deadline_at', '2100-01-01 00:00+00'::timestamptz)
        ),
        ('max_attempts => 3', '{"max_attempts": 3}'),
        ($$app_version => 'v2'$$, '{"app_version": "v2"}'),
        ($$headers => '{"h": 1}'$$, '{"headers": {"h": 1}}')
) AS c (argument, difference);

SELECT lockstep.enqueue_workflow(
    workflow_name => 'greet',
    queue_name => 'all',
    positional_args => '[1, "two"]',
    named_args => '{"three": 3}',
    workflow_id => 'all parameters',
    deduplication_id => 'once',
    on_duplicate => 'return',
    priority => 7,
    queue_partition_key => 'tenant',
    run_at => '2100-01-01 00:00+00',
    deadline => '2100-01-02 00:00+00',
    max_attempts => 3,
    app_version => 'v2',
    headers => '{"traceparent": "00"}'
);
SELECT is(to_jsonb(w) -> e.column_name, e.expected, format('the row has the %s that was passed', e.column_name))
FROM lockstep.workflow_status AS w
CROSS JOIN (
    VALUES
        ('workflow_name', '"greet"'::jsonb),
        ('queue_name', '"all"'),
        ('inputs', '{"positionalArgs": [1, "two"], "namedArgs": {"three": 3}}'),
        ('workflow_id', '"all parameters"'),
        ('deduplication_id', '"once"'),
        ('priority', '7'),
        ('queue_partition_key', '"tenant"'),
        ('available_at', to_jsonb('2100-01-01 00:00+00'::timestamptz)),
        ('deadline_at', to_jsonb('2100-01-02 00:00+00'::timestamptz)),
        ('max_attempts', '3'),
        ('app_version', '"v2"'),
        ('headers', '{"traceparent": "00"}'),
        ('status', '"DELAYED"')
) AS e (column_name, expected)
WHERE w.workflow_id = 'all parameters';

-- when it may start

SELECT lockstep.enqueue_workflow('greet', 'time', workflow_id => 'after an hour', delay => '1 hour');
SELECT lockstep.enqueue_workflow('greet', 'time', workflow_id => 'after nothing', delay => '0');
SELECT lockstep.enqueue_workflow('greet', 'time', workflow_id => 'tomorrow', run_at => now() + interval '1 day');
SELECT lockstep.enqueue_workflow('greet', 'time', workflow_id => 'yesterday', run_at => now() - interval '1 day');
SELECT results_eq(
    $$
    SELECT w.workflow_id, w.status, w.available_at - w.created_at
    FROM lockstep.workflow_status AS w
    WHERE w.workflow_id LIKE 'after %'
    ORDER BY w.workflow_id
    $$,
    $$VALUES ('after an hour', 'DELAYED', interval '1 hour'), ('after nothing', 'ENQUEUED', interval '0')$$,
    'delay makes a workflow claimable that long after it was enqueued'
);
SELECT results_eq(
    $$
    SELECT w.workflow_id, w.status, w.available_at - now()
    FROM lockstep.workflow_status AS w
    WHERE w.workflow_id IN ('tomorrow', 'yesterday')
    ORDER BY w.workflow_id
    $$,
    $$VALUES ('tomorrow', 'DELAYED', interval '1 day'), ('yesterday', 'ENQUEUED', interval '-1 day')$$,
    'run_at delays a workflow, unless it is in the past'
);

-- how long it may take

SELECT lockstep.enqueue_workflow('greet', 'timeout', workflow_id => 'limited', timeout => '1 hour');
SELECT is(
    (SELECT w.deadline_at FROM lockstep.workflow_status AS w WHERE w.workflow_id = 'limited'),
    NULL::timestamptz,
    'a timeout does not run while the workflow waits in its queue'
);
SELECT lockstep.register_executor('{timeout}', '{greet}') AS executor_id \gset
SELECT workflow_id FROM lockstep.claim_workflows(:'executor_id', 1);
SELECT results_eq(
    $$SELECT w.deadline_at - w.started_at FROM lockstep.workflow_status AS w WHERE w.workflow_id = 'limited'$$,
    $$VALUES (interval '1 hour')$$,
    'a timeout runs from the first claim'
);
UPDATE lockstep.workflow_status SET deadline_at = '2100-01-01' WHERE workflow_id = 'limited';
SELECT lockstep.release_workflows(:'executor_id');
SELECT workflow_id FROM lockstep.claim_workflows(:'executor_id', 1);
SELECT is(
    (SELECT w.deadline_at FROM lockstep.workflow_status AS w WHERE w.workflow_id = 'limited'),
    '2100-01-01'::timestamptz,
    'a later claim does not restart the timeout'
);

-- workflow_id: idempotency

SELECT lockstep.enqueue_workflow('greet', 'ids', workflow_id => 'a', priority => 1);
SELECT is(
    lockstep.enqueue_workflow('greet', 'ids', workflow_id => 'a', priority => 2), 'a',
    'a second call with the same workflow_id returns it'
);
SELECT results_eq(
    $$SELECT w.priority FROM lockstep.workflow_status AS w WHERE w.workflow_id = 'a'$$, 'VALUES (1)',
    'a second call with the same workflow_id changes nothing'
);
SELECT is(
    pg_temp.failure_of(c.statement)::text,
    (
        '23505', 'workflow "a" exists already', 'It runs "greet" in queue "ids".',
        'Use another workflow_id for another workflow or queue.'
    )::text,
    format('the same workflow_id with %s is an error that tells what it runs', c.difference)
)
FROM (
    VALUES
        ('another name', $$SELECT lockstep.enqueue_workflow('part', 'ids', workflow_id => 'a')$$),
        ('another queue', $$SELECT lockstep.enqueue_workflow('greet', 'other', workflow_id => 'a')$$)
) AS c (difference, statement);
UPDATE lockstep.workflow_status SET status = 'SUCCESS', completed_at = now() WHERE workflow_id = 'a';
SELECT is(
    lockstep.enqueue_workflow('greet', 'ids', workflow_id => 'a'), 'a',
    'a workflow_id stays taken when its workflow has ended'
);

-- deduplication_id: one unfinished workflow

SELECT lockstep.enqueue_workflow('greet', 'dedup', workflow_id => 'first', deduplication_id => 'd');
SELECT is(
    pg_temp.failure_of($$SELECT lockstep.enqueue_workflow('greet', 'dedup', deduplication_id => 'd')$$)::text,
    (
        '23505', 'queue "dedup" has an unfinished workflow with deduplication_id "d"',
        'It is workflow "first", ENQUEUED, and runs "greet".', 'Pass on_duplicate => ''return'' to get its id instead of this error.'
    )::text,
    'a duplicate is an error that tells which workflow is in the way'
);
SELECT is(
    lockstep.enqueue_workflow('greet', 'dedup', deduplication_id => 'd', on_duplicate => 'return'), 'first',
    'a duplicate gets the id of the unfinished workflow if it asks for it'
);
SELECT results_eq(
    $$SELECT count(*) FROM lockstep.workflow_status AS w WHERE w.queue_name = 'dedup'$$, 'VALUES (1::bigint)',
    'a duplicate leaves no row'
);
SELECT lives_ok(
    $$SELECT lockstep.enqueue_workflow('greet', 'other', deduplication_id => 'd')$$,
    'another queue has deduplication ids of its own'
);
UPDATE lockstep.workflow_status SET status = 'CANCELLED', completed_at = now() WHERE workflow_id = 'first';
SELECT is(
    lockstep.enqueue_workflow('greet', 'dedup', workflow_id => 'second', deduplication_id => 'd'), 'second',
    'a deduplication_id is free again when its workflow has ended'
);

-- transactions

SAVEPOINT before;
SELECT lockstep.enqueue_workflow('greet', 'rolled_back');
ROLLBACK TO SAVEPOINT before;
RELEASE SAVEPOINT before;
SELECT is_empty(
    $$SELECT w.workflow_id FROM lockstep.workflow_status AS w WHERE w.queue_name = 'rolled_back'$$,
    'a call that is rolled back leaves no workflow'
);

CREATE TEMPORARY TABLE orders (order_id int);
CREATE FUNCTION pg_temp.enqueue_order()
RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM lockstep.enqueue_workflow(
        'fulfil', 'orders', named_args => jsonb_build_object('order_id', new.order_id),
        workflow_id => 'order-' || new.order_id
    );
    IF new.order_id < 0 THEN
        RAISE EXCEPTION 'no such order';
    END IF;
    RETURN new;
END
$$;
CREATE TRIGGER enqueue_order
AFTER INSERT ON orders
FOR EACH ROW EXECUTE FUNCTION pg_temp.enqueue_order();

SELECT throws_ok('INSERT INTO orders VALUES (-1)', 'P0001', 'no such order', 'a trigger that fails fails its INSERT');
SELECT is_empty(
    $$SELECT w.workflow_id FROM lockstep.workflow_status AS w WHERE w.queue_name = 'orders'$$,
    'a trigger that fails after it enqueued leaves no workflow'
);
INSERT INTO orders
SELECT g.order_id
FROM generate_series(1, 1000) AS g (order_id);
SELECT results_eq(
    $$
    SELECT (w.inputs -> 'namedArgs' ->> 'order_id')::int
    FROM lockstep.workflow_status AS w
    WHERE w.queue_name = 'orders'
    ORDER BY w.available_at, w.workflow_id
    $$,
    'SELECT g.order_id FROM generate_series(1, 1000) AS g (order_id)',
    'a trigger on a table enqueues one workflow per inserted row, in their order'
);

SELECT count(lockstep.enqueue_workflow('greet', 'many'))
FROM generate_series(1, 10000);
SELECT results_eq(
    $$
    SELECT w.xmin::text, count(*)
    FROM lockstep.workflow_status AS w
    WHERE w.queue_name = 'many'
    GROUP BY w.xmin::text
    $$,
    $$VALUES ((pg_current_xact_id()::text::numeric % 4294967296)::text, 10000::bigint)$$,
    '10,000 calls in a transaction use no transaction id but its own'
);
SELECT is(
    (
        SELECT array_agg(w.workflow_id ORDER BY w.ctid)
        FROM lockstep.workflow_status AS w
        WHERE w.queue_name = 'many'
    ),
    (
        SELECT array_agg(w.workflow_id ORDER BY w.workflow_id COLLATE "C")
        FROM lockstep.workflow_status AS w
        WHERE w.queue_name = 'many'
    ),
    'workflow ids of one transaction sort in the order of the calls'
);

-- who enqueued it

CREATE ROLE "lockstep test Client";
SELECT lockstep.grant_usage('lockstep test Client', 'client');
SET LOCAL ROLE "lockstep test Client";
SELECT lockstep.enqueue_workflow('greet', 'roles', workflow_id => 'by the client');
RESET ROLE;
SELECT lockstep.enqueue_workflow('greet', 'roles', workflow_id => 'by myself');
SET SESSION AUTHORIZATION "lockstep test Client";
SELECT lockstep.enqueue_workflow('greet', 'roles', workflow_id => 'by the session');
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
SET LOCAL ROLE "lockstep test Client";
SELECT lockstep.enqueue_workflow('greet', 'plain call');
RESET ROLE;
SELECT lockstep.enqueue_workflow('greet', 'plain call of myself');
SET SESSION AUTHORIZATION "lockstep test Client";
SELECT lockstep.enqueue_workflow('greet', 'plain call of the session');
RESET SESSION AUTHORIZATION;
SELECT results_eq(
    $$
    SELECT w.queue_name, w.enqueued_by
    FROM lockstep.workflow_status AS w
    WHERE w.queue_name LIKE 'plain call%'
    ORDER BY w.queue_name
    $$,
    format(
        'VALUES (%L, %L), (%L, %L), (%L, %L)',
        'plain call', 'lockstep test Client',
        'plain call of myself', current_user,
        'plain call of the session', 'lockstep test Client'
    ),
    'enqueued_by is the role that called for a call without options too'
);

-- delays, from a millisecond to centuries

CREATE TEMPORARY TABLE delayed AS
SELECT d.delay, lockstep.enqueue_workflow('greet', 'later', delay => d.delay) AS workflow_id
FROM unnest(ARRAY['1 ms', '1.234567 s', '40 days', '900 years']::interval[]) AS d (delay);
SELECT is(
    (w.status, w.available_at)::text, ('DELAYED', w.created_at + d.delay)::text,
    format('a delay of %s is kept to the microsecond', d.delay)
)
FROM delayed AS d
LEFT JOIN lockstep.workflow_status AS w ON w.workflow_id = d.workflow_id;

SELECT * FROM finish();
ROLLBACK;
