"""Messages, events and sleeps between workflows, clients and SQL."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import Any

import lockstep
import pytest
from harness import Database

SOON = timedelta(seconds=20)
Client = lockstep.AsyncClient


def build_app() -> lockstep.App:
    app = lockstep.App()

    @app.workflow
    async def collects(count: int) -> list[Any]:
        return [await lockstep.receive("t") for _ in range(count)]

    @app.workflow
    def collects_plain(count: int) -> list[Any]:
        return [lockstep.sync.receive("t") for _ in range(count)]

    @app.workflow
    async def times_out() -> Any:
        return await lockstep.receive("t", timeout=timedelta(seconds=0.4))

    @app.workflow
    def times_out_plain() -> Any:
        return lockstep.sync.receive("t", timeout=timedelta(seconds=0.4))

    @app.workflow
    async def sends(destination: str) -> str:
        try:
            await lockstep.send(destination, {"from": "workflow"}, "t")
        except lockstep.WorkflowNotFound as error:
            return str(error)
        return "sent"

    @app.workflow
    def sends_plain(destination: str) -> str:
        lockstep.sync.send(destination, {"from": "workflow"}, "t")
        return "sent"

    @app.workflow
    async def publishes() -> None:
        await lockstep.set_event("state", {"n": 1})
        await lockstep.set_event("state", {"n": 2})

    @app.workflow
    def publishes_plain() -> None:
        lockstep.sync.set_event("state", {"n": 1})
        lockstep.sync.set_event("state", {"n": 2})

    @app.workflow
    async def naps(seconds: float) -> str:
        await lockstep.sleep(timedelta(seconds=seconds))
        return "rested"

    @app.workflow
    def naps_plain(seconds: float) -> str:
        lockstep.sync.sleep(timedelta(seconds=seconds))
        return "rested"

    return app


@pytest.mark.parametrize("name", ["collects", "collects_plain"])
async def test_messages_come_once_and_in_order_also_if_sent_early(
    run_worker: Any, client: Client, name: str
) -> None:
    workflow_id = await client.enqueue(name, 4)
    await client.send(workflow_id, "elsewhere", "other topic")
    await client.send(workflow_id, 1, "t")
    await client.send(workflow_id, {"two": 2}, "t")
    async with run_worker(build_app()):
        await asyncio.sleep(0.3)
        await client.send(workflow_id, None, "t")
        await client.send(workflow_id, "last", "t", idempotency_key="k")
        await client.send(workflow_id, "again", "t", idempotency_key="k")
        assert await client.result(workflow_id, timeout=SOON) == [1, {"two": 2}, None, "last"]


@pytest.mark.parametrize("name", ["times_out", "times_out_plain"])
async def test_receive_returns_none_when_its_timeout_passes(
    run_worker: Any, client: Client, name: str
) -> None:
    async with run_worker(build_app()):
        began = time.monotonic()
        workflow_id = await client.enqueue(name)
        assert await client.result(workflow_id, timeout=SOON) is None
        assert time.monotonic() - began >= 0.4


@pytest.mark.parametrize("suffix", ["", "_plain"])
async def test_workflow_sends_to_a_workflow(run_worker: Any, client: Client, suffix: str) -> None:
    async with run_worker(build_app()):
        receiver = await client.enqueue("collects", 1)
        sender = await client.enqueue(f"sends{suffix}", receiver)
        assert await client.result(sender, timeout=SOON) == "sent"
        assert await client.result(receiver, timeout=SOON) == [{"from": "workflow"}]


async def test_sending_to_nobody_raises_in_the_workflow(run_worker: Any, client: Client) -> None:
    async with run_worker(build_app()):
        workflow_id = await client.enqueue("sends", "nobody")
        assert await client.result(workflow_id, timeout=SOON) == 'workflow "nobody" does not exist'


@pytest.mark.parametrize("name", ["publishes", "publishes_plain"])
async def test_last_event_wins(run_worker: Any, client: Client, name: str) -> None:
    async with run_worker(build_app()):
        workflow_id = await client.enqueue(name)
        assert await client.get_event(workflow_id, "state") in (None, {"n": 1}, {"n": 2})
        await client.result(workflow_id, timeout=SOON)
        assert await client.get_event(workflow_id, "state") == {"n": 2}
        assert await client.get_event(workflow_id, "nothing") is None
        with pytest.raises(lockstep.WorkflowNotFound):
            await client.get_event("nobody", "state")


@pytest.mark.parametrize("name", ["naps", "naps_plain"])
async def test_short_sleep_stays_in_memory_and_long_one_suspends(
    database: Database, run_worker: Any, client: Client, name: str
) -> None:
    async with run_worker(build_app()) as worker:
        began = time.monotonic()
        short = await client.enqueue(name, 0.95)
        long = await client.enqueue(name, 2.0)
        for _ in range(300):
            if await client.status(long) == "DELAYED":
                break
            await asyncio.sleep(0.005)
        assert await client.status(long) == "DELAYED"
        assert await client.status(short) == "PENDING"
        assert set(worker.runs) <= {short}
        assert await client.result(short, timeout=SOON) == "rested"
        assert time.monotonic() - began >= 0.95
        assert await client.result(long, timeout=SOON) == "rested"
        assert time.monotonic() - began >= 2.0
    assert (await client.get(long)).attempts == 1


async def test_open_transaction_of_a_sender_loses_no_wake_up(
    database: Database, run_worker: Any, client: Client
) -> None:
    import psycopg

    async with run_worker(build_app()):
        workflow_id = await client.enqueue("collects", 1, delay=timedelta(seconds=0.3))
        connection = await psycopg.AsyncConnection.connect(database.dsn)
        async with connection:
            await client.send(workflow_id, "late", "t", conn=connection)
            await asyncio.sleep(1.0)
            assert await client.status(workflow_id) == "PENDING", "kept while the sender decides"
        assert await client.result(workflow_id, timeout=SOON) == ["late"]
