"""Branches of a workflow that run beside each other: their numbers, ends and suspensions."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import lockstep
import pytest
from harness import Database, until_status

SOON = timedelta(seconds=20)
NEXT = 65536
Client = lockstep.AsyncClient


def ids_of(database: Database, workflow_id: str) -> dict[int, Any]:
    return {step_id: output for step_id, _, output in database.steps(workflow_id)}


@pytest.mark.parametrize("form", ["gather", "task group", "tasks"])
async def test_branches_of_several_calls_have_the_same_ids_at_each_replay(
    database: Database, run_worker: Any, client: Client, form: str
) -> None:
    app = lockstep.App()
    calls: Counter[str] = Counter()
    runs: list[int] = []

    @app.step
    async def work(what: str) -> str:
        calls[what] += 1
        await asyncio.sleep(random.uniform(0, 0.02))
        return what

    async def branch(name: str) -> list[str]:
        outputs = []
        for turn in range(3):
            outputs.append(await work(f"{name}{turn}"))
            outputs.append(await lockstep.receive(f"{name}{turn}"))
        return outputs

    @app.workflow
    async def main() -> Any:
        runs.append(1)
        if form == "gather":
            return await asyncio.gather(branch("a"), branch("b"), branch("c"))
        if form == "tasks":
            tasks = [asyncio.create_task(branch(name)) for name in "abc"]
            return [await task for task in tasks]
        group = getattr(asyncio, "TaskGroup", None)
        if group is None:
            pytest.skip("no task groups before Python 3.11")
        async with group() as tg:
            tasks = [tg.create_task(branch(name)) for name in "abc"]
        return [task.result() for task in tasks]

    topics = [f"{name}{turn}" for name in "abc" for turn in range(3)]
    random.shuffle(topics)
    async with run_worker(app):
        workflow_id = await client.enqueue(main)
        for topic in topics:
            await until_status(client, workflow_id, "WAITING")
            await client.send(workflow_id, topic.upper(), topic)
            await asyncio.sleep(0.05)
        result = await client.result(workflow_id, timeout=SOON)
    assert result == [[f(f"{b}{n}") for n in range(3) for f in (str, str.upper)] for b in "abc"]
    assert set(calls.values()) == {1}, "each step was called once"
    assert len(calls) == 9
    assert len(runs) > 3, "it was replayed"
    assert ids_of(database, workflow_id) == {
        anchor + place * NEXT: output
        for anchor, outputs in enumerate(result, 1)
        for place, output in enumerate(outputs)
    }


async def replayed(
    app: lockstep.App, main: Callable[[], Awaitable[Any]], run_worker: Any, client: Client
) -> tuple[str, Any, Any]:
    """Run a workflow that returns after a receive; return its id and both runs' values."""
    seen: list[Any] = []

    @app.workflow(name="main")
    async def outer() -> Any:
        seen.append(await main())
        await lockstep.receive("go")
        return seen[-1]

    async with run_worker(app):
        workflow_id = await client.enqueue("main")
        await until_status(client, workflow_id, "WAITING", "ERROR")
        await client.send(workflow_id, None, "go")
        result = await client.result(workflow_id, timeout=SOON)
    return workflow_id, seen[0], result


async def test_task_beside_the_workflow_s_own_calls_is_numbered_the_same_at_replay(
    database: Database, run_worker: Any, client: Client
) -> None:
    app = lockstep.App()

    @app.step
    async def work(what: str) -> str:
        return what

    async def branch() -> list[str]:
        return [await work("b1"), await work("b2")]

    async def main() -> Any:
        task = asyncio.create_task(branch())
        own = [await work("m1"), await work("m2"), await work("m3")]
        return [*own, *await task]

    workflow_id, first, second = await replayed(app, main, run_worker, client)
    assert first == second == ["m1", "m2", "m3", "b1", "b2"]
    assert ids_of(database, workflow_id) == {
        **{1: "m1", 2: "b1", 2 + NEXT: "b2", 3: "m2", 4: "m3"},
        5: None,
    }


async def test_second_gather_after_a_call_of_the_workflow_s_own_may_call_several_steps(
    database: Database, run_worker: Any, client: Client
) -> None:
    app = lockstep.App()

    @app.step
    async def work(what: str) -> str:
        return what

    async def branch(name: str) -> list[str]:
        return [await work(f"{name}1"), await work(f"{name}2")]

    async def main() -> Any:
        early = await asyncio.gather(branch("a"), branch("b"))
        between = await work("between")
        late = await asyncio.gather(branch("c"), branch("d"))
        return [*early, between, *late]

    workflow_id, first, second = await replayed(app, main, run_worker, client)
    assert first == second == [["a1", "a2"], ["b1", "b2"], "between", ["c1", "c2"], ["d1", "d2"]]
    assert ids_of(database, workflow_id) == {
        **{1: "a1", 1 + NEXT: "a2", 2: "b1", 2 + NEXT: "b2", 3: "between"},
        **{4: "c1", 4 + NEXT: "c2", 5: "d1", 5 + NEXT: "d2", 6: None},
    }


async def test_tasks_inside_a_task_make_one_call_each(
    database: Database, run_worker: Any, client: Client
) -> None:
    app = lockstep.App()

    @app.step
    async def work(what: str) -> str:
        return what

    async def inner(what: str) -> str:
        return await work(what)

    async def branch(name: str) -> list[str]:
        return await asyncio.gather(*(inner(f"{name}{n}") for n in range(3)))

    async def main() -> Any:
        return await asyncio.gather(branch("a"), lockstep.map(branch, ["b", "c"]))

    workflow_id, first, second = await replayed(app, main, run_worker, client)
    assert first == second == [["a0", "a1", "a2"], [["b0", "b1", "b2"], ["c0", "c1", "c2"]]]
    assert sorted(filter(None, ids_of(database, workflow_id).values())) == [
        f"{name}{n}" for name in "abc" for n in range(3)
    ]


@pytest.mark.parametrize("form", ["gather", "map"])
async def test_second_call_of_a_task_inside_a_task_is_refused(
    database: Database, run_worker: Any, client: Client, form: str
) -> None:
    app = lockstep.App()

    @app.step
    async def work(what: str) -> str:
        return what

    async def inner(name: str) -> list[str]:
        return [await work(f"{name}1"), await work(f"{name}2")]

    async def branch() -> Any:
        if form == "map":
            return await lockstep.map(inner, ["a", "b"])
        await work("own")
        return await asyncio.gather(inner("a"), inner("b"))

    @app.workflow
    async def main() -> Any:
        return await asyncio.gather(branch())

    async with run_worker(app):
        workflow_id = await client.enqueue(main)
        with pytest.raises(
            lockstep.WorkflowFailed, match="let a child workflow make them"
        ) as caught:
            await client.result(workflow_id, timeout=SOON)
    assert caught.value.type == "NotDeterministic"


async def test_map_makes_all_calls_to_their_end_and_raises_the_first_item_s_error(
    database: Database, run_worker: Any, client: Client
) -> None:
    app = lockstep.App()
    ended: set[int] = set()

    @app.step
    async def work(number: int) -> int:
        await asyncio.sleep((5 - number) / 50)
        ended.add(number)
        if number in (1, 3):
            raise ValueError(f"item {number}")
        return number

    async def main() -> Any:
        try:
            return await lockstep.map(work, range(5))
        except ValueError as error:
            return [str(error), sorted(ended)]

    workflow_id, first, second = await replayed(app, main, run_worker, client)
    assert first == second == ["item 1", [0, 1, 2, 3, 4]]
    assert len(ids_of(database, workflow_id)) == 6


async def test_failing_step_of_a_gather_does_not_lose_what_goes_on_beside_it(
    database: Database, run_worker: Any, client: Client
) -> None:
    app = lockstep.App()
    calls: Counter[str] = Counter()

    @app.step
    async def fails() -> None:
        calls["fails"] += 1
        raise ValueError("no")

    @app.step
    async def slow() -> str:
        calls["slow"] += 1
        await asyncio.sleep(0.05)
        return "slow"

    @app.step
    async def undo() -> str:
        calls["undo"] += 1
        return "undone"

    async def main() -> Any:
        task = asyncio.ensure_future(slow())
        try:
            await asyncio.gather(fails(), task)
        except ValueError as error:
            return [str(error), await undo(), await task]
        return None

    workflow_id, first, second = await replayed(app, main, run_worker, client)
    assert first == second == ["no", "undone", "slow"]
    assert calls == {"fails": 1, "slow": 1, "undo": 1}
    assert [name for _, name, _ in database.steps(workflow_id)] == [
        *("slow", "fails", "undo", "receive")
    ]


async def test_failure_beside_a_wait_is_caught_and_the_wait_goes_on(
    database: Database, run_worker: Any, client: Client
) -> None:
    app = lockstep.App()

    @app.step
    async def fails() -> None:
        raise ValueError("no")

    @app.workflow
    async def main() -> Any:
        waiting = asyncio.ensure_future(lockstep.receive("a"))
        try:
            await asyncio.gather(waiting, fails())
        except ValueError:
            return [await lockstep.receive("b"), await waiting]

    async with run_worker(app):
        workflow_id = await client.enqueue(main)
        await until_status(client, workflow_id, "WAITING")
        waiting_for = database.value("SELECT waiting_for FROM lockstep.workflow_status")
        assert waiting_for == ["message:a", "message:b"]
        await client.send(workflow_id, "B", "b")
        await asyncio.sleep(0.1)
        await until_status(client, workflow_id, "WAITING")
        await client.send(workflow_id, "A", "a")
        assert await client.result(workflow_id, timeout=SOON) == ["B", "A"]


async def test_code_that_catches_exceptions_and_awaits_in_finally_survives_suspensions(
    database: Database, run_worker: Any, client: Client
) -> None:
    app = lockstep.App()
    effects: Counter[str] = Counter()

    @app.step
    async def work(what: str) -> str:
        effects[what] += 1
        return what

    async def branch(name: str) -> Any:
        try:
            return await lockstep.receive(name)
        except Exception:
            await work("caught")
        finally:
            await work(f"finally {name}")

    @app.workflow
    async def main() -> Any:
        try:
            return await asyncio.gather(branch("a"), branch("b"), return_exceptions=True)
        finally:
            await work("at last")

    async with run_worker(app):
        workflow_id = await client.enqueue(main)
        for name in "ba":
            await until_status(client, workflow_id, "WAITING")
            assert set(effects) <= {"finally b"}
            await client.send(workflow_id, name, name)
            await asyncio.sleep(0.1)
        assert await client.result(workflow_id, timeout=SOON) == ["a", "b"]
    assert effects == {"finally a": 1, "finally b": 1, "at last": 1}


async def test_changed_branch_is_told_both_names(
    database: Database, run_worker: Any, client: Client
) -> None:
    app = lockstep.App()
    is_new = False

    @app.step
    async def charge() -> None: ...

    @app.step
    async def ship() -> None: ...

    async def branch() -> None:
        await charge()
        await (ship() if is_new else charge())

    @app.workflow
    async def main() -> None:
        await asyncio.gather(branch(), branch())
        await lockstep.receive()

    async with run_worker(app):
        workflow_id = await client.enqueue(main)
        await until_status(client, workflow_id, "WAITING")
        is_new = True
        await client.send(workflow_id, None)
        with pytest.raises(
            lockstep.WorkflowFailed,
            match=f'step {1 + NEXT} was "charge" when recorded and is "ship" now',
        ) as caught:
            await client.result(workflow_id, timeout=SOON)
    assert caught.value.type == "StepMismatch"
