"""Workflows that are taken from their worker amid what they do, again and again."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import lockstep
import psycopg
import pytest
from harness import Database
from lockstep import sync

SOON = timedelta(seconds=30)
Client = lockstep.AsyncClient


@asynccontextmanager
async def thief(database: Database, loot: int) -> AsyncIterator[list[int]]:
    """Declare all executors dead at unexpected moments, until they lost so many workflows."""
    stolen: list[int] = []
    is_over = asyncio.Event()

    async def steal() -> None:
        async with await psycopg.AsyncConnection.connect(database.dsn) as connection:
            while sum(stolen) < loot and not is_over.is_set():
                await asyncio.sleep(random.uniform(0.01, 0.06))
                await connection.execute("UPDATE lockstep.executor SET expires_at = now()")
                cursor = await connection.execute(
                    "SELECT recovered_count FROM lockstep.recover_workflows()"
                )
                ((count,),) = await cursor.fetchall()
                stolen.append(count)
                await connection.commit()

    task = asyncio.create_task(steal())
    try:
        yield stolen
    finally:
        is_over.set()
        await task


def build_app(calls: Counter[str]) -> lockstep.App:
    app = lockstep.App()

    @app.step
    async def work(what: str) -> str:
        calls[what] += 1
        await asyncio.sleep(random.uniform(0.01, 0.04))
        return what

    @app.step
    def work_plain(what: str) -> str:
        calls[what] += 1
        time.sleep(random.uniform(0.01, 0.04))
        return what

    @app.workflow
    async def child(name: str) -> str:
        return await work(name)

    async def branch(name: str) -> list[Any]:
        outputs = [await work(f"{name}1"), await lockstep.receive(name, timeout=timedelta(0))]
        await lockstep.sleep(timedelta(seconds=0.02))
        return [*outputs, await work(f"{name}2"), await child(f"{name}3")]

    def branch_plain(name: str) -> list[Any]:
        outputs = [work_plain(f"{name}1"), sync.receive(name, timeout=timedelta(0))]
        sync.sleep(timedelta(seconds=0.02))
        return [*outputs, work_plain(f"{name}2"), sync.run(child(f"{name}3"))]

    @app.workflow
    async def gather() -> Any:
        return await asyncio.gather(*(branch(name) for name in "abcd"))

    @app.workflow
    async def map() -> Any:
        return await lockstep.map(branch, "abcd", limit=2)

    @app.workflow
    def threads() -> Any:
        return sync.map(branch_plain, "abcd", limit=2)

    return app


@pytest.mark.parametrize("name", ["gather", "map", "threads"])
async def test_branches_come_to_the_same_end_however_often_they_are_taken_over(
    database: Database, run_worker: Any, client: Client, name: str
) -> None:
    calls: Counter[str] = Counter()
    async with run_worker(build_app(calls), lease=timedelta(seconds=1)):
        workflow_id = await client.enqueue(name)
        async with thief(database, 5) as stolen:
            result = await client.result(workflow_id, timeout=SOON)
    assert sum(stolen) >= 1, "it was taken over"
    assert result == [[f"{b}1", None, f"{b}2", f"{b}3"] for b in "abcd"]
    outputs = Counter(output for _, _, output in database.steps(workflow_id))
    assert outputs == {**{f"{b}{n}": 1 for b in "abcd" for n in (1, 2, 3)}, None: 8}
    assert database.value("SELECT count(*) FROM lockstep.workflow_status") == 5


async def test_loop_that_stands_still_for_longer_than_its_lease_goes_on_if_nobody_took_over(
    database: Database, run_worker: Any, client: Client
) -> None:
    app = lockstep.App()
    calls: Counter[str] = Counter()

    @app.step
    async def blocks(what: str) -> str:
        calls[what] += 1
        if what == "b":
            time.sleep(1.4)  # noqa: ASYNC251 - what users do
        return what

    @app.workflow
    async def main() -> Any:
        return await asyncio.gather(*(blocks(what) for what in "abc"))

    async with run_worker(app, lease=timedelta(seconds=1)):
        workflow_id = await client.enqueue(main)
        assert await client.result(workflow_id, timeout=SOON) == ["a", "b", "c"]
    assert calls == {"a": 1, "b": 1, "c": 1}
    assert (await client.get(workflow_id)).attempts == 1
