"""A worker's connection for the protocol: reconnects, and sorts errors by what to do."""

from __future__ import annotations

import asyncio
import enum
import random
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
from psycopg import AsyncConnection

from ._dsn import UTF8, password_masked

PATIENCE: dict[str, Any] = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
    **UTF8,
}
"""libpq settings that notice a dead link within half a minute, not after hours."""

CONNECT_PAUSES = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0)
"""Seconds between attempts to connect; the last one repeats."""


class Failure(enum.Enum):
    """What an error of a protocol call means for the caller."""

    LEASE_LOST = "the executor is dead: drop everything and register again"
    REFUSED = "the database will never take this: find the part that is at fault"
    LOCKED = "somebody holds a row: find the part that waits and try it again later"
    PASSING = "the server is down or in trouble: try the same again"


def classify(error: psycopg.Error) -> Failure:
    """Say what an error of a protocol call means for the caller."""
    state = error.sqlstate or ""
    if state == "WF001":
        return Failure.LEASE_LOST
    if state in ("55P03", "40P01", "40001"):
        return Failure.LOCKED
    if state[:2] in ("21", "22", "23", "54", "P0"):
        return Failure.REFUSED
    return Failure.PASSING


def pause_after(attempt: int) -> float:
    """Return the seconds to wait after a failed attempt, counted from 0, with jitter."""
    pause = CONNECT_PAUSES[min(attempt, len(CONNECT_PAUSES) - 1)]
    return pause * random.uniform(0.75, 1.25)


class Session:
    """
    One autocommit connection to the database, made anew when it breaks.

    Calls run one after the other. ``generation`` counts the connections made, so that
    callers can tell that one was lost since they last looked.
    """

    def __init__(self, dsn: str, application_name: str) -> None:
        self._dsn = dsn
        self._application_name = application_name
        self._connection: AsyncConnection[Any] | None = None
        self._connecting = asyncio.Lock()
        self.generation = 0
        self.prepare_threshold: int | None = None

    async def connect(self) -> AsyncConnection[Any]:
        """Return the open connection, or make one; raises psycopg.OperationalError."""
        async with self._connecting:
            if self._connection is None or self._connection.closed:
                with password_masked(self._dsn):
                    self._connection = await AsyncConnection.connect(
                        self._dsn,
                        autocommit=True,
                        prepare_threshold=self.prepare_threshold,
                        application_name=self._application_name,
                        **PATIENCE,
                    )
                self.generation += 1
            return self._connection

    @property
    def is_connected(self) -> bool:
        return self._connection is not None and not self._connection.closed

    def use_prepared_statements(self) -> None:
        """Prepare statements from now on; a transaction pooler would break them."""
        self.prepare_threshold = 5
        if self._connection is not None:
            self._connection.prepare_threshold = self.prepare_threshold

    async def call(self, query: str, *params: Any) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows."""
        return await self._execute(await self.connect(), query, params)

    async def call_on(self, generation: int, query: str, *params: Any) -> list[tuple[Any, ...]]:
        """Run one statement on this connection and no later one."""
        connection = await self.connect()
        if self.generation != generation:
            raise psycopg.OperationalError("the connection was made anew")
        return await self._execute(connection, query, params)

    async def _execute(
        self, connection: AsyncConnection[Any], query: str, params: Sequence[Any]
    ) -> list[tuple[Any, ...]]:
        # binary: the text of a time is another in each DateStyle
        cursor = await connection.execute(query, params, binary=True)
        rows: list[tuple[Any, ...]] = await cursor.fetchall()
        return rows

    async def call_patiently(
        self, on_failure: Callable[[psycopg.Error], None], query: str, *params: Any
    ) -> list[tuple[Any, ...]]:
        """Run one statement, again and again while the server is down or in trouble."""
        attempt = 0
        while True:
            try:
                return await self.call(query, *params)
            except psycopg.Error as error:
                if classify(error) is not Failure.PASSING:
                    raise
                on_failure(error)
            await asyncio.sleep(pause_after(attempt))
            attempt += 1

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()
