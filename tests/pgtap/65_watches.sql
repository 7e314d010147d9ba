-- A client's watches: entered once, removed when they come, and only ringing where they may.
BEGIN;
-- a GRANT that fails warns before it does
SET LOCAL client_min_messages = error;
SELECT no_plan();

\ir failure_of.psql

\set channel 'lockstep_0123456789abcdef0123456789abcdef'

CREATE FUNCTION pg_temp.checked(p_watches jsonb, p_tells_busy boolean DEFAULT false)
RETURNS text
LANGUAGE sql
AS $$
    SELECT string_agg(
        concat_ws(' ', c.place, c.outcome, c.status, c.output, c.error), '; ' ORDER BY c.place
    )
    FROM lockstep.check_watches(p_watches, p_tells_busy) AS c
$$;

INSERT INTO lockstep.executor (executor_id, queues, workflow_names, lease_duration, expires_at)
VALUES ('alice', '{q}', '{greet}', '1 hour', clock_timestamp() + interval '1 hour');
INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name, status, executor_id, attempts, started_at)
SELECT w.workflow_id, 'greet', 'q', 'PENDING', 'alice', 1, now()
FROM unnest(ARRAY['w', 'fails', 'retried', 'returns nothing']) AS w (workflow_id);
UPDATE lockstep.workflow_status SET error = '{"type": "E", "message": "once"}', failures = 1
WHERE workflow_id = 'retried';

-- the channel

SELECT is(
    f.code || ' ' || f.message, '22023 channel must be "lockstep_" and 32 hexadecimal digits',
    format('channel %s is refused', coalesce(to_json(c.channel)::text, 'null'))
)
FROM (
    VALUES
        (NULL), (''), ('lockstep'), ('orders'), (:'channel' || '0'), ('x' || :'channel'),
        (upper(:'channel')), (left(:'channel', -1)), (left(:'channel', -1) || 'g'), (:'channel' || E'\n')
) AS c (channel)
CROSS JOIN LATERAL pg_temp.failure_of(
    format('SELECT lockstep.watch_workflows(%L, %L)', c.channel, '[{"workflow_id": "w"}]')
) AS f;
SELECT isnt(
    coalesce((pg_temp.failure_of('SELECT lockstep.watch_workflows(''lockstep'', ''[]'')')).hint, ''), '',
    'a refused channel has a hint'
);
SELECT is(
    (pg_temp.failure_of(format('SELECT lockstep.%s', c.call))).code, '22023', format('%s is refused', c.call)
)
FROM (
    VALUES
        (format('watch_workflows(%L, %L)', :'channel', '"w"')),
        ('check_watches(''{"workflow_id": "w"}'')')
) AS c (call);

-- what is entered

SELECT lockstep.watch_workflows(:'channel', $$[
    {"workflow_id": "w"}, {"workflow_id": "w"}, {"workflow_id": "w", "event_key": "k"},
    {"workflow_id": "w", "stream_key": "k", "from_offset": 3}, {"workflow_id": "nobody"},
    {"workflow_id": "fails"}, {"workflow_id": null}, {}
]$$);
SELECT lockstep.watch_workflows(:'channel', '[{"workflow_id": "w"}]');
SELECT lockstep.watch_workflows(:'channel', NULL, NULL);
SELECT bag_eq(
    'SELECT awaited_id, awaited_what, is_client, waiter FROM lockstep.waiter',
    format($$
        VALUES
            ('w', '', true, %1$L), ('w', 'event:k', true, %1$L), ('w', 'stream:k', true, %1$L),
            ('fails', '', true, %1$L)
    $$, :'channel'),
    'each watch of a workflow that exists is entered once'
);
INSERT INTO lockstep.waiter (awaited_id, awaited_what, is_client, waiter)
VALUES ('w', '', false, :'channel'), ('w', '', true, 'lockstep_ffffffffffffffffffffffffffffffff');
SELECT lockstep.watch_workflows(
    :'channel', '[{"workflow_id": "fails", "event_key": "k"}]',
    '[{"workflow_id": "w"}, {"workflow_id": "w", "stream_key": "k"}, {"workflow_id": "nobody"}]'
);
SELECT bag_eq(
    'SELECT awaited_id, awaited_what, is_client, waiter FROM lockstep.waiter',
    format($$
        VALUES
            ('w', 'event:k', true, %1$L), ('fails', '', true, %1$L), ('fails', 'event:k', true, %1$L),
            ('w', '', false, %1$L), ('w', '', true, 'lockstep_ffffffffffffffffffffffffffffffff')
    $$, :'channel'),
    'what a client gave up is removed, and nothing of others'
);

-- what has come

SELECT is(
    pg_temp.checked('[{"workflow_id": "w"}, {"workflow_id": "w", "event_key": "k"}, {"workflow_id": "retried"}]'),
    NULL, 'nothing is said of what has not come'
);
SELECT is(
    pg_temp.checked('[{"workflow_id": "w"}, {"workflow_id": "nobody"}, {"workflow_id": "no", "event_key": "k"}, {}]'),
    '2 unknown; 3 unknown; 4 unknown', 'a workflow that does not exist is unknown'
);
SELECT is(pg_temp.checked(NULL), NULL, 'of no watches nothing is said');

SELECT lockstep.set_events('alice', '[
    {"workflow_id": "w", "attempt": 1, "step_id": 1, "key": "k", "value": {"n": 1}},
    {"workflow_id": "w", "attempt": 1, "step_id": 2, "key": "null", "value": null}
]');
SELECT lockstep.write_streams('alice', '[
    {"workflow_id": "w", "attempt": 1, "step_id": 3, "key": "s", "value": 0},
    {"workflow_id": "w", "attempt": 1, "step_id": 4, "key": "s", "value": 1}
]');
SELECT is(
    pg_temp.checked('[
        {"workflow_id": "w", "event_key": "k"}, {"workflow_id": "w", "event_key": "null"},
        {"workflow_id": "w", "event_key": "s"}, {"workflow_id": "w"}
    ]'),
    '1 published PENDING {"n": 1}; 2 published PENDING null', 'an event is published once it is set'
);
SELECT is(
    pg_temp.checked('[
        {"workflow_id": "w", "stream_key": "s"}, {"workflow_id": "w", "stream_key": "s", "from_offset": 1},
        {"workflow_id": "w", "stream_key": "s", "from_offset": 2}, {"workflow_id": "w", "stream_key": "k"}
    ]'),
    '1 published PENDING; 2 published PENDING', 'a stream is published from an offset on'
);
SELECT lockstep.write_streams('alice', '[
    {"workflow_id": "retried", "attempt": 1, "step_id": 1, "key": "s", "value": 0},
    {"workflow_id": "retried", "attempt": 1, "step_id": 2, "key": "s", "is_end": true}
]');
SELECT is(
    pg_temp.checked('[
        {"workflow_id": "retried", "stream_key": "s", "from_offset": 1},
        {"workflow_id": "retried", "stream_key": "s", "from_offset": 2},
        {"workflow_id": "retried", "stream_key": "k"}
    ]', true),
    '1 published PENDING; 2 ended PENDING', 'after the row that closes a stream nothing comes'
);
SELECT is_empty(
    $$SELECT FROM lockstep.waiter WHERE awaited_id = 'w' AND awaited_what = 'event:k'$$,
    'who waited for an event is not notified twice'
);

SELECT lockstep.finish_workflows('alice', '[
    {"workflow_id": "w", "attempt": 1, "output": [1]},
    {"workflow_id": "fails", "attempt": 1, "error": {"type": "E", "message": "m"}},
    {"workflow_id": "returns nothing", "attempt": 1}
]');
SELECT is(
    pg_temp.checked('[
        {"workflow_id": "w"}, {"workflow_id": "fails"}, {"workflow_id": "returns nothing"},
        {"workflow_id": "w", "event_key": "k"}, {"workflow_id": "w", "event_key": "x"},
        {"workflow_id": "w", "stream_key": "s"}, {"workflow_id": "w", "stream_key": "s", "from_offset": 2},
        {"workflow_id": "fails", "event_key": "k"}, {"workflow_id": "retried"}
    ]'),
    '1 ended SUCCESS [1]; 2 ended ERROR {"type": "E", "message": "m"}; 3 ended SUCCESS; '
    '4 published SUCCESS {"n": 1}; 5 ended SUCCESS; 6 published SUCCESS; 7 ended SUCCESS; 8 ended ERROR',
    'what was published is there after the end, and the end is told of all else'
);
SELECT is_empty(
    $$SELECT FROM lockstep.waiter WHERE awaited_id IN ('w', 'fails') AND is_client$$,
    'the end of a workflow removes whatever clients waited for'
);
SELECT lockstep.watch_workflows(:'channel', '[{"workflow_id": "w"}, {"workflow_id": "w", "event_key": "x"}]');
SELECT is_empty('SELECT FROM lockstep.waiter WHERE is_client', 'nothing is entered for a workflow that has ended');

-- a lock that is left behind does not look like one that is held

SELECT lockstep.send_message('retried', '1');
SELECT is(pg_temp.checked('[{"workflow_id": "retried"}]', true), NULL, 'a sender that is gone leaves nothing busy');

-- privileges

CREATE ROLE lockstep_test_client;
CREATE ROLE lockstep_test_nobody;
SELECT lockstep.grant_usage('lockstep_test_client', 'client');
SELECT is(
    has_function_privilege(r.role, p.oid, 'EXECUTE'), r.role = 'lockstep_test_client',
    format('%s %s execute %s', r.role, CASE r.role WHEN 'lockstep_test_client' THEN 'may' ELSE 'may not' END, p.proname)
)
FROM pg_proc AS p
CROSS JOIN (VALUES ('lockstep_test_client'), ('lockstep_test_nobody')) AS r (role)
WHERE p.pronamespace = 'lockstep'::regnamespace
    AND p.proname IN ('watch_workflows', 'check_watches', 'read_stream', 'get_event')
ORDER BY r.role, p.proname;
SET LOCAL ROLE lockstep_test_client;
SELECT lockstep.watch_workflows(:'channel', '[{"workflow_id": "retried"}]');
SELECT is(pg_temp.checked('[{"workflow_id": "w"}]', true), '1 ended SUCCESS [1]', 'a client needs no right on any table');
RESET ROLE;

-- a plan that was made while the tables were small does not scan full ones

INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name)
SELECT 'many ' || n, 'greet', 'q'
FROM generate_series(1, 5000) AS n;
INSERT INTO lockstep.waiter (awaited_id, is_client, waiter)
SELECT 'many ' || n, true, :'channel'
FROM generate_series(1, 5000) AS n;
INSERT INTO lockstep.workflow_events (workflow_id, key, value)
SELECT 'many ' || n, 'k' || n % 7, '1'
FROM generate_series(3, 5000) AS n;
INSERT INTO lockstep.workflow_streams (workflow_id, key, "offset", value)
SELECT 'many ' || n % 3, 'k', n, '1'
FROM generate_series(1, 5000) AS n;
CREATE FUNCTION pg_temp.rows_read()
RETURNS bigint
LANGUAGE sql
AS $$
    SELECT sum(t.seq_tup_read + coalesce(t.idx_tup_fetch, 0))::bigint
    FROM pg_stat_xact_user_tables AS t
    WHERE t.schemaname = 'lockstep'
$$;
SELECT pg_temp.rows_read() AS rows_before \gset
SELECT lockstep.watch_workflows(:'channel', '[{"workflow_id": "many 1"}]', '[{"workflow_id": "many 2"}]');
SELECT pg_temp.checked($$[
    {"workflow_id": "many 1"}, {"workflow_id": "many 1", "event_key": "k1"},
    {"workflow_id": "many 1", "stream_key": "k"}, {"workflow_id": "many 1", "stream_key": "k9"}
]$$, true);
SELECT cmp_ok(pg_temp.rows_read() - :rows_before, '<', 50::bigint, 'a watch costs the same with thousands of others');

SELECT * FROM finish();
ROLLBACK;
