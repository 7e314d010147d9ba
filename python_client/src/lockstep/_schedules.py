# Generated from _async_schedules.py by tools/generate_sync.py. Do not edit.
"""The part of the client that makes schedules, changes them and starts their ticks."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from psycopg import Connection
from typing_extensions import Unpack

from . import _schedule_calls
from ._caller import Caller, Rows
from ._functions import WorkflowFunction
from ._options import SCHEDULED_AT
from ._schedule_calls import ScheduleInfo, ScheduleOptions


class Schedules(Caller):
    """Methods of Client for schedules."""

    def schedule_workflow(
        self,
        schedule_name: str,
        cron: str,
        workflow: WorkflowFunction[..., Any] | str,
        *,
        queue_name: str | None = None,
        named_args: Mapping[str, Any] | None = None,
        time_zone: str = "UTC",
        time_arg: str | None = SCHEDULED_AT,
        conn: Connection[Any] | None = None,
        **options: Unpack[ScheduleOptions],
    ) -> None:
        """
        Create a schedule, or replace the one of this name: a workflow starts at each tick.

        ``cron`` has five fields, six with the seconds first, or is an alias such as "@daily".
        The scheduled time is passed as argument ``time_arg``, unless that is None or the
        function has no parameter "scheduled_at". ``options`` takes the keys of
        ScheduleOptions. Raises InvalidArgument.

        >>> client.schedule_workflow(                     # doctest: +SKIP
        ...     "nightly", "0 3 * * *", close_books, time_zone="Europe/Berlin"
        ... )
        """
        declared = _schedule_calls.declaration(
            schedule_name, cron, workflow, queue_name, named_args, time_zone, time_arg, options
        )
        self._execute(_schedule_calls.schedule_workflow(declared), conn)

    def unschedule_workflow(
        self, schedule_name: str, *, conn: Connection[Any] | None = None
    ) -> None:
        """Remove a schedule; its workflows go on. Raises ScheduleNotFound."""
        call = _schedule_calls.change_schedule("unschedule_workflow", schedule_name)
        self._execute(call, conn)

    def pause_schedule(self, schedule_name: str, *, conn: Connection[Any] | None = None) -> None:
        """Leave out the ticks of a schedule until it is unpaused. Raises ScheduleNotFound."""
        self._execute(_schedule_calls.change_schedule("pause_schedule", schedule_name), conn)

    def unpause_schedule(self, schedule_name: str, *, conn: Connection[Any] | None = None) -> None:
        """
        Let a schedule go on with its next tick; those of the pause are left out.

        Raises ScheduleNotFound.
        """
        call = _schedule_calls.change_schedule("unpause_schedule", schedule_name)
        self._execute(call, conn)

    def list_schedules(self, *, conn: Connection[Any] | None = None) -> Rows[ScheduleInfo]:
        """Return all schedules by name."""
        return self._fetch(_schedule_calls.list_schedules(), conn)

    def trigger_schedule(self, schedule_name: str, *, conn: Connection[Any] | None = None) -> str:
        """
        Start a schedule's workflow now, beside its ticks, and return its id.

        Raises ScheduleNotFound; DuplicateWorkflow if its deduplication id is taken.
        """
        return self._execute(_schedule_calls.trigger_schedule(schedule_name), conn)

    def backfill_schedule(
        self,
        schedule_name: str,
        from_time: datetime,
        to_time: datetime,
        *,
        conn: Connection[Any] | None = None,
    ) -> str:
        """
        Start the workflows of past ticks, from a moment up to, but not including, another.

        Returns the id of the workflow that does it: its result is the number of workflows
        started. Ticks that were started before are left alone. Raises ScheduleNotFound,
        InvalidArgument.

        >>> id = client.backfill_schedule("nightly", monday, sunday)    # doctest: +SKIP
        >>> client.result(id)                                           # doctest: +SKIP
        """
        call = _schedule_calls.backfill_schedule(schedule_name, from_time, to_time)
        return self._execute(call, conn)
