"""Starts the ticks of schedules: the database says which are due and a library when they are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Any

import psycopg

from ._codec import encode
from ._cron import Cron
from ._errors import InvalidArgument, translate
from ._functions import StepFunction
from ._retry import NO_RETRY
from ._scope import current_scope_or_step
from ._session import pause_after

if TYPE_CHECKING:
    from ._worker import Worker

BACKFILL = "lockstep.backfill"
"""Name of the workflow that starts past ticks; the database enqueues it."""

GRACE = timedelta(seconds=30)
"""How late a tick may be started without being a missed one."""

_LARGEST_BATCH = 100
"""Ticks of a schedule that are started in one transaction."""

_PAUSE_WHEN_HELD = 0.2
"""Seconds between looks at a schedule that somebody holds; others may be as late by it."""

_LONGEST_SLEEP = 3600.0

_TROUBLE = ("08", "25", "40", "53", "57", "58", "XX")
"""Classes of errors that pass: conflicts, and a server that is down, in trouble or read-only."""

_DUE = "SELECT * FROM lockstep.due_schedules()"
_START = "SELECT started_count, next_tick_in FROM lockstep.start_ticks(%s)"
_START_BACKFILL = "SELECT lockstep.start_backfill(%s, %s::timestamptz[], %s)"

_cron = lru_cache(maxsize=1000)(Cron)


@dataclass(frozen=True, slots=True)
class DueSchedule:
    """A schedule that wants a worker, as ``due_schedules()`` says it."""

    schedule_name: str
    revision: int
    cron: str
    time_zone: str
    on_missed: str
    handled_until: datetime
    asked_at: datetime

    def change(self) -> dict[str, Any]:
        """Compute which ticks to start, and the next one, as ``start_ticks()`` takes it."""
        identity = {"schedule_name": self.schedule_name, "revision": self.revision}
        try:
            cron = _cron(self.cron, self.time_zone)
        except InvalidArgument as error:
            return {**identity, "ticks": [], "problem": str(error)}
        ticks, handled_until = self._ticks_to_start(cron)
        return {
            **identity,
            "ticks": ticks,
            "handled_until": handled_until,
            "next_tick_at": next(cron.ticks_after(handled_until), None),
        }

    def _ticks_to_start(self, cron: Cron) -> tuple[list[datetime], datetime]:
        """Return the ticks to start, and until when all are started or forgotten then."""
        # what is subtracted in the zone of the database is time on its clock, not time that passed
        asked_at = self.asked_at.astimezone(timezone.utc)
        after = self.handled_until.astimezone(timezone.utc)
        missed_until = asked_at - GRACE
        latest = None
        if self.on_missed != "all":
            first = next(cron.ticks_after(after), None)
            if first is not None and first <= missed_until:
                if self.on_missed == "latest":
                    latest = cron.latest_tick(after, missed_until)
                after = missed_until
        coming = islice(cron.ticks_after(after), _LARGEST_BATCH)
        ticks = list(takewhile(lambda tick: tick <= asked_at, coming))
        if not ticks and latest is not None:
            ticks = [latest]
        return ticks, ticks[-1] if ticks else after


class Scheduler:
    """
    Starts ticks at their moment, by the database's clock; every worker does.

    Whoever is first starts a tick: the database takes what was computed from a schedule
    as it is, and the workflow's id is derived from the tick.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._wakeup = asyncio.Event()
        self._look_at = float("inf")
        self._reported: dict[str, str] = {}

    def expect(self, moment: float) -> None:
        """Note that a schedule wants a worker at a moment (monotonic)."""
        if moment < self._look_at and self._worker.starts_ticks:
            self._look_at = moment
            self._wakeup.set()

    async def run(self) -> None:
        """Start ticks until cancelled."""
        attempt = 0
        while True:
            try:
                if time.monotonic() >= self._look_at and not await self._look():
                    await asyncio.sleep(_PAUSE_WHEN_HELD)
                attempt = 0
            except psycopg.Error as error:
                self._worker.log_trouble(error)
                self.expect(time.monotonic())
                await asyncio.sleep(pause_after(attempt))
                attempt += 1
            timeout = min(self._look_at - time.monotonic(), _LONGEST_SLEEP)
            alarm = self._worker.loop.call_later(max(timeout, 0.0), self._wakeup.set)
            try:
                await self._wakeup.wait()
            finally:
                alarm.cancel()
            self._wakeup.clear()

    async def _look(self) -> bool:
        """Start what is due; return False if something still is that others may hold."""
        self._look_at = float("inf")
        rows = await self._worker.session.call(_DUE)
        changes = [DueSchedule(*row).change() for row in rows]
        try:
            started_count, next_tick_in = await self._start(changes)
        except psycopg.Error as error:
            if not _is_of_one(error):
                raise
            started_count, next_tick_in = await self._start_one_by_one(changes)
        if next_tick_in is not None:
            self.expect(time.monotonic() + next_tick_in)
        return started_count > 0 or next_tick_in is None or next_tick_in > 0

    async def _start(self, changes: Sequence[dict[str, Any]]) -> tuple[int, float | None]:
        ((started_count, next_tick_in),) = await self._worker.session.call(_START, encode(changes))
        self._report(changes)
        return started_count, next_tick_in

    async def _start_one_by_one(
        self, changes: Sequence[dict[str, Any]]
    ) -> tuple[int, float | None]:
        """Find the schedule that the database refuses to start ticks of, and tell it so."""
        total, next_tick_in = 0, None
        for change in changes:
            try:
                started_count, next_tick_in = await self._start([change])
            except psycopg.Error as error:
                if not _is_of_one(error):
                    raise
                failed = {**change, "problem": error.diag.message_primary, "ticks": []}
                failed["handled_until"] = failed["next_tick_at"] = None
                started_count, next_tick_in = await self._start([failed])
            total += started_count
        return total, next_tick_in

    def _report(self, changes: Sequence[dict[str, Any]]) -> None:
        for change in changes:
            name, problem = change["schedule_name"], change.get("problem")
            if problem is None:
                self._reported.pop(name, None)
            elif self._reported.get(name) != problem:
                self._reported[name] = problem
                self._worker.log.error('schedule "%s" starts no ticks: %s', name, problem)


def _is_of_one(error: psycopg.Error) -> bool:
    """Tell what a schedule's own workflows met, as a trigger that raises, from trouble for all."""
    state = error.sqlstate or ""
    return state != "" and state[:2] not in _TROUBLE and state != "55P03"


async def _fill(
    schedule_name: str, cron: str, time_zone: str, after: datetime, to_time: datetime
) -> tuple[int, datetime | None]:
    """Start a batch of past ticks; return how many had not been, and the last if there are more."""
    run = current_scope_or_step(BACKFILL).run
    coming = islice(_cron(cron, time_zone).ticks_after(after), _LARGEST_BATCH)
    ticks = list(takewhile(lambda tick: tick < to_time, coming))
    try:
        ((count,),) = await run.worker.session.call_patiently(
            run.worker.log_trouble, _START_BACKFILL, schedule_name, ticks, run.workflow_id
        )
    except psycopg.Error as error:
        raise (translate(error) or error) from error
    return count, ticks[-1] if len(ticks) == _LARGEST_BATCH else None


_fill_step = StepFunction(_fill, "backfill", NO_RETRY)


async def backfill(
    schedule_name: str, cron: str, time_zone: str, from_time: datetime, to_time: datetime
) -> int:
    """Start the past ticks of a schedule; the function of the workflow that does it."""
    total = 0
    after: datetime | None = from_time - timedelta(microseconds=1)
    while after is not None:
        count, after = await _fill_step(schedule_name, cron, time_zone, after, to_time)
        total += count
    return total
