"""Asking again and again: poll(), in both forms; and how far a workflow says that it is."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import timedelta
from typing import Any

import lockstep
import pytest
from harness import Database, until_status
from lockstep import sync
from waiting import until

SOON = timedelta(seconds=20)
FORMS = pytest.mark.parametrize("form", ["async", "plain", "plain workflow", "step"])
Client = lockstep.AsyncClient


def build(form: str, answer: Any, interval: float = 0.03, timeout: float | None = None) -> Any:
    app = lockstep.App()
    options = {
        "interval": timedelta(seconds=interval),
        "timeout": None if timeout is None else timedelta(seconds=timeout),
    }

    async def ask(what: str) -> Any:
        await asyncio.sleep(0)
        return answer(what)

    def ask_plain(what: str) -> Any:
        assert threading.current_thread() is not threading.main_thread()
        return answer(what)

    @app.step(retries=lockstep.Retry(max_attempts=5))
    async def ask_step(what: str) -> Any:
        return answer(what)

    function: Any = {"async": ask, "step": ask_step}.get(form, ask_plain)
    if form == "plain workflow":

        @app.workflow(name="main")
        def main_plain() -> Any:
            try:
                outcome = sync.poll(function, "it", **options)
            except (lockstep.WaitTimeout, ValueError) as error:
                outcome = [type(error).__name__, str(error)]
            sync.receive("again")
            return outcome
    else:

        @app.workflow(name="main")
        async def main() -> Any:
            try:
                outcome = await lockstep.poll(function, "it", **options)
            except (lockstep.WaitTimeout, ValueError) as error:
                outcome = [type(error).__name__, str(error)]
            await lockstep.receive("again")
            return outcome

    return app, getattr(function, "name", f"poll {function.__name__}")


async def run(app: lockstep.App, run_worker: Any, client: Client) -> tuple[str, Any]:
    async with run_worker(app):
        workflow_id = await client.enqueue("main")
        await until_status(client, workflow_id, "WAITING")
        await client.send(workflow_id, None, "again")
        return workflow_id, await client.result(workflow_id, timeout=SOON)


@FORMS
async def test_poll_returns_the_first_true_answer_as_one_step(
    database: Database, run_worker: Any, client: Client, form: str
) -> None:
    answers = iter([None, "", 0, {"is": "there"}])
    app, name = build(form, lambda what: next(answers))
    workflow_id, outcome = await run(app, run_worker, client)
    assert outcome == {"is": "there"}
    assert database.steps(workflow_id)[0] == (1, name, {"is": "there"})
    assert database.value("SELECT attempts FROM lockstep.operation_outputs WHERE step_id = 1") == 4


@FORMS
async def test_poll_raises_when_its_time_is_over_also_after_replay(
    run_worker: Any, client: Client, form: str
) -> None:
    asked: list[str] = []
    app, name = build(form, asked.append, timeout=0.1)
    _, outcome = await run(app, run_worker, client)
    assert outcome == ["WaitTimeout", f'"{name}" returned nothing true within 0:00:00.100000']
    assert 2 <= len(asked) <= 5


@FORMS
async def test_poll_ends_with_what_the_function_raises_also_after_replay(
    run_worker: Any, client: Client, form: str
) -> None:
    asked: list[str] = []

    def answer(what: str) -> None:
        asked.append(what)
        if len(asked) == 3:
            raise ValueError("no such thing")

    app, _ = build(form, answer)
    _, outcome = await run(app, run_worker, client)
    assert outcome == ["ValueError", "no such thing"]
    assert len(asked) == 3


@FORMS
async def test_workflow_is_suspended_between_two_questions(
    database: Database, run_worker: Any, client: Client, form: str
) -> None:
    asked: list[str] = []

    def answer(what: str) -> str | None:
        asked.append(what)
        return "there" if len(asked) == 3 else None

    app, name = build(form, answer, interval=1.05)
    async with run_worker(app) as worker:
        workflow_id = await client.enqueue("main")
        for count in (1, 2):
            await until(lambda count=count: len(asked) == count, f"question {count}")
            await until_status(client, workflow_id, "DELAYED")
            assert len(asked) == count
            assert worker.runs == {} or await asyncio.sleep(0.05) is None
            assert worker.runs == {}
        await until_status(client, workflow_id, "WAITING")
    assert len(asked) == 3
    assert database.steps(workflow_id) == [(1, name, "there")]


async def test_poll_keeps_its_rhythm_when_something_else_wakes_the_workflow(
    database: Database, run_worker: Any, client: Client
) -> None:
    app = lockstep.App()
    asked: list[float] = []

    async def ask() -> bool:
        asked.append(time.monotonic())
        return len(asked) == 2

    @app.workflow
    async def main() -> Any:
        return await asyncio.gather(
            lockstep.poll(ask, interval=timedelta(seconds=1.2)), lockstep.receive("t")
        )

    async with run_worker(app):
        workflow_id = await client.enqueue(main)
        await until_status(client, workflow_id, "WAITING")
        await client.send(workflow_id, "message", "t")
        assert await client.result(workflow_id, timeout=SOON) == [True, "message"]
    assert 1.15 < asked[1] - asked[0] < 3


async def test_interval_must_be_positive(run_worker: Any, client: Client) -> None:
    app = lockstep.App()

    @app.workflow
    async def main() -> None:
        await lockstep.poll(print, interval=timedelta(0))

    async with run_worker(app):
        with pytest.raises(lockstep.WorkflowFailed, match="interval must be positive"):
            await client.result(await client.enqueue(main), timeout=SOON)


@pytest.mark.parametrize("form", ["async", "plain"])
async def test_progress_is_what_was_noted_last_in_workflow_or_step(
    database: Database, run_worker: Any, client: Client, form: str
) -> None:
    app = lockstep.App()
    seen: list[Any] = []
    key = "lockstep.progress"

    @app.step
    async def work() -> None:
        await lockstep.set_progress(2, 3, "in step")

    @app.step
    def work_plain() -> None:
        sync.set_progress(2, 3, "in step")

    @app.workflow
    async def main() -> None:
        await lockstep.set_progress(1, 3)
        seen.append(await client.get_event(lockstep.context().workflow_id, key))
        await work()
        seen.append(await client.get_event(lockstep.context().workflow_id, key))
        await work_plain.in_thread()
        await lockstep.receive("go")
        await lockstep.set_progress(2.5)

    @app.workflow
    def main_plain() -> None:
        sync.set_progress(1, 3)
        seen.append(database.value("SELECT value FROM lockstep.workflow_events"))
        work_plain()
        seen.append(database.value("SELECT value FROM lockstep.workflow_events"))
        sync.run(work())
        sync.receive("go")
        sync.set_progress(2.5)

    async with run_worker(app):
        workflow_id = await client.enqueue(main if form == "async" else main_plain)
        await until_status(client, workflow_id, "WAITING")
        await client.send(workflow_id, None, "go")
        await client.result(workflow_id, timeout=SOON)
    assert seen[:2] == [
        {"done": 1, "total": 3, "note": None},
        {"done": 2, "total": 3, "note": "in step"},
    ]
    assert set(map(repr, seen[2:])) <= {repr(seen[1])}, "the replay set nothing back"
    assert await client.get_event(workflow_id, key) == {"done": 2.5, "total": None, "note": None}
    assert len(database.steps(workflow_id)) == 3, "it is no step"


async def test_step_that_commits_itself_cannot_be_asked(run_worker: Any, client: Client) -> None:
    app = lockstep.App()

    @app.transaction
    async def is_paid(conn: Any) -> bool:
        return True

    @app.workflow
    async def asks() -> Any:
        return await lockstep.poll(is_paid, interval=timedelta(seconds=1))

    async with run_worker(app):
        with pytest.raises(lockstep.WorkflowFailed, match="asks no step that commits itself"):
            await client.result(await client.enqueue(asks), timeout=SOON)
