-- A plan that was made and kept while the tables were empty does not scan full ones.
-- as autovacuum may do: the planner would read a table that it knows to be empty from end to end
VACUUM (ANALYZE);

BEGIN;
SELECT no_plan();

SET LOCAL plan_cache_mode = force_generic_plan;
INSERT INTO lockstep.executor (executor_id, queues, workflow_names, lease_duration, expires_at)
VALUES ('alice', '{q}', '{greet}', '1 min', clock_timestamp() + interval '1 min');

CREATE FUNCTION pg_temp.make(p_prefix text, p_count int, p_status text)
RETURNS void
LANGUAGE sql
AS $$
    INSERT INTO lockstep.workflow_status (
        workflow_id, workflow_name, queue_name, status, executor_id, attempts, started_at
    )
    SELECT
        p_prefix || n, 'greet', 'q', p_status,
        CASE p_status WHEN 'PENDING' THEN 'alice' END, CASE p_status WHEN 'PENDING' THEN 1 ELSE 0 END,
        CASE p_status WHEN 'PENDING' THEN now() END
    FROM generate_series(1, p_count) AS n
$$;

-- one of each call that a worker makes all the time, for workflow "<prefix>1" and so on
CREATE FUNCTION pg_temp.call_all(p_prefix text)
RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    v_step constant text := '{"workflow_id": "%s", "attempt": 1, "step_id": %s, "step_name": "s", "delay": 60}';
BEGIN
    PERFORM lockstep.advance_workflows('alice', format(
        '{"steps": [%s], "timers": [%s], "suspensions": [{"workflow_id": "%s", "attempt": 1, "step_ids": [2]}],'
        '"events": [{"workflow_id": "%s", "attempt": 1, "step_id": 3, "key": "k", "value": 1}],'
        '"receives": [{"workflow_id": "%s", "attempt": 1, "step_id": 4, "topic": "t"}],'
        '"outcomes": [{"workflow_id": "%s", "attempt": 1, "output": 1}]}',
        format(v_step, p_prefix || 1, 1), format(v_step, p_prefix || 2, 2), p_prefix || 2,
        p_prefix || 3, p_prefix || 4, p_prefix || 5
    )::jsonb, 1);
    PERFORM lockstep.record_step('alice', p_prefix || 6, 1, 1, 's', '1');
    PERFORM lockstep.pulse('alice', true);
END
$$;

CREATE FUNCTION pg_temp.rows_read()
RETURNS bigint
LANGUAGE sql
AS $$
    SELECT sum(t.seq_tup_read + coalesce(t.idx_tup_fetch, 0))::bigint
    FROM pg_stat_xact_user_tables AS t
    WHERE t.schemaname = 'lockstep'
$$;

SELECT pg_temp.make('small ', 6, 'PENDING');
SELECT pg_temp.call_all('small ');
SELECT pg_temp.make('large ', 6, 'PENDING');
SELECT pg_temp.make('running ', 5000, 'PENDING');
SELECT pg_temp.make('waiting ', 5000, 'ENQUEUED');
INSERT INTO lockstep.operation_outputs (workflow_id, step_id, step_name, started_at, completed_at)
SELECT 'running ' || n, 1, 's', now(), now()
FROM generate_series(1, 5000) AS n;

CREATE TEMPORARY TABLE reads AS SELECT pg_temp.rows_read() AS row_count;
SELECT pg_temp.call_all('large ');
SELECT cmp_ok(
    pg_temp.rows_read() - (SELECT r.row_count FROM reads AS r), '<', 300::bigint,
    'calls for six workflows among 10,000 read hundreds of rows at most'
);

SELECT * FROM finish();
ROLLBACK;
