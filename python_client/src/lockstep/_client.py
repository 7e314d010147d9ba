# Generated from _async_client.py by tools/generate_sync.py. Do not edit.
"""The client: enqueue workflows, talk to them, wait for what they return."""

from __future__ import annotations

import copy
import time
from collections.abc import Coroutine, Iterator, Mapping
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, overload

from psycopg import Connection

from . import _calls
from ._bulk import Bulk
from ._calls import Finding, Watch, WorkflowInfo
from ._errors import ResultTimeout, WaitTimeout, WorkflowNotFound
from ._functions import WorkflowFunction
from ._management import Management
from ._options import ConfiguredWorkflow, OnDuplicate
from ._payloads import PayloadCodec
from ._queues import Queues
from ._retry import Retry
from ._schedules import Schedules
from ._watcher_thread import Watcher

P = ParamSpec("P")
T = TypeVar("T")


class Client(Management, Bulk, Queues, Schedules):
    """
    A client of the workflows in a database.

    >>> with lockstep.Client() as client:                      # doctest: +SKIP
    ...     workflow_id = client.enqueue(fulfil_order, 42)
    ...     print(client.result(workflow_id))

    ``dsn`` is a libpq connection string or URL; without one it is taken from
    ``LOCKSTEP_DATABASE_URL``, ``DATABASE_URL`` or libpq's own ``PG*`` variables. ``codec`` is
    that of the app: it encrypts what the client writes, and reads it.

    Every method also accepts ``conn``, the caller's own psycopg connection: the call is
    then part of the caller's transaction and takes effect when that commits. ``using(conn)``
    does so for all calls.

    Errors are subclasses of LockstepError where Lockstep refuses something, and
    psycopg.Error otherwise.
    """

    def __init__(self, dsn: str | None = None, *, codec: PayloadCodec | None = None) -> None:
        super().__init__(dsn, codec=codec)
        self._watcher = Watcher(self._dsn)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        if self._bound is None:
            self._watcher.close()
            if self._connection is not None:
                self._connection.close()

    def using(self, conn: Connection[Any]) -> Client:
        """
        Return a client whose every call is part of what your own connection does.

        >>> with pool.connection() as conn, conn.transaction():    # doctest: +SKIP
        ...     conn.execute("INSERT INTO orders VALUES (42)")
        ...     client.using(conn).enqueue(fulfil_order, 42)
        """
        client = copy.copy(self)
        client._bound = conn
        return client

    @overload
    def enqueue(
        self,
        workflow: WorkflowFunction[P, Any] | ConfiguredWorkflow[P, Any],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> str: ...
    @overload
    def enqueue(
        self,
        workflow: WorkflowFunction[..., Any] | ConfiguredWorkflow[..., Any],
        /,
        *args: Any,
        conn: Connection[Any] | None,
        **kwargs: Any,
    ) -> str: ...
    @overload
    def enqueue(
        self,
        workflow: str,
        /,
        *args: Any,
        named_args: Mapping[str, Any] | None = None,
        queue_name: str | None = None,
        workflow_id: str | None = None,
        deduplication_id: str | None = None,
        on_duplicate: OnDuplicate = "raise",
        priority: int = 0,
        queue_partition_key: str | None = None,
        delay: timedelta | None = None,
        run_at: datetime | None = None,
        timeout: timedelta | None = None,
        deadline: datetime | None = None,
        max_attempts: int | None = None,
        app_version: str | None = None,
        headers: Mapping[str, Any] | None = None,
        retries: Retry | Mapping[str, Any] | None = None,
        debounce: timedelta | None = None,
        debounce_max_delay: timedelta | None = None,
        conn: Connection[Any] | None = None,
        **kwargs: Any,
    ) -> str: ...
    def enqueue(
        self,
        workflow: WorkflowFunction[..., Any] | ConfiguredWorkflow[..., Any] | str,
        /,
        *args: Any,
        **kwargs: Any,
    ) -> str:
        """
        Enqueue a workflow and return its id.

        ``args`` and ``kwargs`` are the workflow's arguments, which a type checker compares
        with its signature; ``workflow.options()`` has the options, such as a delay.
        ``conn`` turns that check off, ``client.using(conn).enqueue()`` does not.

        A workflow named by a string takes its options as keywords, and in ``named_args``
        arguments that have an option's name; it goes to queue "default" unless told
        otherwise. A function takes options as keywords too, if it has no parameter of
        that name, but type checkers do not know.

        Raises DuplicateWorkflow if ``workflow_id`` belongs to another workflow or queue, or
        if an unfinished workflow has the ``deduplication_id`` (unless ``on_duplicate`` is
        "return"); InvalidArgument for a bad argument; Unserializable for arguments that
        are no JSON.

        >>> client.enqueue(fulfil_order.options(workflow_id="order-42"), 42)  # doctest: +SKIP
        'order-42'
        """
        conn = kwargs.pop("conn", None)
        return self._execute(_calls.enqueue_workflow(workflow, args, kwargs, self._payloads), conn)

    def send(
        self,
        destination_id: str,
        message: Any,
        topic: str | None = None,
        *,
        idempotency_key: str | None = None,
        conn: Connection[Any] | None = None,
    ) -> str:
        """
        Send a message to a workflow and return the message's id.

        With an ``idempotency_key`` at most one message per destination has it. Raises
        WorkflowNotFound if no workflow has the id.
        """
        call = _calls.send_message(destination_id, message, topic, idempotency_key, self._payloads)
        return self._execute(call, conn)

    def get_event(
        self,
        workflow_id: str,
        key: str,
        *,
        timeout: timedelta | None = None,
        conn: Connection[Any] | None = None,
    ) -> Any:
        """
        Return the value that a workflow published last under a key; None before that.

        With a ``timeout``, wait until there is one; raises WaitTimeout if it does not come
        in time, and at once if the workflow has ended without it. Raises WorkflowNotFound.
        """
        if timeout is None:
            return self._execute(_calls.get_event(workflow_id, key, self._payloads), conn)
        watch = Watch(workflow_id, event_key=key)
        ends_at = _calls.moment(timeout, time.monotonic())
        finding = self._find(watch, ends_at, conn)
        if finding is None:
            raise WaitTimeout(f'workflow "{workflow_id}" set no event "{key}" in {timeout}')
        if finding.outcome == "ended":
            raise WaitTimeout(
                f'workflow "{workflow_id}" ended in {finding.status} without an event "{key}"'
            )
        return finding.value(self._payloads)

    def read_stream(
        self,
        workflow_id: str,
        key: str,
        *,
        from_offset: int = 0,
        conn: Connection[Any] | None = None,
    ) -> Iterator[Any]:
        """
        Yield the values of a stream of a workflow as they come.

        Ends when the stream is closed, or the workflow has ended and all is read. The first
        value of a stream has the offset 0, the next one 1. Raises WorkflowNotFound.

        >>> for token in client.read_stream(workflow_id, "tokens"):    # doctest: +SKIP
        ...     print(token)
        """
        while True:
            call = _calls.read_stream(workflow_id, key, from_offset)
            values = self._fetch(call, conn)
            for offset, is_end, text in values:
                if is_end:
                    return
                from_offset = offset + 1
                yield self._payloads.load(text)
            if len(values) < _calls.STREAM_PORTION:
                watch = Watch(workflow_id, stream_key=key, from_offset=from_offset)
                finding = self._find(watch, None, conn)
                if finding is not None and finding.outcome == "ended":
                    return

    def get(self, workflow_id: str, *, conn: Connection[Any] | None = None) -> WorkflowInfo:
        """Return a workflow as the database has it; raise WorkflowNotFound."""
        return self._execute(_calls.get_workflow(workflow_id, self._payloads), conn)

    def status(self, workflow_id: str, *, conn: Connection[Any] | None = None) -> str:
        """Return a workflow's status, such as "PENDING"; raise WorkflowNotFound."""
        return (self.get(workflow_id, conn=conn)).status

    @overload
    def result(
        self,
        workflow_id: str,
        *,
        workflow: WorkflowFunction[..., Coroutine[Any, Any, T]],
        timeout: timedelta | None = None,
        conn: Connection[Any] | None = None,
    ) -> T: ...
    @overload
    def result(
        self,
        workflow_id: str,
        *,
        workflow: WorkflowFunction[..., T],
        timeout: timedelta | None = None,
        conn: Connection[Any] | None = None,
    ) -> T: ...
    @overload
    def result(
        self,
        workflow_id: str,
        *,
        workflow: None = None,
        timeout: timedelta | None = None,
        conn: Connection[Any] | None = None,
    ) -> Any: ...
    def result(
        self,
        workflow_id: str,
        *,
        workflow: WorkflowFunction[..., Any] | None = None,
        timeout: timedelta | None = None,
        conn: Connection[Any] | None = None,
    ) -> Any:
        """
        Wait for a workflow to end and return its output.

        The output is a JSON value; with the ``workflow`` function, it is what the function's
        return annotation makes of it. All who wait with this client share one connection,
        beside the client's own, and are woken when their workflow ends. With ``conn``, that
        connection asks again and again instead.

        Raises WorkflowFailed if it failed, WorkflowCancelled if it was cancelled,
        ResultTimeout if it has not ended after ``timeout``, WorkflowNotFound.
        """
        ends_at = _calls.moment(timeout, time.monotonic())
        finding = self._find(Watch(workflow_id), ends_at, conn)
        if finding is not None:
            output = finding.result(workflow_id, self._payloads)
        else:
            info = self.get(workflow_id, conn=conn)
            if not info.has_ended:
                raise ResultTimeout(f'workflow "{workflow_id}" is {info.status} after {timeout}')
            output = info.result()
        return output if workflow is None else workflow.returns.decode(output)

    def _find(
        self, watch: Watch, ends_at: float | None, conn: Connection[Any] | None
    ) -> Finding | None:
        """Wait until it has come; return None when the time is over."""
        conn = conn if conn is not None else self._bound
        if conn is not None:
            finding = self._poll(watch, ends_at, conn)
        else:
            # before there is a connection to wait with: it may have come, and errors be raised
            is_waiting = self._watcher.is_connected
            finding = None if is_waiting else self._look(watch, None)
            if finding is None:
                seconds = None if ends_at is None else max(ends_at - time.monotonic(), 0.0)
                finding = self._watcher.wait(watch, seconds)
            if finding is None:
                finding = self._look(watch, None)
        if finding is not None and finding.outcome == "unknown":
            raise WorkflowNotFound(f'workflow "{watch.workflow_id}" does not exist')
        return finding

    def _poll(self, watch: Watch, ends_at: float | None, conn: Connection[Any]) -> Finding | None:
        look = 0
        while True:
            finding = self._look(watch, conn)
            if finding is not None:
                return finding
            look += 1
            pause = _calls.pause_before(look, ends_at, time.monotonic())
            if pause is None:
                return None
            time.sleep(pause)

    def _look(self, watch: Watch, conn: Connection[Any] | None) -> Finding | None:
        found = self._fetch(_calls.check_watches([watch.document()], False), conn)
        return found[0][1] if found else None
