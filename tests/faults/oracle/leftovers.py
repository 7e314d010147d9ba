"""What timers and executors leave behind."""

from .check import check

# time

check(
    "sleep not shorter than asked",
    "A sleep and a timeout last at least as long as asked.",
    """
    SELECT e.workflow_id, e.args, b.at - a.at
    FROM bank.expected AS e
    INNER JOIN bank.entry AS a ON a.workflow_id = e.workflow_id AND a.kind = 'start'
    INNER JOIN bank.entry AS b ON b.workflow_id = e.workflow_id AND b.kind = 'woke'
    WHERE e.kind IN ('sleeper', 'sleeper_plain', 'impatient')
        AND b.at - a.at < make_interval(secs => (e.args ->> 0)::double precision)
    """,
)
check(
    "timer as long as asked",
    "The recorded moment of a sleep is its beginning and what was asked.",
    """
    SELECT o.workflow_id, e.args, o.available_at - o.started_at
    FROM bank.expected AS e
    INNER JOIN lockstep.operation_outputs AS o USING (workflow_id)
    WHERE e.kind IN ('sleeper', 'sleeper_plain') AND o.step_name = 'sleep'
        AND abs(
            extract(EPOCH FROM o.available_at - o.started_at)
            - (e.args ->> 0)::double precision
        ) > 0.01
    """,
)
check(
    "nothing forbidden was written",
    "No step is recorded twice, no timer moves, no ended workflow changes, no message is "
    "consumed twice.",
    "SELECT f.what, f.workflow_id, f.before, f.after FROM bank.forbidden_update AS f",
)
check(
    "no step after the end",
    "No step is recorded after the end of its workflow.",
    """
    SELECT o.workflow_id, o.step_id, o.step_name, o.completed_at, w.completed_at
    FROM lockstep.operation_outputs AS o
    INNER JOIN lockstep.workflow_status AS w USING (workflow_id)
    WHERE o.completed_at > w.completed_at
        + CASE w.status WHEN 'CANCELLED' THEN interval '10 s' ELSE interval '0' END
    """,
)

# what must not stay behind

check(
    "no ghost among the executors",
    "An executor's row goes with its worker, at the latest when its lease has ended.",
    "SELECT e.executor_id, e.pid, e.expires_at::text FROM lockstep.executor AS e",
)
check(
    "no row without a workflow",
    "Steps, messages, events and waiters belong to workflows.",
    """
    SELECT r.what, r.workflow_id
    FROM (
        SELECT 'step' AS what, o.workflow_id FROM lockstep.operation_outputs AS o
        UNION ALL
        SELECT 'message', n.destination_id FROM lockstep.notifications AS n
        UNION ALL
        SELECT 'event', v.workflow_id FROM lockstep.workflow_events AS v
        UNION ALL
        SELECT 'entry', e.workflow_id FROM bank.entry AS e
        UNION ALL
        SELECT 'effect', e.workflow_id FROM bank.effect AS e
    ) AS r
    LEFT JOIN lockstep.workflow_status AS w USING (workflow_id)
    WHERE w.workflow_id IS NULL
    """,
)
check(
    "nobody waits any more",
    "Who waited for what has come, or for a workflow that ended, is off the list.",
    "SELECT w.awaited_id, w.awaited_what, w.waiter FROM lockstep.waiter AS w",
)
check(
    "steps without a gap",
    "The steps of a workflow that succeeded are finished and numbered without a gap.",
    """
    SELECT o.workflow_id, count(*), max(o.step_id), count(o.completed_at)
    FROM lockstep.operation_outputs AS o
    INNER JOIN lockstep.workflow_status AS w USING (workflow_id)
    WHERE w.status = 'SUCCESS' AND o.step_id < 65536
    GROUP BY o.workflow_id
    HAVING count(*) <> max(o.step_id) OR count(o.completed_at) <> count(*)
    """,
)
