# Generated from _async_caller.py by tools/generate_sync.py. Do not edit.
"""What the parts of the client share: its connection, and how calls are made on it."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any, TypeVar

import psycopg
from psycopg import Connection, Cursor, errors
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


class Caller:
    """Makes calls on a connection of its own, opened by the first, or on one of the caller's."""

    def __init__(self, dsn: str | None = None, *, codec: PayloadCodec | None = None) -> None:
        self._dsn = resolve_dsn(dsn)
        self._payloads = Payloads(codec)
        self._connection: Connection[Any] | None = None
        self._connecting = threading.Lock()
        self._bound: Connection[Any] | None = None

    def _execute(self, call: Call[T], conn: Connection[Any] | None) -> T:
        rows = self._fetch(call, conn)
        if not rows:
            raise WorkflowNotFound("no such workflow")
        return rows[0]

    def _fetch_together(self, calls: Sequence[Call[T]], conn: Connection[Any] | None) -> Rows[T]:
        """Make calls in one transaction, which is the caller's if there is one."""
        connection = conn if conn is not None else self._bound
        if len(calls) < 2 or (connection is not None and not connection.autocommit):
            return [row for call in calls for row in self._fetch(call, connection)]
        if connection is not None:
            with connection.transaction():
                return [row for call in calls for row in self._fetch(call, connection)]
        # not the client's own, which other tasks use: they would be part of the transaction
        with self._open() as connection, connection.transaction():
            return [row for call in calls for row in self._fetch(call, connection)]

    def _fetch(self, call: Call[T], conn: Connection[Any] | None) -> Rows[T]:
        connection = conn if conn is not None else self._bound
        if connection is not None:
            return self._run(call, connection)
        for pause in CONFLICT_PAUSES:
            try:
                return self._run(call, self._connect())
            except (errors.SerializationFailure, errors.DeadlockDetected):
                time.sleep(pause)
        return self._run(call, self._connect())

    def _run(self, call: Call[T], connection: Connection[Any]) -> Rows[T]:
        try:
            # not connection.cursor(): one that binds on the client, as Django's, reads text only,
            # and the text of a time is another in each DateStyle
            cursor = Cursor(connection, row_factory=tuple_row)
            cursor.execute(call.query, call.params, binary=True)
            rows = cursor.fetchall()
        except psycopg.Error as error:
            raise (translate(error) or error) from error
        except UnicodeEncodeError as error:
            raise InvalidArgument(f"a text that UTF-8 cannot hold: {error}") from error
        except RecursionError as error:
            raise InvalidArgument("an argument is a list that is nested too deeply") from error
        return [call.read(row) for row in rows]

    def _connect(self) -> Connection[Any]:
        with self._connecting:
            if self._connection is None or self._connection.closed:
                self._connection = self._open()
            return self._connection

    def _open(self) -> Connection[Any]:
        with password_masked(self._dsn):
            return Connection.connect(
                self._dsn,
                autocommit=True,
                prepare_threshold=None,
                application_name="lockstep client",
                **UTF8,
            )
