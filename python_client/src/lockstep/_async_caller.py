"""What the parts of the client share: its connection, and how calls are made on it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, TypeVar

import psycopg
from psycopg import AsyncConnection, AsyncCursor, errors
from psycopg.rows import tuple_row

from ._calls import Call
from ._dsn import UTF8, password_masked, resolve_dsn
from ._errors import InvalidArgument, WorkflowNotFound, translate
from ._payloads import PayloadCodec, Payloads

CONFLICT_PAUSES = (0.01, 0.02, 0.05, 0.1, 0.2)
"""Seconds before a call that met another one, and had no effect, is made again."""

T = TypeVar("T")
Rows = list[T]
"""A list: the scope of a class that has a method "list" cannot say list[…]."""


class AsyncCaller:
    """Makes calls on a connection of its own, opened by the first, or on one of the caller's."""

    def __init__(self, dsn: str | None = None, *, codec: PayloadCodec | None = None) -> None:
        self._dsn = resolve_dsn(dsn)
        self._payloads = Payloads(codec)
        self._connection: AsyncConnection[Any] | None = None
        self._connecting = asyncio.Lock()
        self._bound: AsyncConnection[Any] | None = None

    async def _execute(self, call: Call[T], conn: AsyncConnection[Any] | None) -> T:
        rows = await self._fetch(call, conn)
        if not rows:
            raise WorkflowNotFound("no such workflow")
        return rows[0]

    async def _fetch_together(
        self, calls: Sequence[Call[T]], conn: AsyncConnection[Any] | None
    ) -> Rows[T]:
        """Make calls in one transaction, which is the caller's if there is one."""
        connection = conn if conn is not None else self._bound
        if len(calls) < 2 or (connection is not None and not connection.autocommit):
            return [row for call in calls for row in await self._fetch(call, connection)]
        if connection is not None:
            async with connection.transaction():
                return [row for call in calls for row in await self._fetch(call, connection)]
        # not the client's own, which other tasks use: they would be part of the transaction
        async with await self._open() as connection, connection.transaction():
            return [row for call in calls for row in await self._fetch(call, connection)]

    async def _fetch(self, call: Call[T], conn: AsyncConnection[Any] | None) -> Rows[T]:
        connection = conn if conn is not None else self._bound
        if connection is not None:
            return await self._run(call, connection)
        for pause in CONFLICT_PAUSES:
            try:
                return await self._run(call, await self._connect())
            except (errors.SerializationFailure, errors.DeadlockDetected):
                await asyncio.sleep(pause)
        return await self._run(call, await self._connect())

    async def _run(self, call: Call[T], connection: AsyncConnection[Any]) -> Rows[T]:
        try:
            # not connection.cursor(): one that binds on the client, as Django's, reads text only,
            # and the text of a time is another in each DateStyle
            cursor = AsyncCursor(connection, row_factory=tuple_row)
            await cursor.execute(call.query, call.params, binary=True)
            rows = await cursor.fetchall()
        except psycopg.Error as error:
            raise (translate(error) or error) from error
        except UnicodeEncodeError as error:
            raise InvalidArgument(f"a text that UTF-8 cannot hold: {error}") from error
        except RecursionError as error:
            raise InvalidArgument("an argument is a list that is nested too deeply") from error
        return [call.read(row) for row in rows]

    async def _connect(self) -> AsyncConnection[Any]:
        async with self._connecting:
            if self._connection is None or self._connection.closed:
                self._connection = await self._open()
            return self._connection

    async def _open(self) -> AsyncConnection[Any]:
        with password_masked(self._dsn):
            return await AsyncConnection.connect(
                self._dsn,
                autocommit=True,
                prepare_threshold=None,
                application_name="lockstep client",
                **UTF8,
            )
