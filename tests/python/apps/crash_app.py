"""Workflows for the crash tests: each can be held at named gates by files."""

from __future__ import annotations

import asyncio
import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import lockstep
import psycopg

app = lockstep.App()
GATES = Path(os.environ["GATES"])
DSN = os.environ["LOCKSTEP_DATABASE_URL"]


def gate(name: str) -> None:
    """Say that this point was reached and wait until the test opens it."""
    (GATES / f"{name}.reached.{os.getpid()}.{time.monotonic_ns()}").touch()
    while not (GATES / f"{name}.open").exists():
        time.sleep(0.01)


def note(effect: str) -> None:
    """Leave a trace of a side effect, outside of any transaction of Lockstep's."""
    with psycopg.connect(DSN, autocommit=True) as connection:
        connection.execute("INSERT INTO effects VALUES (%s)", (effect,))


@app.step
def first() -> str:
    note("first")
    return "first"


@app.step
def second() -> str:
    note("second")
    gate("in_step")
    return "second"


@app.step
def third() -> str:
    note("third")
    return "third"


@app.workflow
def held_in_step() -> list[str]:
    return [first(), second(), third()]


@app.workflow
def held_between_steps() -> list[str]:
    outputs = [first()]
    gate("between_steps")
    return [*outputs, third()]


@app.transaction
def transfer(conn: psycopg.Connection[Any], key: str) -> str:
    conn.execute("INSERT INTO ledger VALUES (%s)", (key,))
    gate("in_transaction")
    return key


@app.workflow
def held_in_transaction(key: str) -> list[str]:
    return [first(), transfer(key), third()]


@app.transaction
def transfer_at_once(conn: psycopg.Connection[Any], key: str) -> str:
    conn.execute("INSERT INTO ledger VALUES (%s)", (key,))
    return key


@app.workflow
def transfers(key: str) -> list[str]:
    return [first(), transfer_at_once(key), third()]


@app.workflow
async def waits_for_message() -> Any:
    await lockstep.set_event("state", "waiting")
    return await lockstep.receive("go")


@app.step(retries=lockstep.Retry(max_attempts=3, delay=timedelta(seconds=2.5), backoff=1.0))
async def fails_twice() -> str:
    note("attempt")
    with psycopg.connect(DSN, autocommit=True) as connection:
        row = connection.execute("SELECT count(*) FROM effects WHERE effect = 'attempt'").fetchone()
    assert row is not None
    if row[0] < 3:
        raise ValueError("not yet")
    return f"attempt {row[0]}"


@app.workflow
async def retries() -> str:
    return await fails_twice()


@app.step
async def quick(number: int) -> int:
    return number


@app.transaction
async def book(conn: psycopg.AsyncConnection[Any], key: str) -> None:
    await conn.execute("INSERT INTO ledger VALUES (%s)", (key,))


@app.workflow
async def load(key: str) -> int:
    total = 0
    for number in range(3):
        total += await quick(number)
    await book(key)
    return total


@app.workflow
def dies(key: str) -> None:
    os.kill(os.getpid(), 9)


@app.step
async def blocks_in_thread() -> None:
    await asyncio.to_thread(gate, "in_thread")


@app.workflow
async def stuck_in_thread() -> None:
    await blocks_in_thread()
