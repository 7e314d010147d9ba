"""Plain workflows whose branches run on threads, and coroutines that they call."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from datetime import timedelta
from typing import Any

import lockstep
import pytest
from harness import Database, until_status
from lockstep import sync
from waiting import until

SOON = timedelta(seconds=20)
NEXT = 65536
Client = lockstep.AsyncClient


async def test_threads_of_several_calls_have_the_same_ids_at_each_replay(
    database: Database, run_worker: Any, client: Client
) -> None:
    app = lockstep.App()
    calls: Counter[str] = Counter()

    @app.step
    def work(what: str) -> str:
        calls[what] += 1
        time.sleep(random.uniform(0, 0.02))
        return what

    def branch(name: str) -> list[str]:
        outputs = []
        for turn in range(3):
            outputs.append(work(f"{name}{turn}"))
            outputs.append(sync.receive(f"{name}{turn}"))
        return outputs

    @app.workflow
    def main() -> Any:
        return [work("first"), *sync.map(branch, "abc"), work("last")]

    topics = [f"{name}{turn}" for name in "abc" for turn in range(3)]
    random.shuffle(topics)
    async with run_worker(app):
        workflow_id = await client.enqueue(main)
        for topic in topics:
            await until_status(client, workflow_id, "WAITING")
            await client.send(workflow_id, topic.upper(), topic)
            await asyncio.sleep(0.05)
        _, *branches, _ = await client.result(workflow_id, timeout=SOON)
    assert branches == [[f(f"{b}{n}") for n in range(3) for f in (str, str.upper)] for b in "abc"]
    assert set(calls.values()) == {1}, "each step was called once"
    assert len(calls) == 11
    assert {step_id: output for step_id, _, output in database.steps(workflow_id)} == {
        1: "first",
        5: "last",
        **{
            anchor + place * NEXT: output
            for anchor, outputs in enumerate(branches, 2)
            for place, output in enumerate(outputs)
        },
    }


async def test_map_on_threads_keeps_its_limit_and_the_order_of_outputs(
    run_worker: Any, client: Client
) -> None:
    app = lockstep.App()
    lock = threading.Lock()
    running = 0
    most = 0

    @app.step
    def work(number: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(random.uniform(0.01, 0.03))
        with lock:
            running -= 1
        return number * 10

    @app.workflow
    def main() -> Any:
        return sync.map(work, range(12), limit=3)

    async with run_worker(app):
        result = await client.result(await client.enqueue(main), timeout=SOON)
    assert result == [n * 10 for n in range(12)]
    assert most == 3


async def test_map_on_threads_makes_all_calls_and_raises_the_first_item_s_error(
    run_worker: Any, client: Client
) -> None:
    app = lockstep.App()
    ended: set[int] = set()

    @app.step
    def work(number: int) -> int:
        time.sleep((5 - number) / 50)
        ended.add(number)
        if number in (1, 3):
            raise ValueError(f"item {number}")
        return number

    @app.workflow
    def main() -> Any:
        try:
            return sync.map(work, range(5))
        except ValueError as error:
            return [str(error), sorted(ended)]

    async with run_worker(app):
        result = await client.result(await client.enqueue(main), timeout=SOON)
    assert result == ["item 1", [0, 1, 2, 3, 4]]


@pytest.mark.parametrize("where", ["in a step", "between steps"])
async def test_thread_at_work_keeps_the_workflow_from_being_suspended(
    database: Database, run_worker: Any, client: Client, where: str
) -> None:
    app = lockstep.App()
    calls: Counter[str] = Counter()

    @app.step
    def work(seconds: float) -> str:
        calls["step"] += 1
        time.sleep(seconds)
        return "worked"

    def item(kind: str) -> Any:
        if kind == "waits":
            return sync.receive("t")
        if where == "in a step":
            output = work(0.3)
        else:
            calls["between"] += 1
            time.sleep(0.3)
            output = work(0)
        sync.send(sync.context().workflow_id, "from beside", "t")
        return output

    @app.workflow
    def main() -> Any:
        return sync.map(item, ["waits", "works"])

    async with run_worker(app):
        workflow_id = await client.enqueue(main)
        assert await client.result(workflow_id, timeout=SOON) == ["from beside", "worked"]
    assert calls["step"] == 1
    assert calls["between"] <= 1


async def test_threads_that_all_wait_suspend_together_though_items_are_left(
    database: Database, run_worker: Any, client: Client
) -> None:
    app = lockstep.App()

    def item(number: int) -> Any:
        return sync.receive(f"t{number}")

    def outer(numbers: list[int]) -> Any:
        return sync.map(item, numbers, limit=1)

    @app.workflow
    def main() -> Any:
        return sync.map(outer, [[0, 1], [2, 3]])

    async with run_worker(app) as worker:
        workflow_id = await client.enqueue(main)
        for number in (0, 2, 3, 1):
            await until_status(client, workflow_id, "WAITING")
            await until(lambda: workflow_id not in worker.runs, "the suspension")
            await client.send(workflow_id, number, f"t{number}")
            await asyncio.sleep(0.05)
        assert await client.result(workflow_id, timeout=SOON) == [[0, 1], [2, 3]]


async def test_failed_item_is_not_raised_while_the_others_are_suspended(
    database: Database, run_worker: Any, client: Client
) -> None:
    app = lockstep.App()
    caught: list[str] = []

    @app.step
    def fails() -> None:
        raise ValueError("no")

    def item(kind: str) -> Any:
        return fails() if kind == "fails" else sync.receive("t")

    @app.workflow
    def main() -> Any:
        try:
            return sync.map(item, ["fails", "waits"])
        except ValueError as error:
            caught.append(str(error))
            return "caught"

    async with run_worker(app):
        workflow_id = await client.enqueue(main)
        await until_status(client, workflow_id, "WAITING")
        await asyncio.sleep(0.1)
        assert caught == []
        await client.send(workflow_id, 1, "t")
        assert await client.result(workflow_id, timeout=SOON) == "caught"
    assert caught == ["no"]


async def test_plain_workflow_runs_coroutines_of_several_steps(
    database: Database, run_worker: Any, client: Client
) -> None:
    app = lockstep.App()

    @app.step
    async def work(what: str) -> str:
        return what

    @app.step
    def plain(what: str) -> str:
        return what

    async def both(name: str) -> Any:
        return [await work(f"{name}1"), await lockstep.receive(name), await work(f"{name}2")]

    async def all_at_once() -> Any:
        return await asyncio.gather(work("e"), work("f"))

    @app.workflow
    def main() -> Any:
        early = [plain("a"), sync.run(both("b")), plain("c")]
        return [*early, sync.run(both("d")), sync.run(all_at_once())]

    async with run_worker(app):
        workflow_id = await client.enqueue(main)
        for name in "bd":
            await until_status(client, workflow_id, "WAITING")
            await client.send(workflow_id, name, name)
            await asyncio.sleep(0.1)
        result = await client.result(workflow_id, timeout=SOON)
    assert result == ["a", ["b1", "b", "b2"], "c", ["d1", "d", "d2"], ["e", "f"]]
    assert {step_id: output for step_id, _, output in database.steps(workflow_id)} == {
        **{1: "a", 2: "b1", 2 + NEXT: "b", 2 + 2 * NEXT: "b2", 3: "c"},
        **{4: "d1", 4 + NEXT: "d", 4 + 2 * NEXT: "d2", 5: "e", 5 + NEXT: "f"},
    }


async def test_threads_that_wait_at_a_suspension_are_all_unwound(
    run_worker: Any, client: Client
) -> None:
    app = lockstep.App()
    inside: Counter[str] = Counter()

    def item(name: str) -> Any:
        inside[name] += 1
        try:
            return sync.receive(name)
        except Exception:
            return "swallowed"
        finally:
            inside[name] -= 1

    @app.workflow
    def main() -> Any:
        try:
            return sync.map(item, "abc")
        finally:
            inside["main"] += 1

    async with run_worker(app):
        workflow_id = await client.enqueue(main)
        await until_status(client, workflow_id, "WAITING")
        for _ in range(200):
            if inside["main"]:
                break
            await asyncio.sleep(0.01)
        assert inside == {"a": 0, "b": 0, "c": 0, "main": 1}
        for name in "abc":
            await client.send(workflow_id, name, name)
        assert await client.result(workflow_id, timeout=SOON) == ["a", "b", "c"]
