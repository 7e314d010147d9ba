"""The real thing: sessions that call the SQL functions, and an observer that reads the tables."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import psycopg
from harness import Database
from model.protocol import BACK_OFF_STRETCH, Refused
from model.rows import KINDS, Rows
from psycopg.pq import TransactionStatus
from psycopg.types.json import Jsonb

JSON_ARGUMENTS = {
    *("message", "output", "changes", "steps", "timers", "events", "messages", "receives"),
    *("suspensions", "outcomes"),
}
# What of an answer the model foretells, where it is not all of it.
COLUMNS = {
    "claim_workflows": "workflow_id, attempt, steps, deadline_in",
    "recover_workflows": "recovered_count",
    "pulse": "recovered_count, promoted_count, next_due_in, has_ready",
    "record_step": "NULL",
    "create_queue": "NULL",
    "pause_queue": "NULL",
    "unpause_queue": "NULL",
}
PARTS_OF_ANSWER = {
    "timers": ("workflow_id", "step_id", "remaining"),
    "messages": ("workflow_id", "step_id", "outcome"),
    "receives": ("workflow_id", "step_id", "outcome", "message", "remaining"),
    "suspensions": ("workflow_id", "outcome"),
    "claimed": ("workflow_id", "attempt", "steps", "deadline_in"),
}

MICROSECONDS = "(extract(epoch FROM {0}) * 1000000)::bigint AS {1}"
SNAPSHOT = f"""
    SELECT 'Workflow', row_to_json(w) FROM (
        SELECT
            workflow_id, workflow_name, queue_name, status, priority, deduplication_id,
            started_at IS NOT NULL AS has_started, attempts, max_attempts, executor_id,
            waiting_for, output, error ->> 'type' AS error,
            extract(epoch FROM timeout) AS timeout,
            {MICROSECONDS.format("available_at", "available_at")},
            {MICROSECONDS.format("deadline_at", "deadline_at")}
        FROM lockstep.workflow_status
    ) AS w
    UNION ALL
    SELECT 'Step', row_to_json(o) FROM (
        SELECT
            workflow_id, step_id, step_name, output, error ->> 'type' AS error, attempts,
            completed_at IS NOT NULL AS is_finished,
            {MICROSECONDS.format("available_at", "available_at")},
            {MICROSECONDS.format("started_at", "began_at")},
            {MICROSECONDS.format("completed_at", "ended_at")}
        FROM lockstep.operation_outputs
    ) AS o
    UNION ALL
    SELECT 'Message', row_to_json(n) FROM (
        SELECT
            destination_id, topic, message, idempotency_key, consumed_by_step,
            {MICROSECONDS.format("created_at", "sent_at")}
        FROM lockstep.notifications
    ) AS n
    UNION ALL
    SELECT 'Event', row_to_json(v) FROM (
        SELECT workflow_id, key AS event_key, value FROM lockstep.workflow_events
    ) AS v
    UNION ALL
    SELECT 'Executor', row_to_json(e) FROM (
        SELECT
            executor_id,
            ARRAY(SELECT q FROM unnest(queues) AS q ORDER BY q COLLATE "C") AS queues,
            CASE
                WHEN expires_at = '-infinity' THEN 'declared dead'
                WHEN expires_at <= clock_timestamp() THEN 'ended'
                ELSE 'runs'
            END AS lease,
            suspect_id
        FROM lockstep.executor
    ) AS e
    UNION ALL
    SELECT 'Queue', row_to_json(q) FROM (
        SELECT queue_name, concurrency, is_paused FROM lockstep.queue
    ) AS q
    UNION ALL
    SELECT 'Ledger', row_to_json(l) FROM (
        SELECT workflow_id, step_id, array_agg(entry) AS entries
        FROM ledger
        GROUP BY workflow_id, step_id
    ) AS l
"""
MOMENTS = ("available_at", "deadline_at", "sent_at")


class Session:
    """A connection of an application or of a worker; it waits when it meets a lock."""

    def __init__(self, dsn: str) -> None:
        self._connection = psycopg.connect(dsn, autocommit=True)
        self._connection.execute("SET lock_timeout = '5s'")
        self.pid = self._connection.info.backend_pid

    def execute(self, statement: str, *params: Any) -> None:
        self._connection.execute(statement, params)

    def call(self, function: str, arguments: dict[str, Any]) -> Any:
        """Call a function of schema lockstep; return what it answers, or that it refuses."""
        names = ", ".join(f"{name} => %({name})s" for name in arguments)
        columns = COLUMNS.get(function, "*")
        try:
            rows = self._connection.execute(
                f"SELECT {columns} FROM lockstep.{function}({names})",
                {
                    name: Jsonb(value) if name in JSON_ARGUMENTS else _as_parameter(value)
                    for name, value in arguments.items()
                },
            ).fetchall()
            if function == "send_message":
                rows = self._connection.execute(
                    "SELECT message FROM lockstep.notifications WHERE message_id = %s", rows[0]
                ).fetchall()
            elif function in ("recover_workflows", "pulse"):
                self._stretch_back_offs()
            elif function == "record_step":
                # the server would end a transaction that stays open for a while
                self._connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        except psycopg.Error as error:
            return Refused(str(error.sqlstate))
        if function == "advance_workflows":
            return _parts_of(rows[0][0])
        if function == "claim_workflows":
            return [(*row[:2], _history(row[2]), row[3]) for row in rows]
        return rows

    def _stretch_back_offs(self) -> None:
        self._connection.execute(
            "UPDATE lockstep.workflow_status SET available_at = available_at + %s"
            " WHERE status = 'DELAYED' AND available_at > clock_timestamp()"
            " AND available_at < clock_timestamp() + interval '100 s'",
            [timedelta(seconds=BACK_OFF_STRETCH)],
        )

    def roll_back(self) -> None:
        if self._connection.info.transaction_status != TransactionStatus.IDLE:
            self._connection.execute("ROLLBACK")

    def close(self) -> None:
        self._connection.close()


class Server:
    def __init__(self, database: Database, session_names: list[str]) -> None:
        database.rows("CREATE TABLE ledger (workflow_id text, step_id int, entry text)")
        # A call that waits shall wait until the test has ended what it waits for.
        for (function,) in database.rows(
            "SELECT oid::regprocedure::text FROM pg_proc"
            " WHERE pronamespace = 'lockstep'::regnamespace"
            " AND array_to_string(proconfig, ' ') LIKE '%%lock_timeout=%%'"
        ):
            database.rows(f"ALTER FUNCTION {function} RESET lock_timeout")
        self._observer = psycopg.connect(database.dsn, autocommit=True)
        self.sessions = {name: Session(database.dsn) for name in session_names}
        self._thread = ThreadPoolExecutor(1)

    def empty(self) -> None:
        self._observer.execute(
            "TRUNCATE lockstep.workflow_status, lockstep.operation_outputs, lockstep.notifications,"
            " lockstep.workflow_events, lockstep.executor, lockstep.queue, ledger"
        )

    def read(self, offset: int) -> Rows:
        """Read all tables, with moments on a clock that is `offset` microseconds ahead."""
        rows: Rows = {}
        for kind, columns in self._observer.execute(SNAPSHOT):
            for name in MOMENTS:
                if columns.get(name) is not None:
                    columns[name] += offset
            for name, value in columns.items():
                if isinstance(value, list):
                    columns[name] = tuple(value)
            row = KINDS[kind](**columns)
            assert row.key not in rows, f"two rows of one kind have the same key: {row}"
            rows[row.key] = row
        return rows

    def end_lease(self, executor_id: str) -> None:
        self._observer.execute(
            "UPDATE lockstep.executor SET expires_at = clock_timestamp() - interval '1 s'"
            " WHERE executor_id = %s",
            [executor_id],
        )

    def let_time_pass(self, seconds: int) -> None:
        """Bring every moment nearer by so much, instead of waiting; leases stay as long."""
        span = timedelta(seconds=seconds)
        self._observer.execute(
            "UPDATE lockstep.executor SET lease_duration = lease_duration + %s", [span]
        )
        for table, column in (
            ("workflow_status", "available_at"),
            ("workflow_status", "deadline_at"),
            ("operation_outputs", "available_at"),
            ("notifications", "created_at"),
        ):
            self._observer.execute(
                f"UPDATE lockstep.{table} SET {column} = {column} - %s WHERE {column} IS NOT NULL",
                [span],
            )

    def start(self, session: Session, call: Callable[[], Any]) -> Future[Any]:
        """Start a call that must wait for a lock; return when it waits."""
        future = self._thread.submit(call)

        give_up_at = time.monotonic() + 10
        while not self._is_blocked(session):
            assert not future.done(), f"the call should wait, but it answered {future.result()}"
            assert time.monotonic() < give_up_at, "the call neither waits nor ends"
            time.sleep(0.001)
        return future

    def _is_blocked(self, session: Session) -> bool:
        cursor = self._observer.execute("SELECT pg_blocking_pids(%s) <> '{}'", [session.pid])
        return bool(cursor.fetchall()[0][0])

    def close(self) -> None:
        self._thread.shutdown()
        for session in self.sessions.values():
            session.close()
        self._observer.close()


def _as_parameter(value: Any) -> Any:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [Jsonb(item) for item in value]
    return value


def _history(steps: list[dict[str, Any]] | None) -> list[tuple[Any, ...]]:
    def outcome_of(step: dict[str, Any]) -> tuple[Any, Any]:
        output = step["output"] and json.loads(step["output"])
        error = step["error"] and json.loads(step["error"])["type"]
        return output, error

    return sorted(
        (
            step["step_id"],
            step["step_name"],
            *outcome_of(step),
            step["attempts"],
            step["is_finished"],
        )
        for step in steps or ()
    )


def _parts_of(answer: dict[str, Any]) -> dict[str, list[Any]]:
    """Bring what advance_workflows() answers into the form in which its parts answer."""
    parts = {"lost": [(workflow_id,) for workflow_id in answer["lost"]]}
    for part, columns in PARTS_OF_ANSWER.items():
        parts[part] = [tuple(row[name] for name in columns) for row in answer[part] or ()]
    parts["receives"] = [
        (*row[:3], row[3] and json.loads(row[3]), row[4]) for row in parts["receives"]
    ]
    parts["claimed"] = [(*row[:2], _history(row[2]), row[3]) for row in parts["claimed"]]
    return parts
