"""The SQL calls that list, look into and change workflows."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from typing_extensions import TypedDict

from ._calls import INFO_COLUMNS, Call, WorkflowInfo, _first, _none, read_info
from ._checks import refuse_other_type
from ._codec import encode
from ._errors import InvalidArgument
from ._options import refuse_unknown
from ._payloads import Payloads


class WorkflowFilter(TypedDict, total=False):
    """
    Conditions that workflows meet, all of those that are given.

    ``status`` is one or several; ``created_after`` includes that moment, ``created_before``
    does not; ``error_text`` is searched for in the error's type and message; ``headers``
    must contain what is given. An index serves all but ``error_text`` and ``headers``,
    which are tested on what the others leave.
    """

    status: str | Sequence[str] | None
    workflow_name: str | None
    queue_name: str | None
    created_after: datetime | None
    created_before: datetime | None
    parent_workflow_id: str | None
    id_prefix: str | None
    error_text: str | None
    headers: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class StepInfo:
    """
    A recorded step of a workflow.

    ``status`` is SUCCESS, ERROR or TIMED_OUT for one that has finished, RETRYING for one
    that waits for its next attempt and WAITING for one that waits for anything else.
    """

    step_id: int
    step_name: str
    status: str
    output: Any
    error: dict[str, Any] | None
    attempts: int
    started_at: datetime
    completed_at: datetime | None
    available_at: datetime | None
    child_workflow_id: str | None


ExplainFormat = Literal["text", "mermaid"]


class Nothing(enum.Enum):
    """The payload that is none; None is one, a JSON null."""

    NOTHING = "nothing"


NOTHING = Nothing.NOTHING


def _given(filter: WorkflowFilter) -> dict[str, Any]:
    refuse_unknown(filter, WorkflowFilter, "a filter of workflows")
    given: dict[str, Any] = {name: value for name, value in filter.items() if value is not None}
    if isinstance(given.get("status"), str):
        given["status"] = [given["status"]]
    elif "status" in given:
        given["status"] = list(given["status"])
    return given


def list_workflows(
    filter: WorkflowFilter, before_id: str | None, max_count: int, payloads: Payloads
) -> Call[WorkflowInfo]:
    """List workflows, newest first."""
    given = _given(filter)
    if "headers" in given:
        given["headers"] = encode(given["headers"])
    given["before_id"] = before_id
    given["max_count"] = max_count
    casts = {"headers": "::jsonb", "status": "::text[]"}
    names = ", ".join(f"{name} => %s{casts.get(name, '')}" for name in given)
    return Call(
        f"SELECT workflow_id, {INFO_COLUMNS} FROM lockstep.list_workflows({names})",
        tuple(given.values()),
        lambda row: read_info(row[0], row[1:], payloads),
    )


def list_steps(workflow_id: str, payloads: Payloads) -> Call[StepInfo]:
    """List the recorded steps of a workflow."""
    return Call(
        "SELECT step_id, step_name, status, output::text, error::text, attempts, started_at,"
        " completed_at, available_at, child_workflow_id FROM lockstep.list_steps(%s)",
        (workflow_id,),
        lambda row: _read_step(row, payloads),
    )


def explain_workflow(workflow_id: str, format: ExplainFormat) -> Call[str]:
    """Explain a workflow."""
    return Call("SELECT lockstep.explain_workflow(%s, %s)", (workflow_id, format), _first)


def cancel_workflow(workflow_id: str) -> Call[bool]:
    """Cancel a workflow."""
    return Call("SELECT lockstep.cancel_workflow(%s)", (workflow_id,), _first)


def resume_workflow(workflow_id: str) -> Call[bool]:
    """Resume a workflow."""
    return Call("SELECT lockstep.resume_workflow(%s)", (workflow_id,), _first)


def restart_workflow(workflow_id: str) -> Call[None]:
    """Restart a workflow."""
    return Call("SELECT lockstep.restart_workflow(%s)", (workflow_id,), _none)


def fork_workflow(
    workflow_id: str,
    from_step: int,
    new_workflow_id: str | None,
    app_version: str | None,
    queue_name: str | None,
) -> Call[str]:
    """Fork a workflow."""
    return Call(
        "SELECT lockstep.fork_workflow(%s, %s::int, %s, %s, %s)",
        (workflow_id, from_step, new_workflow_id, app_version, queue_name),
        _first,
    )


def set_priority(workflow_id: str, priority: int) -> Call[bool]:
    """Change a workflow's priority."""
    return Call("SELECT lockstep.set_priority(%s, %s::int)", (workflow_id, priority), _first)


def move_workflow(workflow_id: str, queue_name: str) -> Call[bool]:
    """Move a workflow to another queue."""
    return Call("SELECT lockstep.move_workflow(%s, %s)", (workflow_id, queue_name), _first)


def fast_forward(workflow_id: str, payload: Any, payloads: Payloads) -> Call[None]:
    """End what a workflow waits for."""
    text = None if payload is NOTHING else payloads.store(payload)
    return Call("SELECT lockstep.fast_forward(%s, %s::jsonb)", (workflow_id, text), _none)


def purge_workflows(older_than: timedelta, max_count: int) -> Call[int]:
    """Delete a batch of workflows that ended longer ago."""
    return Call("SELECT lockstep.purge_workflows(%s, %s::int)", (older_than, max_count), _first)


def change_workflows(
    function: str,
    filter: WorkflowFilter,
    everything: bool,
    max_count: int,
    value: str | int | Nothing = NOTHING,
) -> Call[str]:
    """Change workflows that meet a filter, by one of the functions for many."""
    given = _given(filter)
    if not given and not everything:
        raise InvalidArgument("give a condition, or everything=True to mean all workflows")
    for name in ("created_after", "created_before"):
        if name in given:
            refuse_other_type(name, given[name], datetime)
            given[name] = given[name].isoformat()
    values = () if value is NOTHING else (value,)
    place = ", %s::int" if function == "set_priorities" else ", %s" * len(values)
    return Call(
        f"SELECT c.id FROM lockstep.{function}(%s::jsonb{place}, max_count => %s::int) AS c (id)",
        (encode(given), *values, max_count),
        _first,
    )


def _read_step(row: Sequence[Any], payloads: Payloads) -> StepInfo:
    values = list(row)
    values[3] = payloads.load_if_readable(values[3])
    values[4] = payloads.load_error(values[4])
    return StepInfo(*values)
