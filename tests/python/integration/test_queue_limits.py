"""Running workers and the limits of their queues: no place stays free, changes are heeded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import lockstep
import pytest
from harness import Database
from waiting import until

RARELY = timedelta(seconds=60)
"""A poll interval that would fail every test here, if it took a poll to go on."""


@pytest.fixture
def held() -> asyncio.Event:
    return asyncio.Event()


@pytest.fixture
def app(held: asyncio.Event) -> lockstep.App:
    app = lockstep.App()

    @app.workflow
    async def hold() -> None:
        await held.wait()

    @app.workflow
    async def pass_through() -> None:
        pass

    return app


def counts(database: Database, status: str) -> Callable[[], int]:
    def count() -> int:
        return int(
            database.value(
                "SELECT count(*) FROM lockstep.workflow_status WHERE status = %s", status
            )
        )

    return count


def starts(database: Database) -> list[datetime]:
    return [
        started_at
        for (started_at,) in database.rows(
            "SELECT started_at FROM lockstep.workflow_status ORDER BY started_at"
        )
    ]


async def test_idle_worker_starts_the_next_when_a_rate_lets_it(
    database: Database, run_worker: Any, app: lockstep.App
) -> None:
    period = timedelta(seconds=0.4)
    database.rows(
        "SELECT lockstep.create_queue('default', rate_limit => 2, rate_period => %s)", period
    )
    for _ in range(7):
        database.enqueue("pass_through")
    began = time.monotonic()
    async with run_worker(app, poll_interval=RARELY):
        await until(lambda: counts(database, "SUCCESS")() == 7, "the end of all")
    assert time.monotonic() - began < 5.0, "the safety look of idle workers alone takes longer"

    moments = starts(database)
    assert all(later - first >= period for first, later in zip(moments, moments[2:], strict=False))


async def test_idle_worker_starts_the_next_of_a_partition_when_its_rate_lets_it(
    database: Database, run_worker: Any, app: lockstep.App
) -> None:
    period = timedelta(seconds=0.4)
    database.rows(
        "SELECT lockstep.create_queue("
        "'default', partition_rate_limit => 1, partition_rate_period => %s)",
        period,
    )
    for number in range(8):
        database.enqueue("pass_through", queue_partition_key=f"tenant {number % 2}")
    began = time.monotonic()
    async with run_worker(app, poll_interval=RARELY):
        await until(lambda: counts(database, "SUCCESS")() == 8, "the end of all")
    assert time.monotonic() - began < 5.0, "the safety look of idle workers alone takes longer"

    moments = starts(database)
    assert moments[1] - moments[0] < period, "one partition does not wait for the other"
    assert moments[-1] - moments[0] >= 3 * period


async def test_place_that_another_worker_frees_is_taken_at_once(
    database: Database, run_worker: Any, app: lockstep.App, held: asyncio.Event
) -> None:
    database.rows("SELECT lockstep.create_queue('default', concurrency => 1)")
    other = lockstep.App()

    @other.workflow
    async def pass_through() -> None:
        pass

    database.enqueue("hold")
    async with (
        run_worker(app, poll_interval=RARELY),
        run_worker(other, poll_interval=RARELY) as waiting,
    ):
        await until(lambda: counts(database, "PENDING")() == 1, "the start of the first")
        database.enqueue("pass_through")
        await asyncio.sleep(1.5)  # past the quick polls
        assert counts(database, "SUCCESS")() == 0
        assert not waiting.runs
        began = time.monotonic()
        held.set()
        await until(lambda: counts(database, "SUCCESS")() == 2, "the end of both")
        assert time.monotonic() - began < 2.0


@pytest.mark.direct("hears a notification")
@pytest.mark.parametrize("limit", ["concurrency", "worker_concurrency", "partition_concurrency"])
async def test_place_of_a_cancelled_workflow_is_taken_at_once(
    database: Database, run_worker: Any, app: lockstep.App, held: asyncio.Event, limit: str
) -> None:
    database.rows(f"SELECT lockstep.create_queue('default', {limit} => 1)")
    async with run_worker(app, poll_interval=RARELY):
        running = database.enqueue("hold")
        await until(lambda: database.status(running) == "PENDING", "the start of the first")
        waiting = database.enqueue("pass_through")
        await asyncio.sleep(1.5)  # past the quick polls
        began = time.monotonic()
        database.rows("SELECT lockstep.cancel_workflow(%s)", running)
        await until(lambda: database.status(waiting) == "SUCCESS", "the end of the second")
        assert time.monotonic() - began < 1.0, "the safety look of idle workers takes longer"
        held.set()


@pytest.mark.direct("hears a notification")
async def test_running_workers_heed_changes_of_a_queue(
    database: Database, run_worker: Any, app: lockstep.App, held: asyncio.Event
) -> None:
    database.rows("SELECT lockstep.create_queue('default', concurrency => 1)")
    for _ in range(6):
        database.enqueue("hold")
    async with run_worker(app, poll_interval=RARELY):
        running = counts(database, "PENDING")
        await until(lambda: running() == 1, "the start of the first")
        await asyncio.sleep(1.5)  # past the quick polls
        assert running() == 1

        database.rows("SELECT lockstep.alter_queue('default', concurrency => 3)")
        await until(lambda: running() == 3, "the start of two more", timeout=2)
        database.rows("SELECT lockstep.pause_queue('default')")
        database.rows("SELECT lockstep.alter_queue('default', reset => '{concurrency}')")
        await asyncio.sleep(0.5)
        assert running() == 3, "a paused queue stays so whatever its limits are"
        database.rows("SELECT lockstep.unpause_queue('default')")
        await until(lambda: running() == 6, "the start of the rest", timeout=2)
        held.set()
        await until(lambda: counts(database, "SUCCESS")() == 6, "the end of all")


@pytest.mark.direct("hears a notification")
async def test_dropping_a_queue_lets_everything_run(
    database: Database, run_worker: Any, app: lockstep.App, held: asyncio.Event
) -> None:
    database.rows("SELECT lockstep.create_queue('default', concurrency => 1)")
    for _ in range(3):
        database.enqueue("hold")
    async with run_worker(app, poll_interval=RARELY):
        running = counts(database, "PENDING")
        await until(lambda: running() == 1, "the start of the first")
        await asyncio.sleep(1.5)  # past the quick polls
        database.rows("SELECT lockstep.drop_queue('default', force => true)")
        await until(lambda: running() == 3, "the start of the others", timeout=2)
        held.set()
