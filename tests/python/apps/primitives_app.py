"""A workflow for each primitive, to be killed inside it; names end in _plain on threads."""

from __future__ import annotations

import asyncio
import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import lockstep
import psycopg
from lockstep import sync

app = lockstep.App()
GATES = Path(os.environ["GATES"])
DSN = os.environ["LOCKSTEP_DATABASE_URL"]


def gate(name: str) -> None:
    """Say that this point was reached and wait until the test opens it."""
    (GATES / f"{name}.reached.{os.getpid()}.{time.monotonic_ns()}").touch()
    while not (GATES / f"{name}.open").exists():
        time.sleep(0.01)


def note(effect: str) -> int:
    """Leave a trace of a side effect; return how often it has happened."""
    with psycopg.connect(DSN, autocommit=True) as connection:
        connection.execute("INSERT INTO effects VALUES (%s)", (effect,))
        row = connection.execute(
            "SELECT count(*) FROM effects WHERE effect = %s", (effect,)
        ).fetchone()
    assert row is not None
    return int(row[0])


@app.step
async def hold(name: str) -> None:
    await asyncio.to_thread(gate, name)


@app.step
def hold_plain(name: str) -> None:
    gate(name)


@app.step
async def work(what: str) -> str:
    note(what)
    return what


@app.step
def work_plain(what: str) -> str:
    note(what)
    return what


# sleeping and waiting


@app.workflow
async def sleeps(seconds: float) -> str:
    await lockstep.sleep(timedelta(seconds=seconds))
    return "rested"


@app.workflow
def sleeps_plain(seconds: float) -> str:
    sync.sleep(timedelta(seconds=seconds))
    return "rested"


@app.workflow
async def receives_late(seconds: float) -> list[Any]:
    got: list[Any] = [await lockstep.receive("t", timeout=timedelta(seconds=seconds))]
    try:
        await lockstep.receive("t", timeout=timedelta(0), raise_on_timeout=True)
    except lockstep.WaitTimeout:
        got.append("late")
    await hold("after")
    return got


@app.workflow
def receives_late_plain(seconds: float) -> list[Any]:
    got: list[Any] = [sync.receive("t", timeout=timedelta(seconds=seconds))]
    try:
        sync.receive("t", timeout=timedelta(0), raise_on_timeout=True)
    except lockstep.WaitTimeout:
        got.append("late")
    hold_plain("after")
    return got


@app.workflow
async def publishes(other_id: str) -> Any:
    await lockstep.send(other_id, "hello", "t")
    await lockstep.set_event("state", 1)
    await lockstep.write_stream("log", "one")
    await hold("amid")
    await lockstep.set_event("state", 2)
    await lockstep.write_stream("log", "two")
    await lockstep.close_stream("log")
    return await lockstep.get_event(other_id, "answer")


@app.workflow
def publishes_plain(other_id: str) -> Any:
    sync.send(other_id, "hello", "t")
    sync.set_event("state", 1)
    sync.write_stream("log", "one")
    hold_plain("amid")
    sync.set_event("state", 2)
    sync.write_stream("log", "two")
    sync.close_stream("log")
    return sync.get_event(other_id, "answer")


@app.workflow
async def answers() -> Any:
    message = await lockstep.receive("t")
    await lockstep.set_event("answer", message)
    return message


# children


@app.workflow
async def child(number: int) -> int:
    note(f"child {number}")
    return number * 10


@app.workflow
def child_plain(number: int) -> int:
    note(f"child {number}")
    return number * 10


@app.workflow
async def starts_child() -> int:
    handle = await lockstep.start_workflow(child, 1)
    await hold("between")
    return await handle.result()


@app.workflow
def starts_child_plain() -> int:
    handle = sync.start_workflow(child_plain, 1)
    hold_plain("between")
    return handle.result()


@app.workflow
async def held_child() -> str:
    note("held child")
    await hold("child")
    return "child"


@app.workflow
def held_child_plain() -> str:
    note("held child")
    hold_plain("child")
    return "child"


@app.workflow
async def calls_child() -> str:
    return await held_child()


@app.workflow
def calls_child_plain() -> str:
    return held_child_plain()


@app.workflow
async def fans_out(count: int) -> int:
    return sum(await asyncio.gather(*(child(number) for number in range(count))))


@app.workflow
def fans_out_plain(count: int) -> int:
    return sum(sync.map(child_plain, range(count)))


# branches


async def branch(name: str) -> list[str]:
    outputs = [await work(f"{name}1")]
    await hold(f"hold_{name}")
    return [*outputs, await work(f"{name}2")]


def branch_plain(name: str) -> list[str]:
    outputs = [work_plain(f"{name}1")]
    hold_plain(f"hold_{name}")
    return [*outputs, work_plain(f"{name}2")]


@app.workflow
async def branches() -> Any:
    return await asyncio.gather(branch("a"), branch("b"))


@app.workflow
async def maps() -> Any:
    return await lockstep.map(branch, ["a", "b"])


@app.workflow
def maps_plain() -> Any:
    return sync.map(branch_plain, ["a", "b"])


# determinism


@app.workflow
async def values() -> Any:
    seen = [
        (await lockstep.now()).isoformat(),
        str(await lockstep.uuid()),
        await lockstep.random(),
        await lockstep.patch("new"),
    ]
    await work(repr(seen))
    await hold("values")
    return seen


@app.workflow
def values_plain() -> Any:
    seen = [sync.now().isoformat(), str(sync.uuid()), sync.random(), sync.patch("new")]
    work_plain(repr(seen))
    hold_plain("values")
    return seen


# steps with a limit of time, or a transaction of their own


@app.step(timeout=timedelta(seconds=60))
async def limited() -> str:
    note("limited")
    await asyncio.to_thread(gate, "limited")
    return "limited"


@app.step(timeout=timedelta(seconds=60))
def limited_plain() -> str:
    note("limited")
    gate("limited")
    return "limited"


@app.workflow
async def calls_limited() -> str:
    return await limited()


@app.workflow
def calls_limited_plain() -> str:
    return limited_plain()


@app.step(commits_itself=True)
async def pays(key: str) -> None:
    async with await psycopg.AsyncConnection.connect(DSN) as connection:
        await connection.execute("INSERT INTO ledger VALUES (%s)", (key,))
        await connection.execute(*lockstep.checkpoint({"paid": key}))
        await asyncio.to_thread(gate, "before_commit")
        await connection.commit()
        await asyncio.to_thread(gate, "after_commit")


@app.step(commits_itself=True)
def pays_plain(key: str) -> None:
    with psycopg.connect(DSN) as connection:
        connection.execute("INSERT INTO ledger VALUES (%s)", (key,))
        connection.execute(*lockstep.checkpoint({"paid": key}))
        gate("before_commit")
        connection.commit()
        gate("after_commit")


@app.workflow
async def calls_pays(key: str) -> Any:
    return await pays(key)


@app.workflow
def calls_pays_plain(key: str) -> Any:
    return pays_plain(key)


# asking again and again, and progress


async def is_ready() -> str | None:
    return "ready" if note("asked") > 3 else None


def is_ready_plain() -> str | None:
    return "ready" if note("asked") > 3 else None


@app.workflow
async def polls() -> str:
    await lockstep.set_progress(1, 2)
    got = await lockstep.poll(is_ready, interval=timedelta(seconds=1.5))
    return str(got)


@app.workflow
def polls_plain() -> str:
    sync.set_progress(1, 2)
    return str(sync.poll(is_ready_plain, interval=timedelta(seconds=1.5)))


@app.workflow
async def progresses() -> None:
    for done in range(1, 4):
        await lockstep.set_progress(done, 4, "going")
        await work(f"part {done}")
    await hold("progress")
    await lockstep.set_progress(4, 4)


@app.workflow
def progresses_plain() -> None:
    for done in range(1, 4):
        sync.set_progress(done, 4, "going")
        work_plain(f"part {done}")
    hold_plain("progress")
    sync.set_progress(4, 4)


# workflows that fail


AGAIN = lockstep.Retry(max_attempts=3, delay=timedelta(seconds=2), backoff=1.0)


@app.workflow(retries=AGAIN)
async def fails_once() -> str:
    await work("kept")
    if note("tried") < 2:
        raise ValueError("not yet")
    return "done"


@app.workflow(retries=AGAIN)
def fails_once_plain() -> str:
    work_plain("kept")
    if note("tried") < 2:
        raise ValueError("not yet")
    return "done"


@app.step
async def undo(what: str) -> None:
    note(f"undo {what}")
    await asyncio.to_thread(gate, f"undo_{what}")


@app.step
def undo_plain(what: str) -> None:
    note(f"undo {what}")
    gate(f"undo_{what}")


@app.workflow
async def saga() -> None:
    await lockstep.compensate(undo, "a")
    await lockstep.compensate(undo, "b")
    raise ValueError("no")


@app.workflow
def saga_plain() -> None:
    sync.compensate(undo_plain, "a")
    sync.compensate(undo_plain, "b")
    raise ValueError("no")


@app.workflow
async def saga_that_dies() -> None:
    await lockstep.compensate(undo, "a")
    os.kill(os.getpid(), 9)
