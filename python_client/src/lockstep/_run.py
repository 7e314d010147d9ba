"""One execution of a workflow in a worker: replay, step ids, waits and suspension."""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic_core import to_json

from ._codec import decode_json, encode, encode_error
from ._errors import InvalidInput, NotDeterministic, StepMismatch, Unserializable
from ._scope import current_scope

if TYPE_CHECKING:
    from ._worker import Worker

T = TypeVar("T")

_RECORDED = "SELECT output::text, error::text FROM lockstep.get_step(%s, %s)"

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

_FINAL_ERRORS = (InvalidInput, NotDeterministic, StepMismatch, Unserializable)
"""Errors of a workflow that come again however often it is tried."""

_LAST_RESORT = '{"type": "Unserializable", "message": "the database refused the outcome"}'
"""The error of a workflow whose value the database refused, and the error saying so, too."""

_BUSY_PAUSES = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Seconds before a suspension that a sender's open transaction prevented is tried again."""


class RunEnded(asyncio.CancelledError):
    """
    Unwinds user code whose run is over here: suspended, lost or handed back.

    Not an Exception, so that user code does not take it for a failure of its own; a
    cancellation, so that tasks which nobody awaits any more end without a log entry.
    """


@dataclass(frozen=True, slots=True)
class RecordedStep:
    """
    A step as an earlier attempt left it.

    ``output`` and ``error`` are JSON texts, read when the workflow comes to the step. One
    that is not finished has ``began_at`` and, if it waits for a moment, ``wakes_at``, both
    on this process's monotonic clock; ``child_id`` is the workflow that it started.
    """

    step_name: str
    output: str | None
    error: str | None
    attempts: int
    child_id: str | None
    is_finished: bool
    wakes_at: float | None
    began_at: float


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


class Run:
    """One claimed workflow. Everything here happens on the worker's event loop."""

    def __init__(self, worker: Worker, claimed: dict[str, Any]) -> None:
        self.worker = worker
        self.loop = worker.loop
        self.workflow_id: str = claimed["workflow_id"]
        self.workflow_name: str = claimed["workflow_name"]
        self.queue_name: str = claimed["queue_name"]
        self.attempt: int = claimed["attempt"]
        self.headers: dict[str, Any] = {}
        self._claimed = claimed
        self.ended: str | None = None
        self.task: asyncio.Task[None] | None = None
        self._identity = to_json({"workflow_id": self.workflow_id, "attempt": self.attempt})[
            :-1
        ].decode()
        self._recorded: dict[int, RecordedStep] = {}
        self._mismatch: StepMismatch | None = None
        self._unreplayed_count = 0
        self._loose_id = 0
        self._open_count = 0
        self._thread_count = 0
        self._waits: dict[int, _Wait] = {}
        self._suspending: asyncio.Future[None] | None = None
        self._busy_count = 0
        self._look_count = 0
        for step in claimed["steps"] or ():
            self._unreplayed_count += step["is_finished"]
            self._recorded[step["step_id"]] = RecordedStep(
                step["step_name"],
                step["output"],
                step["error"],
                step["attempts"],
                step["child_id"],
                step["is_finished"],
                self.moment(step["remaining"]),
                time.monotonic() - (step["elapsed"] or 0.0),
            )

    # what replay needs

    def recorded(self, step_id: int, step_name: str) -> RecordedStep | None:
        """Return what an earlier attempt recorded for the step, after comparing names."""
        step = self._recorded.get(step_id)
        if self._mismatch is None and step is not None and step.step_name != step_name:
            self._mismatch = StepMismatch(step_id, step.step_name, step_name)
        if self._mismatch is not None:
            raise self._mismatch  # also if user code caught it before
        if step is not None and step.is_finished:
            self._unreplayed_count -= 1
        return step

    def recorded_name(self, step_id: int) -> str | None:
        """Return the name under which an earlier attempt recorded a step, if it did."""
        step = self._recorded.get(step_id)
        return None if step is None else step.step_name

    def next_loose_id(self) -> int:
        """Return an id for a change that is no step, by which its answer is found."""
        self._loose_id -= 1
        return self._loose_id

    @property
    def is_replaying(self) -> bool:
        """Whether steps are left that an earlier attempt finished."""
        return self._unreplayed_count > 0

    @staticmethod
    def moment(remaining: float | None) -> float | None:
        """Return when the seconds remaining are over, on this process's monotonic clock."""
        return None if remaining is None else time.monotonic() + remaining

    # what a run says to the database

    def change(self, kind: str, step_id: int = 0, **fields: str) -> asyncio.Future[Any]:
        """Hand a change, whose fields are JSON texts, to the writer; its commit resolves it."""
        return self.worker.writer.submit(kind, self, step_id, self._body(step_id, fields))

    def _body(self, step_id: int, fields: dict[str, str]) -> str:
        if self.ended is not None:
            raise RunEnded
        body = "".join(f',"{name}":{text}' for name, text in fields.items())
        return f'{self._identity},"step_id":{step_id}{body}}}'

    def record_step_in_thread(self, step_id: int, **fields: str) -> None:
        """Record a step from the workflow's thread and block until it is committed."""
        body = self._body(step_id, fields)
        self.worker.writer.submit_from_thread("steps", self, step_id, body).wait()

    async def recorded_outcome(self, step_id: int) -> tuple[str | None, str | None] | None:
        """Return the output and the error of a step as the database has them, if it has."""
        rows = await self.worker.session.call_patiently(
            self.worker.log_trouble, _RECORDED, self.workflow_id, step_id
        )
        return (rows[0][0], rows[0][1]) if rows else None

    async def start_timer(
        self,
        step_id: int,
        step_name: str,
        seconds: float,
        attempts: int = 0,
        error: str = "null",
    ) -> float | None:
        """Start the durable timer of a step; return when it ends."""
        remaining = await self.change(
            "timers",
            step_id,
            step_name=encode(step_name),
            attempts=str(attempts),
            error=error,
            delay=repr(seconds),
        )
        return self.moment(remaining)

    async def primitive(self, operation: Callable[[], Awaitable[T]]) -> T:
        """Run a primitive, so that the run knows that this branch of it is busy."""
        while self._suspending is not None:
            await asyncio.shield(self._suspending)
        if self.ended is not None:
            raise RunEnded
        self._open_count += 1
        try:
            if self.is_replaying:
                for _ in range(_REPLAY_TURNS):
                    await asyncio.sleep(0)
            return await operation()
        finally:
            self._open_count -= 1
            self._consider_suspension()

    def from_thread(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the worker's loop and wait for it in the calling thread."""
        scope = current_scope.get()
        if scope is not None and not scope.is_step:
            coroutine = self._while_its_thread_waits(coroutine)
        try:
            return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()
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
        self.loop.call_soon_threadsafe(self._count_threads, change)

    def _count_threads(self, change: int) -> None:
        self._thread_count += change
        self._consider_suspension()

    # waiting and suspension

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
        if self.ended is not None:
            raise RunEnded
        wait = _Wait(self.loop.create_future(), wakes_at, topic, awaited)
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
            wait.timer = self.loop.call_later(delay, self._wake, wait)

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
            self.ended is None
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
                self.loop.call_later(pause, self._look_again, tuple(self._waits))
            else:
                self.loop.call_later(_SETTLE, self._suspend_if_settled, tuple(self._waits))

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
            self.worker.keep(self._suspend())

    def note_end_of_other(self) -> None:
        """Note that an awaited workflow ended: others of a fan-out may end soon, too."""
        self._look_count = 0

    async def _suspend(self) -> None:
        """
        Ask the database to suspend the run, and obey its answer.

        Timers stand still meanwhile, and a primitive that some branch calls waits for the
        answer: the run either goes on as it was or is over.
        """
        self._suspending = self.loop.create_future()
        waits = dict(self._waits)
        for wait in waits.values():
            self._disarm(wait)
        topics = sorted({wait.topic for wait in waits.values() if wait.topic is not None})
        timed = [step_id for step_id, wait in waits.items() if wait.wakes_at is not None]
        awaits = [
            {"awaited_id": wait.awaited.workflow_id, "key": wait.awaited.key}
            for wait in waits.values()
            if wait.awaited is not None
        ]
        try:
            outcome = await self.change(
                "suspensions",
                step_ids=to_json(timed).decode(),
                topics=encode(topics),
                awaits=encode(awaits),
            )
        except RunEnded:
            return
        finally:
            suspending, self._suspending = self._suspending, None
            suspending.set_result(None)

        if outcome == "suspended":
            moments = [wait.wakes_at for wait in waits.values() if wait.wakes_at is not None]
            if moments:
                self.worker.pulse.expect_due(min(moments))
            self.end("suspended")
            if self.task is not None:
                self.task.cancel()  # gather() may take the ends of its branches for results
            return
        for wait in waits.values():
            if outcome == "ready" and (wait.topic is not None or wait.awaited is not None):
                self._wake(wait)
            else:
                self._arm(wait)
        if outcome == "busy":
            pause = _BUSY_PAUSES[min(self._busy_count, len(_BUSY_PAUSES) - 1)]
            self._busy_count += 1
            self.loop.call_later(pause, self._suspend_if_settled, tuple(waits))

    # the end

    def end(self, how: str) -> None:
        """End the run here, whatever user code still does; its later writes go nowhere."""
        if self.ended is not None:
            return
        self.ended = how
        for wait in self._waits.values():
            if not wait.future.done():
                wait.future.set_exception(RunEnded())
        self.worker.discard(self)

    async def execute(self) -> None:
        """Run the workflow function to its end and record its outcome."""
        workflow = self.worker.workflows[self.workflow_name]
        policy = None
        is_final = False
        try:
            self.headers = decode_json(self._claimed["headers"]) or {}
            args, kwargs = workflow.arguments.decode(decode_json(self._claimed["inputs"]))
            value = await workflow.call_in(self, args, kwargs)
            if self._mismatch is not None:
                raise self._mismatch
            kind, document = "output", workflow.returns.encode(value)[0]
        except BaseException as error:
            if self.ended is not None or isinstance(error, RunEnded):  # or the worker's end
                return
            if not isinstance(error, Exception):
                self.worker.log.warning(
                    'workflow "%s" raised %s', self.workflow_id, type(error).__name__
                )
            cause = self._mismatch or error
            kind, document = "error", encode_error(cause)
            is_final = isinstance(cause, _FINAL_ERRORS) or not workflow.is_retried(cause)
            policy = workflow.retry_policy
        self.finish(kind, document, policy, is_final)

    def finish(
        self,
        kind: str,
        document: str,
        policy: dict[str, Any] | None = None,
        is_final: bool = True,
    ) -> None:
        """Record the outcome, ``output`` or ``error``; the run ends when it is committed."""
        if self.ended is None:
            fields = {kind: document}
            if kind == "error":
                fields |= {"retries": encode(policy), "is_final": "true" if is_final else "false"}
            body = self._body(0, fields)
            self.worker.writer.submit_for("outcomes", self, 0, body, _Ending(self, kind, document))


class _Ending:
    """What waits for the outcome of a run: not the run's task, which is over."""

    __slots__ = ("_document", "_kind", "_run")

    def __init__(self, run: Run, kind: str, document: str) -> None:
        self._run = run
        self._kind = kind
        self._document = document

    def done(self) -> bool:
        return self._run.ended is not None

    def set_result(self, result: Any, /) -> None:
        self._run.end("finished")
        if self._kind == "error":
            self._run.worker.pulse.check_due()  # its next try may come soon

    def set_exception(self, exception: BaseException, /) -> None:
        if isinstance(exception, RunEnded) or self._document == _LAST_RESORT:
            self._run.end("lost")
            return
        document = encode_error(exception)  # the database refused the value
        self._run.finish("error", _LAST_RESORT if document == self._document else document)
