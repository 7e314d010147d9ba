"""Durable sleeps: woken at the recorded moment, at once, and not before."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone
from typing import Any

import lockstep
import pytest
from harness import Database, until_status
from lockstep import sync
from lockstep._branches import Branches
from waiting import until

SOON = timedelta(seconds=20)
FORMS = pytest.mark.parametrize("form", ["", "_plain"])
Client = lockstep.AsyncClient


def build_app() -> lockstep.App:
    app = lockstep.App()

    @app.workflow
    async def naps(seconds: float) -> datetime:
        await lockstep.sleep(timedelta(seconds=seconds))
        return await lockstep.now()

    @app.workflow
    def naps_plain(seconds: float) -> datetime:
        sync.sleep(timedelta(seconds=seconds))
        return sync.now()

    @app.workflow
    async def until_then(moment: datetime) -> datetime:
        await lockstep.sleep_until(moment)
        return await lockstep.now()

    @app.workflow
    def until_then_plain(moment: datetime) -> datetime:
        sync.sleep_until(moment)
        return sync.now()

    return app


@FORMS
@pytest.mark.parametrize(
    "has_doorbell",
    [
        pytest.param(True, id="listening", marks=pytest.mark.direct("hears a notification")),
        pytest.param(False, id="without LISTEN"),
    ],
)
async def test_quiet_worker_wakes_a_sleeper_within_100_ms(
    database: Database,
    run_worker: Any,
    client: Client,
    form: str,
    has_doorbell: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not has_doorbell:  # as behind a transaction pooler, which delivers no notification
        monkeypatch.setattr("lockstep._listener.Listener.run", lambda self: asyncio.sleep(3600))
    late = []
    async with run_worker(build_app(), poll_interval=timedelta(seconds=30)) as worker:
        for _ in range(2):
            workflow_id = await client.enqueue(f"naps{form}", 1.1)
            if not has_doorbell:
                worker.claimer.ring()
            await until_status(client, workflow_id, "DELAYED")
            assert worker.listener.is_connected is has_doorbell
            due_at = database.value(
                "SELECT available_at FROM lockstep.workflow_status WHERE workflow_id = %s",
                workflow_id,
            )
            woke_at = datetime.fromisoformat(
                (await client.result(workflow_id, timeout=SOON)).replace("Z", "+00:00")
            )
            late.append((woke_at - due_at).total_seconds())
    assert min(late) >= 0, "none wakes early"
    assert min(late) < 0.1, f"seconds late: {late}"


@FORMS
async def test_sleep_until_ends_at_its_moment_and_one_that_has_passed_at_once(
    database: Database, run_worker: Any, client: Client, form: str
) -> None:
    now = database.value("SELECT clock_timestamp()")
    async with run_worker(build_app()):
        for moment in (now + timedelta(seconds=1.5), now - timedelta(days=1)):
            before = database.value("SELECT clock_timestamp()")
            workflow_id = await client.enqueue(
                f"until_then{form}", moment.astimezone(timezone(timedelta(hours=5)))
            )
            woke_at = datetime.fromisoformat(
                (await client.result(workflow_id, timeout=SOON)).replace("Z", "+00:00")
            )
            assert timedelta(0) <= woke_at - max(moment, before) < timedelta(seconds=1)


async def test_suspension_that_is_considered_twice_is_asked_for_once(
    run_worker: Any, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    consider = Branches._consider_suspension
    suspend = Branches._suspend
    count = 0

    def consider_twice(branches: Branches) -> None:
        consider(branches)
        consider(branches)

    async def counted(branches: Branches, *args: Any) -> None:
        nonlocal count
        count += 1
        await suspend(branches, *args)

    monkeypatch.setattr(Branches, "_consider_suspension", consider_twice)
    monkeypatch.setattr(Branches, "_suspend", counted)
    async with run_worker(build_app()):
        workflow_id = await client.enqueue("naps", 2.5)
        await client.result(workflow_id, timeout=SOON)
    assert count == 1


@FORMS
async def test_sleep_until_of_a_naive_datetime_is_refused(
    run_worker: Any, client: Client, form: str
) -> None:
    async with run_worker(build_app()):
        workflow_id = await client.enqueue(f"until_then{form}", "2026-01-01T00:00:00")
        with pytest.raises(lockstep.WorkflowFailed, match="needs an aware datetime"):
            await client.result(workflow_id, timeout=SOON)


@FORMS
async def test_moment_of_waking_does_not_move_when_a_worker_hands_the_workflow_back(
    database: Database, run_worker: Any, client: Client, form: str
) -> None:
    timers = "SELECT available_at FROM lockstep.operation_outputs WHERE step_name = 'sleep'"
    async with run_worker(build_app()):
        workflow_id = await client.enqueue(f"naps{form}", 0.9)
        ((due_at,),) = await until(lambda: database.rows(timers), "the timer")
    assert await client.status(workflow_id) == "ENQUEUED"
    async with run_worker(build_app()):
        await client.result(workflow_id, timeout=SOON)
    assert database.value(timers) == due_at
    slept_until = database.value(
        "SELECT completed_at FROM lockstep.operation_outputs WHERE step_name = 'now'"
    )
    assert timedelta(0) <= slept_until - due_at < timedelta(seconds=1)
