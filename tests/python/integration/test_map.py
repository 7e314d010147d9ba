"""lockstep.map(): its limit, and what is left of it after a suspension."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from datetime import timedelta
from typing import Any

import lockstep
import pytest
from harness import Database, until_status

SOON = timedelta(seconds=20)
Client = lockstep.AsyncClient


@pytest.mark.parametrize("limit", [None, 3])
async def test_map_keeps_its_limit_and_the_order_of_outputs(
    database: Database, run_worker: Any, client: Client, limit: int | None
) -> None:
    app = lockstep.App()
    running = 0
    most = 0

    @app.step
    async def work(number: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(random.uniform(0, 0.02))
        running -= 1
        return number * 10

    @app.workflow
    async def main() -> Any:
        return await lockstep.map(work, range(12), limit=limit)

    async with run_worker(app):
        workflow_id = await client.enqueue(main)
        assert await client.result(workflow_id, timeout=SOON) == [n * 10 for n in range(12)]
    assert most == (limit or 12)
    outputs = {step_id: output for step_id, _, output in database.steps(workflow_id)}
    assert outputs == {n + 1: n * 10 for n in range(12)}


async def test_map_suspended_amid_its_items_goes_on_with_those_that_are_left(
    database: Database, run_worker: Any, client: Client
) -> None:
    app = lockstep.App()
    calls: Counter[int] = Counter()
    most = 0
    begun: set[int] = set()

    @app.step
    async def begin(number: int) -> None:
        calls[number] += 1

    async def item(number: int) -> Any:
        nonlocal most
        begun.add(number)
        most = max(most, len(begun))
        await begin(number)
        message = await lockstep.receive(f"t{number}")
        begun.discard(number)
        return message

    @app.workflow
    async def main() -> Any:
        begun.clear()
        return await lockstep.map(item, range(5), limit=2)

    async with run_worker(app):
        workflow_id = await client.enqueue(main)
        for number in (1, 0, 2, 4, 3):
            await until_status(client, workflow_id, "WAITING")
            await client.send(workflow_id, number, f"t{number}")
            await asyncio.sleep(0.05)
        assert await client.result(workflow_id, timeout=SOON) == [0, 1, 2, 3, 4]
    assert most == 2, "no third item begins while two wait"
    assert calls == dict.fromkeys(range(5), 1)
