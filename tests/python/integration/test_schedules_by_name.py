"""Schedules made where nobody can look at the function: in SQL, by a client or a command."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import lockstep
import pytest
from harness import Database
from lockstep.cli._main import cli
from typer.testing import CliRunner

Run = Callable[..., contextlib.AbstractAsyncContextManager[lockstep.Worker]]
SOON = timedelta(seconds=60)


def build_app() -> lockstep.App:
    app = lockstep.App()

    @app.workflow
    async def sweep(place: str = "here") -> str:
        return f"swept {place}"

    @app.workflow
    async def tell(**named_args: Any) -> list[str]:
        return sorted(named_args)

    return app


async def test_a_function_without_the_argument_is_not_given_the_scheduled_time(
    database: Database, run_worker: Run, client: lockstep.AsyncClient
) -> None:
    database.rows("SELECT lockstep.schedule_workflow('a', '@yearly', 'sweep', 'default')")
    await client.schedule_workflow("b", "@yearly", "sweep", named_args={"place": "there"})
    await client.schedule_workflow("c", "@yearly", "tell")
    await client.schedule_workflow("d", "@yearly", "sweep", time_arg="day")
    async with run_worker(build_app()):
        for name, result in (("a", "swept here"), ("b", "swept there"), ("c", ["scheduled_at"])):
            workflow_id = await client.trigger_schedule(name)
            assert await client.result(workflow_id, timeout=SOON) == result
        with pytest.raises(lockstep.WorkflowFailed, match="day"):
            await client.result(await client.trigger_schedule("d"), timeout=SOON)


async def test_times_without_end_are_shown_as_none(
    database: Database, run_worker: Run, client: lockstep.AsyncClient
) -> None:
    await client.schedule_workflow("new", "@yearly", "sweep")  # -infinity until a worker looks
    await client.schedule_workflow("never", "0 0 */3 2 5#5", "sweep")
    database.rows(
        "UPDATE lockstep.schedule SET next_tick_at = 'infinity' WHERE schedule_name = 'never'"
    )
    database.rows("SELECT lockstep.register_executor('{default}', '{sweep}')")
    database.rows("UPDATE lockstep.executor SET expires_at = '-infinity'")
    database.rows("SELECT lockstep.register_executor('{default}', '{sweep}')")
    database.rows(
        "UPDATE lockstep.executor SET expires_at = 'infinity' WHERE expires_at > '-infinity'"
    )
    assert [info.next_tick_at for info in await client.list_schedules()] == [None, None]
    assert await client.list_queues()
    for command in (["schedules"], ["schedules", "--json"], ["queues"], ["list"]):
        shown = CliRunner().invoke(cli, [*command, "--dsn", database.dsn])
        assert shown.exit_code == 0, shown.output
        assert "infinity" not in shown.output
    async with run_worker(build_app()):
        assert await client.result(await client.enqueue("sweep"), timeout=SOON) == "swept here"
