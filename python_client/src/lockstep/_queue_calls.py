"""The SQL calls about queues: their limits, whether they are paused, what is in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any

from typing_extensions import TypedDict

from ._calls import Call, _none
from ._checks import refuse_bad_name, shown
from ._errors import InvalidArgument
from ._options import refuse_unknown


class QueueLimits(TypedDict, total=False):
    """
    Limits of a queue; one that is left out, or None, is no limit.

    ``concurrency`` workflows run at once over all workers, ``worker_concurrency`` in one
    worker process; ``rate_limit`` executions begin in any ``rate_period``. The limits of
    partitions are the same for the workflows of one ``queue_partition_key``.
    """

    concurrency: int | None
    worker_concurrency: int | None
    rate_limit: int | None
    rate_period: timedelta | None
    partition_concurrency: int | None
    partition_rate_limit: int | None
    partition_rate_period: timedelta | None


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue with the limits that an app declares; see App.queue()."""

    queue_name: str
    concurrency: int | None = None
    worker_concurrency: int | None = None
    rate_limit: int | None = None
    rate_period: timedelta | None = None
    partition_concurrency: int | None = None
    partition_rate_limit: int | None = None
    partition_rate_period: timedelta | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        refuse_bad_name("queue_name", self.queue_name)
        _refuse_wrong_types({name: getattr(self, name) for name in LIMIT_NAMES})
        for limit, period in (
            ("rate_limit", "rate_period"),
            ("partition_rate_limit", "partition_rate_period"),
        ):
            if (getattr(self, limit) is None) != (getattr(self, period) is None):
                raise InvalidArgument(f"{limit} and {period} belong together")


@dataclass(frozen=True, slots=True)
class QueueInfo:
    """
    A queue as the database has it.

    The limits are those of QueueLimits. The counts are of unfinished workflows by status,
    and of live workers that serve the queue.
    """

    queue_name: str
    is_paused: bool
    concurrency: int | None
    worker_concurrency: int | None
    rate_limit: int | None
    rate_period: timedelta | None
    partition_concurrency: int | None
    partition_rate_limit: int | None
    partition_rate_period: timedelta | None
    enqueued_count: int
    delayed_count: int
    waiting_count: int
    pending_count: int
    worker_count: int


@dataclass(frozen=True, slots=True)
class Difference:
    """A limit that the code declares otherwise than the database has it."""

    limit_name: str
    declared: str | None
    actual: str | None


LIMIT_NAMES = tuple(QueueLimits.__annotations__)
_COLUMNS = ", ".join(field.name for field in fields(QueueInfo))


def _refuse_wrong_types(limits: Mapping[str, Any]) -> None:
    for name, value in limits.items():
        if value is None:
            continue
        if name.endswith("_period"):
            if not isinstance(value, timedelta):
                raise InvalidArgument(f"{name} must be a timedelta, not {shown(value)}")
        elif not isinstance(value, int) or value < 1:
            raise InvalidArgument(f"{name} must be 1 or greater, not {shown(value)}")


def _call_with_limits(
    function: str, queue_name: str, limits: Mapping[str, Any], further: str = "", *values: Any
) -> Call[None]:
    refuse_unknown(limits, QueueLimits, f"{function}()")
    _refuse_wrong_types(limits)
    names = "".join(f", {name} => %s" for name in limits)
    return Call(
        f"SELECT lockstep.{function}(%s{names}{further})",
        (queue_name, *limits.values(), *values),
        _none,
    )


def create_queue(queue_name: str, limits: Mapping[str, Any]) -> Call[None]:
    """Create a queue, or replace its limits."""
    return _call_with_limits("create_queue", queue_name, limits)


def alter_queue(
    queue_name: str, limits: Mapping[str, Any], reset: str | Sequence[str]
) -> Call[None]:
    """Change limits of a queue."""
    names = [reset] if isinstance(reset, str) else list(reset)
    return _call_with_limits("alter_queue", queue_name, limits, ", reset => %s::text[]", names)


def declare_queue(queue: Queue) -> Call[Difference]:
    """Create a queue unless it exists; read in what it differs then."""
    names = "".join(f", {name} => %s" for name in (*LIMIT_NAMES, "overwrite"))
    return Call(
        f"SELECT limit_name, declared, actual FROM lockstep.declare_queue(%s{names})",
        [getattr(queue, field.name) for field in fields(queue)],
        lambda row: Difference(*row),
    )


def difference_of(queue: Queue, differences: Sequence[Difference]) -> str:
    """Return the warning for a queue that the database has with other limits."""
    said = ", ".join(
        f"{each.limit_name} {each.actual or 'none'} (declared: {each.declared or 'none'})"
        for each in differences
    )
    return (
        f'queue "{queue.queue_name}" keeps the limits that it has in the database: {said};'
        " change them there, or declare the queue with overwrite=True"
    )


def drop_queue(queue_name: str, force: bool) -> Call[None]:
    """Remove the limits of a queue."""
    return Call("SELECT lockstep.drop_queue(%s, %s)", (queue_name, force), _none)


def pause_queue(queue_name: str) -> Call[None]:
    """Pause a queue."""
    return Call("SELECT lockstep.pause_queue(%s)", (queue_name,), _none)


def unpause_queue(queue_name: str) -> Call[None]:
    """Let workers claim out of a queue again."""
    return Call("SELECT lockstep.unpause_queue(%s)", (queue_name,), _none)


def list_queues() -> Call[QueueInfo]:
    """Read all queues."""
    return Call(f"SELECT {_COLUMNS} FROM lockstep.list_queues()", (), lambda row: QueueInfo(*row))
