"""
Waits for workflows on behalf of a client: one connection, however many wait.

What ends or publishes notifies the channel of this client, and one query then looks at all
that it may concern. A notification may get lost with its connection, so everything is
entered again after a reconnect, and looked at every few seconds in any case. Until an echo
has proved that notifications arrive, which they do not through a transaction pooler or from a
read replica, one query with growing pauses looks for everything.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
import uuid
from collections.abc import Collection, Iterable
from typing import Any, TypeVar

import psycopg
from psycopg import AsyncConnection, Notify, sql
from psycopg.rows import tuple_row

from ._calls import LOOK_PAUSES, Call, Finding, Watch, check_watches, watch_workflows
from ._errors import translate
from ._session import PATIENCE, pause_after

T = TypeVar("T")

_SAFETY_INTERVAL = 5.0
"""Seconds between looks at everything, which make up for lost notifications."""

_LINGER = 10.0
"""Seconds for which the connection is kept when nobody waits any more."""

_TROUBLE_LIMIT = 60.0
"""Seconds without the database after which those who wait are told so."""

_GIVE_UP_PAUSE = 1.0
"""Seconds for which watches that are not wanted any more collect before they are removed."""

_GOODBYE = 1.0
"""Seconds for which close() waits for the watches to be removed."""

_PROBE_TIMEOUT = 0.5
"""Seconds for which looks wait for the probe of the connection."""

_PORTION = 1000
"""Watches in one query."""

_CLOSED = "the client was closed"


class _Entry:
    """Something that is waited for, and all who wait for it."""

    __slots__ = ("document", "futures", "is_entered", "look_at", "looks", "watch")

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.document = watch.document()
        self.futures: set[asyncio.Future[Finding]] = set()
        self.is_entered = False
        self.looks = 0
        self.look_at = 0.0


class AsyncWatcher:
    """Waits on the event loop that calls it; connects when somebody waits."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._channel = f"lockstep_{uuid.uuid4().hex}"
        self._entries: dict[str, dict[Watch, _Entry]] = {}
        self._rung: set[str] = set()
        self._given_up: set[str] = set()
        self._given_up_at = math.inf
        self._wakeup = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._trouble_since: float | None = None
        self._hears = False
        self._is_closing = False
        self.is_connected = False

    async def wait(self, watch: Watch, seconds: float | None = None) -> Finding | None:
        """
        Wait until it has come; return None when the time is over.

        Raises psycopg.Error if the database refuses the question, or is away for long.
        """
        entries = self._entries.setdefault(watch.workflow_id, {})
        entry = entries.get(watch)
        if entry is None:
            entry = entries[watch] = _Entry(watch)
        future = asyncio.get_running_loop().create_future()
        entry.futures.add(future)
        self._start()
        try:
            await asyncio.wait([future], timeout=seconds)
            return future.result() if future.done() else None
        finally:
            entry.futures.discard(future)
            if not entry.futures:
                self._forget(entry)

    async def close(self) -> None:
        """End the connection; those who still wait get psycopg.OperationalError."""
        self._fail(psycopg.OperationalError(_CLOSED))
        task = self._task
        if task is not None and not task.done():
            self._is_closing = True
            self._wakeup.set()
            await asyncio.wait([task], timeout=_GOODBYE)
            while not task.done():
                task.cancel()
                await asyncio.wait([task], timeout=_GOODBYE)

    def _start(self) -> None:
        if self._task is None or self._task.done():
            self._is_closing = False
            self._task = asyncio.get_running_loop().create_task(self._run())
        self._wakeup.set()

    # who waits

    def _all(self) -> Iterable[_Entry]:
        return (entry for entries in self._entries.values() for entry in entries.values())

    def _forget(self, entry: _Entry) -> None:
        entries = self._entries.get(entry.watch.workflow_id, {})
        if entries.get(entry.watch) is not entry:
            return
        del entries[entry.watch]
        if not entries:
            del self._entries[entry.watch.workflow_id]
        if entry.is_entered:
            if not self._given_up:
                self._given_up_at = time.monotonic() + _GIVE_UP_PAUSE
            self._given_up.add(entry.document)
            self._wakeup.set()

    def _resolve(self, entry: _Entry, finding: Finding) -> None:
        for future in entry.futures:
            if not future.done():
                future.set_result(finding)
        self._forget(entry)

    def _fail(self, error: Exception) -> None:
        for entry in list(self._all()):
            for future in entry.futures:
                if not future.done():
                    future.set_exception(error)
            self._forget(entry)

    # the connection

    async def _run(self) -> None:
        try:
            while self._entries and not self._is_closing:
                await self._keep_connected()
        finally:
            self.is_connected = False
            self._fail(psycopg.OperationalError(_CLOSED))

    async def _keep_connected(self) -> None:
        self._trouble_since = None
        attempt = 0
        while not self._is_closing:
            try:
                async with await self._connect() as connection:
                    await self._serve(connection)
                    return
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                now = time.monotonic()
                if self._trouble_since is None:
                    self._trouble_since = now
                    attempt = 0
                if now - self._trouble_since > _TROUBLE_LIMIT:
                    self._fail(error)
            except psycopg.Error as error:
                self._fail(translate(error) or error)
            finally:
                self.is_connected = self._hears = False
            if not self._entries:
                return
            await asyncio.sleep(pause_after(attempt))
            attempt += 1

    async def _connect(self) -> AsyncConnection[tuple[Any, ...]]:
        return await AsyncConnection.connect(
            self._dsn,
            autocommit=True,
            prepare_threshold=None,
            row_factory=tuple_row,
            application_name="lockstep client waiting",
            **PATIENCE,
        )

    async def _serve(self, connection: AsyncConnection[tuple[Any, ...]]) -> None:
        """Look for what has come whenever there is a reason to; return when nobody waits."""
        self.is_connected = True
        for entry in self._all():
            entry.is_entered = False
            entry.looks = 0
            entry.look_at = 0.0
        connection.add_notify_handler(self._hear)
        with contextlib.suppress(psycopg.errors.ReadOnlySqlTransaction):  # a standby has none
            await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self._channel)))
        probe: asyncio.Task[None] | None = None
        try:
            idle_since: float | None = None
            while True:
                next_look_at = await self._look(connection)
                self._trouble_since = None
                if probe is None:
                    # while nothing is asked: a pooler passes on what comes with an answer
                    probe = asyncio.create_task(self._probe())
                    await asyncio.wait([probe], timeout=_PROBE_TIMEOUT)
                now = time.monotonic()
                if self._entries:
                    idle_since = None
                else:
                    idle_since = idle_since or now
                    if self._is_closing or now - idle_since >= _LINGER:
                        await self._clear(connection)
                        if not self._entries:
                            return
                    next_look_at = min(next_look_at, idle_since + _LINGER)
                await self._until(connection, next_look_at)
        finally:
            if probe is not None:
                probe.cancel()
                await asyncio.wait([probe])

    async def _probe(self) -> None:
        """Notify ourselves from another session: an own echo would come through any pooler."""
        with contextlib.suppress(psycopg.Error):
            async with await self._connect() as connection:
                await connection.execute("SELECT pg_catalog.pg_notify(%s, '')", [self._channel])

    def _hear(self, notification: Notify) -> None:
        if notification.channel != self._channel:
            return
        if notification.payload:
            self._rung.add(notification.payload)
        else:
            self._hears = True
        self._wakeup.set()

    async def _until(self, connection: AsyncConnection[tuple[Any, ...]], moment: float) -> None:
        """Wait for a notification, for somebody who wants something, or for a moment."""
        loop = asyncio.get_running_loop()
        descriptor = connection.fileno()
        timer = loop.call_later(max(moment - time.monotonic(), 0.0), self._wakeup.set)
        loop.add_reader(descriptor, self._wakeup.set)
        try:
            await self._wakeup.wait()
        finally:
            loop.remove_reader(descriptor)
            timer.cancel()
        self._wakeup.clear()
        connection.pgconn.consume_input()
        encoding = connection.info.encoding
        while (notification := connection.pgconn.notifies()) is not None:
            self._hear(
                Notify(
                    notification.relname.decode(encoding),
                    notification.extra.decode(encoding),
                    notification.be_pid,
                )
            )

    # looking

    async def _look(self, connection: AsyncConnection[tuple[Any, ...]]) -> float:
        """Look at what there is a reason to look at; return when to look again."""
        if self._hears:
            await self._look_at_rung(connection)
            try:
                await self._enter(connection)
            except psycopg.errors.ReadOnlySqlTransaction:
                self._hears = False  # we may not say that we wait, so nobody will notify us
        now = time.monotonic()
        due = [entry for entry in self._all() if entry.look_at <= now]
        await self._check(connection, due, tells_busy=self._hears)
        return min(
            (entry.look_at for entry in self._all()),
            default=self._given_up_at if self._hears else math.inf,
        )

    async def _look_at_rung(self, connection: AsyncConnection[tuple[Any, ...]]) -> None:
        """Look at workflows of which we were notified, whose watches are gone by that."""
        rung, self._rung = self._rung, set()
        entries = [entry for id in rung for entry in self._entries.get(id, {}).values()]
        for entry in entries:
            entry.is_entered = False
            entry.looks = 0
        await self._check(connection, entries, tells_busy=False)

    async def _enter(self, connection: AsyncConnection[tuple[Any, ...]]) -> None:
        """Enter what is new, then look whether it came before that."""
        fresh = [entry for entry in self._all() if not entry.is_entered]
        if fresh or time.monotonic() >= self._given_up_at:
            given_up, self._given_up = self._given_up, set()
            self._given_up_at = math.inf
            given_up -= {entry.document for entry in self._all()}
            for portion in _portions(fresh):
                documents = [entry.document for entry in portion]
                for entry in portion:
                    entry.is_entered = True
                await self._call(
                    connection, watch_workflows(self._channel, documents, list(given_up))
                )
                given_up = set()
            if given_up:
                await self._call(connection, watch_workflows(self._channel, [], list(given_up)))
        await self._check(connection, fresh, tells_busy=True)

    async def _check(
        self,
        connection: AsyncConnection[tuple[Any, ...]],
        entries: Collection[_Entry],
        tells_busy: bool,
    ) -> None:
        for portion in _portions(entries):
            documents = [entry.document for entry in portion]
            found = dict(await self._call(connection, check_watches(documents, tells_busy)))
            for place, entry in enumerate(portion):
                finding = found.get(place)
                if finding is not None and finding.outcome != "busy":
                    self._resolve(entry, finding)
                elif self._hears and finding is None:
                    entry.look_at = _next_tick(_SAFETY_INTERVAL)
                    entry.looks = 0
                else:
                    entry.look_at = _next_look(entry.looks)
                    entry.looks += 1

    async def _clear(self, connection: AsyncConnection[tuple[Any, ...]]) -> None:
        """Remove our watches: nobody waits any more."""
        if self._given_up and self._hears:
            await self._call(connection, watch_workflows(self._channel, [], list(self._given_up)))
        self._given_up.clear()
        self._given_up_at = math.inf

    @staticmethod
    async def _call(connection: AsyncConnection[tuple[Any, ...]], call: Call[T]) -> list[T]:
        cursor = await connection.execute(call.query, call.params, binary=True)
        return [call.read(row) for row in await cursor.fetchall()]


def _portions(entries: Collection[_Entry]) -> Iterable[list[_Entry]]:
    everything = list(entries)
    return (everything[start : start + _PORTION] for start in range(0, len(everything), _PORTION))


def _next_look(looks: int) -> float:
    """Return when to look again after some looks: together, for those who wait for long."""
    if looks < len(LOOK_PAUSES) - 1:
        return time.monotonic() + LOOK_PAUSES[looks]
    return _next_tick(LOOK_PAUSES[-1])


def _next_tick(interval: float) -> float:
    """Return the next multiple of an interval, so that looks of all fall together."""
    return (time.monotonic() // interval + 1) * interval
