"""Workflows that do to their worker what they should not."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import os
import sys
import threading
import time
from datetime import timedelta
from typing import Any

import lockstep
import psycopg

app = lockstep.App()

LARGE = 200 * 2**20


class Mute(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


@app.step
async def step_that(deed: str) -> Any:
    return await do(deed)


@app.step
def plain_step_that(deed: str) -> None:
    if deed == "exits":
        sys.exit(3)
    if deed == "ends an iterator":
        raise StopIteration
    recurse(1)


def recurse(depth: int) -> int:
    return recurse(depth + 1) + 1


def nested(make: Any, depth: int) -> Any:
    value = make(None)
    for _ in range(depth):
        value = make(value)
    return value


async def do(deed: str) -> Any:
    if deed == "returns 200 MB":
        return "x" * LARGE
    if deed == "returns no JSON":
        return object()
    if deed == "returns numbers that are none":
        return [float("nan"), float("inf"), float("-inf")]
    if deed == "returns a NUL":
        return "a\0b"
    if deed == "returns half a surrogate pair":
        return "\ud800"
    if deed == "returns a deep list":
        return nested(lambda inner: [inner], 100_000)
    if deed == "recurses":
        return recurse(1)
    raise {
        "raises what has no words": lambda: Mute(),
        "raises 100 MB": lambda: ValueError("x" * (LARGE // 2)),
        "raises a NUL": lambda: ValueError("a\0b"),
        "raises half a surrogate pair": lambda: ValueError("\ud800"),
        "raises a deep group": lambda: nested(
            lambda inner: builtins.ExceptionGroup("group", [inner or ValueError("core")]),
            10_000,
        ),
        "exits": lambda: SystemExit(3),
        "interrupts": lambda: KeyboardInterrupt(),
        "ends a generator": lambda: GeneratorExit(),
        "ends an iterator": lambda: StopIteration(),
        "cancels": lambda: asyncio.CancelledError(),
    }[deed]()


@app.workflow
async def workflow_that(deed: str) -> Any:
    return await do(deed)


@app.workflow
async def workflow_whose_step(deed: str) -> Any:
    return await step_that(deed)


@app.workflow
def workflow_whose_plain_step(deed: str) -> None:
    plain_step_that(deed)


def look_that_stops() -> Any:
    raise StopIteration


@app.workflow
def plain_workflow_that_stops() -> None:
    look_that_stops()


@app.workflow
async def workflow_whose_thread_stops() -> None:
    await plain_step_that.in_thread("ends an iterator")


@app.workflow
async def workflow_whose_poll_stops() -> None:
    await lockstep.poll(look_that_stops, interval=timedelta(seconds=1))


@app.workflow
async def workflow_whose_task(deed: str) -> Any:
    return await asyncio.create_task(do(deed))


@app.workflow
async def gets(value: str) -> int:
    return len(value)


@app.workflow
async def leaks() -> str:
    threading.Thread(target=time.sleep, args=(3600,), daemon=False).start()
    asyncio.get_running_loop().create_task(asyncio.sleep(3600))
    threading.Thread(target=sys.exit).start()
    return "done"


@app.workflow
async def is_deaf() -> None:
    while True:
        try:
            await lockstep.receive("never")
        except BaseException:
            continue


@app.step
async def forks() -> int:
    child = os.fork()
    if child == 0:
        os._exit(7)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])  # noqa: ASYNC222


@app.workflow
async def workflow_that_forks() -> int:
    sys.stdout.buffer.write(b"\xff\xfe\0binary\n")
    return await forks()


@app.transaction
async def changes_its_session(connection: psycopg.AsyncConnection[Any]) -> int:
    connection.row_factory = psycopg.rows.dict_row
    for statement in (
        "SET search_path = nowhere",
        "SET statement_timeout = '1h'",
        "CREATE TEMPORARY TABLE left_behind (a int)",
        "LISTEN left_behind",
        "SELECT pg_advisory_lock(42)",
        "DECLARE left_behind CURSOR WITH HOLD FOR SELECT 1",
        "PREPARE left_behind AS SELECT 1",
    ):
        await connection.execute(statement)
    return connection.info.backend_pid


@app.transaction(name="locks and fails")
async def locks_and_fails(connection: psycopg.AsyncConnection[Any]) -> None:
    await connection.execute("SELECT pg_advisory_lock(42)")
    raise ValueError("failed")


@app.transaction
async def looks_at_its_session(connection: psycopg.AsyncConnection[Any]) -> list[Any]:
    cursor = await connection.execute(
        "SELECT current_setting('search_path'), current_setting('statement_timeout'),"
        " to_regclass('pg_temp.left_behind')::text,"
        " ARRAY(SELECT pg_listening_channels()),"
        " (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 42),"
        " (SELECT count(*) FROM pg_cursors WHERE name = 'left_behind'),"
        " current_user = session_user"
    )
    row = await cursor.fetchone()
    return [connection.info.backend_pid, *row]


@app.workflow
async def workflow_of_sessions(deed: str) -> list[Any]:
    before = await looks_at_its_session()
    if deed == "changes":
        await changes_its_session()
    else:
        with contextlib.suppress(ValueError):
            await locks_and_fails()
    return [before, await looks_at_its_session()]


@app.transaction
async def closes_its_connection(connection: psycopg.AsyncConnection[Any]) -> None:
    await connection.close()


@app.transaction
def closes_its_plain_connection(connection: psycopg.Connection[Any]) -> None:
    connection.close()


@app.workflow
async def workflow_that_closes() -> None:
    await closes_its_connection()


@app.workflow
def workflow_that_closes_plainly() -> None:
    closes_its_plain_connection()


@app.step
async def blocks_the_loop(seconds: float) -> None:
    time.sleep(seconds)  # noqa: ASYNC251


@app.workflow
async def workflow_that_blocks(seconds: float) -> None:
    await blocks_the_loop(seconds)


@app.workflow
async def workflow_that_computes(seconds: float) -> None:
    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at:
        pass


@app.step
async def rests() -> None:
    await asyncio.sleep(0.5)


@app.workflow
async def workflow_that_rests(count: int) -> str:
    for _ in range(count):
        await rests()
    return "rested"
