"""What users test their workflows with: databases, environments, and time that is skipped."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lockstep
import psycopg
import pydantic
import pytest
from harness import Database
from lockstep._version import __version__
from lockstep.testing import AsyncWorkflowEnvironment, WorkflowEnvironment, create_database
from servers import Cluster

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def is_about(skipped: timedelta, expected: timedelta) -> bool:
    """Whether so much was skipped, less what passed by itself."""
    return expected - timedelta(seconds=10) < skipped <= expected


class Report(pydantic.BaseModel):
    slept: int
    approval: Any


app = lockstep.App()


@app.step
async def note(value: int) -> int:
    return value


@app.step(retries=lockstep.Retry(max_attempts=4, delay=HOUR, backoff=1))
def flaky(path: str) -> int:
    with Path(path).open("a") as file:
        file.write("x")
    if (count := len(Path(path).read_text())) < 4:
        raise ConnectionError("not yet")
    return count


@app.workflow(queue_name="slow")
async def sleeps_for_days(days: int) -> Report:
    await lockstep.sleep(timedelta(days=days))
    await note(1)
    approval = await lockstep.receive("approval", timeout=timedelta(hours=24))
    return Report(slept=days, approval=approval)


@app.workflow
def sleeps_plain(days: int) -> Report:
    lockstep.sync.sleep(timedelta(days=days))
    approval = lockstep.sync.receive("approval", timeout=timedelta(hours=24))
    return Report(slept=days, approval=approval)


@app.workflow
async def naps(hours: list[float]) -> int:
    for count, hour in enumerate(hours, 1):
        await lockstep.sleep(timedelta(hours=hour))
        await lockstep.set_event("naps", count)
    return len(hours)


@app.workflow
async def waits_for_many() -> list[Any]:
    return list(
        await asyncio.gather(
            lockstep.sleep(DAY),
            lockstep.receive("a", timeout=2 * DAY),
            lockstep.receive("b", timeout=HOUR),
        )
    )


@app.workflow
async def waits_forever() -> Any:
    return await lockstep.receive("never")


@app.workflow
async def retries(path: str) -> int:
    return await flaky.in_thread(path)


@app.workflow
async def naps_shortly() -> str:
    await lockstep.sleep(timedelta(seconds=0.3))
    await lockstep.sleep(DAY)
    return "rested"


@pytest.fixture
def dsn(cluster: Cluster) -> Iterator[str]:
    with create_database(cluster.dsn()) as dsn:
        yield dsn


@pytest.fixture
async def env(dsn: str) -> Any:
    async with AsyncWorkflowEnvironment(app, dsn) as env:
        yield env


async def test_days_pass_in_a_moment(env: AsyncWorkflowEnvironment) -> None:
    began = time.monotonic()
    assert await env.run(sleeps_for_days, 3) == Report(slept=3, approval=None)
    assert time.monotonic() - began < 2.0
    assert is_about(env.time_skipped, 4 * DAY)
    assert env.worker.time_skipped == env.time_skipped


@pytest.mark.parametrize("workflow", [sleeps_for_days, sleeps_plain])
def test_days_pass_in_a_moment_for_plain_tests(dsn: str, workflow: Any) -> None:
    with WorkflowEnvironment(app, dsn) as env:
        began = time.monotonic()
        assert env.run(workflow, 3) == Report(slept=3, approval=None)
        assert time.monotonic() - began < 2.0
        workflow_id = env.client.enqueue(workflow, 2)
        env.client.send(workflow_id, "yes", "approval")
        assert env.result(workflow_id) == {"slept": 2, "approval": "yes"}
        assert is_about(env.time_skipped, 6 * DAY)


async def test_what_comes_in_time_is_received(env: AsyncWorkflowEnvironment) -> None:
    workflow_id = await env.client.enqueue(sleeps_for_days, 3)
    await env.settle()
    assert await env.client.status(workflow_id) == "DELAYED"
    await env.skip(timedelta(days=2, hours=23))
    assert await env.client.status(workflow_id) == "DELAYED"
    await env.skip(2 * HOUR)
    assert await env.client.status(workflow_id) == "WAITING"
    await env.skip(22 * HOUR)
    await env.client.send(workflow_id, "yes", "approval")
    assert await env.result(workflow_id) == {"slept": 3, "approval": "yes"}
    assert env.time_skipped == timedelta(days=3, hours=23)


async def test_skipping_stops_at_everything_that_falls_due(env: AsyncWorkflowEnvironment) -> None:
    many = await env.client.enqueue(naps, [1, 1, 1, 5])
    one = await env.client.enqueue(naps, [2.5])
    await env.skip(timedelta(hours=2, minutes=59))
    assert await env.client.get_event(many, "naps") == 2
    assert await env.client.result(one) == 1
    await env.skip(timedelta(minutes=2))
    assert await env.client.get_event(many, "naps") == 3
    assert env.time_skipped == timedelta(hours=3, minutes=1)
    assert await env.result(many) == 4


async def test_everything_recorded_grows_older(env: AsyncWorkflowEnvironment, dsn: str) -> None:
    workflow_id = await env.client.enqueue(naps, [24, 24])
    await env.result(workflow_id)
    info = await env.client.get(workflow_id)
    assert info.started_at is not None
    assert info.completed_at is not None
    assert timedelta(days=2) <= info.completed_at - info.started_at < timedelta(days=2, minutes=1)
    (first,), (second,) = Database(dsn).rows(
        "SELECT completed_at FROM lockstep.operation_outputs"
        " WHERE step_name = 'sleep' ORDER BY step_id"
    )
    assert timedelta(days=1) <= second - first < timedelta(days=1, minutes=1)


async def test_timeouts_come_in_their_order(env: AsyncWorkflowEnvironment) -> None:
    workflow_id = await env.client.enqueue(waits_for_many)
    await env.skip(1.5 * DAY)
    await env.client.send(workflow_id, "late", "b")
    await env.client.send(workflow_id, "in time", "a")
    assert await env.result(workflow_id) == [None, "in time", None]


async def test_retries_and_deadlines_are_skipped_to(
    env: AsyncWorkflowEnvironment, tmp_path: Path
) -> None:
    assert await env.run(retries, str(tmp_path / "calls")) == 4
    assert is_about(env.time_skipped, 3 * HOUR)
    with pytest.raises(lockstep.WorkflowCancelled, match="deadline"):
        await env.run(waits_forever.options(timeout=DAY))
    assert await env.run(naps.options(delay=7 * DAY), [1]) == 1
    assert is_about(env.time_skipped, 8 * DAY + 4 * HOUR)


async def test_short_sleep_simply_passes(env: AsyncWorkflowEnvironment) -> None:
    assert await env.run(naps_shortly) == "rested"
    assert is_about(env.time_skipped, DAY)


async def test_many_workflows_share_the_clock(env: AsyncWorkflowEnvironment) -> None:
    results = await asyncio.gather(*(env.run(naps, [24, n]) for n in range(20)))
    assert results == [2] * 20
    assert is_about(env.time_skipped, 43 * HOUR)


async def test_workflow_that_nothing_wakes_is_explained(env: AsyncWorkflowEnvironment) -> None:
    workflow_id = await env.client.enqueue(waits_forever)
    with pytest.raises(lockstep.ResultTimeout, match="is WAITING, waiting for message:never,"):
        await env.result(workflow_id, timeout=timedelta(seconds=0.5))
    with pytest.raises(lockstep.WorkflowNotFound):
        await env.result("nobody")


async def test_other_databases_are_refused(database: Database, dsn: str) -> None:
    with pytest.raises(lockstep.InvalidArgument, match="create_database"):
        async with AsyncWorkflowEnvironment(app, database.dsn):
            pass
    with (
        pytest.raises(lockstep.InvalidArgument, match="create_database"),
        WorkflowEnvironment(app, database.dsn),
    ):
        pass
    async with AsyncWorkflowEnvironment(app, dsn) as env:
        workflow_id = await env.client.enqueue(naps, [1])
        await env.settle()
        with psycopg.connect(dsn) as connection:
            name = connection.info.dbname
            connection.execute(f"COMMENT ON DATABASE {name} IS 'production'")  # type: ignore[arg-type]
        with pytest.raises(lockstep.InvalidArgument, match="create_database"):
            await env.result(workflow_id)


async def test_failure_of_the_worker_is_the_tests(dsn: str) -> None:
    async with AsyncWorkflowEnvironment(app, dsn) as env:
        env.worker.stop()
        with pytest.raises(lockstep.InvalidArgument, match="was stopped"):
            await env.run(naps, [1])
    with pytest.raises(lockstep.InvalidArgument, match="no workflows"):
        AsyncWorkflowEnvironment(lockstep.App(), dsn)


def test_created_database_is_gone_at_the_end(cluster: Cluster) -> None:
    with create_database(cluster.dsn()) as dsn, psycopg.connect(dsn) as connection:
        name = connection.info.dbname
        assert name.startswith("lockstep_test_")
        row = connection.execute("SELECT lockstep.version()").fetchone()
        assert row is not None
    postgres = Database(cluster.dsn())
    assert postgres.rows("SELECT FROM pg_database WHERE datname = %s", name) == []


def test_fixtures_serve_a_project_of_a_user(tmp_path: Path) -> None:
    (tmp_path / "test_shop.py").write_text(
        textwrap.dedent(
            """
            from datetime import timedelta

            import lockstep
            import pytest
            from lockstep.testing import AsyncWorkflowEnvironment, WorkflowEnvironment

            app = lockstep.App()

            @app.workflow
            async def fulfil(order_id: int) -> str:
                await lockstep.sleep(timedelta(days=3))
                return f"order {order_id} is delivered"

            @pytest.mark.parametrize("order_id", [1, 2])
            def test_plain(lockstep_database: str, order_id: int) -> None:
                with WorkflowEnvironment(app, lockstep_database) as env:
                    assert env.run(fulfil, order_id) == f"order {order_id} is delivered"
                    count = env.client.enqueue(fulfil.options(workflow_id="same"), 1)

            async def test_async(lockstep_database: str, lockstep_server) -> None:
                assert lockstep_server.dsn != lockstep_database
                async with AsyncWorkflowEnvironment(app, lockstep_database) as env:
                    assert await env.run(fulfil, 3) == "order 3 is delivered"
            """
        )
    )
    entry_points = importlib.metadata.entry_points(group="pytest11", name="lockstep")
    found = [] if entry_points else ["-p", "lockstep._pytest_plugin"]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", *found, "-o", "asyncio_mode=auto"),
            *("-p", "no:cacheprovider", str(tmp_path)),
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout


def test_server_of_ones_own_serves_the_fixtures(cluster: Cluster) -> None:
    """Overriding lockstep_server with anything that has a dsn is enough."""
    from lockstep import _pytest_plugin

    database: Any = _pytest_plugin.lockstep_database
    make = getattr(database, "__wrapped__", None) or database._get_wrapped_function()
    made = make(SimpleNamespace(dsn=cluster.dsn()))
    dsn = next(made)
    assert Database(dsn).value("SELECT lockstep.version()") == __version__
    made.close()
