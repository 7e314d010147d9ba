"""The part of the client that makes schedules, changes them and starts their ticks."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection
from typing_extensions import Unpack

from . import _schedule_calls
from ._async_caller import AsyncCaller, Rows
from ._functions import WorkflowFunction
from ._options import SCHEDULED_AT
from ._schedule_calls import ScheduleInfo, ScheduleOptions


class AsyncSchedules(AsyncCaller):
    """Methods of AsyncClient for schedules."""

    async def schedule_workflow(
        self,
        schedule_name: str,
        cron: str,
        workflow: WorkflowFunction[..., Any] | str,
        *,
        queue_name: str | None = None,
        named_args: Mapping[str, Any] | None = None,
        time_zone: str = "UTC",
        time_arg: str | None = SCHEDULED_AT,
        conn: AsyncConnection[Any] | None = None,
        **options: Unpack[ScheduleOptions],
    ) -> None:
        """
        Create a schedule, or replace the one of this name: a workflow starts at each tick.

        ``cron`` has five fields, six with the seconds first, or is an alias such as "@daily".
        The scheduled time is passed as argument ``time_arg``, unless that is None or the
        function has no parameter "scheduled_at". ``options`` takes the keys of
        ScheduleOptions. Raises InvalidArgument.

        >>> await client.schedule_workflow(                     # doctest: +SKIP
        ...     "nightly", "0 3 * * *", close_books, time_zone="Europe/Berlin"
        ... )
        """
        declared = _schedule_calls.declaration(
            schedule_name, cron, workflow, queue_name, named_args, time_zone, time_arg, options
        )
        await self._execute(_schedule_calls.schedule_workflow(declared), conn)

    async def unschedule_workflow(
        self, schedule_name: str, *, conn: AsyncConnection[Any] | None = None
    ) -> None:
        """Remove a schedule; its workflows go on. Raises ScheduleNotFound."""
        call = _schedule_calls.change_schedule("unschedule_workflow", schedule_name)
        await self._execute(call, conn)

    async def pause_schedule(
        self, schedule_name: str, *, conn: AsyncConnection[Any] | None = None
    ) -> None:
        """Leave out the ticks of a schedule until it is unpaused. Raises ScheduleNotFound."""
        await self._execute(_schedule_calls.change_schedule("pause_schedule", schedule_name), conn)

    async def unpause_schedule(
        self, schedule_name: str, *, conn: AsyncConnection[Any] | None = None
    ) -> None:
        """
        Let a schedule go on with its next tick; those of the pause are left out.

        Raises ScheduleNotFound.
        """
        call = _schedule_calls.change_schedule("unpause_schedule", schedule_name)
        await self._execute(call, conn)

    async def list_schedules(
        self, *, conn: AsyncConnection[Any] | None = None
    ) -> Rows[ScheduleInfo]:
        """Return all schedules by name."""
        return await self._fetch(_schedule_calls.list_schedules(), conn)

    async def trigger_schedule(
        self, schedule_name: str, *, conn: AsyncConnection[Any] | None = None
    ) -> str:
        """
        Start a schedule's workflow now, beside its ticks, and return its id.

        Raises ScheduleNotFound; DuplicateWorkflow if its deduplication id is taken.
        """
        return await self._execute(_schedule_calls.trigger_schedule(schedule_name), conn)

    async def backfill_schedule(
        self,
        schedule_name: str,
        from_time: datetime,
        to_time: datetime,
        *,
        conn: AsyncConnection[Any] | None = None,
    ) -> str:
        """
        Start the workflows of past ticks, from a moment up to, but not including, another.

        Returns the id of the workflow that does it: its result is the number of workflows
        started. Ticks that were started before are left alone. Raises ScheduleNotFound,
        InvalidArgument.

        >>> id = await client.backfill_schedule("nightly", monday, sunday)    # doctest: +SKIP
        >>> await client.result(id)                                           # doctest: +SKIP
        """
        call = _schedule_calls.backfill_schedule(schedule_name, from_time, to_time)
        return await self._execute(call, conn)
