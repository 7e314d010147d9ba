-- A stream takes values in order, each step's once, until it is closed; progress keeps the last note.
BEGIN;
SELECT no_plan();

\ir failure_of.psql

CREATE FUNCTION pg_temp.run(p_workflow_id text, p_executor_id text DEFAULT 'alice')
RETURNS void
LANGUAGE sql
AS $$
    INSERT INTO lockstep.workflow_status (
        workflow_id, workflow_name, queue_name, status, executor_id, attempts, started_at
    )
    VALUES (p_workflow_id, 'greet', 'q', 'PENDING', p_executor_id, 1, now())
$$;

-- Sends writes to stream "s" of a workflow; returns the outcomes that the answer has.
CREATE FUNCTION pg_temp.write(p_workflow_id text, VARIADIC p_writes jsonb[])
RETURNS text
LANGUAGE sql
AS $$
    SELECT string_agg(concat_ws(' ', w.step_id, w.outcome), ', ')
    FROM lockstep.write_streams('alice', (
        SELECT jsonb_agg(
            jsonb_build_object('workflow_id', p_workflow_id, 'attempt', 1, 'key', 's') || v.write ORDER BY v.place
        )
        FROM unnest(p_writes) WITH ORDINALITY AS v (write, place)
    )) AS w
$$;

CREATE FUNCTION pg_temp.stream(p_workflow_id text, p_key text DEFAULT 's')
RETURNS text
LANGUAGE sql
AS $$
    SELECT string_agg(format('%s:%s', r.value_offset, CASE WHEN r.is_end THEN 'end' ELSE r.value::text END), ' ')
    FROM lockstep.read_stream(p_workflow_id, p_key) AS r
$$;

INSERT INTO lockstep.executor (executor_id, queues, workflow_names, lease_duration, expires_at)
VALUES
    ('alice', '{q}', '{greet}', '1 hour', clock_timestamp() + interval '1 hour'),
    ('bob', '{q}', '{greet}', '1 hour', clock_timestamp() + interval '1 hour');

-- written as steps

SELECT pg_temp.run('w');
SELECT is(pg_temp.stream('w'), NULL::text, 'a stream that nobody wrote to is empty');
SELECT is(pg_temp.write('w', '{"step_id": 1, "value": "a"}'), NULL::text, 'a write that succeeds is not in the answer');
SELECT pg_temp.write('w', '{"step_id": 2, "value": {"b": 1}}', '{"step_id": 3, "value": null}', '{"step_id": 4}');
SELECT is(
    pg_temp.stream('w'), '0:"a" 1:{"b": 1} 2:null 3:null', 'values have offsets from 0 in the order of the writes'
);
SELECT is(
    pg_temp.write('w', '{"step_id": 2, "value": "again"}'), NULL::text, 'a write that is sent again is taken for done'
);
SELECT is(pg_temp.stream('w'), '0:"a" 1:{"b": 1} 2:null 3:null', 'the value of a step is written once');
SELECT pg_temp.write('w', '{"step_id": 5, "value": 5}', '{"step_id": 5, "value": 55}');
SELECT is(pg_temp.stream('w'), '0:"a" 1:{"b": 1} 2:null 3:null 4:5', 'also if one call has it twice');
SELECT results_eq(
    $$
    SELECT o.step_id, o.step_name, o.output, o.attempts, o.completed_at IS NOT NULL
    FROM lockstep.operation_outputs AS o
    WHERE o.workflow_id = 'w' AND o.step_id < 3
    ORDER BY o.step_id
    $$,
    $$VALUES (1, 'write_stream', NULL::jsonb, 1, true), (2, 'write_stream', NULL, 1, true)$$,
    'a write is recorded as a step without the value'
);
SELECT pg_temp.write('w', '{"step_id": 6, "key": "other", "value": "o"}');
SELECT is(pg_temp.stream('w', 'other'), '0:"o"', 'each key is a stream of its own');
SELECT pg_temp.run('other');
SELECT pg_temp.write('other', '{"step_id": 1, "value": "x"}');
SELECT is(pg_temp.stream('other'), '0:"x"', 'each workflow has streams of its own');

-- written from inside of steps

SELECT pg_temp.run('loose');
SELECT pg_temp.write('loose', format('{"step_id": %s, "value": 1}', s.id)::jsonb)
FROM unnest(ARRAY['0', '-1', '-1', 'null']) AS s (id);
SELECT pg_temp.write('loose', '{"value": 2}');
SELECT is(
    pg_temp.stream('loose'), '0:1 1:1 2:1 3:1 4:2',
    'what is written from inside of a step is written whenever it is sent'
);
SELECT is(
    (SELECT count(*) FROM lockstep.operation_outputs AS o WHERE o.workflow_id = 'loose'), 0::bigint, 'and is no step'
);
SELECT pg_temp.write(
    'loose', '{"step_id": 1, "value": 3}', '{"step_id": -7, "value": 4}', '{"step_id": 2, "value": 5}'
);
SELECT is(
    pg_temp.stream('loose'), '0:1 1:1 2:1 3:1 4:2 5:3 6:4 7:5',
    'writes of steps and from inside of steps keep their order'
);

-- closed

SELECT pg_temp.run('closed');
SELECT pg_temp.write('closed', '{"step_id": 1, "value": 1}', '{"step_id": 2, "is_end": true}');
SELECT is(pg_temp.stream('closed'), '0:1 1:end', 'a stream is closed by a row without a value');
SELECT is(
    pg_temp.write('closed', '{"step_id": 3, "value": 3}', '{"step_id": -1, "value": 3}', '{"value": 3}'),
    '3 closed, -1 closed, closed',
    'what is written to a closed stream is refused'
);
SELECT is(
    (SELECT count(*) FROM lockstep.operation_outputs AS o WHERE o.workflow_id = 'closed' AND o.step_id = 3), 0::bigint,
    'a refused write is no step'
);
SELECT is(
    pg_temp.write('closed', '{"step_id": 1, "value": 1}'), NULL::text,
    'a write from before the end that is sent again is done'
);
SELECT is(pg_temp.write('closed', '{"step_id": 2, "is_end": true}'), NULL::text, 'an end that is sent again is done');
SELECT is(
    pg_temp.write('closed', '{"step_id": 4, "is_end": true}'), NULL::text,
    'a closed stream can be closed by another step'
);
SELECT is(pg_temp.write('closed', '{"step_id": -1, "is_end": true}'), NULL::text, 'or from inside of one');
SELECT is(pg_temp.stream('closed'), '0:1 1:end', 'it ends once');
SELECT is(
    (
        SELECT array_agg(o.step_name ORDER BY o.step_id)
        FROM lockstep.operation_outputs AS o
        WHERE o.workflow_id = 'closed'
    ),
    '{write_stream,close_stream,close_stream}'::text[], 'to close a stream is a step'
);
SELECT is(pg_temp.write('closed', '{"step_id": 5, "key": "other", "value": 1}'), NULL::text, 'other streams go on');
SELECT is(
    pg_temp.write('closed', '{"step_id": 6, "key": "new", "is_end": true}', '{"step_id": 7, "key": "new", "value": 1}'),
    '7 closed',
    'a stream is closed for what follows in the same call'
);
SELECT is(pg_temp.stream('closed', 'new'), '0:end', 'a stream can be closed before anything was written');
SELECT pg_temp.write('closed', '{"step_id": 8, "key": "ignored", "is_end": true, "value": 1}');
SELECT is(pg_temp.stream('closed', 'ignored'), '0:end', 'an end has no value');
SELECT pg_temp.write('closed', '{"step_id": 9, "key": "null", "is_end": null, "value": 1}');
SELECT is(pg_temp.stream('closed', 'null'), '0:1', 'an is_end that is JSON null is none');

-- whoever has lost the workflow

SELECT pg_temp.run('of bob', 'bob');
SELECT pg_temp.run('cancelled');
SELECT lockstep.cancel_workflow('cancelled');
SELECT is(pg_temp.write(l.id, l.write), l.step_id || ' lost', format('a write for %s is lost', l.what))
FROM (
    VALUES
        ('of bob', '1', '{"step_id": 1, "value": 1}'::jsonb, 'a workflow of another executor'),
        ('cancelled', '1', '{"step_id": 1, "value": 1}', 'a cancelled workflow'),
        ('w', '9', '{"step_id": 9, "attempt": 2, "value": 1}', 'another attempt'),
        ('w', '-9', '{"step_id": -9, "attempt": null, "value": 1}', 'no attempt'),
        ('nowhere', '1', '{"step_id": 1, "value": 1}', 'a workflow that does not exist')
) AS l (id, step_id, write, what);
SELECT is(
    pg_temp.write('w', '{"attempt": 2, "step_id": 9}', '{"step_id": 10, "value": 10}'), '9 lost',
    'the others are written'
);
SELECT is_empty(
    $$SELECT s.value FROM lockstep.workflow_streams AS s WHERE s.workflow_id IN ('of bob', 'cancelled', 'nowhere')$$,
    'nothing is written for a workflow that the executor lost'
);
SELECT throws_ok(
    $$SELECT lockstep.write_streams('nobody', '[]')$$, 'WF001', 'executor "nobody" has lost its lease',
    'an executor without a lease writes nothing'
);
SELECT is_empty($$SELECT lockstep.write_streams('alice', '[]')$$, 'a call without writes writes nothing');
SELECT matches(
    f.code, '^2[23]', format('a write with %s is refused as a value, with %s', left(b.write::text, 40), f.code)
)
FROM (
    VALUES
        ('{"key": null, "value": 1}'::jsonb), ('{"key": "", "value": 1}'),
        (jsonb_build_object('key', repeat('x', 513))),
        ('{"step_id": 1e300}'), ('{"step_id": "one"}'), ('{"is_end": 7}')
) AS b (write)
CROSS JOIN LATERAL pg_temp.failure_of(format('SELECT pg_temp.write(%L, %L)', 'loose', b.write)) AS f;

-- reading

SELECT pg_temp.run('long');
SELECT lockstep.write_streams('alice', (
    SELECT jsonb_agg(
        jsonb_build_object(
            'workflow_id', 'long', 'attempt', 1, 'step_id', n, 'key', 's', 'value', n, 'is_end', n = 2501
        ) ORDER BY n
    )
    FROM generate_series(1, 2501) AS n
));
SELECT results_eq(
    format(
        'SELECT count(*), min(r.value_offset), max(r.value_offset), bool_or(r.is_end)'
        ' FROM lockstep.read_stream(''long'', ''s''%s) AS r',
        p.arguments
    ),
    format('VALUES (%s::bigint, %s::bigint, %s::bigint, %s)', p.count, p.first, p.last, p.is_end::text),
    format('read_stream(''long'', ''s''%s) returns %s rows from %s to %s', p.arguments, p.count, p.first, p.last)
)
FROM (
    VALUES
        ('', 1000, 0, 999, false), (', 1000', 1000, 1000, 1999, false), (', 2000', 501, 2000, 2500, true),
        (', 2500', 1, 2500, 2500, true), (', 7, 3', 3, 7, 9, false), (', -5, 2', 2, 0, 1, false),
        (', 0, 5000', 2501, 0, 2500, true)
) AS p (arguments, count, first, last, is_end);
SELECT results_eq(
    $$SELECT r.value_offset, r.value, r.is_end FROM lockstep.read_stream('long', 's', 2498) AS r$$,
    $$VALUES (2498::bigint, '2499'::jsonb, false), (2499, '2500', false), (2500, NULL, true)$$,
    'the row that closes a stream comes last, without a value'
);
SELECT is_empty($$SELECT * FROM lockstep.read_stream('long', 's', 2501)$$, 'nothing comes after it');
SELECT is_empty($$SELECT * FROM lockstep.read_stream('long', 's', 0, 0)$$, 'a reader may ask for no rows');
SELECT is_empty($$SELECT * FROM lockstep.read_stream('long', 'none')$$, 'a stream that does not exist is empty');
SELECT is_empty($$SELECT * FROM lockstep.read_stream('long', NULL)$$, 'a stream without a name is empty');
SELECT throws_ok(
    $$SELECT lockstep.read_stream('nowhere', 's')$$, 'P0002', 'workflow "nowhere" does not exist',
    'a workflow that does not exist has no streams'
);
SELECT throws_ok($$SELECT lockstep.read_stream(NULL, 's')$$, 'P0002', NULL, 'nor has no workflow at all');
DELETE FROM lockstep.workflow_status WHERE workflow_id = 'other';
SELECT throws_ok(
    $$SELECT lockstep.read_stream('other', 's')$$, 'P0002', NULL, 'nor has one whose row was deleted, to which nobody has a right'
);

-- streams and the life of the workflow

SELECT pg_temp.run('resumed');
SELECT pg_temp.write('resumed', '{"step_id": 1, "value": 1}');
SELECT lockstep.finish_workflows(
    'alice', '[{"workflow_id": "resumed", "attempt": 1, "error": {"type": "E", "message": "m"}}]'
);
SELECT is(pg_temp.write('resumed', '{"step_id": 2, "value": 2}'), '2 lost', 'a workflow that has ended writes no more');
SELECT lockstep.resume_workflow('resumed');
SELECT workflow_id FROM lockstep.claim_workflows('alice', 10);
SELECT pg_temp.write('resumed', '{"attempt": 2, "step_id": 1, "value": 1}', '{"attempt": 2, "step_id": 2, "value": 2}');
SELECT is(pg_temp.stream('resumed'), '0:1 1:2', 'one that is resumed goes on with its streams where they were');

-- who follows

INSERT INTO lockstep.waiter (awaited_id, awaited_what, is_client, waiter)
SELECT 'loose', a.what, true, 'lockstep_test' FROM unnest(ARRAY['stream:s', 'stream:other', 'event:s', '']) AS a (what);
SELECT pg_temp.write('loose', '{"value": 1}', '{"value": 2}');
SELECT results_eq(
    $$SELECT w.awaited_what FROM lockstep.waiter AS w WHERE w.awaited_id = 'loose' ORDER BY w.awaited_what$$,
    $$VALUES (''), ('event:s'), ('stream:other')$$,
    'a write takes those who follow the stream out of the list, and no others'
);

-- progress

SELECT pg_temp.run(t.id) FROM unnest(ARRAY['p', 'q']) AS t (id);
SELECT lockstep.set_progress('alice', '[{"workflow_id": "p", "attempt": 1, "done": 1, "total": 10, "note": "begun"}]');
SELECT is(
    lockstep.get_event('p', 'lockstep.progress'), '{"done": 1, "total": 10, "note": "begun"}'::jsonb,
    'progress is the event lockstep.progress of a workflow'
);
SELECT lockstep.set_progress('alice', '[
    {"workflow_id": "p", "attempt": 1, "done": 2.5, "total": 10}, {"workflow_id": "q", "attempt": 1, "done": 7},
    {"workflow_id": "p", "attempt": 1, "done": 3, "total": null, "note": null}
]');
SELECT is(
    lockstep.get_event('p', 'lockstep.progress'), '{"done": 3, "total": null, "note": null}'::jsonb,
    'of several notes in one call the last counts, and it keeps nothing of those before'
);
SELECT is(
    lockstep.get_event('q', 'lockstep.progress'), '{"done": 7, "total": null, "note": null}'::jsonb,
    'each workflow of a call has its own'
);
SELECT lockstep.set_progress('alice', '[
    {"workflow_id": "p", "attempt": 2, "done": 9}, {"workflow_id": "of bob", "attempt": 1, "done": 9},
    {"workflow_id": "cancelled", "attempt": 1, "done": 9}, {"workflow_id": "nowhere", "attempt": 1, "done": 9}
]');
SELECT is(
    (
        SELECT jsonb_object_agg(v.workflow_id, v.value -> 'done')
        FROM lockstep.workflow_events AS v
        WHERE v.key = 'lockstep.progress'
    ),
    '{"p": 3, "q": 7}'::jsonb, 'what a lost workflow notes is dropped'
);
SELECT is_empty(
    $$SELECT o.step_id FROM lockstep.operation_outputs AS o WHERE o.workflow_id IN ('p', 'q')$$,
    'to note progress is no step'
);
SELECT lives_ok(
    $$SELECT lockstep.set_progress('alice', '[{"workflow_id": "p", "attempt": 1, "done": 1e300, "total": 1e300}]')$$,
    'progress may be as large as JSON can hold'
);
SELECT throws_ok(
    $$SELECT lockstep.set_progress('nobody', '[]')$$, 'WF001', 'executor "nobody" has lost its lease',
    'an executor without a lease notes nothing'
);
SELECT lives_ok($$SELECT lockstep.set_progress('alice', '[]')$$, 'a call without notes notes nothing');

SELECT * FROM finish();
ROLLBACK;
