"""The SQL calls that make and change schedules, and what they take and tell."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from typing_extensions import TypedDict

from ._calls import Call, _first, _none
from ._checks import refuse_bad_duration, refuse_bad_name, refuse_other_type
from ._codec import decode_if_readable, encode
from ._cron import Cron
from ._errors import InvalidArgument
from ._functions import WorkflowFunction
from ._options import SCHEDULED_AT, refuse_unknown, retry_policy
from ._retry import Retry


class ScheduleOptions(TypedDict, total=False):
    """
    How a schedule starts its workflows, beside when and with what.

    ``on_missed`` says which ticks that nobody started in time are started late: "skip"
    (none), "latest" or "all". ``engine`` is "pg_cron" or "workers"; without one it is pg_cron
    where it can. A tick is left out while an unfinished workflow has the same
    ``deduplication_id``. The others are options of each workflow, as for enqueueing one.
    """

    on_missed: Literal["skip", "latest", "all"]
    engine: Literal["pg_cron", "workers"] | None
    priority: int
    deduplication_id: str | None
    queue_partition_key: str | None
    timeout: timedelta | None
    max_attempts: int | None
    app_version: str | None
    headers: Mapping[str, Any] | None
    retries: Retry | Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class ScheduleInfo:
    """
    A schedule as the database has it.

    ``engine`` is what starts the ticks: "pg_cron", beside the workers, or the "workers"
    alone. ``next_tick_at`` is None if the schedule is paused or never ticks, and until a
    worker has computed it. ``problem`` says why no ticks can be started.
    """

    schedule_name: str
    cron: str
    time_zone: str
    workflow_name: str
    queue_name: str
    named_args: dict[str, Any]
    time_arg: str | None
    on_missed: str
    engine: str
    is_paused: bool
    priority: int
    deduplication_id: str | None
    queue_partition_key: str | None
    timeout: timedelta | None
    max_attempts: int | None
    app_version: str | None
    headers: dict[str, Any] | None
    retries: dict[str, Any] | None
    last_tick_at: datetime | None
    next_tick_at: datetime | None
    problem: str | None
    created_at: datetime
    created_by: str


_COLUMNS = ", ".join(
    f"{name}::text" if name in ("named_args", "headers", "retries") else name
    for name in ScheduleInfo.__slots__
)


def declaration(
    schedule_name: str,
    cron: str,
    workflow: WorkflowFunction[..., Any] | str,
    queue_name: str | None,
    named_args: Mapping[str, Any] | None,
    time_zone: str,
    time_arg: str | None,
    options: ScheduleOptions,
) -> dict[str, Any]:
    """
    Return the arguments of ``schedule_workflow()``, checked by what Python knows.

    Raises InvalidArgument if the library takes neither expression nor time zone, or if the
    workflow's function would not take the arguments.
    """
    Cron(cron, time_zone)
    refuse_bad_name("schedule_name", schedule_name)
    refuse_unknown(options, ScheduleOptions, "a schedule")
    for name, value in (("queue_name", queue_name), ("time_arg", time_arg)):
        if value is not None:
            refuse_bad_name(name, value)
    if (timeout := options.get("timeout")) is not None:
        refuse_bad_duration("timeout", timeout, is_positive=True)
    for count in ("priority", "max_attempts"):
        if options.get(count) is not None:
            refuse_other_type(count, options[count], int)
    if named_args is not None:
        refuse_other_type("named_args", named_args, Mapping)
    values: dict[str, Any] = dict(options)
    if values.get("retries") is not None:
        values["retries"] = retry_policy(values["retries"])
    named_args = dict(named_args or {})
    if isinstance(workflow, WorkflowFunction):
        time_arg = _fitting_time_arg(workflow, named_args, time_arg)
        queue_name = queue_name or workflow.queue_name
        workflow = workflow.name
    return {
        "schedule_name": schedule_name,
        "cron": cron,
        "workflow_name": workflow,
        "queue_name": queue_name or "default",
        "named_args": named_args,
        "time_zone": time_zone,
        "time_arg": time_arg,
        **values,
    }


def _fitting_time_arg(
    workflow: WorkflowFunction[..., Any], named_args: Mapping[str, Any], time_arg: str | None
) -> str | None:
    """Return the name of the argument for the time, if the function has one of the name."""
    signature = inspect.signature(workflow.function)
    if time_arg == SCHEDULED_AT and SCHEDULED_AT not in signature.parameters:
        time_arg = None
    try:
        signature.bind(**{**named_args, **({} if time_arg is None else {time_arg: ""})})
    except TypeError as error:
        raise InvalidArgument(
            f'workflow "{workflow.name}" cannot be called with the arguments of its schedule: '
            f"{error}"
        ) from error
    return time_arg


def schedule_workflow(declared: Mapping[str, Any]) -> Call[None]:
    """Create or replace a schedule."""
    casts = {"named_args": "::jsonb", "headers": "::jsonb", "retries": "::jsonb"}
    types = {**casts, "priority": "::int", "max_attempts": "::int", "timeout": "::interval"}
    places = ", ".join(f"{name} => %s{types.get(name, '')}" for name in declared)
    values = (
        encode(value) if name in casts and value is not None else value
        for name, value in declared.items()
    )
    return Call(f"SELECT lockstep.schedule_workflow({places})", tuple(values), _none)


def change_schedule(function: str, schedule_name: str) -> Call[None]:
    """Remove, pause or unpause a schedule."""
    return Call(f"SELECT lockstep.{function}(%s)", (schedule_name,), _none)


def list_schedules() -> Call[ScheduleInfo]:
    """List schedules."""
    return Call(f"SELECT {_COLUMNS} FROM lockstep.list_schedules()", (), _read_schedule)


def trigger_schedule(schedule_name: str) -> Call[str]:
    """Start a schedule's workflow now."""
    return Call("SELECT lockstep.trigger_schedule(%s)", (schedule_name,), _first)


def backfill_schedule(schedule_name: str, from_time: datetime, to_time: datetime) -> Call[str]:
    """Start past ticks of a schedule."""
    refuse_other_type("from_time", from_time, datetime)
    refuse_other_type("to_time", to_time, datetime)
    if from_time.tzinfo is None or to_time.tzinfo is None:
        raise InvalidArgument("backfill_schedule() needs aware datetimes")
    return Call(
        "SELECT lockstep.backfill_schedule(%s, %s, %s)", (schedule_name, from_time, to_time), _first
    )


def _read_schedule(row: Sequence[Any]) -> ScheduleInfo:
    values = dict(zip(ScheduleInfo.__slots__, row, strict=True))
    for name in ("named_args", "headers", "retries"):
        values[name] = decode_if_readable(values[name])
    return ScheduleInfo(**values)
