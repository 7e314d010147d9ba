"""What workflows did to the bank and to the world outside of the database."""

from .check import check

# transactional effects

check(
    "money is conserved",
    "Each balance is what its entries say.",
    """
    SELECT a.account_id, a.balance, 1000000 + coalesce(sum(e.amount), 0)
    FROM bank.account AS a
    LEFT JOIN bank.entry AS e USING (account_id)
    GROUP BY a.account_id, a.balance
    HAVING a.balance <> 1000000 + coalesce(sum(e.amount), 0)
    """,
)
check(
    "transactional effect exactly once",
    "Each transactional step of a workflow that succeeded has written once, each other's at most.",
    """
    WITH wanted AS (
        SELECT e.workflow_id, s.kind, s.amount, s.wanted
        FROM bank.expected AS e
        CROSS JOIN LATERAL (
            SELECT 'withdraw', -(e.args ->> -1)::bigint, 1 WHERE e.kind LIKE '%transfer%'
            UNION ALL
            SELECT 'deposit', (e.args ->> -1)::bigint, 1
            WHERE e.kind IN ('transfer', 'transfer_plain')
            UNION ALL
            SELECT 'ship', o.amount, 1
            FROM (
                SELECT (w.output ->> 0)::bigint AS amount
                FROM lockstep.workflow_status AS w
                WHERE w.workflow_id = e.workflow_id
            ) AS o
            WHERE e.kind = 'order'
            UNION ALL
            SELECT 'kept', NULL, 1 WHERE e.kind = 'flaky'
            UNION ALL
            SELECT k, NULL, 1 FROM unnest(ARRAY['start', 'woke']) AS k
            WHERE e.kind IN ('sleeper', 'sleeper_plain', 'impatient')
        ) AS s (kind, amount, wanted)
    ),
    written AS (
        SELECT e.workflow_id, e.kind, e.amount, count(*) AS times
        FROM bank.entry AS e
        WHERE e.kind IN ('withdraw', 'deposit', 'ship', 'kept', 'start', 'woke')
        GROUP BY e.workflow_id, e.kind, e.amount
    )
    SELECT coalesce(w.workflow_id, d.workflow_id), coalesce(w.kind, d.kind), d.amount, d.times
    FROM wanted AS w
    FULL JOIN written AS d
        ON d.workflow_id = w.workflow_id AND d.kind = w.kind
            AND d.amount IS NOT DISTINCT FROM w.amount
    WHERE d.times IS DISTINCT FROM w.wanted
    """,
)
check(
    "effect and checkpoint commit together",
    "What a transactional step wrote is there exactly if the step is recorded.",
    """
    WITH written AS (
        SELECT e.workflow_id, count(*) AS entries
        FROM bank.entry AS e
        GROUP BY e.workflow_id
    ),
    recorded AS (
        SELECT o.workflow_id, count(*) AS steps
        FROM lockstep.operation_outputs AS o
        WHERE o.step_name
            IN ('enter', 'enter_plain', 'enter_number', 'mark', 'mark_plain', 'refund', 'tick')
            AND o.completed_at IS NOT NULL
            AND o.error IS NULL
        GROUP BY o.workflow_id
    )
    SELECT coalesce(w.workflow_id, r.workflow_id), w.entries, r.steps
    FROM written AS w
    FULL JOIN recorded AS r USING (workflow_id)
    WHERE w.entries IS DISTINCT FROM r.steps
    """,
)
check(
    "withdrawal of a failed transfer is undone once",
    "A failed workflow's compensation runs once and undoes what was done.",
    """
    SELECT w.workflow_id, d.amount, r.amounts, c.compensations
    FROM lockstep.workflow_status AS w
    CROSS JOIN LATERAL (
        SELECT sum(e.amount) AS amount
        FROM bank.entry AS e
        WHERE e.workflow_id = w.workflow_id AND e.kind = 'withdraw'
    ) AS d
    CROSS JOIN LATERAL (
        SELECT array_agg(c.workflow_id) AS ids, array_agg(c.status) AS compensations
        FROM lockstep.workflow_status AS c
        WHERE c.parent_workflow_id = w.workflow_id AND c.workflow_name = 'lockstep.compensate'
    ) AS c
    CROSS JOIN LATERAL (
        SELECT array_agg(e.amount::numeric) AS amounts
        FROM bank.entry AS e
        WHERE e.workflow_id = ANY (c.ids) AND e.kind = 'refund'
    ) AS r
    WHERE w.workflow_name = 'refused_transfer'
        AND (
            c.compensations IS DISTINCT FROM ARRAY['SUCCESS']
            OR r.amounts IS DISTINCT FROM ARRAY[-d.amount]
        )
    """,
)
check(
    "nothing is written after the end",
    "A transaction that could see the end of its workflow has written nothing for it.",
    """
    SELECT e.workflow_id, w.status, e.kind, e.position, e.at, w.completed_at
    FROM bank.entry AS e
    INNER JOIN (
        SELECT w.*, w.xmin::text::xid8 AS ended_by FROM lockstep.workflow_status AS w
    ) AS w USING (workflow_id)
    WHERE pg_visible_in_snapshot(w.ended_by, e.snapshot)
    """,
)

# side effects outside

check(
    "side effect at least once",
    "What a step did outside has happened if the workflow succeeded.",
    """
    SELECT w.workflow_id
    FROM lockstep.workflow_status AS w
    WHERE w.workflow_name IN ('order', 'flaky')
        AND w.status = 'SUCCESS'
        AND NOT EXISTS (
            SELECT
            FROM bank.effect AS e
            WHERE e.workflow_id = w.workflow_id AND e.outcome = 'done'
        )
    """,
)
check(
    "recorded outcome is the one used",
    "A workflow goes on with the outcome of a step that is recorded, and that was returned.",
    """
    SELECT w.workflow_id, w.output -> 0, o.output
    FROM lockstep.workflow_status AS w
    LEFT JOIN lockstep.operation_outputs AS o
        ON o.workflow_id = w.workflow_id AND o.step_name = 'charge'
    WHERE w.workflow_name = 'order'
        AND w.status = 'SUCCESS'
        AND (
            o.output IS DISTINCT FROM w.output -> 0
            OR NOT EXISTS (
                SELECT
                FROM bank.effect AS e
                WHERE e.workflow_id = w.workflow_id
                    AND e.outcome = 'done'
                    AND to_jsonb(e.receipt) = o.output
            )
        )
    """,
)
check(
    "side effect once in an execution",
    "A side effect is repeated only by another execution: after a death, which counts as an "
    "attempt, or by whom a worker that was asked to stop handed the workflow back to.",
    """
    SELECT e.workflow_id, e.attempt, array_agg(e.pid)
    FROM bank.effect AS e
    LEFT JOIN bank.stopped_worker AS s USING (pid)
    WHERE e.kind = 'charge' AND e.outcome = 'done' AND s.pid IS NULL
    GROUP BY e.workflow_id, e.attempt
    HAVING count(*) > 1
    """,
)
check(
    "retries are counted",
    "A step is recorded with no more attempts than were made.",
    """
    SELECT o.workflow_id, o.attempts, count(e.workflow_id)
    FROM lockstep.operation_outputs AS o
    LEFT JOIN bank.effect AS e ON e.workflow_id = o.workflow_id AND e.kind = 'charge'
    WHERE o.step_name = 'charge'
    GROUP BY o.workflow_id, o.step_id, o.attempts
    HAVING o.attempts > count(e.workflow_id)
    """,
)
check(
    "failures are counted",
    "A workflow's failures are no more than happened.",
    """
    SELECT w.workflow_id, w.failures, count(e.workflow_id)
    FROM lockstep.workflow_status AS w
    LEFT JOIN bank.effect AS e ON e.workflow_id = w.workflow_id AND e.outcome = 'declined'
    WHERE w.workflow_name = 'flaky'
    GROUP BY w.workflow_id, w.failures
    HAVING w.failures > count(e.workflow_id)
    """,
)
