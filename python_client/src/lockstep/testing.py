"""
Helpers for the tests of applications that use Lockstep; not for anything else.

``WorkflowEnvironment`` and ``AsyncWorkflowEnvironment`` run workflows to completion and skip
the time that they sleep: nothing waits for it. They work in databases that
``create_database()`` made, and refuse all others. The pytest fixtures ``lockstep_server`` and
``lockstep_database`` make such databases on an embedded Postgres. See docs/testing.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import uuid
from collections.abc import Coroutine, Iterator
from datetime import timedelta
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, overload

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from ._app import App
from ._client import Client
from ._embedded import EmbeddedServer
from ._functions import WorkflowFunction
from ._install import install_lockstep
from ._options import ConfiguredWorkflow
from ._time_skipping import MARK, Clock

__all__ = [
    "AsyncWorkflowEnvironment",
    "EmbeddedServer",
    "WorkflowEnvironment",
    "create_database",
    "start_server",
]

P = ParamSpec("P")
T = TypeVar("T")

_PATIENCE = timedelta(seconds=30)


@contextlib.contextmanager
def start_server() -> Iterator[EmbeddedServer]:
    """
    Start an embedded Postgres whose new databases have Lockstep in them.

    Needs the extra "embedded". It is as fast, and loses its data as easily, as tests want.
    """
    settings = {"fsync": "off", "full_page_writes": "off", "max_connections": "200"}
    with EmbeddedServer(settings=settings) as server:
        install_lockstep(make_conninfo(server.dsn, dbname="template1"))
        yield server


@contextlib.contextmanager
def create_database(server_dsn: str) -> Iterator[str]:
    """
    Create a database with Lockstep in it, in which time may be skipped; drop it at the end.

    Yields its connection string. ``server_dsn`` names any database of the server, and a
    role that may create databases and install Lockstep.

    >>> with create_database("postgresql:///postgres") as dsn:    # doctest: +SKIP
    ...     client = lockstep.Client(dsn)
    """
    name = f"lockstep_test_{uuid.uuid4().hex[:16]}"
    database = sql.Identifier(name)
    with psycopg.connect(server_dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(database))
        try:
            dsn = make_conninfo(server_dsn, dbname=name)
            install_lockstep(dsn)
            connection.execute(
                sql.SQL("COMMENT ON DATABASE {} IS {}").format(database, sql.Literal(MARK))
            )
            yield dsn
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(database))


class AsyncWorkflowEnvironment:
    """
    A worker of an app in the test's event loop, and a clock that may be turned forward.

    >>> async with AsyncWorkflowEnvironment(app, dsn) as env:    # doctest: +SKIP
    ...     assert await env.run(fulfil_order, 42) == "delivered"

    ``run()`` and ``result()`` skip time: whenever nothing runs, everything that is recorded
    is moved into the past, so far that the next thing falls due. So a workflow that
    sleeps for three days takes milliseconds, and as much has passed as if it had slept.
    Of the worker's options, ``queues`` are by default those of the app's workflows.

    ``client`` is a client of the database, ``worker`` the worker.
    """

    def __init__(self, app: App, dsn: str, **worker_options: Any) -> None:
        self._clock = Clock(app, dsn, worker_options)
        self.client = self._clock.client
        self.worker = self._clock.worker

    async def __aenter__(self) -> AsyncWorkflowEnvironment:
        await self._clock.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._clock.stop()

    @property
    def time_skipped(self) -> timedelta:
        """How much time was skipped so far."""
        return self._clock.time_skipped

    @overload
    async def run(
        self,
        workflow: WorkflowFunction[P, Coroutine[Any, Any, T]]
        | ConfiguredWorkflow[P, Coroutine[Any, Any, T]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T: ...
    @overload
    async def run(
        self,
        workflow: WorkflowFunction[P, T] | ConfiguredWorkflow[P, T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T: ...
    async def run(self, workflow: Any, /, *args: Any, **kwargs: Any) -> Any:
        """
        Enqueue a workflow, run it to its end, skipping time, and return its output.

        The output is what the workflow's return annotation says. Raises as result() does.
        """
        configured = workflow if isinstance(workflow, ConfiguredWorkflow) else workflow.options()
        workflow_id = await self.client.enqueue(configured, *args, **kwargs)
        output = await self.result(workflow_id)
        return configured.workflow.returns.decode(output)

    async def result(self, workflow_id: str, *, timeout: timedelta = _PATIENCE) -> Any:
        """
        Wait for a workflow to end, skipping time, and return its output, a JSON value.

        Raises what Client.result() raises; ``timeout`` is of the time that really passes.
        """
        return await self._clock.result(workflow_id, timeout)

    async def settle(self, *, timeout: timedelta = _PATIENCE) -> None:
        """Wait until nothing runs: all workflows have ended, sleep or wait. Skips no time."""
        await self._clock.settle(timeout)

    async def skip(self, duration: timedelta) -> None:
        """
        Skip some time by hand, after settle(); what falls due meanwhile runs in its order.

        Ends when that has run, too.
        """
        await self._clock.skip(duration, _PATIENCE)


class WorkflowEnvironment:
    """
    The same for plain tests: the worker runs in a thread, and calls block.

    >>> with WorkflowEnvironment(app, dsn) as env:    # doctest: +SKIP
    ...     assert env.run(fulfil_order, 42) == "delivered"
    """

    def __init__(self, app: App, dsn: str, **worker_options: Any) -> None:
        self._app = app
        self._dsn = dsn
        self._worker_options = worker_options
        self.client = Client(dsn, codec=app.codec)

    def __enter__(self) -> WorkflowEnvironment:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="lockstep worker")
        self._thread.start()
        try:
            self._env = self._call(self._make())
            self._call(self._env.__aenter__())
        except BaseException:
            self._end()
            raise
        self.worker = self._env.worker
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._call(self._env.__aexit__(exc_type, exc, traceback))
        finally:
            self._end()

    async def _make(self) -> AsyncWorkflowEnvironment:
        return AsyncWorkflowEnvironment(self._app, self._dsn, **self._worker_options)

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def _end(self) -> None:
        self.client.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def time_skipped(self) -> timedelta:
        """How much time was skipped so far."""
        return self._env.time_skipped

    @overload
    def run(
        self,
        workflow: WorkflowFunction[P, Coroutine[Any, Any, T]]
        | ConfiguredWorkflow[P, Coroutine[Any, Any, T]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T: ...
    @overload
    def run(
        self,
        workflow: WorkflowFunction[P, T] | ConfiguredWorkflow[P, T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T: ...
    def run(self, workflow: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Enqueue a workflow, run it to its end, skipping time, and return its output."""
        return self._call(self._env.run(workflow, *args, **kwargs))

    def result(self, workflow_id: str, *, timeout: timedelta = _PATIENCE) -> Any:
        """Wait for a workflow to end, skipping time, and return its output, a JSON value."""
        return self._call(self._env.result(workflow_id, timeout=timeout))

    def settle(self, *, timeout: timedelta = _PATIENCE) -> None:
        """Wait until nothing runs: all workflows have ended, sleep or wait. Skips no time."""
        self._call(self._env.settle(timeout=timeout))

    def skip(self, duration: timedelta) -> None:
        """Skip some time by hand; what falls due meanwhile runs in its order."""
        self._call(self._env.skip(duration))
