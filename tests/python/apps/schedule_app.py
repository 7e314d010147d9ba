"""Schedules for the crash tests: who first computes ticks is held before it starts them."""

from __future__ import annotations

import os
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import lockstep
from lockstep import _scheduler
from lockstep._session import Session

app = lockstep.App()
GATES = Path(os.environ["GATES"])


@app.workflow
async def tell_time(scheduled_at: datetime) -> str:
    return scheduled_at.isoformat()


def hold_the_first(name: str) -> None:
    """Hold the first process that comes here until it is killed."""
    try:
        (GATES / f"{name}.reached.first").touch(exist_ok=False)
    except FileExistsError:
        return
    time.sleep(60)


class HeldSchedule(_scheduler.DueSchedule):
    def change(self) -> dict[str, Any]:
        change = super().change()
        if change["ticks"]:
            hold_the_first("computed")
        return change


batches: list[Any] = []
call = Session.call


async def held_call(session: Session, query: str, *params: Any) -> list[tuple[Any, ...]]:
    rows = await call(session, query, *params)
    if query == _scheduler._START_BACKFILL:
        batches.append(rows)
        if len(batches) == 2:
            hold_the_first("second_batch")
    return rows


_scheduler.DueSchedule = HeldSchedule  # type: ignore[misc]
Session.call = held_call  # type: ignore[method-assign]
