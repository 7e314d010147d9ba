"""Listens for the doorbell: an idle worker hears of new work when it is committed."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING

import psycopg
from psycopg import AsyncConnection, sql

from ._session import PATIENCE, pause_after

if TYPE_CHECKING:
    from ._worker import Worker

_PROBE_TIMEOUT = 1.0
_PROBE_INTERVAL = 60.0


class Listener:
    """
    Holds a connection that LISTENs, if notifications arrive over it at all.

    A transaction pooler accepts LISTEN and delivers nothing, so each new connection is
    probed with an echo first. Without one the worker polls, which is slower to start a
    workflow and otherwise the same.
    """

    def __init__(self, worker: Worker, dsn: str) -> None:
        self._worker = worker
        self._dsn = dsn
        self.is_connected = False
        self._has_reported = False

    async def run(self) -> None:
        """Listen until cancelled; where notifications do not arrive, try again now and then."""
        attempt = 0
        while True:
            try:
                async with await AsyncConnection.connect(
                    self._dsn,
                    autocommit=True,
                    prepare_threshold=None,
                    application_name="lockstep listener",
                    **PATIENCE,
                ) as connection:
                    if not await self._hears_echo(connection):
                        self._report_silence()
                        await connection.close()
                        await asyncio.sleep(_PROBE_INTERVAL)
                        continue
                    attempt = 0
                    await connection.execute("LISTEN lockstep")
                    self._set_connected(True)
                    while True:
                        await self._until_readable(connection)
                        async for notification in connection.notifies(timeout=0):
                            if notification.payload == "due":
                                self._worker.pulse.check_due()
                            else:
                                self._worker.claimer.ring()
            except psycopg.Error as error:
                self._worker.log_trouble(error)
            finally:
                self._set_connected(False)
            await asyncio.sleep(pause_after(attempt))
            attempt += 1

    async def _until_readable(self, connection: AsyncConnection[object]) -> None:
        """Wait for the socket itself: waiting in notifies() looks at it ten times a second."""
        readable = self._worker.loop.create_future()
        descriptor = connection.fileno()
        self._worker.loop.add_reader(descriptor, _resolve, readable)
        try:
            await readable
        finally:
            self._worker.loop.remove_reader(descriptor)

    def _report_silence(self) -> None:
        if not self._has_reported:
            self._has_reported = True
            self._worker.log.info(
                "notifications do not arrive over this connection: polling every %g s",
                self._worker.poll_interval,
            )

    def _set_connected(self, is_connected: bool) -> None:
        if is_connected == self.is_connected:
            return
        self.is_connected = is_connected
        self._worker.doorbell_changed(is_connected)

    async def _hears_echo(self, connection: AsyncConnection[object]) -> bool:
        channel = f"lockstep_probe_{uuid.uuid4().hex}"
        await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
        await self._worker.session.call("SELECT pg_catalog.pg_notify(%s, '')", channel)
        echoes = [_ async for _ in connection.notifies(timeout=_PROBE_TIMEOUT, stop_after=1)]
        await connection.execute(sql.SQL("UNLISTEN {}").format(sql.Identifier(channel)))
        return bool(echoes)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
