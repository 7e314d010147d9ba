"""A workflow that no answer of Postgres can hold ends in an error, and stops nobody."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import lockstep
import pytest
from harness import Database
from lockstep._session import Session
from psycopg.errors import ProgramLimitExceeded

Run = Callable[..., contextlib.AbstractAsyncContextManager[lockstep.Worker]]
SOON = timedelta(seconds=100)
# as jsonb each takes a few bytes, as text 131,072 digits: 290 MB together
NUMBERS = "(SELECT jsonb_agg(1e131071) FROM generate_series(1, 2200))"


def build_app() -> lockstep.App:
    app = lockstep.App()

    @app.workflow
    async def count(*values: int) -> int:
        return len(values)

    return app


@pytest.mark.parametrize("what", ["inputs", "steps"])
async def test_others_go_on_behind_a_workflow_that_is_too_large_to_be_claimed(
    database: Database,
    run_worker: Run,
    client: lockstep.AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:
    inputs = NUMBERS if what == "inputs" else "'[]'"
    database.rows(
        "SELECT lockstep.enqueue_workflow('count', 'default', workflow_id => 'large',"
        f" positional_args => {inputs})"
    )
    if what == "steps":
        database.rows(
            "INSERT INTO lockstep.operation_outputs"
            " (workflow_id, step_id, step_name, output, attempts, started_at, completed_at)"
            " SELECT 'large', g.i, 'load', to_jsonb(repeat('x', 16000000)), 1, now(), now()"
            " FROM generate_series(1, 17) AS g (i)"
        )
    ids = await client.enqueue_many("count", [(1, 2)] * 3)
    asked: list[Any] = []
    execute = Session._execute

    async def execute_with_little_room(
        session: Session, connection: Any, query: str, params: Any
    ) -> Any:
        if "fail_too_large" in query:
            asked.append("to fail it")
        elif "advance_workflows" in query and params[2] and "to fail it" not in asked:
            asked.append(params[2])
            raise ProgramLimitExceeded("cannot enlarge string buffer")
        return await execute(session, connection, query, params)

    monkeypatch.setattr(Session, "_execute", execute_with_little_room)
    monkeypatch.setattr(ProgramLimitExceeded, "sqlstate", "54000")
    async with run_worker(build_app(), concurrency=24):
        assert [await client.result(id, timeout=SOON) for id in ids] == [2, 2, 2]
        with pytest.raises(lockstep.WorkflowFailed, match="TooLarge: its inputs and what its"):
            await client.result("large", timeout=SOON)
    assert asked == [12, 3, 1, "to fail it"]
