"""
The group-commit writer: one call for everything that is waiting to be recorded.

Whenever the connection is free, all pending changes of all runs go to the database as one
``lockstep.advance_workflows()`` call, together with the claim for new work. Latency is
one round trip when quiet, and batches grow by themselves under load, up to half of what is
in flight: while Postgres commits one half, Python runs the other.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
from pydantic_core import from_json

from ._branches import RunEnded
from ._errors import Unserializable, translate
from ._session import Failure, classify, pause_after
from ._waiter import ThreadWaiter, Waiter

if TYPE_CHECKING:
    from ._run import Run
    from ._worker import Worker

_ADVANCE = "SELECT lockstep.advance_workflows(%s, %s::jsonb, %s, %s::jsonb)::text"
_FAIL_TOO_LARGE = "SELECT lockstep.fail_too_large(%s, %s::jsonb)"
_RECONCILE = "SELECT lockstep.reconcile_workflows(%s, %s, %s::text[])"
_LOCKED_PAUSE = 0.25
_LONGEST_LOCKED_PAUSE = 5.0
"""Seconds, doubling up to the longest, before a change that met a locked row is tried again."""

_LARGEST_BATCH = 16 * 1024 * 1024
"""Characters after which no more changes are taken into a call: what is large goes alone."""

_STUCK_AFTER = 5
"""Failures in a row, with the server there, after which changes are sent one by one."""


@dataclass(slots=True)
class Change:
    """A change that a run waits for; ``body`` is its JSON text."""

    kind: str
    run: Run
    step_id: int
    body: str
    waiter: Waiter
    tries: int = 0
    retry_at: float = 0.0

    def resolve(self, value: Any = None) -> None:
        if not self.waiter.done():
            self.waiter.set_result(value)

    def fail(self, error: BaseException) -> None:
        if not self.waiter.done():
            self.waiter.set_exception(error)
            if isinstance(self.waiter, asyncio.Future):
                self.waiter.exception()  # what nobody awaits fails without a log entry


class Writer:
    """Collects changes and flushes them; owns the order in which they are committed."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._pending: deque[Change] = deque()
        self._is_wake_requested = False
        self._wakeup = asyncio.Event()
        self._flushing: list[Change] = []
        self._set_aside: list[Change] = []
        self._reconciled_generation = 1
        self._is_stopped = False
        self._is_abandoned = False
        self.doubts_claims = False

    def submit(self, kind: str, run: Run, step_id: int, body: str) -> asyncio.Future[Any]:
        """Queue a change; the future resolves when it is committed."""
        future = self._worker.loop.create_future()
        self.submit_for(kind, run, step_id, body, future)
        return future

    def submit_for(self, kind: str, run: Run, step_id: int, body: str, waiter: Waiter) -> None:
        """Queue a change that another kind of waiter than a future waits for."""
        self._pending.append(Change(kind, run, step_id, body, waiter))
        self._wakeup.set()

    def submit_from_thread(self, kind: str, run: Run, step_id: int, body: str) -> ThreadWaiter:
        """Queue a change from a thread that will wait for it; wakes the loop at most once."""
        waiter = ThreadWaiter()
        self._pending.append(Change(kind, run, step_id, body, waiter))
        if self._is_abandoned:
            raise RunEnded
        if not self._is_wake_requested:
            self._is_wake_requested = True
            self._worker.loop.call_soon_threadsafe(self._wakeup.set)
        return waiter

    def wake(self) -> None:
        """Make the writer look for work, such as free slots to claim for."""
        self._wakeup.set()

    async def run(self) -> None:
        """Flush until stopped."""
        while not self._is_stopped:
            await self._wakeup.wait()
            self._wakeup.clear()
            await self.flush()
            if self._pending:
                self._wakeup.set()

    def stop(self) -> None:
        """End after the flush that is under way."""
        self._is_stopped = True
        self._wakeup.set()

    def abandon(self) -> None:
        """Unwind whatever still waits for a change: the worker is gone."""
        self._is_abandoned = True  # before the look, as threads append while it lasts
        for change in (*self._flushing, *self._pending, *self._set_aside):
            change.fail(RunEnded())

    async def flush(self) -> None:
        """Commit what is pending, up to a portion of it, and claim what there is room for."""
        self._is_wake_requested = False  # before the look, so that no thread's change is missed
        batch = self._next_batch()
        kinds = Counter(change.kind for change in batch)
        claim_count = self._worker.claimer.wanted(kinds["outcomes"], kinds["suspensions"])
        if batch or claim_count:
            self._flushing = batch
            await self._send(batch, claim_count)
            self._flushing = []
        await self._retry_one()

    def _next_batch(self) -> list[Change]:
        batch: list[Change] = []
        size = 0
        while self._pending and len(batch) < self._worker.portion and size < _LARGEST_BATCH:
            change = self._pending.popleft()
            if not self._drop_if_ended(change):
                batch.append(change)
                size += len(change.body)
        return batch

    @staticmethod
    def _drop_if_ended(change: Change) -> bool:
        if change.run.ended is not None:
            change.fail(RunEnded())
            return True
        return False

    async def _send(self, batch: list[Change], claim_count: int) -> None:
        attempt = 0
        while True:
            executor_id = self._worker.executor_id
            is_reconciled = False
            try:
                generation = await self._reconcile()
                is_reconciled = True
                await self._call(batch, claim_count, generation)
                return
            except psycopg.Error as error:
                if claim_count:
                    self.doubts_claims |= not self._worker.session.is_connected
                    self._worker.claimer.came_back(claim_count, 0)
                    is_claim_at_fault = error.sqlstate in _TOO_LARGE
                    if is_claim_at_fault:
                        self._worker.claimer.was_too_much(claim_count)
                        if claim_count == 1:
                            await self._fail_too_large()
                    claim_count = 0
                    if is_claim_at_fault and batch:
                        continue  # the changes may be as good as ever
                failure = classify(error)
                if failure is Failure.LEASE_LOST:
                    await self._worker.start_over(executor_id)
                    for change in batch:
                        change.fail(RunEnded())
                    return
                is_stuck = attempt >= _STUCK_AFTER and self._worker.session.is_connected
                if (failure is not Failure.PASSING or is_stuck) and is_reconciled and batch:
                    await self._send_one_by_one(batch, error)
                    return
                self._worker.log_trouble(error)
            batch = [change for change in batch if not self._drop_if_ended(change)]
            if not batch:
                return
            await asyncio.sleep(pause_after(attempt))
            attempt += 1

    async def _fail_too_large(self) -> None:
        """End the workflow that nobody can claim, so that what is behind it can be."""
        low_water = self._worker.claimer.low_water.start()
        try:
            rows = await self._worker.session.call(
                _FAIL_TOO_LARGE, self._worker.executor_id, low_water
            )
        except psycopg.Error as error:
            self._worker.log_trouble(error)  # the next claim leads here again
            return
        for (workflow_id,) in rows:
            self._worker.log.error(
                'workflow "%s" has failed: its inputs and recorded steps are too large', workflow_id
            )

    async def _reconcile(self) -> int:
        """
        Hand back what a claim took whose answer was lost with the connection.

        Done here, before a call, because no claim is under way then. Return the generation of
        the connection: what an earlier one still brings to the server is refused from now on.
        """
        session = self._worker.session
        await session.connect()
        generation = session.generation
        if generation != self._reconciled_generation or self.doubts_claims:
            await session.call_on(
                generation,
                _RECONCILE,
                self._worker.executor_id,
                generation,
                list(self._worker.runs),
            )
            self.doubts_claims = False
            self._reconciled_generation = generation
        return generation

    async def _send_one_by_one(self, batch: list[Change], error: psycopg.Error) -> None:
        """Keep one change that the database refuses from failing the others."""
        if len(batch) > 1:
            for change in batch:
                if not self._drop_if_ended(change):
                    await self._send([change], 0)
            return
        (change,) = batch
        if classify(error) is Failure.REFUSED:
            self._worker.log.warning(
                'the database refused a change of workflow "%s": %s',
                change.run.workflow_id,
                f"{type(error).__name__} ({error.sqlstate})",  # its message may quote the value
            )
            # the primary message alone: DETAIL shows the value, and may be refused like it
            reason = error.diag.message_primary or type(error).__name__
            refusal = translate(error) if error.diag.message_hint else None
            change.fail(refusal or Unserializable(f"the database refused the value: {reason}"))
            return
        pause = min(_LOCKED_PAUSE * 2**change.tries, _LONGEST_LOCKED_PAUSE)
        change.tries += 1
        change.retry_at = self._worker.loop.time() + pause
        self._set_aside.append(change)
        self._worker.loop.call_later(pause, self._wakeup.set)

    async def _retry_one(self) -> None:
        """Send a change that was set aside again, alone: it may hold up the call once more."""
        now = self._worker.loop.time()
        change = next((change for change in self._set_aside if change.retry_at <= now), None)
        if change is not None:
            self._set_aside.remove(change)
            if not self._drop_if_ended(change):
                await self._send([change], 0)

    async def _call(self, batch: list[Change], claim_count: int, generation: int) -> None:
        by_kind: dict[str, list[Change]] = {}
        for change in batch:
            by_kind.setdefault(change.kind, []).append(change)
        document = f'"connection_number":{generation}' + "".join(
            f',"{kind}":[{",".join(change.body for change in changes)}]'
            for kind, changes in by_kind.items()
        )
        low_water = self._worker.claimer.low_water.start() if claim_count else None
        rows = await self._worker.session.call_on(
            generation,
            _ADVANCE,
            self._worker.executor_id,
            f"{{{document}}}",
            claim_count,
            low_water,
        )
        reply = from_json(rows[0][0])
        self._worker.note_database_time(reply["now"])
        self._dispatch(batch, reply)
        if claim_count:
            claimed = reply["claimed"] or ()
            self._worker.claimer.low_water.note(claim_count, claimed, reply["claim_seconds"])
            self._worker.claimer.came_back(claim_count, len(claimed), reply["claim_again_in"])
            if len(rows[0][0]) > _LARGEST_BATCH:
                self._worker.claimer.was_too_much(claim_count)
            for row in claimed:
                self._worker.start(row)
                if row["deadline_in"] is not None:
                    self._worker.pulse.expect_due(time.monotonic() + row["deadline_in"])

    def _dispatch(self, batch: list[Change], reply: dict[str, Any]) -> None:
        """Give each change its part of the reply; those of lost workflows end their run."""
        lost = set(reply["lost"])
        answers = _answers_in(reply)
        for change in batch:
            workflow_id = change.run.workflow_id
            key = (change.kind, workflow_id, change.step_id)
            answer = answers.get(key, _UNLESS_ANSWERED.get(change.kind))
            if answer == "lost" or workflow_id in lost:
                self._lose(change)
            else:
                change.resolve(answer)

    def _lose(self, change: Change) -> None:
        change.run.end("lost")
        change.fail(RunEnded())
        if change.kind == "timers":
            # no timer was started: the workflow is lost, or a commit that the worker had
            # given up recorded the step, and the workflow, still ours, must run again
            self.doubts_claims = True
            self._worker.claimer.ring()


_TOO_LARGE = ("54000", "53200")
"""States of an answer that the server has no room for."""

_UNLESS_ANSWERED = {"timers": "lost", "children": "lost"}
"""What it means that a reply has nothing to say of a change; otherwise that all is well."""


def _answers_in(reply: dict[str, Any]) -> dict[tuple[str, str, int], Any]:
    """Return what a reply says of single changes, by kind, workflow and step."""
    answers: dict[tuple[str, str, int], Any] = {}
    for row in reply["timers"] or ():
        answers["timers", row["workflow_id"], row["step_id"]] = row["remaining"]
    for row in reply["children"] or ():
        answers["children", row["workflow_id"], row["step_id"]] = row["child_id"]
    for kind in ("messages", "streams"):
        for row in reply[kind] or ():
            answers[kind, row["workflow_id"], row["step_id"]] = row["outcome"]
    for kind in ("receives", "awaits"):
        for row in reply[kind] or ():
            is_lost = row["outcome"] == "lost"
            answers[kind, row["workflow_id"], row["step_id"]] = "lost" if is_lost else row
    for row in reply["suspensions"] or ():
        answers["suspensions", row["workflow_id"], 0] = row["outcome"]
    return answers
