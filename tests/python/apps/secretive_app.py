"""Workflows that handle what nobody shall read in a log."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import lockstep
import psycopg

app = lockstep.App()
logging.getLogger(__name__).debug("debug messages come into the log")


@app.step(retries=lockstep.Retry(max_attempts=2, delay=timedelta(seconds=0.01)))
async def fails(value: str) -> None:
    raise ValueError(value)


@app.transaction
async def collides(connection: psycopg.AsyncConnection[Any], value: str) -> None:
    await connection.execute("CREATE TEMPORARY TABLE keys (key text PRIMARY KEY) ON COMMIT DROP")
    for _ in range(2):
        await connection.execute("INSERT INTO keys VALUES (%s)", (value,))


@app.workflow
async def talks(value: str) -> str:
    await lockstep.set_event("state", value)
    await lockstep.write_stream("words", value)
    return str(await lockstep.receive("go"))


@app.workflow
async def raises(value: str) -> None:
    await fails(value)


@app.workflow
async def violates(value: str) -> None:
    await collides(value)


@app.workflow
async def takes_a_number(value: int) -> None: ...


@app.workflow
async def returns_what_is_refused(value: str) -> list[str]:
    return [value, "\0"]


@app.workflow
async def exits(value: str) -> None:
    raise SystemExit(value)
