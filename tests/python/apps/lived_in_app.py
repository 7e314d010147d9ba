"""Workflows of the restore tests: each leaves a trace of what it did, and waits for something."""

from __future__ import annotations

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


@app.step
def remark(what: str) -> str:
    """Leave a trace outside of any transaction of Lockstep's: it may come twice."""
    with psycopg.connect(DSN, autocommit=True) as connection:
        connection.execute("INSERT INTO remarks VALUES (%s)", (what,))
    return what


@app.transaction
def book(conn: psycopg.Connection[Any], key: str) -> str:
    """Write with the checkpoint: it comes once."""
    conn.execute("INSERT INTO ledger VALUES (%s)", (key,))
    return key


@app.step
def hold(gate: str = "hold") -> None:
    while not (GATES / f"{gate}.open").exists():
        time.sleep(0.02)


@app.step(retries=lockstep.Retry(max_attempts=3, delay=timedelta(hours=1)))
def stumble() -> None:
    if not (GATES / "hold.open").exists():
        raise ValueError("not yet")


@app.workflow
def quick(key: str) -> str:
    remark(key)
    return book(key)


@app.workflow
def fails() -> None:
    raise ValueError("as told")


@app.workflow
def dies() -> None:
    os.kill(os.getpid(), 9)


@app.workflow
def held(key: str) -> str:
    remark(key)
    book(f"{key} before")
    hold()
    return book(f"{key} after")


@app.workflow
def relay(key: str) -> None:
    """Write three times, and wait between them."""
    book(f"{key} 1")
    hold("first")
    book(f"{key} 2")
    hold("second")
    book(f"{key} 3")


@app.workflow
def stumbles(key: str) -> str:
    remark(key)
    stumble()
    return book(key)


@app.workflow
def sleeps(key: str) -> str:
    remark(key)
    book(f"{key} before")
    lockstep.sync.sleep(timedelta(hours=1))
    return book(f"{key} after")


@app.workflow
def asks(key: str) -> Any:
    remark(key)
    lockstep.sync.set_event("question", f"what of {key}?")
    lockstep.sync.write_stream("notes", "asked")
    answer = lockstep.sync.receive("answer")
    book(f"{key} after")
    lockstep.sync.set_event("reply", answer)
    lockstep.sync.write_stream("notes", "answered")
    lockstep.sync.close_stream("notes")
    return answer


@app.workflow
def listens(to: str) -> Any:
    return lockstep.sync.get_event(to, "reply", timeout=timedelta(days=1))


@app.workflow
async def parent(key: str) -> Any:
    child = await lockstep.start_workflow(asks, key)
    return await child.result()
