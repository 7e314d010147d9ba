"""Undo steps: when they run, in which order, with what."""

from __future__ import annotations

import asyncio
from datetime import date, timedelta
from typing import Any

import lockstep
import psycopg
import pytest
from harness import Database, until_status
from lockstep import sync
from pydantic import BaseModel
from waiting import until

SOON = timedelta(seconds=20)
FORMS = pytest.mark.parametrize("form", ["", "_plain"])
Client = lockstep.AsyncClient
UNDOING = "SELECT status FROM lockstep.workflow_status WHERE workflow_name = 'lockstep.compensate'"


class Order(BaseModel):
    id: int
    day: date


def build_app(undone: list[Any]) -> lockstep.App:
    app = lockstep.App()

    @app.step(retries=lockstep.Retry(max_attempts=3, delay=timedelta(seconds=0.02)))
    async def undo(what: str, order: Order, *, times: int = 0) -> None:
        undone.append((what, type(order).__name__, order.day))
        if len(undone) <= times:
            raise OSError("not yet")

    @app.step(retries=lockstep.Retry(max_attempts=3, delay=timedelta(seconds=0.02)))
    def undo_plain(what: str, order: Order, *, times: int = 0) -> None:
        undone.append((what, type(order).__name__, order.day))
        if len(undone) <= times:
            raise OSError("not yet")

    @app.transaction
    async def delete(conn: psycopg.AsyncConnection[Any], key: int) -> None:
        await conn.execute("DELETE FROM ledger WHERE key = %s", (key,))

    @app.transaction
    def delete_plain(conn: psycopg.Connection[Any], key: int) -> None:
        conn.execute("DELETE FROM ledger WHERE key = %s", (key,))

    order = Order(id=1, day=date(2026, 1, 2))

    @app.workflow
    async def main(end: str) -> str:
        await lockstep.compensate(undo, "first", order)
        await lockstep.compensate(undo_plain, "second", order=order, times=2)
        await lockstep.compensate(delete, 1)
        await lockstep.receive("go")
        if end == "fails":
            raise ValueError("no")
        return "done"

    @app.workflow
    def main_plain(end: str) -> str:
        sync.compensate(undo, "first", order)
        sync.compensate(undo_plain, "second", order=order, times=2)
        sync.compensate(delete_plain, 1)
        sync.receive("go")
        if end == "fails":
            raise ValueError("no")
        return "done"

    return app


EXPECTED = [(what, "Order", date(2026, 1, 2)) for what in ("second", "second", "second", "first")]


@FORMS
@pytest.mark.parametrize("end", ["fails", "cancelled", "deadline"])
async def test_failed_workflow_is_undone_from_the_last_step_to_the_first(
    database: Database, run_worker: Any, client: Client, form: str, end: str
) -> None:
    database.rows("CREATE TABLE ledger AS SELECT generate_series(1, 2) AS key")
    undone: list[Any] = []
    async with run_worker(build_app(undone)):
        timeout = timedelta(seconds=0.7) if end == "deadline" else None
        workflow_id = await client.enqueue(f"main{form}", end, timeout=timeout)
        await until_status(client, workflow_id, "WAITING")
        if end == "cancelled":
            await client.cancel(workflow_id)
        elif end == "fails":
            await client.send(workflow_id, None, "go")
        await until(lambda: database.rows(UNDOING) == [("SUCCESS",)], "the end of undoing")
    assert undone == EXPECTED
    assert database.rows("SELECT key FROM ledger") == [(2,)]
    assert await client.status(workflow_id) == ("ERROR" if end == "fails" else "CANCELLED")
    ((parent_id, undo_id),) = database.rows(
        "SELECT parent_workflow_id, workflow_id FROM lockstep.workflow_status"
        " WHERE workflow_name = 'lockstep.compensate'"
    )
    assert parent_id == workflow_id
    names = [name for _, name, _ in database.steps(undo_id)]
    assert names == [f"delete{form}", "undo_plain", "undo"]


@FORMS
async def test_workflow_that_succeeds_undoes_nothing(
    database: Database, run_worker: Any, client: Client, form: str
) -> None:
    undone: list[Any] = []
    async with run_worker(build_app(undone)):
        workflow_id = await client.enqueue(f"main{form}", "succeeds")
        await client.send(workflow_id, None, "go")
        assert await client.result(workflow_id, timeout=SOON) == "done"
        await asyncio.sleep(0.1)
    assert undone == []
    assert database.rows(UNDOING) == []


@FORMS
async def test_workflow_that_is_tried_again_is_undone_only_after_its_last_try(
    database: Database, run_worker: Any, client: Client, form: str
) -> None:
    app = lockstep.App()
    events: list[str] = []

    @app.step
    async def undo() -> None:
        events.append("undo")

    again = lockstep.Retry(max_attempts=2, delay=timedelta(seconds=0.05))

    @app.workflow(retries=again)
    async def main() -> None:
        await lockstep.compensate(undo)
        events.append("try")
        raise ValueError("no")

    @app.workflow(retries=again)
    def main_plain() -> None:
        sync.compensate(undo)
        events.append("try")
        raise ValueError("no")

    async with run_worker(app):
        await client.enqueue(f"main{form}")
        await until(lambda: database.rows(UNDOING) == [("SUCCESS",)], "the end of undoing")
    assert events == ["try", "try", "undo"]


@FORMS
async def test_undo_step_of_another_app_is_refused(
    run_worker: Any, client: Client, form: str
) -> None:
    app, other = lockstep.App(), lockstep.App()

    @other.step
    async def undo() -> None: ...

    @app.workflow
    async def main() -> None:
        await lockstep.compensate(undo)

    @app.workflow
    def main_plain() -> None:
        sync.compensate(undo)

    async with run_worker(app):
        workflow_id = await client.enqueue(f"main{form}")
        with pytest.raises(lockstep.WorkflowFailed, match="give it a name of its own"):
            await client.result(workflow_id, timeout=SOON)


async def test_undo_step_that_fails_for_good_is_seen_and_the_rest_can_be_resumed(
    database: Database, run_worker: Any, client: Client
) -> None:
    app = lockstep.App()
    undone: list[str] = []
    is_broken = True

    @app.step
    async def undo(what: str) -> None:
        undone.append(what)
        if is_broken and what == "b":
            raise OSError("broken")

    @app.workflow
    async def main() -> None:
        for what in "abc":
            await lockstep.compensate(undo, what)
        raise ValueError("no")

    async with run_worker(app):
        await client.enqueue(main)
        await until(lambda: database.rows(UNDOING) == [("ERROR",)], "the failure of undoing")
        is_broken = False
        database.rows(
            "SELECT lockstep.resume_workflow(workflow_id) FROM lockstep.workflow_status"
            " WHERE workflow_name = 'lockstep.compensate'"
        )
        await until(lambda: database.rows(UNDOING) == [("SUCCESS",)], "the end of undoing")
    assert undone == ["c", "b", "b", "a"]


async def test_branches_are_undone_too(database: Database, run_worker: Any, client: Client) -> None:
    app = lockstep.App()
    undone: list[str] = []

    @app.step
    async def undo(what: str) -> None:
        undone.append(what)

    async def branch(name: str) -> None:
        await lockstep.compensate(undo, f"{name}1")
        await lockstep.compensate(undo, f"{name}2")

    @app.workflow
    async def main() -> None:
        await asyncio.gather(branch("a"), branch("b"))
        await lockstep.compensate(undo, "last")
        raise ValueError("no")

    async with run_worker(app):
        await client.enqueue(main)
        await until(lambda: database.rows(UNDOING) == [("SUCCESS",)], "the end of undoing")
    assert undone[0] == "last"
    assert sorted(undone[1:]) == ["a1", "a2", "b1", "b2"]
    assert undone.index("a2") < undone.index("a1")
    assert undone.index("b2") < undone.index("b1")
