"""Retries of steps: how often, how far apart, and what is recorded."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import Any

import lockstep
import pytest
from harness import Database

SOON = timedelta(seconds=20)


@pytest.mark.parametrize("kind", ["async", "plain"])
async def test_failed_step_is_tried_again_until_it_succeeds(
    database: Database, run_worker: Any, client: lockstep.AsyncClient, kind: str
) -> None:
    app = lockstep.App()
    times: list[float] = []
    policy = lockstep.Retry(max_attempts=4, delay=timedelta(seconds=0.2), backoff=2.0)

    def attempt() -> str:
        times.append(time.monotonic())
        if len(times) < 3:
            raise OSError("busy")
        return "ok"

    if kind == "async":

        @app.step(name="flaky", retries=policy)
        async def flaky() -> str:
            return attempt()

        @app.workflow(name="main")
        async def main() -> str:
            return await flaky()
    else:

        @app.step(name="flaky", retries=policy)
        def flaky_plain() -> str:
            return attempt()

        @app.workflow(name="main")
        def main_plain() -> str:
            return flaky_plain()

    async with run_worker(app):
        workflow_id = await client.enqueue("main")
        assert await client.result(workflow_id, timeout=SOON) == "ok"
    assert times[1] - times[0] >= 0.2
    assert times[2] - times[1] >= 0.4
    rows = database.rows(
        "SELECT step_name, output, error, attempts FROM lockstep.operation_outputs"
    )
    assert rows == [("flaky", "ok", None, 3)]


async def test_last_failure_is_recorded_and_raised(
    database: Database, run_worker: Any, client: lockstep.AsyncClient
) -> None:
    app = lockstep.App()
    calls: list[int] = []

    @app.step(retries=lockstep.Retry(max_attempts=2, delay=timedelta(0)))
    async def hopeless() -> None:
        calls.append(1)
        raise ValueError(f"failure {len(calls)}")

    @app.workflow
    async def main() -> str:
        try:
            await hopeless()
        except ValueError as error:
            return str(error)
        return "no error"

    async with run_worker(app):
        assert await client.result(await client.enqueue(main), timeout=SOON) == "failure 2"
    rows = database.rows("SELECT attempts, error ->> 'message' FROM lockstep.operation_outputs")
    assert rows == [(2, "failure 2")]


async def test_other_exceptions_are_not_retried(
    database: Database, run_worker: Any, client: lockstep.AsyncClient
) -> None:
    app = lockstep.App()
    calls: list[int] = []

    @app.step(retries=lockstep.Retry(max_attempts=5, retry_on=OSError))
    async def picky() -> None:
        calls.append(1)
        raise ValueError("no")

    @app.workflow
    async def main() -> None:
        await picky()

    async with run_worker(app):
        with pytest.raises(lockstep.WorkflowFailed):
            await client.result(await client.enqueue(main), timeout=SOON)
    assert calls == [1]


async def test_long_pause_suspends_the_workflow(
    database: Database, run_worker: Any, client: lockstep.AsyncClient
) -> None:
    app = lockstep.App()
    calls: list[int] = []

    @app.step(retries=lockstep.Retry(max_attempts=2, delay=timedelta(seconds=1.5)))
    async def slow_to_recover() -> int:
        calls.append(1)
        if len(calls) == 1:
            raise OSError("down")
        return len(calls)

    @app.workflow
    async def main() -> int:
        return await slow_to_recover()

    async with run_worker(app) as worker:
        workflow_id = await client.enqueue(main)
        for _ in range(120):
            if await client.status(workflow_id) == "DELAYED":
                break
            await asyncio.sleep(0.01)
        assert await client.status(workflow_id) == "DELAYED"
        assert worker.runs == {}
        assert await client.result(workflow_id, timeout=SOON) == 2
