"""The SQL calls of a client: one stored function each, and how to read its answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar

from pydantic_core import from_json

from ._app import WorkflowFunction
from ._codec import encode
from ._errors import WorkflowCancelled, WorkflowFailed

T = TypeVar("T")

ENDED = ("SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A query with its parameters, and how to read the one row that answers it."""

    query: str
    params: Sequence[Any]
    read: Callable[[Sequence[Any]], T]


@dataclass(frozen=True, slots=True)
class WorkflowInfo:
    """
    A workflow as the database has it.

    ``status`` is one of ENQUEUED, DELAYED, PENDING, WAITING, SUCCESS, ERROR, CANCELLED
    and MAX_RECOVERY_ATTEMPTS_EXCEEDED; ``output`` and ``error`` are JSON values.
    """

    workflow_id: str
    workflow_name: str
    queue_name: str
    status: str
    output: Any
    error: dict[str, Any] | None
    attempts: int
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None

    @property
    def has_ended(self) -> bool:
        return self.status in ENDED

    def result(self) -> Any:
        """Return the output of a workflow that ended, or raise why it has none."""
        if self.status == "SUCCESS":
            return self.output
        error = self.error or {"type": "", "message": ""}
        if self.status == "CANCELLED":
            raise WorkflowCancelled(
                f'workflow "{self.workflow_id}" was cancelled'
                + (f": {error['message']}" if error["message"] else "")
            )
        raise WorkflowFailed(self.workflow_id, self.status, error["type"], error["message"])


def _first(row: Sequence[Any]) -> Any:
    return row[0]


def _json(text: str | None) -> Any:
    return None if text is None else from_json(text)


def enqueue_workflow(
    workflow: WorkflowFunction[..., Any] | str,
    args: Sequence[Any],
    named_args: Mapping[str, Any],
    queue_name: str | None,
    **options: Any,
) -> Call[str]:
    """Enqueue a workflow, named or given as the decorated function."""
    if isinstance(workflow, WorkflowFunction):
        workflow_name = workflow.name
        queue_name = queue_name or workflow.queue_name
    else:
        workflow_name = workflow
    given = {name: value for name, value in options.items() if value is not None}
    if "headers" in given:
        given["headers"] = encode(given["headers"])
    names = "".join(f", {name} => %s" for name in given)
    return Call(
        f"SELECT lockstep.enqueue_workflow(%s, %s, %s::jsonb, %s::jsonb{names})".replace(
            "headers => %s", "headers => %s::jsonb"
        ),
        (
            workflow_name,
            queue_name or "default",
            encode(list(args)),
            encode(dict(named_args)),
            *given.values(),
        ),
        _first,
    )


def send_message(
    destination_id: str, message: Any, topic: str | None, idempotency_key: str | None
) -> Call[str]:
    """Send a message to a workflow."""
    return Call(
        "SELECT lockstep.send_message(%s, %s::jsonb, %s, %s)",
        (destination_id, encode(message), topic, idempotency_key),
        _first,
    )


def get_event(workflow_id: str, key: str) -> Call[Any]:
    """Read an event's value."""
    return Call(
        "SELECT lockstep.get_event(%s, %s)::text",
        (workflow_id, key),
        lambda row: _json(row[0]),
    )


def get_workflow(workflow_id: str) -> Call[WorkflowInfo]:
    """Read a workflow."""
    return Call(
        "SELECT workflow_name, queue_name, status, output::text, error::text, attempts,"
        " created_at, started_at, completed_at FROM lockstep.get_workflow(%s)",
        (workflow_id,),
        lambda row: WorkflowInfo(
            workflow_id, row[0], row[1], row[2], _json(row[3]), _json(row[4]), *row[5:]
        ),
    )


def cancel_workflow(workflow_id: str) -> Call[bool]:
    """Cancel a workflow."""
    return Call("SELECT lockstep.cancel_workflow(%s)", (workflow_id,), _first)


def resume_workflow(workflow_id: str) -> Call[bool]:
    """Resume a workflow."""
    return Call("SELECT lockstep.resume_workflow(%s)", (workflow_id,), _first)


RESULT_PAUSES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Growing pauses, in seconds, between two looks at a workflow whose result is awaited."""


def pause_before(look: int, ends_at: float | None, now: float) -> float | None:
    """Return the pause before a look (counted from 1), None when there is no time for it."""
    pause = RESULT_PAUSES[min(look, len(RESULT_PAUSES)) - 1]
    if ends_at is None:
        return pause
    return None if now >= ends_at else min(pause, ends_at - now)


def seconds(duration: timedelta | None) -> float | None:
    """Return a duration in seconds."""
    return None if duration is None else duration.total_seconds()
