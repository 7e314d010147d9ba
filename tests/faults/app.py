"""
The workload: a bank, orders, and workflows that wait; run by ``lockstep worker faults.app:app``.

Each kind leaves traces from which the oracle can tell what happened how often. A step in
the database's transaction may meet any trouble of the server, so it is tried again; what
an outside service does is a line in a file, written before the step is recorded.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from datetime import timedelta
from typing import Any

import lockstep
from lockstep import sync
from psycopg import AsyncConnection, Connection

from . import points

points.arm()
app = lockstep.App()

PATIENT = lockstep.Retry(
    max_attempts=10_000,
    delay=timedelta(seconds=0.2),
    backoff=1.3,
    max_delay=timedelta(seconds=2),
    jitter=0.3,
)
EFFECTS = points.FOLDER / "effect"
_ENTRY = (
    "INSERT INTO bank.entry (workflow_id, kind, account_id, amount, position)"
    " VALUES (%s, %s, %s, %s, %s)"
)
_BALANCE = "UPDATE bank.account SET balance = balance + %s WHERE account_id = %s"


class Declined(Exception):
    """An outside service that does not want to, this time."""


def affect(kind: str, outcome: str) -> int:
    """Do something outside of the database, one line at the end of a file; return a receipt."""
    context = lockstep.context()
    receipt = random.getrandbits(48)
    line = (
        f"{context.workflow_id}\t{kind}\t{context.attempt}\t{os.getpid()}\t{outcome}\t{receipt}\n"
    )
    file = os.open(EFFECTS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)
    return receipt


# steps


@app.transaction(retries=PATIENT)
async def enter(
    conn: AsyncConnection[Any], kind: str, account: int, amount: int, position: int | None = None
) -> None:
    """Write one entry and move the balance of its account."""
    workflow_id = lockstep.context().workflow_id
    await conn.execute(_BALANCE, (amount, account))
    await conn.execute(_ENTRY, (workflow_id, kind, account, amount, position))


@app.transaction(retries=PATIENT)
def enter_plain(conn: Connection[Any], kind: str, account: int, amount: int) -> None:
    """As enter(), in a thread."""
    conn.execute(_BALANCE, (amount, account))
    conn.execute(_ENTRY, (lockstep.context().workflow_id, kind, account, amount, None))


@app.transaction(retries=PATIENT)
async def mark(conn: AsyncConnection[Any], kind: str, position: int | None = None) -> None:
    """Write an entry that moves no money."""
    await conn.execute(_ENTRY, (lockstep.context().workflow_id, kind, None, None, position))


@app.transaction(retries=PATIENT)
async def refund(conn: AsyncConnection[Any], workflow_id: str, account: int, amount: int) -> None:
    """Undo a withdrawal, if there was one."""
    cursor = await conn.execute(
        "SELECT FROM bank.entry WHERE workflow_id = %s AND kind = 'withdraw'", (workflow_id,)
    )
    if await cursor.fetchone() is not None:
        await conn.execute(_BALANCE, (amount, account))
        own_id = lockstep.context().workflow_id
        await conn.execute(_ENTRY, (own_id, "refund", account, amount, None))


@app.step(
    retries=lockstep.Retry(max_attempts=1000, delay=timedelta(seconds=0.3), backoff=1.2, jitter=0.5)
)
async def charge(amount: int) -> int:
    """Charge a card: at least once, each time with another receipt; one in five is declined."""
    points.reach("before step")
    if random.random() < 0.2:
        affect("charge", "declined")
        raise Declined(amount)
    receipt = affect("charge", "done")
    points.reach("after step")
    return receipt


@app.step
def weigh(number: int) -> int:
    points.reach("before step")
    return number * 3


@app.step
async def attempt_flaky() -> None:
    if random.random() < 0.5:
        affect("flaky", "declined")
        raise Declined
    affect("flaky", "done")


@app.transaction(retries=PATIENT)
async def tick(conn: AsyncConnection[Any], position: int) -> None:
    """Write an entry a moment after the beginning, so that much may have happened meanwhile."""
    await asyncio.sleep(0.05)
    await conn.execute(_ENTRY, (lockstep.context().workflow_id, "tick", None, None, position))


# workflows


@app.workflow
async def transfer(source: int, target: int, amount: int) -> int:
    await enter("withdraw", source, -amount)
    await enter("deposit", target, amount)
    return amount


@app.workflow
def transfer_plain(source: int, target: int, amount: int) -> int:
    enter_plain("withdraw", source, -amount)
    enter_plain("deposit", target, amount)
    return amount


@app.workflow
async def refused_transfer(source: int, amount: int) -> None:
    """Withdraw, fail, and have the withdrawal undone."""
    await lockstep.compensate(refund, lockstep.context().workflow_id, source, amount)
    await enter("withdraw", source, -amount)
    raise Declined("the account is closed")


@app.workflow
async def pack(number: int) -> int:
    return await weigh.in_thread(number)


@app.workflow
async def order(number: int, amount: int, depot_id: str) -> list[int]:
    """Charge, have it packed by a child, ship once, tell the depot."""
    receipt = await charge(amount)
    await lockstep.set_event("state", "charged")
    packed = await pack(number)
    await enter_number("ship", receipt, 0)
    await lockstep.set_event("state", "shipped")
    await lockstep.send(depot_id, number, "shipped")
    return [receipt, packed]


@app.workflow
async def audit(order_id: str) -> list[Any]:
    """Wait for an event of an order, and for its end."""
    state = await lockstep.get_event(order_id, "state")
    return [state, await lockstep.WorkflowHandle(order_id).result()]


@app.workflow
async def depot(count: int) -> list[int]:
    """Receive what orders send, in any order."""
    return [await _received("shipped", position) for position in range(count)]


@app.workflow
async def courier(count: int) -> list[int]:
    """Receive a numbered sequence that comes from outside."""
    return [await _received("parcel", position) for position in range(count)]


async def _received(topic: str, position: int) -> int:
    number = int(await lockstep.receive(topic))
    await enter_number(topic, number, position)
    return number


@app.transaction(retries=PATIENT)
async def enter_number(conn: AsyncConnection[Any], kind: str, number: int, position: int) -> None:
    """Write an entry of a number, such as one received at a position of a sequence."""
    await conn.execute(_ENTRY, (lockstep.context().workflow_id, kind, None, number, position))


@app.workflow
async def fan_out(count: int) -> int:
    return sum(await asyncio.gather(*(pack(number) for number in range(count))))


@app.workflow
async def sleeper(seconds: float) -> None:
    await mark("start")
    await lockstep.sleep(timedelta(seconds=seconds))
    await mark("woke")


@app.workflow
async def impatient(seconds: float) -> Any:
    await mark("start")
    got = await lockstep.receive("never", timeout=timedelta(seconds=seconds))
    await mark("woke")
    return got


@app.workflow(retries=lockstep.Retry(max_attempts=1000, delay=timedelta(seconds=0.3), backoff=1.1))
async def flaky() -> str:
    """Fail as a whole, every other time."""
    await mark("kept")
    await attempt_flaky()
    return "done"


@app.workflow
async def endless() -> None:
    """Go on until cancelled, with a child that does too."""
    await lockstep.start_workflow(restless)
    await restless.function()


@app.workflow
async def restless() -> None:
    for position in range(10_000):
        await tick(position)
        await lockstep.sleep(timedelta(seconds=0.3 if position % 4 else 1.2))


@app.workflow
def sleeper_plain(seconds: float) -> None:
    """Sleep on a thread."""
    mark_plain("start")
    sync.sleep(timedelta(seconds=seconds))
    mark_plain("woke")


@app.transaction(retries=PATIENT)
def mark_plain(conn: Connection[Any], kind: str) -> None:
    conn.execute(_ENTRY, (lockstep.context().workflow_id, kind, None, None, None))


@app.workflow
def hesitant(seconds: float) -> str:
    """End after a while without asking the database; cancelled at about that time."""
    time.sleep(seconds)
    return "ended"


@app.workflow
def poison() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
