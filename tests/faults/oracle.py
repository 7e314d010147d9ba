"""
The oracle: what must be true when everything has drained, each promise with a query.

A query returns a row for each violation. The journal of the driver and the side effects
outside of the database are loaded from their files first (``load_files``); everything else
is in the tables of the bank and of Lockstep.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg


@dataclass(frozen=True)
class Check:
    """A promise, and the query that finds what breaks it."""

    name: str
    promise: str
    query: str


@dataclass(frozen=True)
class Violation:
    """A row that breaks a promise."""

    check: Check
    row: tuple[Any, ...]

    def __str__(self) -> str:
        return f"{self.check.name}: {', '.join(str(value) for value in self.row)}"


CHECKS: list[Check] = []


def check(name: str, promise: str, query: str) -> None:
    CHECKS.append(Check(name, promise, query))


# enqueueing

check(
    "acknowledged enqueue is there",
    "What a committed transaction enqueued is a workflow.",
    """
    SELECT j.workflow_id
    FROM bank.journal AS j
    LEFT JOIN lockstep.workflow_status AS w USING (workflow_id)
    WHERE j.outcome = 'committed' AND w.workflow_id IS NULL
    """,
)
check(
    "rolled-back enqueue is not there",
    "What a rolled-back transaction enqueued is no workflow.",
    """
    SELECT w.workflow_id
    FROM lockstep.workflow_status AS w
    LEFT JOIN bank.journal AS j USING (workflow_id)
    WHERE j.outcome = 'rolled back' OR w.workflow_id LIKE 'undone-%'
    """,
)
check(
    "enqueue and application commit together",
    "A workflow is there exactly if what its transaction wrote is.",
    """
    SELECT coalesce(e.workflow_id, w.workflow_id), e.kind, w.workflow_name
    FROM bank.expected AS e
    FULL JOIN (
        SELECT * FROM lockstep.workflow_status WHERE parent_workflow_id IS NULL
    ) AS w USING (workflow_id)
    WHERE e.kind IS DISTINCT FROM w.workflow_name
    """,
)

# the end

check(
    "nothing is left over",
    "Every workflow ends.",
    """
    SELECT w.workflow_id, w.status, w.attempts, w.available_at, w.waiting_for
    FROM lockstep.workflow_status AS w
    WHERE w.completed_at IS NULL
    """,
)
check(
    "expected end",
    "Every workflow ends in the status that its kind says.",
    """
    SELECT w.workflow_id, w.workflow_name, w.status, w.error ->> 'type', w.error ->> 'message'
    FROM lockstep.workflow_status AS w
    WHERE w.status <> CASE
        WHEN w.workflow_name = 'refused_transfer' THEN 'ERROR'
        WHEN w.workflow_name IN ('endless', 'restless') THEN 'CANCELLED'
        WHEN w.workflow_name = 'hesitant' AND w.status = 'CANCELLED' THEN 'CANCELLED'
        WHEN w.workflow_name = 'poison' THEN 'MAX_RECOVERY_ATTEMPTS_EXCEEDED'
        ELSE 'SUCCESS'
    END
    """,
)
check(
    "cancelled stays cancelled",
    "A workflow whose cancellation was acknowledged ends as CANCELLED.",
    """
    SELECT j.workflow_id, w.status
    FROM bank.journal AS j
    LEFT JOIN lockstep.workflow_status AS w USING (workflow_id)
    WHERE j.outcome = 'cancelled' AND w.status IS DISTINCT FROM 'CANCELLED'
    """,
)
check(
    "deadline is kept",
    "A workflow with a timeout is cancelled, and not before its time.",
    """
    SELECT w.workflow_id, w.error ->> 'type', w.deadline_at, w.completed_at
    FROM lockstep.workflow_status AS w
    WHERE w.timeout IS NOT NULL
        AND (
            w.error ->> 'type' IS DISTINCT FROM 'DeadlineExceeded'
            OR w.completed_at < w.started_at + w.timeout
        )
    """,
)
check(
    "expected output",
    "A workflow returns what its kind computes.",
    """
    SELECT w.workflow_id, e.args, w.output
    FROM bank.expected AS e
    INNER JOIN lockstep.workflow_status AS w USING (workflow_id)
    WHERE w.status = 'SUCCESS'
        AND w.output IS DISTINCT FROM CASE e.kind
            WHEN 'transfer' THEN e.args -> 2
            WHEN 'transfer_plain' THEN e.args -> 2
            WHEN 'order' THEN jsonb_build_array(w.output -> 0, (e.args ->> 0)::int * 3)
            WHEN 'fan_out' THEN to_jsonb(
                3 * (e.args ->> 0)::int * ((e.args ->> 0)::int - 1) / 2
            )
            WHEN 'flaky' THEN '"done"'
            WHEN 'hesitant' THEN '"ended"'
            WHEN 'pack' THEN to_jsonb(3 * (e.args ->> 0)::int)
            WHEN 'courier' THEN (
                SELECT jsonb_agg(n) FROM generate_series(0, (e.args ->> 0)::int - 1) AS n
            )
            WHEN 'depot' THEN w.output
            WHEN 'audit' THEN (
                SELECT jsonb_build_array(w.output -> 0, o.output)
                FROM lockstep.workflow_status AS o
                WHERE o.workflow_id = e.args ->> 0 AND w.output ->> 0 IN ('charged', 'shipped')
            )
        END
    """,
)

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


FILES = ("journal", "effect", "stopped_worker")
"""Files of a run's folder, loaded into the tables of the bank that have their names."""


def load_files(connection: psycopg.Connection[Any], folder: Path) -> None:
    """Load what the driver was told and what happened outside of the database."""
    for table in FILES:
        connection.execute(f"TRUNCATE bank.{table}")
        with connection.cursor().copy(f"COPY bank.{table} FROM STDIN") as copy:
            copy.write((folder / table).read_bytes())
    connection.execute("ANALYZE")


def judge(
    connection: psycopg.Connection[Any], checks: Sequence[Check] = CHECKS
) -> Iterator[Violation]:
    """Yield what breaks a promise."""
    for promise in checks:
        for row in connection.execute(promise.query).fetchall():
            yield Violation(promise, row)
