"""Two releases of one program: RELEASE says which; a test holds and kills their workers."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from typing import Any

import lockstep
from lockstep import sync
from primitives_app import gate, hold, hold_plain, note

app = lockstep.App()
RELEASE = os.environ["RELEASE"]


@app.workflow
async def ships() -> list[str]:
    done = ["taken"]
    await hold("taken")
    if RELEASE == "2" and await lockstep.patch("insure"):
        done.append("insured")
    await hold("packed")
    await hold("shipped")
    return [*done, f"shipped by {RELEASE}"]


@app.workflow
def ships_plain() -> list[str]:
    done = ["taken"]
    hold_plain("taken")
    if RELEASE == "2" and sync.patch("insure"):
        done.append("insured")
    hold_plain("packed")
    hold_plain("shipped")
    return [*done, f"shipped by {RELEASE}"]


@app.workflow
async def sleeps_until(seconds: float) -> str:
    await lockstep.sleep_until(await lockstep.now() + timedelta(seconds=seconds))
    return "rested"


@app.workflow
def sleeps_until_plain(seconds: float) -> str:
    moment: datetime = sync.now() + timedelta(seconds=seconds)
    sync.sleep_until(moment)
    return "rested"


@app.workflow
async def is_held() -> None:
    await hold("held")


@app.workflow
def is_held_plain() -> None:
    hold_plain("held")


@app.transaction(timeout=timedelta(seconds=60))
async def pay(conn: Any, key: str) -> str:
    note("tried")
    await conn.execute("INSERT INTO ledger VALUES (%s)", (key,))
    gate("paying")
    return "paid"


@app.workflow
async def pays_in_time(key: str) -> str:
    return await pay(key)
