"""What is recorded so that a replay takes the same way: values, patches, versions."""

from __future__ import annotations

import asyncio
import uuid
from datetime import timedelta, timezone
from typing import Any

import lockstep
import pytest
from harness import Database, until_status
from lockstep import sync
from waiting import until

SOON = timedelta(seconds=20)
FORMS = pytest.mark.parametrize("form", ["", "_plain"])
Client = lockstep.AsyncClient


@FORMS
async def test_time_uuid_and_random_number_are_the_same_at_each_replay(
    database: Database, run_worker: Any, client: Client, form: str
) -> None:
    app = lockstep.App()
    seen: list[Any] = []

    @app.workflow
    async def main() -> None:
        for turn in range(3):
            seen.append((await lockstep.now(), await lockstep.uuid(), await lockstep.random()))
            await lockstep.receive(f"t{turn}")

    @app.workflow
    def main_plain() -> None:
        for turn in range(3):
            seen.append((sync.now(), sync.uuid(), sync.random()))
            sync.receive(f"t{turn}")

    async with run_worker(app):
        workflow_id = await client.enqueue(f"main{form}")
        for turn in range(3):
            await until_status(client, workflow_id, "WAITING")
            await client.send(workflow_id, None, f"t{turn}")
            await asyncio.sleep(0.1)
        await client.result(workflow_id, timeout=SOON)
    drift = abs(seen[0][0] - database.value("SELECT clock_timestamp()"))
    assert drift < timedelta(seconds=10)
    assert seen[0][0].tzinfo == timezone.utc
    assert isinstance(seen[0][1], uuid.UUID)
    assert seen[0][1].version == 4
    assert 0 <= seen[0][2] < 1
    firsts = [seen[place] for place in (0, 1, 3, 6) if place < len(seen)]
    assert len(seen) == 9, "a replay goes through the turns before it"
    assert firsts == [seen[0]] * 4
    assert [seen[place] for place in (2, 4, 7)] == [seen[2]] * 3
    assert len({*seen}) == 3, "each call has a value of its own"
    names = [name for _, name, _ in database.steps(workflow_id)]
    assert names == ["now", "uuid", "random", "receive"] * 3


@FORMS
async def test_patch_is_taken_by_new_workflows_and_left_out_by_those_that_passed_it(
    database: Database, run_worker: Any, client: Client, form: str
) -> None:
    app = lockstep.App()
    is_patched = False

    @app.step
    async def work(what: str) -> str:
        return what

    @app.step
    def work_plain(what: str) -> str:
        return what

    @app.workflow
    async def main() -> list[Any]:
        outputs = [await work("a")]
        if is_patched and await lockstep.patch("insured"):
            outputs.append(await work("insurance"))
        outputs.append(await work("b"))
        await lockstep.receive("go")
        if is_patched and await lockstep.patch("thanked"):
            outputs.append(await work("thanks"))
        return [*outputs, await work("c")]

    @app.workflow
    def main_plain() -> list[Any]:
        outputs = [work_plain("a")]
        if is_patched and sync.patch("insured"):
            outputs.append(work_plain("insurance"))
        outputs.append(work_plain("b"))
        sync.receive("go")
        if is_patched and sync.patch("thanked"):
            outputs.append(work_plain("thanks"))
        return [*outputs, work_plain("c")]

    async with run_worker(app):
        old = await client.enqueue(f"main{form}")
        await until_status(client, old, "WAITING")
        is_patched = True
        new = await client.enqueue(f"main{form}")
        await until_status(client, new, "WAITING")
        for workflow_id in (old, new):
            await client.send(workflow_id, None, "go")
        assert await client.result(old, timeout=SOON) == ["a", "b", "thanks", "c"]
        assert await client.result(new, timeout=SOON) == ["a", "insurance", "b", "thanks", "c"]
    outputs = [(number, output) for number, _, output in database.steps(old)]
    assert outputs == [(1, "a"), (2, "b"), (3, None), (4, True), (5, "thanks"), (6, "c")]
    outputs = [(number, output) for number, _, output in database.steps(new)]
    assert outputs[1:3] == [(2, True), (3, "insurance")]


async def test_patch_inside_a_branch_counts_there(
    database: Database, run_worker: Any, client: Client
) -> None:
    app = lockstep.App()
    is_patched = False

    @app.step
    async def work(what: str) -> str:
        return what

    async def branch(name: str) -> list[str]:
        outputs = []
        if is_patched and await lockstep.patch("first"):
            outputs.append("new")
        outputs.append(await work(f"{name}1"))
        await lockstep.receive(name)
        if is_patched and await lockstep.patch("second"):
            outputs.append("new")
        return [*outputs, await work(f"{name}2")]

    @app.workflow
    async def main() -> Any:
        return await asyncio.gather(branch("a"), branch("b"))

    async with run_worker(app):
        workflow_id = await client.enqueue(main)
        await until_status(client, workflow_id, "WAITING")
        is_patched = True
        for name in "ba":
            await client.send(workflow_id, None, name)
        assert await client.result(workflow_id, timeout=SOON) == [
            ["a1", "new", "a2"],
            ["b1", "new", "b2"],
        ]


@FORMS
async def test_pinned_workflow_is_finished_by_its_own_version(
    database: Database, run_worker: Any, client: Client, form: str
) -> None:
    def build(version: str) -> lockstep.App:
        app = lockstep.App()

        @app.workflow
        async def main() -> list[Any]:
            return [version, await lockstep.receive("go"), version]

        @app.workflow
        def main_plain() -> list[Any]:
            return [version, sync.receive("go"), version]

        return app

    pin = {"pin_version": True, "poll_interval": timedelta(seconds=0.1)}
    async with run_worker(build("v1"), app_version="v1", **pin):
        started = await client.enqueue(f"main{form}")
        await until_status(client, started, "WAITING")
    fresh = await client.enqueue(f"main{form}")
    await client.send(started, 1, "go")
    await client.send(fresh, 2, "go")
    async with run_worker(build("v2"), app_version="v2", **pin) as worker:
        assert await client.result(fresh, timeout=SOON) == ["v2", 2, "v2"]
        await until(lambda: not worker.runs, "the end of the run")
        await asyncio.sleep(0.3)
        assert await client.status(started) == "ENQUEUED"
    async with run_worker(build("v1"), app_version="v1"):
        assert await client.result(started, timeout=SOON) == ["v1", 1, "v1"]
    assert database.rows(
        "SELECT app_version FROM lockstep.workflow_status ORDER BY created_at"
    ) == [("v1",), ("v2",)]
