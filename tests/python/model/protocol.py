"""The protocol of sql/ once more, as a stranger would write it down: naive and short.

A `Transaction` has the functions of schema lockstep, with the same names and arguments. It
works on its own copy of the rows; what it changed is put into the shared ones when it
commits. What it locked, no other open transaction may lock in a conflicting mode: the
function then skips the row, as the SQL says SKIP LOCKED, or would have to wait (`Blocked`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import IntEnum
from typing import Any, TypeVar

import pytest
from model.rows import (
    Event,
    Executor,
    Key,
    Ledger,
    Message,
    Moment,
    Queue,
    Row,
    Rows,
    Step,
    Window,
    Workflow,
    earliest,
)

R = TypeVar("R", bound=Row)

# The test moves back-offs on by so much, lest the machine's speed decide what is due.
BACK_OFF_STRETCH = 600.0


@dataclass(unsafe_hash=True)
class Refused(Exception):
    """The function raises, and its transaction is rolled back."""

    sqlstate: str


@dataclass(unsafe_hash=True)
class Blocked(Exception):
    """The function waits until the transaction of another session ends."""

    session: str


class Lock(IntEnum):
    """Row locks of Postgres; two of them conflict if their sum is 2 or more."""

    KEY_SHARE = 0
    NO_KEY_UPDATE = 1
    UPDATE = 2


def about(seconds: float) -> Any:
    return pytest.approx(seconds, abs=30)


class Transaction:
    def __init__(
        self,
        session: str,
        committed: Rows,
        others: Iterable[Transaction],
        now: Window,
        attempt: Transaction | None = None,
        told: Any = None,
    ) -> None:
        self.session = session
        self.rows = dict(committed)
        self.changes: dict[Key, Any] = {}
        # A call that had to wait, the earlier attempt, keeps the locks that it waited for, even
        # if it then finds the row changed, and has not seen the rows that it skipped.
        self.locks: dict[Key, Lock] = dict(attempt.awaited) if attempt else {}
        self.awaited: dict[Key, Lock] = dict(self.locks)
        self.skipped: set[Key] = set(attempt.skipped) if attempt else set()
        self._committed = committed
        self._others = [other for other in others if other.session != session]
        self._now = now
        # What the server answered, if anything; looked at only for what it may choose: new ids,
        # and the order of workflows that are equal in priority and time.
        self._told = told["claimed"] if isinstance(told, dict) else told or []

    def wait_of(self, function: str, arguments: dict[str, Any]) -> Blocked | None:
        """Try a call; tell for which open transaction it has to wait."""
        try:
            getattr(self, function)(**arguments)
        except Refused:
            return None
        except Blocked as blocked:
            return blocked
        return None

    # -- rows and locks ---------------------------------------------------------------------

    def all(self, kind: type[R]) -> list[R]:
        return [row for key, row in self.rows.items() if key[0] is kind]

    def get(self, kind: type[R], *key: Any) -> R | None:
        return self.rows.get((kind, *key))

    def lock(self, row: Row, mode: Lock, *, skips_locked: bool = False) -> bool:
        if skips_locked and row.key in self.skipped:
            return False
        for other in self._others:
            if other.locks.get(row.key, -1) + mode >= 2:
                if skips_locked:
                    self.skipped.add(row.key)
                    return False
                self.awaited[row.key] = mode
                raise Blocked(other.session)
        self.locks[row.key] = max(mode, self.locks.get(row.key, mode))
        return True

    def insert(self, row: Row) -> bool:
        """Insert a row if there is none with its key, as ON CONFLICT DO NOTHING does."""
        self._wait_for_rival(row.key)
        if row.key in self.rows:
            return False
        self._write(row.key, row)
        self.locks[row.key] = Lock.UPDATE
        return True

    def update(self, row: R, **values: Any) -> R:
        self.lock(row, Lock.NO_KEY_UPDATE)
        changed = replace(row, **values)
        self._write(row.key, changed)
        return changed

    def upsert(self, row: R, **values: Any) -> R:
        return row if self.insert(row) else self.update(self.rows[row.key], **values)

    def delete(self, row: Row) -> None:
        self.lock(row, Lock.UPDATE)
        self._write(row.key, None)

    def _write(self, key: Key, row: Any) -> None:
        self.changes[key] = row
        if row is None:
            del self.rows[key]
        else:
            self.rows[key] = row

    def _wait_for_rival(self, key: Key) -> None:
        """Wait, as a unique index does, for whoever inserts, changes or deletes the row."""
        for other in self._others:
            if key in other.changes:
                raise Blocked(other.session)

    def _is_past(self, moment: Moment | None) -> bool:
        return moment is not None and earliest(moment) <= self._now.earliest

    def _seconds_until(self, moment: Moment) -> float:
        return max(self._in_seconds(moment), 0.0)

    def _in_seconds(self, moment: Moment) -> float:
        return (earliest(moment) - self._now.earliest) / 1e6

    # -- applications -----------------------------------------------------------------------

    def enqueue_workflow(
        self,
        *,
        workflow_name: str,
        queue_name: str,
        workflow_id: str | None = None,
        deduplication_id: str | None = None,
        on_duplicate: str = "raise",
        priority: int = 0,
        delay: timedelta | None = None,
        timeout: timedelta | None = None,
        max_attempts: int | None = None,
        debounce: timedelta | None = None,
    ) -> str:
        delay = debounce or delay
        workflow = Workflow(
            workflow_id=workflow_id or self._new_id(Workflow),
            workflow_name=workflow_name,
            queue_name=queue_name,
            status="DELAYED" if delay else "ENQUEUED",
            priority=priority,
            deduplication_id=deduplication_id,
            has_started=False,
            attempts=0,
            max_attempts=max_attempts or 50,
            executor_id=None,
            waiting_for=None,
            available_at=self._now.later(delay.total_seconds() if delay else 0),
            deadline_at=None,
            timeout=timeout.total_seconds() if timeout else None,
            output=None,
            error=None,
        )
        if debounce:
            return self._debounce(workflow)
        self._wait_for_rival(workflow.key)
        namesake = self.get(Workflow, workflow.workflow_id)
        if namesake is not None:
            if (namesake.workflow_name, namesake.queue_name) != (workflow_name, queue_name):
                raise Refused("23505")
            return namesake.workflow_id
        self._wait_for_twin(workflow)
        twin = self._unfinished_twin(workflow)
        if twin is not None:
            if on_duplicate == "raise":
                raise Refused("23505")
            return twin.workflow_id
        self.insert(workflow)
        return workflow.workflow_id

    def _debounce(self, newest: Workflow) -> str:
        self._wait_for_twin(newest)
        twin = self._unfinished_twin(newest)
        if twin is None:
            self.insert(newest)
            return newest.workflow_id
        if twin.has_started:
            self.update(twin, deduplication_id=None)
            return self._debounce(newest)
        self.update(
            twin,
            status="DELAYED",
            priority=newest.priority,
            max_attempts=twin.attempts + newest.max_attempts,
            available_at=newest.available_at,
            deadline_at=None,
            timeout=newest.timeout,
        )
        return twin.workflow_id

    def enqueue_workflows(
        self, *, named_args: list[Any], deduplication_ids: list[str | None], **options: Any
    ) -> list[tuple[str]]:
        told = self._told
        ids = []
        for place, deduplication_id in enumerate(deduplication_ids):
            self._told = told[place:]
            ids.append((self.enqueue_workflow(deduplication_id=deduplication_id, **options),))
        return ids

    def send_message(
        self,
        *,
        destination_id: str,
        message: str,
        topic: str | None = None,
        idempotency_key: str | None = None,
    ) -> str:
        workflow = self.get(Workflow, destination_id)
        if workflow is None:
            raise Refused("P0002")
        self.lock(workflow, Lock.KEY_SHARE)

        sent = Message(
            destination_id=destination_id,
            topic=topic or "",
            message=message,
            idempotency_key=idempotency_key,
            sent_at=self._now,
        )
        earlier = self._message_with_same_key(sent)
        if earlier is not None:
            return earlier.message
        self.insert(sent)
        if f"message:{sent.topic}" in (workflow.waiting_for or ()):
            self.update(workflow, status="ENQUEUED", waiting_for=None, available_at=self._now)
        return sent.message

    def get_event(self, *, workflow_id: str, key: str) -> Any:
        if self.get(Workflow, workflow_id) is None:
            raise Refused("P0002")
        event = self.get(Event, workflow_id, key)
        return event.value if event else None

    def cancel_workflow(self, *, workflow_id: str) -> bool:
        workflow = self.get(Workflow, workflow_id)
        if workflow is None:
            raise Refused("P0002")
        self.lock(workflow, Lock.NO_KEY_UPDATE)
        if workflow.status == "CANCELLED":
            return False
        if not workflow.is_unfinished:
            raise Refused("55000")
        self.update(workflow, status="CANCELLED", waiting_for=None)
        return True

    def resume_workflow(self, *, workflow_id: str) -> bool:
        workflow = self.get(Workflow, workflow_id)
        if workflow is None:
            raise Refused("P0002")
        self.lock(workflow, Lock.NO_KEY_UPDATE)
        if workflow.is_unfinished:
            return False
        if workflow.status == "SUCCESS":
            raise Refused("55000")
        if self._unfinished_twin(workflow) is not None:
            raise Refused("23505")
        self._wait_for_twin(workflow)

        if workflow.status == "ERROR":
            last_beginning = max((step.began_at for step in self._steps(workflow_id)), default=0)
            for step in self._steps(workflow_id):
                if step.error and step.is_finished and last_beginning <= step.ended_at:
                    self.delete(step)
        self.update(
            workflow,
            status="ENQUEUED",
            executor_id=None,
            error=None,
            available_at=self._now,
            max_attempts=workflow.attempts + workflow.max_attempts,
            deadline_at=None if self._is_past(workflow.deadline_at) else workflow.deadline_at,
        )
        return True

    def create_queue(self, *, queue_name: str, concurrency: int | None) -> None:
        self.upsert(Queue(queue_name=queue_name, concurrency=concurrency), concurrency=concurrency)

    def pause_queue(self, *, queue_name: str) -> None:
        self.upsert(Queue(queue_name=queue_name, is_paused=True), is_paused=True)

    def unpause_queue(self, *, queue_name: str) -> None:
        queue = self.get(Queue, queue_name)
        if queue is None:
            raise Refused("P0002")
        self.update(queue, is_paused=False)

    # -- executors --------------------------------------------------------------------------

    def register_executor(
        self, *, queues: list[str], workflow_names: list[str], lease_duration: str
    ) -> str:
        executor_id = self._new_id(Executor)
        self.insert(Executor(executor_id=executor_id, queues=tuple(sorted(queues))))
        return executor_id

    def heartbeat(self, *, executor_id: str) -> list[tuple[str]]:
        self.update(self._living(executor_id), lease="runs")
        return []

    def release_workflows(self, *, executor_id: str, keep_ids: list[str]) -> int:
        executor = self.get(Executor, executor_id)
        if executor is not None:
            self.lock(executor, Lock.UPDATE)
        released = [
            workflow
            for workflow in self._running(executor_id)
            if workflow.workflow_id not in keep_ids
            and self.lock(workflow, Lock.NO_KEY_UPDATE, skips_locked=True)
        ]
        for workflow in released:
            self.update(
                workflow,
                status="ENQUEUED",
                executor_id=None,
                attempts=workflow.attempts - 1,
                available_at=self._now,
            )
        return len(released)

    def unregister_executor(self, *, executor_id: str) -> int:
        released_count = self.release_workflows(executor_id=executor_id, keep_ids=[])
        executor = self.get(Executor, executor_id)
        if executor is not None:
            self._bury(executor)
        return released_count

    def recover_workflows(self) -> int:
        dead = [
            executor
            for executor in self.all(Executor)
            if executor.lease != "runs" and self.lock(executor, Lock.UPDATE, skips_locked=True)
        ]
        recovered_count = 0
        for executor in dead:
            for workflow in self._running(executor.executor_id):
                if self.lock(workflow, Lock.NO_KEY_UPDATE, skips_locked=True):
                    self._recover(workflow)
                    recovered_count += 1
            self._bury(executor)
        return recovered_count

    def _recover(self, workflow: Workflow) -> None:
        back_off = min(2.0 ** (workflow.attempts - 4), 60.0) if workflow.attempts > 3 else 0.0
        if workflow.attempts >= workflow.max_attempts:
            self.update(
                workflow,
                status="MAX_RECOVERY_ATTEMPTS_EXCEEDED",
                error="MaxRecoveryAttemptsExceeded",
                available_at=self._now.later(back_off),
            )
        else:
            self.update(
                workflow,
                status="DELAYED" if back_off else "ENQUEUED",
                executor_id=None,
                available_at=self._now.later(back_off + BACK_OFF_STRETCH if back_off else 0),
            )

    def _bury(self, executor: Executor) -> None:
        """Remove an executor, once nothing that a client held locked is left with it."""
        if self._running(executor.executor_id):
            self.update(executor, lease="declared dead")
        else:
            self.delete(executor)

    def promote_due_workflows(self) -> list[tuple[int, Any]]:
        unfinished = [workflow for workflow in self.all(Workflow) if workflow.is_unfinished]
        overdue = [
            workflow
            for workflow in unfinished
            if self._is_past(workflow.deadline_at)
            and self.lock(workflow, Lock.NO_KEY_UPDATE, skips_locked=True)
        ]
        for workflow in overdue:
            self.update(workflow, status="CANCELLED", error="DeadlineExceeded", waiting_for=None)

        due = [
            workflow
            for workflow in self.all(Workflow)
            if workflow.status in ("DELAYED", "WAITING")
            and self._is_past(workflow.available_at)
            and self.lock(workflow, Lock.NO_KEY_UPDATE, skips_locked=True)
        ]
        for workflow in due:
            self.update(workflow, status="ENQUEUED", waiting_for=None)

        next_due = [
            self._seconds_until(moment)
            for workflow in self.all(Workflow)
            for moment in _moments_ahead(workflow)
        ]
        return [(len(due) + len(overdue), about(min(next_due)) if next_due else None)]

    def pulse(self, *, executor_id: str) -> list[tuple[int, int, Any, bool]]:
        self.heartbeat(executor_id=executor_id)
        recovered_count = self.recover_workflows()
        [(promoted_count, next_due_in)] = self.promote_due_workflows()
        executor = self.rows[Executor, executor_id]
        has_ready = any(
            workflow.status == "ENQUEUED" and workflow.queue_name in executor.queues
            for workflow in self.all(Workflow)
        )
        return [(recovered_count, promoted_count, next_due_in, has_ready)]

    def claim_workflows(self, *, executor_id: str, max_count: int) -> list[tuple[Any, ...]]:
        executor = self._hold_executor(executor_id)
        running = self._running(executor_id)
        if executor.suspect_id is not None:
            if executor.suspect_id in [workflow.workflow_id for workflow in running]:
                return []
            executor = self.update(executor, suspect_id=None)
        ready: list[Workflow] = []
        if not running and self._suspects_of(executor):
            ready = self._ready(executor, 1, suspects=True)
        if ready:
            self.update(executor, suspect_id=ready[0].workflow_id)
        else:
            ready = self._ready(executor, max_count, suspects=False)
        return [self._claim(workflow, executor_id) for workflow in ready]

    def _suspects_of(self, executor: Executor) -> list[Workflow]:
        paused = [queue.queue_name for queue in self.all(Queue) if queue.is_paused]
        return [
            workflow
            for workflow in self.all(Workflow)
            if workflow.is_suspect
            and workflow.queue_name in executor.queues
            and workflow.queue_name not in paused
        ]

    def _ready(self, executor: Executor, max_count: int, *, suspects: bool) -> list[Workflow]:
        limited = {
            queue.queue_name: queue
            for queue in self.all(Queue)
            if queue.is_paused or queue.concurrency is not None
        }
        free = [name for name in executor.queues if name not in limited]
        held = [[name] for name in executor.queues if name in limited]
        rooms = {name: self._room_in(limited[name]) for [name] in held}
        ready: list[Workflow] = []
        for names in sorted([free, *held], key=self._head):
            wanted = max_count - len(ready)
            # of each queue so many are locked as might be claimed, and then the first taken
            first = [
                workflow
                for name in names
                for workflow in self._lock_ready(
                    name, min(rooms.get(name, wanted), wanted), suspects
                )
            ]
            ready += sorted(first, key=self._place)[:wanted]
        return ready

    def _room_in(self, queue: Queue) -> int:
        if not self.lock(queue, Lock.NO_KEY_UPDATE, skips_locked=True) or queue.is_paused:
            return 0
        running_count = sum(
            workflow.status == "PENDING" and workflow.queue_name == queue.queue_name
            for workflow in self.all(Workflow)
        )
        assert queue.concurrency is not None
        return queue.concurrency - running_count

    def _head(self, queue_names: list[str]) -> tuple[float, ...]:
        """Return the place of the first workflow that waits in some queues."""
        places = [
            self._place(workflow)
            for workflow in self.all(Workflow)
            if workflow.status == "ENQUEUED" and workflow.queue_name in queue_names
        ]
        return min(places, default=(math.inf,))

    def _lock_ready(self, queue_name: str, max_count: int, suspects: bool) -> list[Workflow]:
        ready = [
            workflow
            for workflow in self.all(Workflow)
            if workflow.status == "ENQUEUED"
            and workflow.queue_name == queue_name
            and workflow.is_suspect == suspects
        ]
        locked: list[Workflow] = []
        for workflow in sorted(ready, key=self._place):
            if len(locked) < max_count and self.lock(
                workflow, Lock.NO_KEY_UPDATE, skips_locked=True
            ):
                locked.append(workflow)
        return locked

    def _place(self, workflow: Workflow) -> tuple[int, int, int]:
        told = [row[0] for row in self._told]
        is_told = workflow.workflow_id in told
        assert workflow.available_at is not None
        return (
            workflow.priority,
            earliest(workflow.available_at),
            told.index(workflow.workflow_id) if is_told else len(told),
        )

    def _claim(self, workflow: Workflow, executor_id: str) -> tuple[Any, ...]:
        deadline_at = workflow.deadline_at
        if deadline_at is None and workflow.timeout is not None:
            deadline_at = self._now.later(workflow.timeout)
        claimed = self.update(
            workflow,
            status="PENDING",
            executor_id=executor_id,
            attempts=workflow.attempts + 1,
            has_started=True,
            deadline_at=deadline_at,
        )
        history = [
            (step.step_id, step.step_name, step.output, step.error, step.attempts, step.is_finished)
            for step in self._steps(workflow.workflow_id)
        ]
        deadline_in = None if deadline_at is None else about(self._in_seconds(deadline_at))
        return (claimed.workflow_id, claimed.attempts, sorted(history), deadline_in)

    # -- what an executor writes ------------------------------------------------------------

    def record_steps(self, *, executor_id: str, steps: list[Any]) -> list[tuple[str]]:
        self._hold_executor(executor_id)
        for step in steps:
            if self._is_held(executor_id, step):
                self._finish_step(
                    Step(
                        workflow_id=step["workflow_id"],
                        step_id=step["step_id"],
                        step_name=step["step_name"],
                        output=step.get("output"),
                        error=_type_of(step.get("error")),
                        attempts=step["attempts"],
                    )
                )
        return self._lost(executor_id, steps)

    def record_step(
        self,
        *,
        executor_id: str,
        workflow_id: str,
        attempt: int,
        step_id: int,
        step_name: str,
        output: str,
    ) -> None:
        """Record a step; the test writes its output into the ledger beside it."""
        executor = self.get(Executor, executor_id)
        claim = {"workflow_id": workflow_id, "attempt": attempt}
        if executor and executor.lease != "declared dead" and self._is_held(executor_id, claim):
            self.lock(self.rows[Workflow, workflow_id], Lock.KEY_SHARE)
            step = Step(
                workflow_id=workflow_id, step_id=step_id, step_name=step_name, output=output
            )
            if not self._finish_step(step):
                raise Refused("WF004")
            self.insert(Ledger(workflow_id=workflow_id, step_id=step_id, entries=(output,)))
            return
        workflow = self.get(Workflow, workflow_id)
        raise Refused("WF002" if workflow and workflow.status == "CANCELLED" else "WF001")

    def _finish_step(self, step: Step) -> bool:
        if self.insert(step):
            return True
        recorded = self.rows[step.key]
        self.lock(recorded, Lock.NO_KEY_UPDATE)
        if recorded.is_finished:
            return False
        self.update(
            recorded,
            output=step.output,
            error=step.error,
            attempts=step.attempts,
            is_finished=True,
        )
        return True

    def start_timers(self, *, executor_id: str, timers: list[Any]) -> list[tuple[str, int, Any]]:
        self._hold_executor(executor_id)
        answers = []
        for timer in timers:
            if not self._is_held(executor_id, timer):
                continue
            started = Step(
                workflow_id=timer["workflow_id"],
                step_id=timer["step_id"],
                step_name=timer["step_name"],
                error=_type_of(timer["error"]),
                attempts=timer["attempts"],
                available_at=self._now.later(timer["delay"]),
                is_finished=False,
            )
            if not self.insert(started):
                running = self.rows[started.key]
                self.lock(running, Lock.NO_KEY_UPDATE)
                if running.is_finished:
                    continue
                is_next_attempt = started.attempts > running.attempts
                started = self.update(
                    running,
                    error=started.error,
                    attempts=started.attempts,
                    available_at=(started if is_next_attempt else running).available_at,
                )
            remaining = about(self._seconds_until(started.available_at))
            answers.append((started.workflow_id, started.step_id, remaining))
        return answers

    def set_events(self, *, executor_id: str, events: list[Any]) -> list[tuple[str]]:
        self._hold_executor(executor_id)
        for event in sorted(events, key=lambda event: event["step_id"]):
            if self._is_held(executor_id, event) and self._insert_step(event, "set_event"):
                self.upsert(
                    Event(
                        workflow_id=event["workflow_id"],
                        event_key=event["key"],
                        value=event["value"],
                    ),
                    value=event["value"],
                )
        return self._lost(executor_id, events)

    def send_step_messages(
        self, *, executor_id: str, messages: list[Any]
    ) -> list[tuple[str, int, str]]:
        self._hold_executor(executor_id)
        answers = []
        for message in messages:
            step = (message["workflow_id"], message["step_id"])
            if not self._is_held(executor_id, message):
                answers.append((*step, "lost"))
            elif self.get(Workflow, message["destination_id"]) is None:
                answers.append((*step, "unknown_destination"))
            elif self._insert_step(message, "send"):
                self.send_message(
                    destination_id=message["destination_id"],
                    message=message["message"],
                    topic=message["topic"],
                    idempotency_key=message["idempotency_key"],
                )
        return answers

    def receive_messages(
        self, *, executor_id: str, receives: list[Any]
    ) -> list[tuple[str, int, str, Any, Any]]:
        self._hold_executor(executor_id)
        return [
            (receive["workflow_id"], receive["step_id"], *self._receive(executor_id, receive))
            for receive in receives
        ]

    def _receive(self, executor_id: str, receive: Any) -> tuple[str, Any, Any]:
        workflow_id, step_id = receive["workflow_id"], receive["step_id"]
        if not self._is_held(executor_id, receive):
            return ("lost", None, None)

        step = self.get(Step, workflow_id, step_id)
        if step is not None and step.is_finished:
            return ("received" if step.attempts else "timed_out", step.output, None)

        timeout = receive["timeout"]
        is_too_late = timeout == 0 or (step is not None and self._is_past(step.available_at))
        message = next(iter(self._unread(workflow_id, {receive["topic"] or ""})), None)
        received = Step(workflow_id=workflow_id, step_id=step_id, step_name="receive", attempts=0)
        if message is not None:
            self.update(message, consumed_by_step=step_id)
            self._finish_step(replace(received, output=message.message, attempts=1))
            return ("received", message.message, None)
        if is_too_late:
            self._finish_step(received)
            return ("timed_out", None, None)
        if step is None:
            times_out_at = None if timeout is None else self._now.later(timeout)
            step = replace(received, available_at=times_out_at, is_finished=False)
            self.insert(step)
        if step.available_at is None:
            return ("waiting", None, None if timeout is None else about(timeout))
        return ("waiting", None, about(self._seconds_until(step.available_at)))

    def suspend_workflows(
        self, *, executor_id: str, suspensions: list[Any]
    ) -> list[tuple[str, str]]:
        self._hold_executor(executor_id)
        return [
            (suspension["workflow_id"], self._suspend(executor_id, suspension))
            for suspension in suspensions
        ]

    def _suspend(self, executor_id: str, suspension: Any) -> str:
        workflow_id, topics = suspension["workflow_id"], suspension["topics"]
        if not self._is_held(executor_id, suspension):
            return "lost"
        workflow = self.rows[Workflow, workflow_id]
        if not self.lock(workflow, Lock.UPDATE, skips_locked=True):
            return "busy"
        if self._unread(workflow_id, set(topics)):
            return "ready"

        timers = [
            step.available_at
            for step in self._steps(workflow_id)
            if step.step_id in suspension["step_ids"]
            and not step.is_finished
            and step.available_at is not None
        ]
        is_suspect = self.rows[Executor, executor_id].suspect_id == workflow_id
        self.update(
            workflow,
            status="WAITING" if topics else "DELAYED",
            waiting_for=tuple(f"message:{topic}" for topic in topics) if topics else None,
            available_at=min(timers, key=earliest, default=None if topics else self._now),
            executor_id=None,
            attempts=workflow.attempts - 1 - is_suspect,
        )
        return "suspended"

    def finish_workflows(self, *, executor_id: str, outcomes: list[Any]) -> list[tuple[str]]:
        self._hold_executor(executor_id)
        for outcome in outcomes:
            if self._is_held(executor_id, outcome):
                error = _type_of(outcome.get("error"))
                self.update(
                    self.rows[Workflow, outcome["workflow_id"]],
                    status="ERROR" if error else "SUCCESS",
                    output=outcome.get("output"),
                    error=error,
                )

        def was_finished_by_this_attempt(outcome: Any) -> bool:
            workflow = self.rows[Workflow, outcome["workflow_id"]]
            return (
                workflow.status in ("SUCCESS", "ERROR")
                and workflow.executor_id == executor_id
                and workflow.attempts == outcome["attempt"]
            )

        return [
            (outcome["workflow_id"],)
            for outcome in outcomes
            if not was_finished_by_this_attempt(outcome)
        ]

    def advance_workflows(
        self, *, executor_id: str, changes: dict[str, list[Any]], claim_count: int
    ) -> dict[str, list[Any]]:
        self._hold_executor(executor_id)
        answer: dict[str, list[Any]] = {part: [] for part in ("lost", "claimed", *ANSWERING)}
        for part, function in PARTS.items():
            if part in changes:
                rows = getattr(self, function)(executor_id=executor_id, **{part: changes[part]})
                answer[part if part in ANSWERING else "lost"] += rows
        if claim_count > 0:
            answer["claimed"] = self.claim_workflows(executor_id=executor_id, max_count=claim_count)
        return answer

    # -- helpers ----------------------------------------------------------------------------

    def _new_id(self, kind: type[Row]) -> str:
        told = self._told[0][0] if self._told else None
        return told if told and (kind, told) not in self.rows else f"new {len(self.rows)}"

    def _living(self, executor_id: str) -> Executor:
        executor = self.get(Executor, executor_id)
        if executor is None or executor.lease == "declared dead":
            raise Refused("WF001")
        return executor

    def _hold_executor(self, executor_id: str) -> Executor:
        executor = self._living(executor_id)
        self.lock(executor, Lock.KEY_SHARE)
        return executor

    def _is_held(self, executor_id: str, claim: Any) -> bool:
        workflow = self.rows[Workflow, claim["workflow_id"]]
        return (workflow.status, workflow.executor_id, workflow.attempts) == (
            "PENDING",
            executor_id,
            claim["attempt"],
        )

    def _lost(self, executor_id: str, changes: list[Any]) -> list[tuple[str]]:
        return sorted(
            {
                (change["workflow_id"],)
                for change in changes
                if not self._is_held(executor_id, change)
            }
        )

    def _running(self, executor_id: str) -> list[Workflow]:
        return [
            workflow
            for workflow in self.all(Workflow)
            if workflow.status == "PENDING" and workflow.executor_id == executor_id
        ]

    def _steps(self, workflow_id: str) -> list[Step]:
        return [step for step in self.all(Step) if step.workflow_id == workflow_id]

    def _unread(self, workflow_id: str, topics: set[str]) -> list[Message]:
        unread = [
            message
            for message in self.all(Message)
            if message.destination_id == workflow_id
            and message.topic in topics
            and message.consumed_by_step is None
        ]
        return sorted(unread, key=lambda message: earliest(message.sent_at))

    def _insert_step(self, change: Any, step_name: str) -> bool:
        return self.insert(
            Step(workflow_id=change["workflow_id"], step_id=change["step_id"], step_name=step_name)
        )

    def _unfinished_twin(self, workflow: Workflow) -> Workflow | None:
        return next((row for row in self.rows.values() if _are_twins(row, workflow)), None)

    def _wait_for_twin(self, workflow: Workflow) -> None:
        for other in self._others:
            for key, row in other.changes.items():
                if _are_twins(row, workflow) or _are_twins(self._committed.get(key), workflow):
                    raise Blocked(other.session)

    def _message_with_same_key(self, sent: Message) -> Message | None:
        def has_same_key(message: Any) -> bool:
            return (
                isinstance(message, Message)
                and message.idempotency_key is not None
                and message.idempotency_key == sent.idempotency_key
                and message.destination_id == sent.destination_id
            )

        for other in self._others:
            if any(has_same_key(row) for row in other.changes.values()):
                raise Blocked(other.session)
        return next(filter(has_same_key, self.rows.values()), None)


def _are_twins(row: Any, workflow: Workflow) -> bool:
    """Tell whether a row is another unfinished workflow with the same deduplication_id."""
    return (
        isinstance(row, Workflow)
        and row.is_unfinished
        and row.deduplication_id is not None
        and row.deduplication_id == workflow.deduplication_id
        and row.queue_name == workflow.queue_name
        and row.workflow_id != workflow.workflow_id
    )


def _moments_ahead(workflow: Workflow) -> list[Moment]:
    """List when an unfinished workflow falls due, asleep or at its deadline."""
    is_asleep = workflow.status in ("DELAYED", "WAITING")
    moments = [
        workflow.deadline_at if workflow.is_unfinished else None,
        workflow.available_at if is_asleep else None,
    ]
    return [moment for moment in moments if moment is not None]


def _type_of(error: dict[str, str] | None) -> str | None:
    return error["type"] if error else None


PARTS = {
    "steps": "record_steps",
    "timers": "start_timers",
    "events": "set_events",
    "messages": "send_step_messages",
    "receives": "receive_messages",
    "outcomes": "finish_workflows",
    "suspensions": "suspend_workflows",
}
ANSWERING = ("timers", "messages", "receives", "suspensions")
