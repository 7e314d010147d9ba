"""
The worker: one event loop that claims workflows, runs them and records what they do.

Its parts are a claimer, which keeps the wanted number of workflows in flight, a writer,
which commits everything that waits to be recorded at once, a pulse, which keeps the lease
and puts back what fell due, a scheduler, which starts the ticks of schedules, and a
listener for the doorbell. No state in memory matters: whatever is killed when, another
worker goes on from the last checkpoint.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any

import psycopg

from ._app import App
from ._checks import (
    refuse_bad_count,
    refuse_bad_duration,
    refuse_bad_name,
    refuse_other_type,
    shown,
)
from ._claimer import Claimer
from ._codec import encode
from ._dsn import masked, resolve_dsn, writable
from ._errors import InvalidArgument, NotInstalled, PayloadError, translate
from ._exits import tasks_contained
from ._functions import WorkflowFunction
from ._listener import Listener
from ._pulse import Pulse
from ._queue_calls import declare_queue, difference_of
from ._run import Run
from ._saga import COMPENSATE, compensation_of
from ._scheduler import BACKFILL, Scheduler, backfill
from ._session import Session
from ._step_pools import StepPools
from ._version import __version__, check_version
from ._watchdog import Watchdog
from ._writer import Writer

_REGISTER = "SELECT lockstep.register_executor(%s::text[], %s::text[], %s, %s, %s, %s, %s, %s)"
_UNREGISTER = "SELECT lockstep.unregister_executor(%s)"
_DECLARE = "SELECT lockstep.declare_schedules(%s)"
_LAST_FLUSH = 2.0
"""Seconds that a stopping worker waits for the flush under way."""

_GOODBYE = 10.0
"""Seconds that a stopping worker waits for the database to take its workflows back."""

_LARGEST_PORTION = 150
"""Changes committed at once: larger batches touch pages that have left the CPU's caches."""

_TROUBLE_SILENCE = 5.0
"""Seconds for which the same trouble with the database is not logged again."""


class Worker:
    """
    Runs the workflows of an app until it is told to stop.

    >>> worker = lockstep.Worker(app, queues=["orders"], concurrency=200)    # doctest: +SKIP
    >>> asyncio.run(worker.run())                                            # doctest: +SKIP

    ``concurrency`` is the number of workflows in flight, ``lease`` the time after which
    others take over if this process dies, ``grace`` how long running workflows may go on
    after a stop before they are handed back. ``poll_interval`` is the longest pause
    between two looks at the queues when no notification arrives; with notifications a
    missed one is made up for within five seconds. A workflow that asks for an
    ``app_version`` is left to workers of that version; ``pin_version`` makes every workflow
    that starts here ask for this one from then on, so that another release's code does not
    go on with it.
    """

    def __init__(
        self,
        app: App,
        *,
        queues: Sequence[str] = ("default",),
        dsn: str | None = None,
        concurrency: int = 200,
        lease: timedelta = timedelta(seconds=30),
        grace: timedelta = timedelta(seconds=30),
        poll_interval: timedelta = timedelta(seconds=1),
        app_version: str | None = None,
        pin_version: bool = False,
        max_connections: int = 10,
    ) -> None:
        refuse_other_type("app", app, App)
        refuse_bad_count("concurrency", concurrency)
        refuse_bad_count("max_connections", max_connections)
        if isinstance(queues, str):
            raise InvalidArgument(f"queues must be a list of names, not {shown(queues)}")
        for queue_name in queues:
            refuse_bad_name("queues", queue_name)
        if app_version is not None:
            refuse_bad_name("app_version", app_version)
        refuse_bad_duration("lease", lease, is_positive=True)
        refuse_bad_duration("grace", grace)
        refuse_bad_duration("poll_interval", poll_interval, is_positive=True)
        if not app.workflows:
            raise InvalidArgument("the app has no workflows: decorate one with @app.workflow")
        self.app = app
        undo = WorkflowFunction(compensation_of(app), COMPENSATE, "default")
        fill = WorkflowFunction(backfill, BACKFILL, "default")
        self.workflows = {**app.workflows, COMPENSATE: undo, BACKFILL: fill}
        self.log = logging.getLogger("lockstep.worker")
        self.executor_id = ""
        self.runs: dict[str, Run] = {}
        self.poll_interval = poll_interval.total_seconds()
        self.time_skipped = timedelta(0)  # by lockstep.testing
        self.starts_ticks = True  # but not for lockstep.testing
        self._queues = list(queues)
        try:
            self._dsn = writable(resolve_dsn(dsn))
        except psycopg.ProgrammingError as error:
            raise InvalidArgument(
                f"dsn is no connection string: {str(error).strip()[:500]}"
            ) from None
        self._lease = lease
        self._grace = grace.total_seconds()
        self._app_version = app_version
        self._pins_version = pin_version
        self._clock_offset = 0.0
        self.step_pools = StepPools(self._dsn, max_connections)
        self._concurrency = concurrency
        self.portion = max(1, min(concurrency // 2, _LARGEST_PORTION))
        self._stopping = asyncio.Event()
        self._starting_over = asyncio.Lock()
        self._trouble: tuple[str, float] = ("", 0.0)
        self._tasks: set[asyncio.Task[Any]] = set()

    # the life of a worker

    async def run(self) -> None:
        """
        Run until SIGTERM, SIGINT or :meth:`stop`; then hand back what is unfinished.

        Raises NotInstalled or psycopg.OperationalError if it cannot start. Once started it
        survives every loss of the database.
        """
        self.loop = asyncio.get_running_loop()
        self.threads = ThreadPoolExecutor(self._concurrency, thread_name_prefix="lockstep")
        self.session = Session(self._dsn, "lockstep worker")
        self.writer = Writer(self)
        self.claimer = Claimer(self, self._concurrency)
        self.pulse = Pulse(self, self._lease.total_seconds())
        self.scheduler = Scheduler(self)
        self.listener = Listener(self, self._dsn)
        watchdog = Watchdog(self, self._dsn, self._lease.total_seconds())
        with tasks_contained(self.loop):
            await self._serve(watchdog)

    async def _serve(self, watchdog: Watchdog) -> None:
        await self._check_installation()
        await self._declare()
        self.executor_id = await self._register(self.session.call)
        self.log.info(
            'executor "%s" serves %s with %s workflows',
            self.executor_id,
            ", ".join(self._queues),
            len(self.app.workflows),
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
                self.loop.add_signal_handler(number, self.stop)
        engine = [
            asyncio.create_task(part.run())
            for part in (self.writer, self.pulse, self.scheduler, self.listener)
        ]
        stopping = asyncio.create_task(self._stopping.wait())
        self.claimer.ring()
        watchdog.start()
        try:
            await self._until_stopped(engine, stopping)
        finally:
            stopping.cancel()
            await self._shut_down(engine)
            watchdog.stop()

    async def _until_stopped(
        self, engine: list[asyncio.Task[None]], stopping: asyncio.Task[Any]
    ) -> None:
        waiting: set[asyncio.Task[Any]] = {*engine, stopping}
        while not stopping.done():
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopping}:
                task.result()  # a part of the engine that failed takes the worker down

    def stop(self) -> None:
        """Claim nothing more, let workflows run for the grace period; twice: stop now."""
        if self._stopping.is_set():
            self._grace = 0.0
        self.log.info("stopping: %s workflows in flight", len(self.runs))
        self._stopping.set()

    @property
    def is_stopping(self) -> bool:
        """Whether nothing more is claimed."""
        return self._stopping.is_set()

    async def _shut_down(self, engine: list[asyncio.Task[None]]) -> None:
        self._stopping.set()
        began = time.monotonic()
        while (  # noqa: ASYNC110 - "the last of many runs has ended" is no event
            self.runs and time.monotonic() - began < self._grace and not engine[0].done()
        ):
            await asyncio.sleep(0.02)
        for run in list(self.runs.values()):
            run.end("handed back")
            if run.task is not None:
                run.task.cancel()
        self.writer.stop()
        await asyncio.wait(engine[:1], timeout=_LAST_FLUSH)
        await _cancel(engine)
        self.writer.abandon()
        goodbye = asyncio.create_task(self._say_goodbye())
        await asyncio.wait([goodbye], timeout=_GOODBYE)
        if not goodbye.done():
            self.log.warning("stopped without an answer from the database, the lease will end")
            await _cancel([goodbye])
        self.threads.shutdown(wait=False, cancel_futures=True)

    async def _say_goodbye(self) -> None:
        await self.session.close()
        try:
            ((released,),) = await self.session.call(_UNREGISTER, self.executor_id)
            self.log.info("stopped: handed back %s workflows", released)
        except psycopg.Error as error:
            self.log.warning(
                "stopped without a word to the database, the lease will end: %s",
                masked(str(error), self._dsn),
            )
        await self.session.close()
        await self.step_pools.close()

    async def _check_installation(self) -> None:
        try:
            ((installed,),) = await self.session.call("SELECT lockstep.version()")
        except (psycopg.errors.UndefinedFunction, psycopg.errors.InvalidSchemaName) as error:
            raise NotInstalled(
                'the database has no schema "lockstep": run "lockstep install" first'
            ) from error
        check_version(installed)

    async def _declare(self) -> None:
        try:
            for queue in self.app.queues.values():
                call = declare_queue(queue)
                rows = await self.session.call(call.query, *call.params)
                if rows:
                    self.log.warning(difference_of(queue, [call.read(row) for row in rows]))
            if self.app.schedules:
                await self.session.call(_DECLARE, encode(list(self.app.schedules.values())))
        except psycopg.Error as error:
            raise (translate(error) or error) from error

    async def _register(self, call: Callable[..., Awaitable[list[tuple[Any, ...]]]]) -> str:
        try:
            ((executor_id,),) = await call(
                _REGISTER,
                self._queues,
                sorted(self.workflows),
                self._lease,
                self._app_version,
                socket.gethostname(),
                os.getpid(),
                __version__,
                self._pins_version,
            )
        except psycopg.Error as error:
            raise (translate(error) or error) from error
        return str(executor_id)

    async def start_over(self, executor_id: str) -> None:
        """Drop everything that ran as a lost executor, and register as a new one."""
        async with self._starting_over:
            if executor_id != self.executor_id:
                return
            self.log.warning(
                "lease lost: dropping %s workflows, others run them now", len(self.runs)
            )
            for run in list(self.runs.values()):
                run.end("lost")
            self.executor_id = await self._register(
                partial(self.session.call_patiently, self.log_trouble)
            )
            self.claimer.ring()

    # what the parts ask of the worker

    def start(self, claimed: dict[str, Any]) -> None:
        """Start a claimed workflow."""
        previous = self.runs.get(claimed["workflow_id"])
        if previous is not None:
            previous.end("lost")
        run = Run(self, claimed)
        self.runs[run.workflow_id] = run
        run.task = self.keep(run.execute())

    def discard(self, run: Run) -> None:
        """Forget a run that ended."""
        if self.runs.get(run.workflow_id) is run:
            del self.runs[run.workflow_id]
            self.writer.wake()

    def keep(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine as a task that the garbage collector leaves alone."""
        task = self.loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def note_database_time(self, now: float) -> None:
        """Take note of the database's time, in seconds since 1970, as it is just now."""
        self._clock_offset = now - time.monotonic()

    def database_time(self) -> datetime:
        """Return the time of the database, as its last answer told it, in UTC."""
        return datetime.fromtimestamp(self._clock_offset + time.monotonic(), timezone.utc)

    def doorbell_changed(self, is_connected: bool) -> None:
        """Prepare statements once the doorbell worked, and look for what did not ring."""
        if is_connected:
            self.session.use_prepared_statements()
        self.claimer.ring()
        self.pulse.check_due()

    def log_unreadable(self, workflow_id: str, error: PayloadError) -> None:
        """Log that a workflow cannot run here for want of a key."""
        self.log.error('workflow "%s" is tried again later: %s', workflow_id, error)

    def log_trouble(self, error: psycopg.Error) -> None:
        """Log trouble with the database, the same one not more than every few seconds."""
        text = masked(str(error).strip().partition("\n")[0], self._dsn)
        now = time.monotonic()
        if self._trouble[0] != text or now - self._trouble[1] > _TROUBLE_SILENCE:
            self._trouble = (text, now)
            self.log.warning("database trouble, trying again: %s", text)


async def _cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks until they end: before Python 3.12 a cancellation can get lost on its way."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=0.5)
