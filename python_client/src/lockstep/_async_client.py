"""The client: enqueue workflows, talk to them, wait for what they return."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, TypeVar

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import tuple_row

from . import _calls
from ._app import WorkflowFunction
from ._calls import Call, WorkflowInfo
from ._dsn import resolve_dsn
from ._errors import ResultTimeout, WorkflowNotFound, translate

T = TypeVar("T")


class AsyncClient:
    """
    A client of the workflows in a database.

    >>> async with lockstep.AsyncClient() as client:                      # doctest: +SKIP
    ...     workflow_id = await client.enqueue(fulfil_order, 42)
    ...     print(await client.result(workflow_id))

    ``dsn`` is a libpq connection string or URL; without one it is taken from
    ``LOCKSTEP_DATABASE_URL``, ``DATABASE_URL`` or libpq's own ``PG*`` variables.

    Every method also accepts ``conn``, the caller's own psycopg connection: the call is
    then part of the caller's transaction and takes effect when that commits.

    Errors are subclasses of LockstepError where Lockstep refuses something, and
    psycopg.Error otherwise.
    """

    def __init__(self, dsn: str | None = None) -> None:
        self._dsn = resolve_dsn(dsn)
        self._connection: AsyncConnection[Any] | None = None
        self._connecting = asyncio.Lock()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; the next call opens a new one."""
        if self._connection is not None:
            await self._connection.close()

    async def enqueue(
        self,
        workflow: WorkflowFunction[..., Any] | str,
        /,
        *args: Any,
        named_args: Mapping[str, Any] | None = None,
        queue_name: str | None = None,
        workflow_id: str | None = None,
        deduplication_id: str | None = None,
        on_duplicate: str = "raise",
        priority: int = 0,
        queue_partition_key: str | None = None,
        delay: timedelta | None = None,
        run_at: datetime | None = None,
        timeout: timedelta | None = None,
        deadline: datetime | None = None,
        max_attempts: int | None = None,
        app_version: str | None = None,
        headers: Mapping[str, Any] | None = None,
        conn: AsyncConnection[Any] | None = None,
        **kwargs: Any,
    ) -> str:
        """
        Enqueue a workflow and return its id.

        ``args`` and ``kwargs`` are the workflow's arguments; ``named_args`` takes those
        whose names are taken by a parameter of this method. The queue is the workflow's
        own unless given, and "default" for a workflow named by a string.

        Raises DuplicateWorkflow if ``workflow_id`` belongs to another workflow or queue, or
        if an unfinished workflow has the ``deduplication_id`` (unless ``on_duplicate`` is
        "return"); InvalidArgument for a bad argument; Unserializable for arguments that
        are no JSON.

        >>> await client.enqueue(fulfil_order, 42, workflow_id="order-42")  # doctest: +SKIP
        'order-42'
        """
        call = _calls.enqueue_workflow(
            workflow,
            args,
            {**kwargs, **(named_args or {})},
            queue_name,
            workflow_id=workflow_id,
            deduplication_id=deduplication_id,
            on_duplicate=on_duplicate,
            priority=priority,
            queue_partition_key=queue_partition_key,
            delay=delay,
            run_at=run_at,
            timeout=timeout,
            deadline=deadline,
            max_attempts=max_attempts,
            app_version=app_version,
            headers=headers,
        )
        return await self._execute(call, conn)

    async def send(
        self,
        destination_id: str,
        message: Any,
        topic: str | None = None,
        *,
        idempotency_key: str | None = None,
        conn: AsyncConnection[Any] | None = None,
    ) -> str:
        """
        Send a message to a workflow and return the message's id.

        With an ``idempotency_key`` at most one message per destination has it. Raises
        WorkflowNotFound if no workflow has the id.
        """
        call = _calls.send_message(destination_id, message, topic, idempotency_key)
        return await self._execute(call, conn)

    async def get_event(
        self, workflow_id: str, key: str, *, conn: AsyncConnection[Any] | None = None
    ) -> Any:
        """Return the value that a workflow published last under a key; None before that."""
        return await self._execute(_calls.get_event(workflow_id, key), conn)

    async def get(
        self, workflow_id: str, *, conn: AsyncConnection[Any] | None = None
    ) -> WorkflowInfo:
        """Return a workflow as the database has it; raise WorkflowNotFound."""
        return await self._execute(_calls.get_workflow(workflow_id), conn)

    async def status(self, workflow_id: str, *, conn: AsyncConnection[Any] | None = None) -> str:
        """Return a workflow's status, such as "PENDING"; raise WorkflowNotFound."""
        return (await self.get(workflow_id, conn=conn)).status

    async def result(
        self,
        workflow_id: str,
        *,
        timeout: timedelta | None = None,
        conn: AsyncConnection[Any] | None = None,
    ) -> Any:
        """
        Wait for a workflow to end and return its output, a JSON value.

        Raises WorkflowFailed if it failed, WorkflowCancelled if it was cancelled,
        ResultTimeout if it has not ended after ``timeout``, WorkflowNotFound.
        """
        allowed = _calls.seconds(timeout)
        ends_at = None if allowed is None else time.monotonic() + allowed
        look = 0
        while True:
            info = await self.get(workflow_id, conn=conn)
            if info.has_ended:
                return info.result()
            look += 1
            pause = _calls.pause_before(look, ends_at, time.monotonic())
            if pause is None:
                raise ResultTimeout(f'workflow "{workflow_id}" is {info.status} after {timeout}')
            await asyncio.sleep(pause)

    async def cancel(self, workflow_id: str, *, conn: AsyncConnection[Any] | None = None) -> bool:
        """
        Cancel a workflow, at its next step boundary if it runs.

        Returns False if it was cancelled already; raises WrongState if it has ended
        otherwise, WorkflowNotFound.
        """
        return await self._execute(_calls.cancel_workflow(workflow_id), conn)

    async def resume(self, workflow_id: str, *, conn: AsyncConnection[Any] | None = None) -> bool:
        """
        Enqueue a workflow again that failed, was cancelled or is in the dead letter.

        It goes on after its recorded steps. Returns False if it has not ended; raises
        WrongState if it succeeded, WorkflowNotFound.
        """
        return await self._execute(_calls.resume_workflow(workflow_id), conn)

    async def _execute(self, call: Call[T], conn: AsyncConnection[Any] | None) -> T:
        connection = conn if conn is not None else await self._connect()
        try:
            cursor = connection.cursor(row_factory=tuple_row)
            await cursor.execute(call.query, call.params)
            row = await cursor.fetchone()
        except psycopg.Error as error:
            raise (translate(error) or error) from error
        if row is None:
            raise WorkflowNotFound("no such workflow")
        return call.read(row)

    async def _connect(self) -> AsyncConnection[Any]:
        async with self._connecting:
            if self._connection is None or self._connection.closed:
                self._connection = await AsyncConnection.connect(
                    self._dsn,
                    autocommit=True,
                    prepare_threshold=None,
                    application_name="lockstep client",
                )
            return self._connection
