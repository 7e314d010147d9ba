"""Moves money in two transactional steps, which a test can hold apart."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import lockstep
import psycopg

app = lockstep.App()
GATES = Path(os.environ["GATES"])


@app.transaction
async def book(conn: psycopg.AsyncConnection[Any], account: str, amount: int) -> None:
    await conn.execute("INSERT INTO ledger VALUES (%s, %s)", (account, amount))


@app.transaction(name="book")
def book_plain(conn: psycopg.Connection[Any], account: str, amount: int) -> None:
    conn.execute("INSERT INTO ledger VALUES (%s, %s)", (account, amount))


@app.workflow
async def move(source: str, destination: str) -> str:
    await book(source, -1)
    await book(destination, 1)
    return "moved"


@app.step
def hold(name: str) -> None:
    (GATES / f"{name}.reached.{os.getpid()}.{time.monotonic_ns()}").touch()
    while not (GATES / f"{name}.open").exists():
        time.sleep(0.01)


@app.workflow
def move_slowly(source: str, destination: str) -> str:
    hold("begun")
    book_plain(source, -1)
    hold("between")
    book_plain(destination, 1)
    return "moved"
