"""
Skips time in a test's database: everything recorded is moved into the past.

There is no clock to set in the product. Where all rows are three days older, three days
have passed. Leases stay as they are, because workers live in real time, and so do
schedules, whose ticks are moments of the calendar: here nobody starts them.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import signal
import time
from datetime import timedelta
from typing import Any

import psycopg
from psycopg import AsyncConnection, sql

from ._app import App
from ._async_client import AsyncClient
from ._errors import InvalidArgument, ResultTimeout
from ._worker import Worker

MARK = "made by lockstep.testing: time may be skipped"
"""The comment on a database that tells that it is a test's."""

_IS_MARKED = (
    "SELECT coalesce(shobj_description(d.oid, 'pg_database') = %s, false)"
    " FROM pg_database AS d WHERE d.datname = current_database()"
)

# what runs, what the worker is about to claim, and what is about to be promoted
_IS_BUSY = """
    SELECT EXISTS (
        SELECT
        FROM lockstep.workflow_status AS w
        LEFT JOIN lockstep.queue AS q ON q.queue_name = w.queue_name
        WHERE CASE w.status
            WHEN 'PENDING' THEN true
            WHEN 'ENQUEUED' THEN
                w.queue_name = ANY (%(queues)s) AND w.workflow_name = ANY (%(names)s)
                AND (w.app_version IS NULL OR w.app_version = %(version)s)
                AND q.is_paused IS NOT TRUE
            WHEN 'DELAYED' THEN w.available_at <= clock_timestamp()
            WHEN 'WAITING' THEN w.available_at <= clock_timestamp()
        END
        OR (w.completed_at IS NULL AND w.deadline_at <= clock_timestamp())
    )
"""

_TIMES = """
    SELECT c.table_name, array_agg(c.column_name::text)
    FROM information_schema.columns AS c
    INNER JOIN information_schema.tables AS t USING (table_schema, table_name)
    WHERE c.table_schema = 'lockstep' AND t.table_type = 'BASE TABLE'
        AND c.data_type = 'timestamp with time zone'
        AND c.table_name NOT IN ('executor', 'schedule')
    GROUP BY c.table_name
"""

_PAUSE = 0.005
_RING_INTERVAL = 0.05


class Clock:
    """Runs a worker, looks whether it has anything to do, and turns the time forward if not."""

    def __init__(self, app: App, dsn: str, worker_options: dict[str, Any]) -> None:
        options = dict(worker_options)
        if "queues" not in options:
            queues = {workflow.queue_name for workflow in app.workflows.values()}
            options["queues"] = sorted(queues | {"default"})
        self._dsn = dsn
        self.worker = Worker(app, dsn=dsn, **options)
        self.worker.starts_ticks = False
        self.client = AsyncClient(dsn, codec=app.codec)
        self.time_skipped = timedelta(0)
        self._served = {
            "queues": list(options["queues"]),
            "names": list(self.worker.workflows),
            "version": options.get("app_version"),
        }
        self._rung_at = 0.0
        self._turn = asyncio.Lock()  # at the connection

    async def start(self) -> None:
        """Start the worker, in a database that is a test's."""
        self._connection = await AsyncConnection.connect(
            self._dsn, autocommit=True, application_name="lockstep testing"
        )
        self._running: asyncio.Task[None] | None = None
        try:
            await self._refuse_others()
            self._running = asyncio.create_task(self.worker.run())
            while not self.worker.executor_id or not self.worker.listener.is_connected:
                await self._pause(_PAUSE)
        except BaseException:
            await self.stop()
            raise
        # an interrupt is for the tests, not for the worker alone
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
                self.worker.loop.remove_signal_handler(number)

    async def _refuse_others(self) -> None:
        cursor = await self._connection.execute(_IS_MARKED, [MARK])
        if await cursor.fetchone() != (True,):
            raise InvalidArgument(
                "time can only be skipped in a database of lockstep.testing.create_database()"
            )

    async def stop(self) -> None:
        """Stop the worker at once; what runs is handed back."""
        await self.client.close()
        await self._connection.close()
        if self._running is not None:
            self.worker.stop()
            self.worker.stop()
            await asyncio.wait([self._running])

    async def result(self, workflow_id: str, timeout: timedelta) -> Any:
        """Wait for a result, and skip to what is due next whenever nothing runs."""
        ends_at = time.monotonic() + timeout.total_seconds()
        waiting = asyncio.ensure_future(self.client.result(workflow_id))
        try:
            while True:
                await self._pause(_PAUSE, waiting)
                if waiting.done():
                    return waiting.result()
                if time.monotonic() > ends_at:
                    raise ResultTimeout(await self._explain(workflow_id, timeout))
                if not await self._is_busy():
                    await self._skip_to_next(math.inf)
        finally:
            waiting.cancel()
            await asyncio.wait([waiting])

    async def settle(self, timeout: timedelta) -> None:
        """Wait until nothing runs."""
        ends_at = time.monotonic() + timeout.total_seconds()
        while await self._is_busy():
            if time.monotonic() > ends_at:
                raise ResultTimeout(f"workflows still run after {timeout}")
            await self._pause(_PAUSE)

    async def skip(self, duration: timedelta, timeout: timedelta) -> None:
        """Skip some time, from one thing that falls due to the next."""
        remaining = duration.total_seconds()
        while True:
            await self.settle(timeout)
            if remaining <= 0:
                return
            remaining -= await self._skip_to_next(remaining)

    async def _pause(self, seconds: float, *waiting: asyncio.Future[Any]) -> None:
        assert self._running is not None
        await asyncio.wait(
            [self._running, *waiting], timeout=seconds, return_when=asyncio.FIRST_COMPLETED
        )
        if self._running.done():
            self._running.result()
            raise InvalidArgument("the worker of the environment was stopped")

    async def _is_busy(self) -> bool:
        async with self._turn:
            is_busy = await self._something_runs()
        if is_busy and time.monotonic() - self._rung_at > _RING_INTERVAL:
            self._ring()
        return is_busy

    async def _something_runs(self) -> bool:
        cursor = await self._connection.execute(_IS_BUSY, self._served)
        return await cursor.fetchone() == (True,)

    def _ring(self) -> None:
        """Make the worker look: it gets calm when nothing comes, and a test is not."""
        self._rung_at = time.monotonic()
        self.worker.claimer.ring()
        self.worker.pulse.check_due()

    async def _skip_to_next(self, limit: float) -> float:
        """Skip until something falls due, or up to a limit; return the seconds skipped."""
        seconds = 0.0
        with contextlib.suppress(psycopg.errors.LockNotAvailable):
            async with self._turn, self._connection.transaction():
                await self._refuse_others()
                await self._connection.execute("SET LOCAL lock_timeout = '200ms'")
                await self._connection.execute(
                    "LOCK TABLE lockstep.workflow_status IN EXCLUSIVE MODE"
                )
                if not await self._something_runs():
                    cursor = await self._connection.execute(
                        "SELECT promoted_count, next_due_in FROM lockstep.promote_due_workflows()"
                    )
                    ((promoted, due_in),) = await cursor.fetchall()
                    due = math.inf if due_in is None else max(due_in, 0.0)
                    if not promoted and not math.isinf(min(due, limit)):
                        seconds = min(due, limit)
                        await self._move_into_the_past(timedelta(seconds=seconds))
        if seconds:
            self.time_skipped += timedelta(seconds=seconds)
            self.worker.time_skipped = self.time_skipped
            self._ring()
        return seconds

    async def _move_into_the_past(self, duration: timedelta) -> None:
        cursor = await self._connection.execute(_TIMES)
        for table, columns in await cursor.fetchall():
            moves = [
                sql.SQL("{0} = {0} - {1}").format(sql.Identifier(column), sql.Literal(duration))
                for column in columns
            ]
            await self._connection.execute(
                sql.SQL("UPDATE lockstep.{} SET {}").format(
                    sql.Identifier(table), sql.SQL(", ").join(moves)
                )
            )
        await self._connection.execute("SELECT pg_notify('lockstep', 'due')")

    async def _explain(self, workflow_id: str, timeout: timedelta) -> str:
        cursor = await self._connection.execute(
            "SELECT status, waiting_for, queue_name FROM lockstep.workflow_status"
            " WHERE workflow_id = %s",
            [workflow_id],
        )
        ((status, waiting_for, queue_name),) = await cursor.fetchall()
        what = f", waiting for {' or '.join(waiting_for)}," if waiting_for else ""
        return (
            f'workflow "{workflow_id}" in queue "{queue_name}" is {status}{what} after {timeout}'
            f" and {self.time_skipped} of skipped time"
        )
