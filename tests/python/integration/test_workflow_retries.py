"""Workflows that are tried again as a whole, from their last checkpoint."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

import lockstep
import pytest
from harness import Database, until_status
from lockstep import sync
from waiting import until

SOON = timedelta(seconds=20)
FORMS = pytest.mark.parametrize("form", ["", "_plain"])
Client = lockstep.AsyncClient
AGAIN = lockstep.Retry(
    max_attempts=3, delay=timedelta(seconds=0.05), retry_on=(ValueError, OSError)
)


def build_app(calls: Counter[str], retries: lockstep.Retry | None) -> lockstep.App:
    app = lockstep.App()

    @app.step
    async def keeps() -> str:
        calls["keeps"] += 1
        return "kept"

    @app.step
    async def caught() -> None:
        calls["caught"] += 1
        raise KeyError("caught")

    @app.step
    async def fails(times: int, error: str) -> str:
        calls["fails"] += 1
        if calls["fails"] <= times:
            raise {"ValueError": ValueError, "KeyError": KeyError}[error](calls["fails"])
        return f"try {calls['fails']}"

    @app.workflow(retries=retries)
    async def main(times: int = 2, error: str = "ValueError") -> Any:
        calls["main"] += 1
        try:
            await caught()
        except KeyError:
            outputs = [await keeps()]
        return [*outputs, await fails(times, error)]

    @app.workflow(retries=retries)
    def main_plain(times: int = 2, error: str = "ValueError") -> Any:
        calls["main"] += 1
        try:
            sync.run(caught())
        except KeyError:
            outputs = [sync.run(keeps())]
        return [*outputs, sync.run(fails(times, error))]

    return app


@FORMS
@pytest.mark.parametrize("policy", ["function's", "row's"])
async def test_failed_workflow_goes_on_from_its_last_checkpoint(
    database: Database, run_worker: Any, client: Client, form: str, policy: str
) -> None:
    calls: Counter[str] = Counter()
    if policy == "row's":
        workflow_id = database.enqueue(
            f"main{form}", retries='{"max_attempts": 3, "delay": 0.05, "backoff": 1}'
        )
    else:
        workflow_id = database.enqueue(f"main{form}")
    async with run_worker(build_app(calls, AGAIN if policy == "function's" else None)):
        assert await client.result(workflow_id, timeout=SOON) == ["kept", "try 3"]
    assert calls == {"main": 3, "caught": 1, "keeps": 1, "fails": 3}
    assert [name for _, name, _ in database.steps(workflow_id)] == ["caught", "keeps", "fails"]
    row = "SELECT failures, attempts, error FROM lockstep.workflow_status"
    assert database.rows(row)[0][:2] == (2, 1), "a failure is no attempt that its executor died in"


@FORMS
async def test_tries_are_bounded_and_the_last_error_stands(
    database: Database, run_worker: Any, client: Client, form: str
) -> None:
    calls: Counter[str] = Counter()
    async with run_worker(build_app(calls, AGAIN)):
        workflow_id = await client.enqueue(f"main{form}", 99)
        with pytest.raises(lockstep.WorkflowFailed, match="ValueError: 3"):
            await client.result(workflow_id, timeout=SOON)
    assert calls["main"] == 3
    assert calls["fails"] == 3


@FORMS
async def test_row_s_policy_comes_before_the_function_s(
    database: Database, run_worker: Any, client: Client, form: str
) -> None:
    calls: Counter[str] = Counter()
    workflow_id = database.enqueue(
        f"main{form}", retries='{"max_attempts": 1}', positional_args="[99]"
    )
    async with run_worker(build_app(calls, AGAIN)):
        with pytest.raises(lockstep.WorkflowFailed):
            await client.result(workflow_id, timeout=SOON)
    assert calls["main"] == 1


@FORMS
@pytest.mark.parametrize("failure", ["other class", "inputs", "unserializable", "mismatch"])
async def test_failure_that_would_come_again_is_not_tried_again(
    database: Database, run_worker: Any, client: Client, form: str, failure: str
) -> None:
    calls: Counter[str] = Counter()
    app = build_app(calls, AGAIN)

    @app.workflow(retries=lockstep.Retry(delay=timedelta(0)))
    async def returns() -> Any:
        calls["main"] += 1
        return object()

    @app.workflow(retries=lockstep.Retry(delay=timedelta(0)))
    def returns_plain() -> Any:
        calls["main"] += 1
        return object()

    @app.workflow(retries=lockstep.Retry(delay=timedelta(0)))
    async def changes() -> None:
        calls["main"] += 1
        await (lockstep.now() if calls["main"] == 1 else lockstep.uuid())
        await lockstep.receive()

    @app.workflow(retries=lockstep.Retry(delay=timedelta(0)))
    def changes_plain() -> None:
        calls["main"] += 1
        sync.now() if calls["main"] == 1 else sync.uuid()
        sync.receive()

    name, args, error = {
        "other class": ("main", [9, "KeyError"], "KeyError"),
        "inputs": ("main", ["nine"], "InvalidInput"),
        "unserializable": ("returns", [], "Unserializable"),
        "mismatch": ("changes", [], "StepMismatch"),
    }[failure]
    async with run_worker(app):
        workflow_id = await client.enqueue(name + form, *args)
        if failure == "mismatch":
            await until_status(client, workflow_id, "WAITING")
            await client.send(workflow_id, None)
        with pytest.raises(lockstep.WorkflowFailed) as caught:
            await client.result(workflow_id, timeout=SOON)
    assert caught.value.type == error
    assert database.value("SELECT failures FROM lockstep.workflow_status") == 1
    assert calls["main"] == {"inputs": 0, "mismatch": 2}.get(failure, 1)


@FORMS
async def test_workflow_that_pauses_before_its_next_try_can_be_cancelled(
    run_worker: Any, client: Client, form: str
) -> None:
    calls: Counter[str] = Counter()
    patient = lockstep.Retry(max_attempts=3, delay=timedelta(hours=1))
    async with run_worker(build_app(calls, patient)) as worker:
        workflow_id = await client.enqueue(f"main{form}")
        await until_status(client, workflow_id, "DELAYED")
        await until(lambda: not worker.runs, "the end of the run")
        assert await client.cancel(workflow_id)
        await asyncio.sleep(0.1)
        assert await client.status(workflow_id) == "CANCELLED"
    assert calls["main"] == 1


async def test_branch_that_failed_runs_again_and_its_sibling_does_not(
    run_worker: Any, client: Client
) -> None:
    app = lockstep.App()
    calls: Counter[str] = Counter()

    @app.step
    async def works() -> str:
        calls["works"] += 1
        return "worked"

    @app.step
    async def fails() -> str:
        calls["fails"] += 1
        await asyncio.sleep(0.05)
        if calls["fails"] == 1:
            raise ValueError("not yet")
        return "worked at last"

    async def branch(first: Any, second: Any) -> list[str]:
        return [await first(), await second()]

    @app.workflow(retries=AGAIN)
    async def main() -> Any:
        return await asyncio.gather(branch(works, works), branch(works, fails))

    async with run_worker(app):
        assert await client.result(await client.enqueue(main), timeout=SOON) == [
            ["worked", "worked"],
            ["worked", "worked at last"],
        ]
    assert calls == {"works": 3, "fails": 2}
