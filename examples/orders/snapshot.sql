-- How things are right now, as one row: what the demo shows while it runs.
SELECT
    (SELECT count(*) FROM orders) AS placed,
    (
        SELECT count(*)
        FROM lockstep.workflow_status AS w
        WHERE w.completed_at IS NOT NULL
    ) AS ended,
    -- recorded steps by name
    (
        SELECT coalesce(jsonb_object_agg(s.step_name, s.recorded_count), '{}')
        FROM (
            SELECT o.step_name, count(*) AS recorded_count
            FROM lockstep.operation_outputs AS o
            WHERE o.completed_at IS NOT NULL
            GROUP BY o.step_name
        ) AS s
    ) AS steps,
    -- failed calls that were tried again
    (
        SELECT coalesce(sum(o.attempts - 1), 0)::int
        FROM lockstep.operation_outputs AS o
        WHERE o.completed_at IS NOT NULL
    ) AS retries,
    -- who executes, how many workflows, and for how long they are his
    (
        SELECT coalesce(jsonb_agg(e ORDER BY e.registered_at), '[]')
        FROM (
            SELECT
                x.pid,
                x.registered_at,
                greatest(extract(EPOCH FROM x.expires_at - clock_timestamp()), 0) AS lease,
                (
                    SELECT count(*)
                    FROM lockstep.workflow_status AS w
                    WHERE w.executor_id = x.executor_id AND w.status = 'PENDING'
                ) AS running
            FROM lockstep.executor AS x
        ) AS e
    ) AS executors,
    -- connections that workers have; a killed one's end when Postgres notices
    (
        SELECT count(*)
        FROM pg_stat_activity AS a
        WHERE a.application_name LIKE 'lockstep %'
    ) AS connections
