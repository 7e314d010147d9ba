"""What a database with Lockstep in it holds, as values that can be compared.

A database is a dict of immutable rows by key. Moments are microseconds of the test's own
clock, which is the server's but for the time that the test lets pass without waiting.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

UNFINISHED = ("ENQUEUED", "DELAYED", "PENDING", "WAITING")


@dataclass(frozen=True, slots=True)
class Window:
    """A moment that the server chose, so that only its bounds are known."""

    earliest: int
    latest: int

    def later(self, seconds: float) -> Window:
        return Window(self.earliest + round(seconds * 1e6), self.latest + round(seconds * 1e6))


Moment = int | Window


def earliest(moment: Moment) -> int:
    return moment.earliest if isinstance(moment, Window) else moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    KEY: ClassVar[tuple[str, ...]]

    @property
    def key(self) -> Key:
        return (type(self), *(getattr(self, name) for name in self.KEY))


Key = tuple[Any, ...]
Rows = dict[Key, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workflow(Row):
    KEY = ("workflow_id",)
    workflow_id: str
    workflow_name: str
    queue_name: str
    status: str
    priority: int
    deduplication_id: str | None
    has_started: bool
    attempts: int
    max_attempts: int
    executor_id: str | None
    waiting_for: tuple[str, ...] | None
    available_at: Moment | None
    deadline_at: Moment | None
    timeout: float | None
    output: Any
    error: str | None

    @property
    def is_unfinished(self) -> bool:
        return self.status in UNFINISHED

    @property
    def is_suspect(self) -> bool:
        """Whether it waits, and so many executors died under it that it runs alone."""
        deaths = self.attempts
        return self.status == "ENQUEUED" and deaths > 0 and deaths >= min(3, self.max_attempts - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(Row):
    KEY = ("workflow_id", "step_id")
    workflow_id: str
    step_id: int
    step_name: str
    output: Any = None
    error: str | None = None
    attempts: int = 1
    available_at: Moment | None = None
    is_finished: bool = True
    # by the server's clock, learned from it
    began_at: int | None = field(default=None, compare=False)
    ended_at: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message(Row):
    """Known by what it says: no two messages of a test say the same."""

    KEY = ("destination_id", "message")
    destination_id: str
    topic: str
    message: str
    idempotency_key: str | None
    sent_at: Moment
    consumed_by_step: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event(Row):
    KEY = ("workflow_id", "event_key")
    workflow_id: str
    event_key: str
    value: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Executor(Row):
    KEY = ("executor_id",)
    executor_id: str
    queues: tuple[str, ...]
    lease: str = "runs"  # or "ended"; "declared dead" for good
    suspect_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue(Row):
    KEY = ("queue_name",)
    queue_name: str
    concurrency: int | None = None
    is_paused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger(Row):
    """What transactional steps wrote beside their checkpoints, in a table of the user."""

    KEY = ("workflow_id", "step_id")
    workflow_id: str
    step_id: int
    entries: tuple[str, ...]


KINDS = {kind.__name__: kind for kind in Row.__subclasses__()}


def learn_moments(expected: Rows, real: Rows) -> Rows:
    """Put the moments that the server chose into rows that knew only their bounds."""
    return {key: _with_moments_of(real.get(key), row) for key, row in expected.items()}


def _with_moments_of(real: Any, expected: Any) -> Any:
    learned = {}
    for column in fields(expected):
        bounds = getattr(expected, column.name)
        moment = getattr(real, column.name, None)
        if isinstance(bounds, Window):
            if moment is not None and bounds.earliest <= moment <= bounds.latest:
                learned[column.name] = moment
        elif not column.compare:
            learned[column.name] = moment
    return replace(expected, **learned) if learned else expected


def differences(expected: Rows, real: Rows) -> str:
    """Say in words how two databases differ; nothing if they do not."""
    lines = []
    for key in {**expected, **real}:
        name = f"{key[0].__name__} {', '.join(map(str, key[1:]))}"
        if key not in real:
            lines.append(f"{name} should exist: {expected[key]}")
        elif key not in expected:
            lines.append(f"{name} should not exist: {real[key]}")
        elif expected[key] != real[key]:
            lines += (
                f"{name}: {column.name} should be {wanted!r} and is {found!r}"
                for column in fields(real[key])
                if column.compare
                and (wanted := getattr(expected[key], column.name))
                != (found := getattr(real[key], column.name))
            )
    return "\n".join(lines)
