"""The SQL calls of a client: one stored function each, and how to read its answer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar

from ._checks import refuse_other_type
from ._codec import UnreadableJson, decode_if_readable, decode_json, encode
from ._errors import WorkflowCancelled, WorkflowFailed
from ._functions import WorkflowFunction
from ._options import OPTION_NAMES, ConfiguredWorkflow, retry_policy
from ._payloads import Payloads

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
    and MAX_RECOVERY_ATTEMPTS_EXCEEDED; ``output``, ``error``, ``inputs``, ``headers`` and
    ``progress`` are JSON values, UnreadableJson where Python's parser refuses one.
    ``waiting_for`` names what wakes a WAITING workflow, such as "message:approval".
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
    inputs: dict[str, Any]
    priority: int
    deduplication_id: str | None
    queue_partition_key: str | None
    app_version: str | None
    executor_id: str | None
    max_attempts: int
    failures: int
    available_at: datetime | None
    deadline_at: datetime | None
    waiting_for: tuple[str, ...]
    parent_workflow_id: str | None
    forked_from: str | None
    enqueued_by: str
    headers: dict[str, Any] | None
    progress: dict[str, Any] | None

    @property
    def has_ended(self) -> bool:
        return self.status in ENDED

    def result(self) -> Any:
        """Return the output of a workflow that ended, or raise why it has none."""
        return result_of(self.workflow_id, self.status, self.output, self.error)


def result_of(
    workflow_id: str, status: str | None, output: Any, error: dict[str, Any] | None
) -> Any:
    """Return the output of a workflow that ended, or raise why it has none."""
    if status == "SUCCESS":
        if isinstance(output, UnreadableJson):
            decode_json(output)  # raises why
        return output
    if isinstance(error, UnreadableJson) or error is None:
        error = {"type": "", "message": error or ""}
    if status == "CANCELLED":
        raise WorkflowCancelled(
            f'workflow "{workflow_id}" was cancelled'
            + (f": {error['message']}" if error["message"] else "")
        )
    raise WorkflowFailed(workflow_id, str(status), error["type"], error["message"])


@dataclass(frozen=True, slots=True)
class Watch:
    """What is waited for: the end of a workflow, an event of it, or values of a stream."""

    workflow_id: str
    event_key: str | None = None
    stream_key: str | None = None
    from_offset: int = 0

    def document(self) -> str:
        """Return the watch as the JSON that ``watch_workflows()`` takes."""
        return encode({name: getattr(self, name) for name in self.__slots__})


@dataclass(frozen=True, slots=True)
class Finding:
    """What has come: outcome as ``check_watches()`` says it; output and error are JSON texts."""

    outcome: str
    status: str | None
    output: str | None
    error: str | None

    def result(self, workflow_id: str, payloads: Payloads) -> Any:
        """Return the output of the workflow that ended, or raise why it has none."""
        error = payloads.load_error(self.error)
        return result_of(workflow_id, self.status, payloads.load(self.output), error)

    def value(self, payloads: Payloads) -> Any:
        """Return the value of the event that is set."""
        return payloads.load(self.output)


def _first(row: Sequence[Any]) -> Any:
    return row[0]


def _none(row: Sequence[Any]) -> None:
    return None


def enqueue_workflow(
    workflow: WorkflowFunction[..., Any] | ConfiguredWorkflow[..., Any] | str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    payloads: Payloads,
) -> Call[str]:
    """
    Enqueue a workflow, named or given as the decorated function.

    Of ``kwargs``, the names of options are options, unless a function that is given has a
    parameter of that name, or its options are configured: then they are its arguments.
    """
    named_args = dict(kwargs)
    if isinstance(workflow, ConfiguredWorkflow):
        options = workflow.given()
        workflow = workflow.workflow
    else:
        own: Collection[str] = ()
        if isinstance(workflow, WorkflowFunction):
            own = inspect.signature(workflow.function).parameters
        names = [name for name in OPTION_NAMES if name in kwargs and name not in own]
        options = {name: named_args.pop(name) for name in names}
        if "named_args" not in own:
            named_args.update(named_args.pop("named_args", None) or {})
    return _enqueue_workflow(workflow, args, named_args, options, payloads)


def _enqueue_workflow(
    workflow: WorkflowFunction[..., Any] | str,
    args: Sequence[Any],
    named_args: Mapping[str, Any],
    options: Mapping[str, Any],
    payloads: Payloads,
) -> Call[str]:
    given = {name: value for name, value in options.items() if value is not None}
    queue_name = given.pop("queue_name", None)
    if isinstance(workflow, WorkflowFunction):
        workflow_name = workflow.name
        queue_name = queue_name or workflow.queue_name
    else:
        workflow_name = workflow
    names, values = written_options(given)
    return Call(
        f"SELECT lockstep.enqueue_workflow(%s, %s, %s::jsonb, %s::jsonb{names})",
        (
            workflow_name,
            queue_name or "default",
            payloads.store_all(args),
            payloads.store_named(named_args),
            *values,
        ),
        _first,
    )


def written_options(given: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """Return options as arguments of the SQL functions: their text, and the values."""
    values = dict(given)
    if "retries" in values:
        values["retries"] = encode(retry_policy(values["retries"]))
    if "headers" in values:
        values["headers"] = encode(values["headers"])
    casts = {"headers": "::jsonb", "retries": "::jsonb"}
    names = "".join(f", {name} => %s{casts.get(name, '')}" for name in values)
    return names, list(values.values())


def send_message(
    destination_id: str,
    message: Any,
    topic: str | None,
    idempotency_key: str | None,
    payloads: Payloads,
) -> Call[str]:
    """Send a message to a workflow."""
    return Call(
        "SELECT lockstep.send_message(%s, %s::jsonb, %s, %s)",
        (destination_id, payloads.store(message), topic, idempotency_key),
        _first,
    )


def get_event(workflow_id: str, key: str, payloads: Payloads) -> Call[Any]:
    """Read an event's value."""
    return Call(
        "SELECT lockstep.get_event(%s, %s)::text",
        (workflow_id, key),
        lambda row: payloads.load(row[0]),
    )


STREAM_PORTION = 1000
"""Values of a stream that are read at once."""


def read_stream(workflow_id: str, key: str, from_offset: int) -> Call[tuple[int, bool, str | None]]:
    """Read values of a stream: offset, whether it closes the stream, and value as JSON text."""
    return Call(
        "SELECT value_offset, is_end, value::text FROM lockstep.read_stream(%s, %s, %s, %s)",
        (workflow_id, key, from_offset, STREAM_PORTION),
        lambda row: (row[0], row[1], row[2]),
    )


def check_watches(documents: Sequence[str], tells_busy: bool) -> Call[tuple[int, Finding]]:
    """Look for what is waited for: the place of the watch, counted from 0, and what has come."""
    return Call(
        "SELECT place, outcome, status, output::text, error::text"
        " FROM lockstep.check_watches(%s::jsonb, %s)",
        (f"[{','.join(documents)}]", tells_busy),
        lambda row: (row[0] - 1, Finding(*row[1:])),
    )


def watch_workflows(channel: str, documents: Sequence[str], given_up: Sequence[str]) -> Call[None]:
    """Be notified on a channel of what is waited for, and not of what is given up."""
    return Call(
        "SELECT lockstep.watch_workflows(%s, %s::jsonb, %s::jsonb)",
        (channel, f"[{','.join(documents)}]", f"[{','.join(given_up)}]"),
        _none,
    )


def get_workflow(workflow_id: str, payloads: Payloads) -> Call[WorkflowInfo]:
    """Read a workflow."""
    return Call(
        f"SELECT {INFO_COLUMNS} FROM lockstep.get_workflow(%s)",
        (workflow_id,),
        lambda row: read_info(workflow_id, row, payloads),
    )


INFO_COLUMNS = (
    "workflow_name, queue_name, status, output::text, error::text, attempts, created_at,"
    " started_at, completed_at, inputs::text, priority, deduplication_id, queue_partition_key,"
    " app_version, executor_id, max_attempts, failures, available_at, deadline_at,"
    " coalesce(waiting_for, '{}'), parent_workflow_id, forked_from, enqueued_by, headers::text,"
    " progress::text"
)


def read_info(workflow_id: str, row: Sequence[Any], payloads: Payloads) -> WorkflowInfo:
    """Read the row of INFO_COLUMNS."""
    values = list(row)
    values[3] = payloads.load_if_readable(values[3])
    values[4] = payloads.load_error(values[4])
    values[9] = payloads.load_inputs(values[9])
    for place in (23, 24):
        values[place] = decode_if_readable(values[place])
    values[19] = tuple(values[19])
    return WorkflowInfo(workflow_id, *values)


LOOK_PAUSES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Growing pauses, in seconds, between looks for what does not notify; the last one repeats."""


def pause_before(look: int, ends_at: float | None, now: float) -> float | None:
    """Return the pause before a look (counted from 1), None when there is no time for it."""
    pause = LOOK_PAUSES[min(look, len(LOOK_PAUSES)) - 1]
    if ends_at is None:
        return pause
    return None if now >= ends_at else min(pause, ends_at - now)


def moment(timeout: timedelta | None, now: float) -> float | None:
    """Return when a timeout that begins now is over."""
    if timeout is None:
        return None
    refuse_other_type("timeout", timeout, timedelta)
    return now + timeout.total_seconds()
