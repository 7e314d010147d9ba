"""Limits of time: of a step's attempt, of a transaction, of a workflow."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import Any

import lockstep
import psycopg
import pytest
from harness import Database, until_status
from lockstep import sync
from waiting import until

SOON = timedelta(seconds=20)
SHORT = timedelta(seconds=0.15)
KINDS = pytest.mark.parametrize("kind", ["async", "plain", "in_thread"])
Client = lockstep.AsyncClient


def build(kind: str, seconds: Any, **options: Any) -> lockstep.App:
    """Return an app whose workflow "main" calls a step that takes ``seconds()``."""
    app = lockstep.App()

    @app.step(timeout=SHORT, **options)
    async def slow() -> str:
        await asyncio.sleep(seconds())
        return "in time"

    @app.step(timeout=SHORT, **options)
    def slow_plain() -> str:
        time.sleep(seconds())
        return "in time"

    if kind == "plain":

        @app.workflow(name="main")
        def main_plain() -> str:
            try:
                return slow_plain()
            except lockstep.StepTimeout as error:
                outcome = str(error)
            sync.receive("again")
            return outcome

        return app

    @app.workflow(name="main")
    async def main() -> str:
        try:
            return await (slow() if kind == "async" else slow_plain.in_thread())
        except lockstep.StepTimeout as error:
            outcome = str(error)
        await lockstep.receive("again")
        return outcome

    return app


@KINDS
async def test_step_that_takes_too_long_raises_also_after_replay(
    run_worker: Any, client: Client, kind: str
) -> None:
    async with run_worker(build(kind, lambda: 0.6)):
        began = time.monotonic()
        workflow_id = await client.enqueue("main")
        await until_status(client, workflow_id, "WAITING")
        assert time.monotonic() - began < 0.6, "it was not waited for"
        await client.send(workflow_id, None, "again")
        name = "slow" if kind == "async" else "slow_plain"
        assert await client.result(workflow_id, timeout=SOON) == (
            f'step "{name}" took longer than 0.15 s'
        )


@KINDS
async def test_step_that_takes_too_long_is_tried_again_by_its_policy(
    database: Database, run_worker: Any, client: Client, kind: str
) -> None:
    durations = iter([0.4, 0.4, 0.0])
    retries = lockstep.Retry(max_attempts=3, delay=timedelta(seconds=0.02))
    async with run_worker(build(kind, lambda: next(durations), retries=retries)):
        workflow_id = await client.enqueue("main")
        assert await client.result(workflow_id, timeout=SOON) == "in time"
    assert database.value("SELECT attempts FROM lockstep.operation_outputs") == 3


@KINDS
async def test_error_of_a_step_that_raises_a_timeout_itself_is_its_own(
    run_worker: Any, client: Client, kind: str
) -> None:
    def seconds() -> float:
        raise TimeoutError("the shop did not answer")

    async with run_worker(build(kind, seconds)):
        workflow_id = await client.enqueue("main")
        with pytest.raises(lockstep.WorkflowFailed, match="the shop did not answer") as caught:
            await client.result(workflow_id, timeout=SOON)
    assert caught.value.type == "TimeoutError"


async def test_transaction_that_takes_too_long_is_rolled_back_and_tried_again(
    database: Database, run_worker: Any, client: Client
) -> None:
    database.rows("CREATE TABLE ledger (key int)")
    app = lockstep.App()
    tries: list[int] = []

    @app.transaction(timeout=timedelta(seconds=0.25), retries=lockstep.Retry(delay=SHORT))
    async def book(conn: psycopg.AsyncConnection[Any]) -> int:
        tries.append(1)
        await conn.execute("INSERT INTO ledger VALUES (%s)", (len(tries),))
        if len(tries) == 1:
            await conn.execute("SELECT pg_sleep(5)")
        return len(tries)

    @app.workflow
    async def main() -> int:
        return await book()

    async with run_worker(app):
        began = time.monotonic()
        assert await client.result(await client.enqueue(main), timeout=SOON) == 2
        assert time.monotonic() - began < 4
    assert database.rows("SELECT key FROM ledger") == [(2,)]


def test_plain_transaction_takes_no_timeout() -> None:
    app = lockstep.App()
    with pytest.raises(ValueError, match="statement_timeout"):

        @app.transaction(timeout=SHORT)
        def book(conn: Any) -> None: ...


@pytest.mark.parametrize("form", ["", "_plain"])
@pytest.mark.parametrize("state", ["DELAYED", "WAITING", "ENQUEUED", "PENDING"])
async def test_deadline_cancels_a_workflow_in_any_state(
    database: Database, run_worker: Any, client: Client, form: str, state: str
) -> None:
    app = lockstep.App()
    after: list[str] = []

    @app.workflow
    async def main(seconds: float) -> None:
        if seconds:
            await lockstep.sleep(timedelta(seconds=seconds))
        else:
            await lockstep.receive()
        after.append("after")
        await lockstep.set_event("over", True)

    @app.workflow
    def main_plain(seconds: float) -> None:
        if seconds:
            sync.sleep(timedelta(seconds=seconds))
        else:
            sync.receive()
        after.append("after")
        sync.set_event("over", True)

    deadline = timedelta(seconds=0.5)
    seconds = {"DELAYED": 60, "WAITING": 0, "PENDING": 0.9, "ENQUEUED": 60}[state]
    began = database.value("SELECT clock_timestamp()")
    options: dict[str, Any] = {"timeout": deadline}
    if state == "ENQUEUED":  # a timeout would run from the start
        options = {"queue_name": "served by nobody", "deadline": began + deadline}
    workflow_id = await client.enqueue(f"main{form}", seconds, **options)
    async with run_worker(app) as worker:
        await until_status(client, workflow_id, state)
        with pytest.raises(lockstep.WorkflowCancelled, match="deadline"):
            await client.result(workflow_id, timeout=SOON)
        await until(lambda: not worker.runs, "the end of the run")
        ended = database.value("SELECT completed_at FROM lockstep.workflow_status")
        assert deadline <= ended - began < timedelta(seconds=2)
    assert await client.get_event(workflow_id, "over") is None
    assert after == (["after"] if state == "PENDING" else []), "it is not interrupted"
