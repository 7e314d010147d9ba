"""What workflows told each other: messages, events, results of children."""

from .check import check

# messages and events

check(
    "sequence without gap, repeat or disorder",
    "A workflow receives the numbered messages of a sender in order, each once.",
    """
    WITH received AS (
        SELECT e.workflow_id, array_agg(e.amount ORDER BY e.entry_id) AS numbers,
            array_agg(e.position ORDER BY e.entry_id) AS positions
        FROM bank.entry AS e
        WHERE e.kind = 'parcel'
        GROUP BY e.workflow_id
    )
    SELECT x.workflow_id, r.numbers, r.positions
    FROM bank.expected AS x
    LEFT JOIN received AS r USING (workflow_id)
    CROSS JOIN LATERAL (
        SELECT array_agg(n ORDER BY n) AS wanted
        FROM generate_series(0, (x.args ->> 0)::int - 1) AS n
    ) AS s
    WHERE x.kind = 'courier'
        AND (
            r.numbers IS DISTINCT FROM s.wanted::bigint[] OR r.positions IS DISTINCT FROM s.wanted
        )
    """,
)
check(
    "message of a workflow exactly once",
    "What one workflow sends another receives once.",
    """
    SELECT o.workflow_id, o.args ->> 2, count(e.workflow_id)
    FROM bank.expected AS o
    LEFT JOIN bank.entry AS e
        ON e.workflow_id = o.args ->> 2 AND e.kind = 'shipped'
            AND e.amount = (o.args ->> 0)::bigint
    WHERE o.kind = 'order'
    GROUP BY o.workflow_id, o.args ->> 2
    HAVING count(e.workflow_id) <> 1
    """,
)
check(
    "no message is left over",
    "Every message was consumed, by a step of its destination.",
    """
    SELECT n.message_id, n.destination_id, n.message, n.consumed_by_step
    FROM lockstep.notifications AS n
    LEFT JOIN lockstep.operation_outputs AS o
        ON o.workflow_id = n.destination_id AND o.step_id = n.consumed_by_step
            AND o.step_name = 'receive' AND o.completed_at IS NOT NULL
    WHERE o.workflow_id IS NULL OR o.output IS DISTINCT FROM n.message
    """,
)
check(
    "event holds the last value",
    "An event has the value that was set last.",
    """
    SELECT w.workflow_id, v.value
    FROM lockstep.workflow_status AS w
    LEFT JOIN lockstep.workflow_events AS v
        ON v.workflow_id = w.workflow_id AND v.key = 'state'
    WHERE w.workflow_name = 'order' AND w.status = 'SUCCESS'
        AND v.value IS DISTINCT FROM '"shipped"'
    """,
)

# children

check(
    "child once, its result in its parent",
    "A child is started once, and its parent has its outcome.",
    """
    SELECT p.workflow_id, p.workflow_name, count(c.workflow_id)
    FROM lockstep.workflow_status AS p
    INNER JOIN bank.expected AS e USING (workflow_id)
    LEFT JOIN lockstep.workflow_status AS c
        ON c.parent_workflow_id = p.workflow_id AND c.workflow_name = 'pack'
            AND c.status = 'SUCCESS'
            AND EXISTS (
                SELECT
                FROM lockstep.operation_outputs AS o
                WHERE o.workflow_id = p.workflow_id AND o.child_workflow_id = c.workflow_id
                    AND o.output = c.output
            )
    WHERE p.workflow_name IN ('order', 'fan_out') AND p.status = 'SUCCESS'
    GROUP BY p.workflow_id, p.workflow_name, e.args
    HAVING count(c.workflow_id) <> CASE p.workflow_name
            WHEN 'order' THEN 1
            ELSE (e.args ->> 0)::int
        END
        OR count(c.workflow_id) <> (
            SELECT count(*)
            FROM lockstep.workflow_status AS a
            WHERE a.parent_workflow_id = p.workflow_id
        )
    """,
)
check(
    "child belongs to a step",
    "Every child is named by a step of its parent, and the other way round.",
    """
    SELECT c.workflow_id, c.parent_workflow_id, o.workflow_id, o.step_id
    FROM (
        SELECT *
        FROM lockstep.workflow_status
        WHERE parent_workflow_id IS NOT NULL AND workflow_name <> 'lockstep.compensate'
    ) AS c
    FULL JOIN (
        SELECT *
        FROM lockstep.operation_outputs
        WHERE child_workflow_id IS NOT NULL AND step_name NOT IN ('result', 'get_result')
    ) AS o ON o.child_workflow_id = c.workflow_id AND o.workflow_id = c.parent_workflow_id
    WHERE (c.workflow_id IS NULL OR o.workflow_id IS NULL)
        AND coalesce(o.child_workflow_id, '') NOT LIKE 'order-%'
    """,
)
