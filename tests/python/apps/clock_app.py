"""Workflows that live by times: pauses, timeouts, back-offs, schedules."""

from __future__ import annotations

import asyncio
import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import lockstep
import psycopg

app = lockstep.App()
GATES = Path(os.environ["GATES"])
tried: list[int] = []


@app.step(retries=lockstep.Retry(max_attempts=2, delay=timedelta(seconds=1)))
async def fails_once() -> int:
    tried.append(1)
    if len(tried) == 1:
        raise ValueError("not yet")
    return len(tried)


@app.workflow
async def waits() -> str:
    now = await lockstep.now()
    await lockstep.sleep(timedelta(seconds=1))
    await lockstep.receive("nothing", timeout=timedelta(seconds=1))
    await fails_once()
    return now.isoformat()


@app.workflow
async def naps(seconds: float) -> None:
    await lockstep.sleep(timedelta(seconds=seconds))


@app.workflow
async def ends() -> None:
    pass


@app.scheduled("* * * * * *")
@app.workflow
async def tick(scheduled_at: datetime) -> str:
    return scheduled_at.isoformat()


@app.step
async def hold() -> None:
    (GATES / f"held.reached.{os.getpid()}").touch()
    while not (GATES / "held.open").exists():
        await asyncio.sleep(0.01)


@app.workflow
async def held() -> None:
    await hold()


@app.transaction
async def book(conn: psycopg.AsyncConnection[Any], key: str) -> None:
    await conn.execute("INSERT INTO ledger VALUES (%s)", (key,))


@app.workflow
async def books(key: str) -> None:
    await book(key + "a")
    await book(key + "b")
