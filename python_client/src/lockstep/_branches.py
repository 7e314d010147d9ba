"""The branches of a run: which of them work and which wait, and when it is suspended."""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic_core import to_json

from ._codec import encode
from ._scope import current_scope

if TYPE_CHECKING:
    from ._run import Run

T = TypeVar("T")

_SETTLE = 0.01
"""Seconds that every branch of a workflow must have waited before it is suspended."""

_LOOK_PAUSES = (0.02, 0.05, 0.1)
"""Seconds between looks for the end of awaited workflows before the run is suspended."""

_LOOK_INTERVAL = 1.0
"""Seconds between looks for what a branch waits for while another one keeps the run busy."""

_SHORT_SLEEP = 1.0
"""A workflow that only sleeps, and for no longer than these seconds, stays in memory."""

_REPLAY_TURNS = 2
"""Turns of the loop that a replayed call waits, as new tasks start while a first one does."""

_DEAF_PAUSE = 1.0
"""Seconds that code waits which swallows the end of its run and calls again."""

_BUSY_PAUSES = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Seconds before a suspension that a sender's open transaction prevented is tried again."""


class RunEnded(asyncio.CancelledError):
    """
    Unwinds user code whose run is over here: suspended, lost or handed back.

    Not an Exception, so that user code does not take it for a failure of its own; a
    cancellation, so that tasks which nobody awaits any more end without a log entry.
    """


@dataclass(frozen=True, slots=True)
class Awaited:
    """What a branch waits for of another workflow: its end, or the event with a key."""

    workflow_id: str
    key: str | None = None


@dataclass(slots=True)
class _Wait:
    """A branch of the workflow that waits for a moment, and for a message or a workflow."""

    future: asyncio.Future[None]
    wakes_at: float | None
    topic: str | None
    awaited: Awaited | None
    timer: asyncio.TimerHandle | None = None


class Branches:
    """
    What the tasks and threads of one run do just now.

    Once all of them wait, the run is suspended: its row says what it waits for, and the
    worker forgets it. Everything here happens on the worker's event loop, but for what says
    otherwise.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._loop = run.loop
        self._open_count = 0
        self._thread_count = 0
        self._waits: dict[int, _Wait] = {}
        self._suspending: asyncio.Future[None] | None = None
        self._busy_count = 0
        self._look_count = 0
        self._is_refused = False

    async def call(self, operation: Callable[[], Awaitable[T]]) -> T:
        """Run a durable call of a branch, which is busy meanwhile unless it waits."""
        while self._suspending is not None:
            await asyncio.shield(self._suspending)
        if self._run.ended is not None:
            await self._refuse()
        self._open_count += 1
        try:
            if self._run.is_replaying:
                for _ in range(_REPLAY_TURNS):
                    await asyncio.sleep(0)
            return await operation()
        finally:
            self._open_count -= 1
            self._consider_suspension()

    async def _refuse(self) -> None:
        """Tell user code that its run is over; make it wait if it does not listen."""
        if self._is_refused:
            await asyncio.sleep(_DEAF_PAUSE)
        self._is_refused = True
        raise RunEnded

    def from_thread(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the worker's loop and wait for it in the calling thread."""
        scope = current_scope.get()
        if scope is not None and not scope.is_step:
            coroutine = self._while_its_thread_waits(coroutine)
        try:
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()
        except concurrent.futures.CancelledError as error:
            raise RunEnded from error

    async def _while_its_thread_waits(self, coroutine: Coroutine[Any, Any, T]) -> T:
        self._thread_count -= 1
        try:
            return await coroutine
        finally:
            self._thread_count += 1

    def count_threads(self, change: int) -> None:
        """Note, from any thread, that more or fewer threads are at work for this run."""
        self._loop.call_soon_threadsafe(self._count_threads, change)

    def _count_threads(self, change: int) -> None:
        self._thread_count += change
        self._consider_suspension()

    async def wait(
        self,
        step_id: int,
        wakes_at: float | None,
        topic: str | None = None,
        awaited: Awaited | None = None,
    ) -> None:
        """
        Wait for a moment, a message or another workflow, and then look what has come.

        The run is suspended once all of its branches wait.
        """
        if self._run.ended is not None:
            raise RunEnded
        wait = _Wait(self._loop.create_future(), wakes_at, topic, awaited)
        self._waits[step_id] = wait
        self._arm(wait)
        self._consider_suspension()
        try:
            await wait.future
        finally:
            self._disarm(wait)
            self._waits.pop(step_id, None)

    def _arm(self, wait: _Wait) -> None:
        delay = None if wait.wakes_at is None else max(wait.wakes_at - time.monotonic(), 0.0)
        if wait.topic is not None or wait.awaited is not None:
            delay = _LOOK_INTERVAL if delay is None else min(delay, _LOOK_INTERVAL)
        if delay is not None and not wait.future.done():
            wait.timer = self._loop.call_later(delay, self._wake, wait)

    @staticmethod
    def _disarm(wait: _Wait) -> None:
        if wait.timer is not None:
            wait.timer.cancel()
            wait.timer = None

    @staticmethod
    def _wake(wait: _Wait) -> None:
        if not wait.future.done():
            wait.future.set_result(None)

    def _all_branches_wait(self) -> bool:
        return (
            self._run.ended is None
            and self._suspending is None
            and self._thread_count == 0
            and 0 < len(self._waits) == self._open_count
            and not any(wait.future.done() for wait in self._waits.values())
        )

    def _is_short(self) -> bool:
        moments = [wait.wakes_at for wait in self._waits.values() if wait.wakes_at is not None]
        return (
            all(wait.topic is None and wait.awaited is None for wait in self._waits.values())
            and min(moments) - time.monotonic() <= _SHORT_SLEEP
        )

    def _consider_suspension(self) -> None:
        if self._all_branches_wait() and not self._is_short():
            self._busy_count = 0
            if self._look_count < len(_LOOK_PAUSES) and self._awaits_others():
                pause = _LOOK_PAUSES[self._look_count]
                self._loop.call_later(pause, self._look_again, tuple(self._waits))
            else:
                self._loop.call_later(_SETTLE, self._suspend_if_settled, tuple(self._waits))

    def _awaits_others(self) -> bool:
        return any(wait.awaited is not None for wait in self._waits.values())

    def _look_again(self, step_ids: tuple[int, ...]) -> None:
        """Look for the end of other workflows: a short one ends before a suspension pays."""
        if self._all_branches_wait() and tuple(self._waits) == step_ids:
            self._look_count += 1
            for wait in self._waits.values():
                if wait.awaited is not None:
                    self._wake(wait)

    def _suspend_if_settled(self, step_ids: tuple[int, ...]) -> None:
        if self._all_branches_wait() and tuple(self._waits) == step_ids:
            self._suspending = self._loop.create_future()
            waits = dict(self._waits)
            for wait in waits.values():
                self._disarm(wait)  # here: before the task runs a timer could wake one of them
            self._run.worker.keep(self._suspend(self._suspending, waits))

    def note_end_of_other(self) -> None:
        """Note that an awaited workflow ended: others of a fan-out may end soon, too."""
        self._look_count = 0

    async def _suspend(self, suspending: asyncio.Future[None], waits: dict[int, _Wait]) -> None:
        """
        Ask the database to suspend the run, and obey its answer.

        Timers stand still meanwhile, and a primitive that some branch calls waits for the
        answer: the run either goes on as it was or is over.
        """
        topics = sorted({wait.topic for wait in waits.values() if wait.topic is not None})
        timed = [step_id for step_id, wait in waits.items() if wait.wakes_at is not None]
        awaits = [
            {"awaited_id": wait.awaited.workflow_id, "key": wait.awaited.key}
            for wait in waits.values()
            if wait.awaited is not None
        ]
        try:
            outcome = await self._run.change(
                "suspensions",
                step_ids=to_json(timed).decode(),
                topics=encode(topics),
                awaits=encode(awaits),
            )
        except RunEnded:
            return
        finally:
            self._suspending = None
            suspending.set_result(None)

        if outcome == "suspended":
            moments = [wait.wakes_at for wait in waits.values() if wait.wakes_at is not None]
            if moments:
                self._run.worker.pulse.expect_due(min(moments))
            self._run.end("suspended")
            if self._run.task is not None:
                self._run.task.cancel()  # gather() may take the ends of its branches for results
            return
        for wait in waits.values():
            if outcome == "ready" and (wait.topic is not None or wait.awaited is not None):
                self._wake(wait)
            else:
                self._arm(wait)
        if outcome == "busy":
            pause = _BUSY_PAUSES[min(self._busy_count, len(_BUSY_PAUSES) - 1)]
            self._busy_count += 1
            self._loop.call_later(pause, self._suspend_if_settled, tuple(waits))

    def end(self) -> None:
        """Unwind the branches that wait: the run is over."""
        for wait in self._waits.values():
            if not wait.future.done():
                wait.future.set_exception(RunEnded())
