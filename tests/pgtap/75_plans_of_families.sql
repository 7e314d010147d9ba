-- What starts, awaits, wakes and cancels workflows reads the same few rows however much history
-- there is, also with plans that were made and kept while the tables were empty.
-- as autovacuum may do: the planner would read a table that it knows to be empty from end to end
VACUUM (ANALYZE);

BEGIN;
SELECT no_plan();

SET LOCAL plan_cache_mode = force_generic_plan;
INSERT INTO lockstep.executor (executor_id, queues, workflow_names, lease_duration, expires_at)
VALUES ('alice', '{q}', '{greet}', '1 hour', clock_timestamp() + interval '1 hour');

CREATE FUNCTION pg_temp.rows_read()
RETURNS bigint
LANGUAGE sql
AS $$
    SELECT sum(t.seq_tup_read + coalesce(t.idx_tup_fetch, 0))::bigint
    FROM pg_stat_xact_user_tables AS t
    WHERE t.schemaname = 'lockstep'
$$;

-- A family of running workflows: who waits, with children who run.
CREATE FUNCTION pg_temp.make(p_prefix text)
RETURNS void
LANGUAGE sql
AS $$
    INSERT INTO lockstep.workflow_status (
        workflow_id, workflow_name, queue_name, status, executor_id, attempts, started_at, parent_workflow_id,
        max_attempts
    )
    SELECT
        format('%s %s', p_prefix, n), 'greet', 'q', 'PENDING', CASE WHEN n < 20 THEN 'alice' ELSE p_prefix END, 1,
        now(),
        CASE WHEN n > 10 AND n < 20 THEN p_prefix || ' 1' END, 1
    FROM generate_series(1, 30) AS n;
    INSERT INTO lockstep.operation_outputs (
        workflow_id, step_id, step_name, output, error, started_at, completed_at
    )
    SELECT
        format('%s %s', p_prefix, n), s, CASE s WHEN 1 THEN 'compensate' ELSE 's' END, '{"step": "undo"}', NULL, now(),
        now()
    FROM generate_series(1, 30) AS n
    CROSS JOIN generate_series(1, 3) AS s;
    INSERT INTO lockstep.executor (executor_id, queues, workflow_names, lease_duration, expires_at)
    VALUES (p_prefix, '{q}', '{greet}', '1 hour', '2026-01-01');
$$;

-- The change of one part of a worker's call, where %s is the prefix of the family.
CREATE TEMPORARY TABLE part AS
SELECT *
FROM (
    VALUES
        (
            1, 'children',
            '{"workflow_id": "%1$s 1", "attempt": 1, "step_id": 10, "step_name": "s", "workflow_name": "greet",
            "queue_name": "q", "inputs": {"positionalArgs": [], "namedArgs": {}}, "is_awaited": true}'
        ),
        (
            2, 'awaits',
            '{"workflow_id": "%1$s 1", "attempt": 1, "step_id": 11, "step_name": "s", "awaited_id": "%1$s 2"}'
        ),
        (
            3, 'awaits',
            '{"workflow_id": "%1$s 1", "attempt": 1, "step_id": 12, "step_name": "s", "awaited_id": "%1$s 2",
            "key": "k"}'
        ),
        (
            4, 'suspensions',
            '{"workflow_id": "%1$s 1", "attempt": 1, "step_ids": [11, 12], "topics": ["t"],
            "awaits": [{"awaited_id": "%1$s 2"}, {"awaited_id": "%1$s 3", "key": "k"}]}'
        ),
        (5, 'events', '{"workflow_id": "%1$s 3", "attempt": 1, "step_id": 10, "key": "k", "value": 1}'),
        (6, 'streams', '{"workflow_id": "%1$s 3", "attempt": 1, "step_id": 11, "key": "k", "value": 1}'),
        (7, 'progress', '{"workflow_id": "%1$s 3", "attempt": 1, "done": 1}'),
        (8, 'suspensions', '{"workflow_id": "%1$s 4", "attempt": 1, "awaits": [{"awaited_id": "%1$s 5"}]}'),
        (9, 'outcomes', '{"workflow_id": "%1$s 5", "attempt": 1, "output": 1}'),
        (10, 'outcomes', '{"workflow_id": "%1$s 6", "attempt": 1, "error": {"type": "E", "message": "m"}}'),
        (
            11, 'outcomes',
            '{"workflow_id": "%1$s 7", "attempt": 1, "error": {"type": "E", "message": "m"}, "retries": {"delay": 60}}'
        ),
        (
            12, 'steps',
            '{"workflow_id": "%1$s 8", "attempt": 1, "step_id": 10, "step_name": "compensate", "output": {}}'
        ),
        (13, 'cancel_workflow', '%1$s 1'),
        (14, 'resume_workflow', '%1$s 7'),
        (15, 'recover_workflows', NULL),
        (16, 'promote_due_workflows', NULL),
        (17, 'read_stream', '%1$s 3')
) AS p (place, part, change);

CREATE FUNCTION pg_temp.call_part(p_place int, p_prefix text)
RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    r_part record;
BEGIN
    SELECT p.part, format(p.change, p_prefix) AS change INTO r_part FROM part AS p WHERE p.place = p_place;
    CASE r_part.part
        WHEN 'cancel_workflow' THEN PERFORM lockstep.cancel_workflow(r_part.change);
        WHEN 'resume_workflow' THEN PERFORM lockstep.resume_workflow(r_part.change);
        WHEN 'recover_workflows' THEN PERFORM lockstep.recover_workflows();
        WHEN 'promote_due_workflows' THEN PERFORM lockstep.promote_due_workflows();
        WHEN 'read_stream' THEN PERFORM lockstep.read_stream(r_part.change, 'k');
        ELSE PERFORM lockstep.advance_workflows(
            'alice', jsonb_build_object(r_part.part, jsonb_build_array(r_part.change::jsonb))
        );
    END CASE;
END
$$;

-- What each part reads for a family; the deadline of one of it has passed, and one is awaited.
CREATE FUNCTION pg_temp.call_all(p_prefix text)
RETURNS TABLE (place int, part text, row_count bigint)
LANGUAGE plpgsql
AS $$
DECLARE
    v_before bigint;
BEGIN
    UPDATE lockstep.workflow_status SET deadline_at = '2026-01-01' WHERE workflow_id = p_prefix || ' 9';
    INSERT INTO lockstep.waiter (awaited_id, is_client, waiter) VALUES (p_prefix || ' 9', false, p_prefix || ' 10');
    FOR place, part IN SELECT p.place, p.part FROM part AS p ORDER BY p.place LOOP
        v_before := pg_temp.rows_read();
        PERFORM pg_temp.call_part(place, p_prefix);
        row_count := pg_temp.rows_read() - v_before;
        RETURN NEXT;
    END LOOP;
END
$$;

SELECT pg_temp.make('small');
CREATE TEMPORARY TABLE small AS SELECT * FROM pg_temp.call_all('small');
SELECT is(
    jsonb_object_agg(w.workflow_id, w.status),
    '{
        "small 1": "CANCELLED", "small 4": "ENQUEUED", "small 5": "SUCCESS", "small 6": "ERROR", "small 7": "DELAYED",
        "small 9": "CANCELLED", "small 11": "CANCELLED", "small 30": "MAX_RECOVERY_ATTEMPTS_EXCEEDED"
    }'::jsonb,
    'the calls do what they are to be measured for'
)
FROM lockstep.workflow_status AS w
WHERE w.workflow_id IN ('small 1', 'small 4', 'small 5', 'small 6', 'small 7', 'small 9', 'small 11', 'small 30');

INSERT INTO lockstep.workflow_status (
    workflow_id, workflow_name, queue_name, status, executor_id, attempts, started_at, completed_at, parent_workflow_id
)
SELECT 'old ' || n, 'greet', 'q', 'SUCCESS', 'alice', 1, now(), now(), 'old ' || n / 10
FROM generate_series(1, 20000) AS n;
INSERT INTO lockstep.operation_outputs (
    workflow_id, step_id, step_name, output, started_at, completed_at, child_workflow_id
)
SELECT 'old ' || n, 1, 'compensate', '{}', now(), now(), 'old ' || n FROM generate_series(1, 20000) AS n;
INSERT INTO lockstep.workflow_events (workflow_id, key, value)
SELECT 'old ' || n, 'k', '1' FROM generate_series(1, 20000) AS n;
INSERT INTO lockstep.workflow_streams (workflow_id, key, "offset", value)
SELECT 'old ' || n % 100, 'k', n, '1' FROM generate_series(1, 20000) AS n;
INSERT INTO lockstep.waiter (awaited_id, is_client, waiter)
SELECT 'old ' || n, false, 'small 2' FROM generate_series(1, 20000) AS n;

SELECT pg_temp.make('large');
CREATE TEMPORARY TABLE large AS SELECT * FROM pg_temp.call_all('large');
SELECT cmp_ok(
    l.row_count, '<=', s.row_count + 10,
    format('call %s, of %s, reads as few rows with 20,000 workflows of history as without', l.place, l.part)
)
FROM large AS l
INNER JOIN small AS s ON l.place = s.place
ORDER BY l.place;

SELECT * FROM finish();
ROLLBACK;
