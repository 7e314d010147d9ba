-- What list_workflows() finds and in which order; the bulk forms that use the same filter.
BEGIN;
SELECT no_plan();

-- Eight workflows with what a filter can ask for; w1 is the oldest, w8 the newest.
INSERT INTO lockstep.workflow_status (
    workflow_id, workflow_name, queue_name, status, created_at, available_at, executor_id, attempts,
    started_at, completed_at, waiting_for, parent_workflow_id, headers, error, failures, deduplication_id
)
SELECT
    w.id, w.name, w.queue, w.status, '2026-01-01'::timestamptz + w.hours * interval '1 hour',
    '2026-01-01', CASE WHEN w.status = 'PENDING' THEN 'alice' END, 1, '2026-01-01',
    CASE WHEN w.status IN ('SUCCESS', 'ERROR', 'CANCELLED', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED') THEN clock_timestamp() END,
    CASE WHEN w.status = 'WAITING' THEN '{message:}'::text[] END,
    w.parent, w.headers, CASE WHEN w.error IS NOT NULL THEN jsonb_build_object('type', 'ValueError', 'message', w.error) END,
    CASE WHEN w.error IS NOT NULL THEN 1 ELSE 0 END, w.deduplication_id
FROM (
    VALUES
    ('w1', 'pack', 'a', 'SUCCESS', 1, NULL, '{"tenant": "x", "n": 1}'::jsonb, NULL, NULL),
    ('w2', 'pack', 'b', 'ERROR', 2, NULL, NULL, 'Card DECLINED, 100%', 'd'),
    ('w3', 'ship', 'a', 'DELAYED', 3, 'w1', '{"tenant": "y"}', 'card declined by bank', NULL),
    ('w4', 'ship', 'a', 'PENDING', 4, 'w1', NULL, NULL, NULL),
    ('w5', 'ship', 'b', 'ENQUEUED', 5, NULL, NULL, NULL, 'd'),
    ('w6', 'pack', 'a', 'WAITING', 6, NULL, NULL, NULL, NULL),
    ('v%', 'pack', 'c', 'CANCELLED', 7, NULL, NULL, NULL, NULL),
    ('w8', 'bill', 'a', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED', 7, 'w2', '{"tenant": "x"}', 'dead', NULL)
) AS w (id, name, queue, status, hours, parent, headers, error, deduplication_id);

CREATE FUNCTION pg_temp.listed(p_arguments text)
RETURNS text
LANGUAGE plpgsql
AS $$
DECLARE
    v_ids text;
BEGIN
    EXECUTE format('SELECT string_agg(l.workflow_id, '','' ) FROM lockstep.list_workflows(%s) AS l', p_arguments) INTO v_ids;
    RETURN v_ids;
END
$$;

SELECT is(pg_temp.listed(c.arguments), c.expected, format('list_workflows(%s)', c.arguments))
FROM (
    VALUES
    ('', 'w8,v%,w6,w5,w4,w3,w2,w1'),
    ('max_count => 3', 'w8,v%,w6'),
    ('before_id => ''w6'', max_count => 2', 'w5,w4'),
    ('before_id => ''w8'', max_count => 1', 'v%'),
    ('before_id => ''v%'', max_count => 1', 'w6'),
    ('before_id => ''w1''', NULL),
    ('''{ERROR}''', 'w2'),
    ('''{PENDING,ERROR,SUCCESS}''', 'w4,w2,w1'),
    ('''{}''', NULL),
    ('workflow_name => ''ship''', 'w5,w4,w3'),
    ('workflow_name => ''ship'', before_id => ''w5''', 'w4,w3'),
    ('workflow_name => ''nothing''', NULL),
    ('queue_name => ''a''', 'w8,w6,w4,w3,w1'),
    ('queue_name => ''a'', workflow_name => ''pack''', 'w6,w1'),
    ('queue_name => ''a'', workflow_name => ''pack'', status => ''{SUCCESS}''', 'w1'),
    ('queue_name => ''nothing''', NULL),
    ('created_after => ''2026-01-01 05:00''', 'w8,v%,w6,w5'),
    ('created_before => ''2026-01-01 05:00''', 'w4,w3,w2,w1'),
    ('created_after => ''2026-01-01 03:00'', created_before => ''2026-01-01 06:00'', before_id => ''w5''', 'w4,w3'),
    ('created_before => ''2026-01-01 04:00'', before_id => ''w6''', 'w3,w2,w1'),
    ('parent_workflow_id => ''w1''', 'w4,w3'),
    ('parent_workflow_id => ''w1'', status => ''{PENDING}''', 'w4'),
    ('parent_workflow_id => ''w1'', before_id => ''w4''', 'w3'),
    ('id_prefix => ''w''', 'w8,w6,w5,w4,w3,w2,w1'),
    ('id_prefix => ''w8''', 'w8'),
    ('id_prefix => ''w8x''', NULL),
    ('id_prefix => ''v%''', 'v%'),
    ('id_prefix => ''_''', NULL),
    ('id_prefix => ''W''', NULL),
    ('id_prefix => ''\''', NULL),
    ('id_prefix => ''w'', max_count => 2, before_id => ''w5''', 'w4,w3'),
    ('id_prefix => ''w'', workflow_name => ''bill''', 'w8'),
    ('error_text => ''card declined''', 'w3,w2'),
    ('error_text => ''100%''', 'w2'),
    ('error_text => ''valueerror: dead''', 'w8'),
    ('error_text => ''declined'', status => ''{ERROR}''', 'w2'),
    ('headers => ''{"tenant": "x"}''', 'w8,w1'),
    ('headers => ''{"n": 1}''', 'w1'),
    ('headers => ''{"n": null}''', NULL),
    ('headers => ''{"tenant": "x"}'', max_count => 1, before_id => ''w8''', 'w1')
) AS c (arguments, expected);

-- many, so that pages, kinds and growing numbers of candidates matter

INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name, status, created_at, available_at, completed_at, headers)
SELECT
    'm' || n, 'many ' || n % 7, 'q' || n % 5, CASE WHEN n % 3 = 0 THEN 'SUCCESS' ELSE 'ENQUEUED' END,
    '2025-01-01'::timestamptz + (n / 2) * interval '1 s', '2025-01-01', CASE WHEN n % 3 = 0 THEN now() END,
    CASE WHEN n % 1000 = 1 THEN '{"rare": true}'::jsonb END
FROM generate_series(1, 8000) AS n;

CREATE FUNCTION pg_temp.by_pages(p_arguments text, p_max_count int)
RETURNS text[]
LANGUAGE plpgsql
AS $$
DECLARE
    v_all text[] := '{}';
    v_page text[];
BEGIN
    LOOP
        EXECUTE format(
            'SELECT array_agg(l.workflow_id) FROM lockstep.list_workflows(%s, before_id => %L, max_count => %s) AS l',
            p_arguments, v_all[cardinality(v_all)], p_max_count
        ) INTO v_page;
        v_all := v_all || v_page;
        EXIT WHEN coalesce(cardinality(v_page), 0) < p_max_count;
    END LOOP;
    RETURN v_all;
END
$$;

SELECT is(
    pg_temp.by_pages(c.arguments, c.page_size),
    ARRAY(
        SELECT w.workflow_id
        FROM lockstep.workflow_status AS w
        WHERE w.created_at < '2026-01-01' AND (c.name IS NULL OR w.workflow_name = c.name)
            AND (c.queue IS NULL OR w.queue_name = c.queue) AND (c.headers IS NULL OR w.headers @> c.headers)
        ORDER BY w.created_at DESC, w.workflow_id DESC
    ),
    format('pages of %s have every workflow once and in order: %s', c.page_size, c.arguments)
)
FROM (
    VALUES
    ('created_before => ''2026-01-01''', 997, NULL, NULL, NULL::jsonb),
    ('created_before => ''2026-01-01'', workflow_name => ''many 3''', 100, 'many 3', NULL, NULL),
    ('created_before => ''2026-01-01'', queue_name => ''q2''', 99, NULL, 'q2', NULL),
    ('created_before => ''2026-01-01'', headers => ''{"rare": true}''', 3, NULL, NULL, '{"rare": true}'),
    ('id_prefix => ''m''', 999, NULL, NULL, NULL)
) AS c (arguments, page_size, name, queue, headers);
DELETE FROM lockstep.workflow_status WHERE workflow_id LIKE 'm%';

-- bulk

CREATE FUNCTION pg_temp.statuses()
RETURNS text
LANGUAGE sql
AS $$
    SELECT string_agg(w.workflow_id || ' ' || left(w.status, 3) || CASE WHEN w.priority > 0 THEN '!' ELSE '' END || w.queue_name, ', ' ORDER BY w.workflow_id)
    FROM lockstep.workflow_status AS w
$$;
SELECT bag_eq(
    $$SELECT lockstep.set_priorities('{"queue_name": "a"}', 2)$$, $$VALUES ('w6'), ('w3')$$,
    'set_priorities() changes what waits'
);
SELECT bag_eq(
    $$SELECT lockstep.set_priorities('{}', 2)$$, $$VALUES ('w5')$$, 'set_priorities() passes over what has that priority'
);
SELECT bag_eq(
    $$SELECT lockstep.move_workflows('{"queue_name": "a"}', 'b', 1)$$, $$VALUES ('w6')$$, 'move_workflows() moves max_count'
);
SELECT bag_eq(
    $$SELECT lockstep.move_workflows('{"queue_name": "a"}', 'b')$$, $$VALUES ('w3')$$, 'move_workflows() moves the rest'
);
SELECT bag_eq(
    $$SELECT lockstep.resume_workflows('{"status": ["ERROR", "MAX_RECOVERY_ATTEMPTS_EXCEEDED", "SUCCESS"]}')$$,
    $$VALUES ('w8')$$,
    'resume_workflows() passes over what succeeded and whose deduplication_id is taken'
);
SELECT bag_eq(
    $$SELECT lockstep.cancel_workflows('{"id_prefix": "w", "workflow_name": "ship", "status": "ENQUEUED"}')$$, $$VALUES ('w5')$$,
    'cancel_workflows() cancels what meets all conditions'
);
SELECT bag_eq(
    $$SELECT lockstep.resume_workflows('{"id_prefix": "w2"}')$$, $$VALUES ('w2')$$,
    'resume_workflows() resumes what no rival stops any more'
);
SELECT bag_eq(
    $$SELECT lockstep.restart_workflows('{"status": "SUCCESS"}')$$, $$VALUES ('w1')$$, 'restart_workflows() restarts what has ended'
);
SELECT bag_eq(
    $$SELECT lockstep.cancel_workflows('{"id_prefix": "w1"}')$$, $$VALUES ('w1'), ('w3'), ('w4')$$,
    'cancel_workflows() cancels children too'
);
SELECT is(
    pg_temp.statuses(), 'v% CANc, w1 CANa, w2 ENQb, w3 CAN!b, w4 CANa, w5 CAN!b, w6 WAI!b, w8 ENQa', 'and nothing else has changed'
);
SELECT bag_eq(
    $$SELECT lockstep.cancel_workflows('{}')$$, $$VALUES ('w2'), ('w6'), ('w8')$$, 'an empty filter means all'
);

SELECT * FROM finish();
ROLLBACK;
