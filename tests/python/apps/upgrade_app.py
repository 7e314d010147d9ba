"""Workflows that begin under one release and end under the next; both releases run this file."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import lockstep
import psycopg
from crash_app import gate

app = lockstep.App()


@app.transaction
async def book(conn: psycopg.AsyncConnection[Any], key: str) -> str:
    await conn.execute("INSERT INTO ledger VALUES (%s)", (key,))
    return key


@app.transaction
def book_at_gate(conn: psycopg.Connection[Any], key: str) -> str:
    conn.execute("INSERT INTO ledger VALUES (%s)", (key,))
    gate("in_transaction")
    return key


@app.step
def pass_gate(key: str) -> str:
    gate("in_step")
    return key


@app.workflow
async def books(key: str) -> list[str]:
    return [await book(f"{key} first"), await book(f"{key} second")]


@app.workflow
def held_in_step(key: str) -> str:
    return pass_gate(key)


@app.workflow
def held_in_transaction(key: str) -> str:
    return book_at_gate(key)


@app.workflow
async def sleeps(key: str) -> list[str]:
    first = await book(f"{key} first")
    await lockstep.sleep(timedelta(hours=1))
    return [first, await book(f"{key} second")]


@app.workflow
async def receives(key: str) -> list[str]:
    first = await book(f"{key} first")
    await lockstep.set_event("state", "waits")
    return [first, await lockstep.receive("go")]


@app.workflow
async def awaits_child(key: str) -> list[str]:
    first = await book(f"{key} first")
    child = await lockstep.start_workflow(
        receives.options(workflow_id=f"{key} child"), f"{key} child"
    )
    return [first, *await child.result()]


@app.workflow
async def fails(key: str) -> None:
    await book(f"{key} first")
    raise ValueError("as it must")


@app.workflow
async def dies(key: str) -> str:
    if "DIES" in os.environ:
        os.kill(os.getpid(), 9)
    return await book(f"{key} first")
