"""Steps that commit their own checkpoint, on connections of the user's own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import lockstep
import psycopg
import pytest
from harness import Database
from waiting import until

SOON = timedelta(seconds=20)
KINDS = pytest.mark.parametrize("kind", ["async", "plain", "in_thread"])
Client = lockstep.AsyncClient
Pay = Callable[[psycopg.Connection[Any]], Any]


@pytest.fixture(autouse=True)
def ledger(database: Database) -> None:
    database.rows("CREATE TABLE ledger (key text NOT NULL)")


def build(database: Database, kind: str, pay: Pay, **options: Any) -> lockstep.App:
    """Return an app whose workflow "main" makes one step that commits itself, by ``pay``."""
    app = lockstep.App()

    def plain() -> None:
        with psycopg.connect(database.dsn) as connection:
            pay(connection)

    if kind == "async":

        @app.step(name="pays", commits_itself=True, **options)
        async def pays() -> None:
            with psycopg.connect(database.dsn) as connection:
                pay(connection)

        @app.workflow(name="main")
        async def main() -> Any:
            return await pays()

        return app

    pays_plain = app.step(name="pays", commits_itself=True, **options)(plain)
    if kind == "plain":

        @app.workflow(name="main")
        def main_plain() -> Any:
            return pays_plain()
    else:

        @app.workflow(name="main")
        async def main_in_thread() -> Any:
            return await pays_plain.in_thread()

    return app


def insert(connection: psycopg.Connection[Any], key: str = "k") -> None:
    connection.execute("INSERT INTO ledger VALUES (%s)", (key,))


@KINDS
async def test_writes_and_checkpoint_commit_together(
    database: Database, run_worker: Any, client: Client, kind: str
) -> None:
    def pay(connection: psycopg.Connection[Any]) -> None:
        insert(connection)
        connection.execute(*lockstep.checkpoint({"paid": 1}))

    async with run_worker(build(database, kind, pay)):
        workflow_id = await client.enqueue("main")
        assert await client.result(workflow_id, timeout=SOON) == {"paid": 1}
    assert database.steps(workflow_id) == [(1, "pays", {"paid": 1})]
    assert (
        database.value(
            "SELECT count(DISTINCT xmin::text) FROM (SELECT xmin FROM ledger"
            " UNION SELECT xmin FROM lockstep.operation_outputs) AS x"
        )
        == 1
    )


@KINDS
async def test_forgotten_checkpoint_is_an_error(
    database: Database, run_worker: Any, client: Client, kind: str
) -> None:
    async with run_worker(build(database, kind, insert)):
        workflow_id = await client.enqueue("main")
        with pytest.raises(lockstep.WorkflowFailed, match="without a recorded outcome"):
            await client.result(workflow_id, timeout=SOON)


@KINDS
async def test_failure_rolls_back_and_is_retried_by_the_step_s_policy(
    database: Database, run_worker: Any, client: Client, kind: str
) -> None:
    tries: list[int] = []

    def pay(connection: psycopg.Connection[Any]) -> None:
        tries.append(1)
        insert(connection)
        connection.execute(*lockstep.checkpoint(len(tries)))
        if len(tries) < 3:
            raise ValueError("not yet")

    retries = lockstep.Retry(max_attempts=3, delay=timedelta(seconds=0.05))
    async with run_worker(build(database, kind, pay, retries=retries)):
        workflow_id = await client.enqueue("main")
        assert await client.result(workflow_id, timeout=SOON) == 3
    assert database.rows("SELECT key FROM ledger") == [("k",)]
    assert database.value("SELECT attempts FROM lockstep.operation_outputs") == 3


@KINDS
async def test_failure_after_the_commit_is_no_failure(
    database: Database, run_worker: Any, client: Client, kind: str
) -> None:
    def pay(connection: psycopg.Connection[Any]) -> None:
        insert(connection)
        connection.execute(*lockstep.checkpoint("paid"))
        connection.commit()
        raise ValueError("too late to fail")

    retries = lockstep.Retry(max_attempts=3, delay=timedelta(seconds=0.05))
    async with run_worker(build(database, kind, pay, retries=retries)):
        workflow_id = await client.enqueue("main")
        assert await client.result(workflow_id, timeout=SOON) == "paid"
    assert database.rows("SELECT key FROM ledger") == [("k",)]


@KINDS
@pytest.mark.parametrize("is_retried", [False, True], ids=["once", "retried"])
async def test_lost_answer_of_a_commit_still_under_way_is_waited_for(
    database: Database, run_worker: Any, client: Client, kind: str, is_retried: bool
) -> None:
    database.rows(
        "CREATE FUNCTION slow_commit() RETURNS trigger LANGUAGE plpgsql"
        " AS 'BEGIN PERFORM pg_sleep(0.8); RETURN NULL; END'"
    )
    database.rows(
        "CREATE CONSTRAINT TRIGGER slow_commit AFTER INSERT ON ledger"
        " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slow_commit()"
    )
    tries: list[int] = []

    def pay(connection: psycopg.Connection[Any]) -> None:
        tries.append(1)
        insert(connection)
        connection.execute(*lockstep.checkpoint("paid"))
        connection.pgconn.send_query(b"COMMIT")
        while connection.pgconn.flush():
            time.sleep(0.01)
        time.sleep(0.05)
        connection.close()  # the server goes on with what it was told
        raise psycopg.OperationalError("the connection is lost")

    options: dict[str, Any] = {}
    if is_retried:
        options["retries"] = lockstep.Retry(max_attempts=3, delay=timedelta(seconds=0.05))
    async with run_worker(build(database, kind, pay, **options)) as worker:
        workflow_id = await client.enqueue("main")
        assert await client.result(workflow_id, timeout=SOON) == "paid"
        await until(lambda: not worker.runs, "the end of the run")
    assert database.rows("SELECT key FROM ledger") == [("k",)]
    assert len(tries) == 1


@KINDS
async def test_cancelled_workflow_rolls_back(
    database: Database, run_worker: Any, client: Client, kind: str
) -> None:
    states: list[str | None] = []

    def pay(connection: psycopg.Connection[Any]) -> None:
        insert(connection)
        database.rows("SELECT lockstep.cancel_workflow(workflow_id) FROM lockstep.workflow_status")
        try:
            connection.execute(*lockstep.checkpoint("paid"))
        except psycopg.Error as error:
            states.append(error.sqlstate)
            raise RuntimeError("as an ORM wraps it") from error

    async with run_worker(build(database, kind, pay)) as worker:
        workflow_id = await client.enqueue("main")
        await until(lambda: states, "the refusal")
        await until(lambda: not worker.runs, "the end of the run")
    assert states == ["WF002"]
    assert await client.status(workflow_id) == "CANCELLED"
    assert database.rows("SELECT key FROM ledger") == []
    assert database.steps(workflow_id) == []


@KINDS
async def test_workflow_that_another_worker_took_over_rolls_back(
    database: Database, run_worker: Any, client: Client, kind: str
) -> None:
    tries: list[int] = []
    states: list[str | None] = []

    def pay(connection: psycopg.Connection[Any]) -> None:
        insert(connection)
        tries.append(1)
        if len(tries) == 1:
            with psycopg.connect(database.dsn) as other:
                other.execute("UPDATE lockstep.executor SET expires_at = now() - interval '1 s'")
                other.execute("SELECT lockstep.recover_workflows()")
            try:
                connection.execute(*lockstep.checkpoint("paid"))
            except psycopg.Error as error:
                states.append(error.sqlstate)
                raise
        connection.execute(*lockstep.checkpoint("paid by the successor"))

    async with run_worker(build(database, kind, pay), lease=timedelta(seconds=1)):
        workflow_id = await client.enqueue("main")
        assert await client.result(workflow_id, timeout=SOON) == "paid by the successor"
    assert states == ["WF001"]
    assert database.rows("SELECT key FROM ledger") == [("k",)]


async def test_checkpoint_outside_of_such_a_step_is_refused(
    run_worker: Any, client: Client
) -> None:
    app = lockstep.App()

    @app.step
    async def ordinary() -> None:
        lockstep.checkpoint()

    @app.workflow
    async def in_step() -> None:
        await ordinary()

    @app.workflow
    async def in_workflow() -> None:
        lockstep.checkpoint()

    async with run_worker(app):
        for workflow in (in_step, in_workflow):
            workflow_id = await client.enqueue(workflow)
            with pytest.raises(lockstep.WorkflowFailed, match="commits_itself=True"):
                await client.result(workflow_id, timeout=SOON)
    with pytest.raises(lockstep.NotInWorkflow):
        lockstep.checkpoint()


@pytest.mark.parametrize("kind", ["plain", "in_thread"])
async def test_attempt_that_goes_on_after_its_timeout_cannot_commit_beside_the_next(
    database: Database, run_worker: Any, client: Client, kind: str
) -> None:
    tries: list[int] = []

    def pay(connection: psycopg.Connection[Any]) -> None:
        tries.append(1)
        number = len(tries)
        time.sleep(0.4 if number == 1 else 0)
        insert(connection, f"try {number}")
        connection.execute(*lockstep.checkpoint(number))

    options = {
        "timeout": timedelta(seconds=0.2),
        "retries": lockstep.Retry(max_attempts=3, delay=timedelta(seconds=0.05)),
    }
    async with run_worker(build(database, kind, pay, **options)):
        workflow_id = await client.enqueue("main")
        output = await client.result(workflow_id, timeout=SOON)
        await asyncio.sleep(0.3)
    assert output == 2
    assert database.rows("SELECT key FROM ledger") == [("try 2",)]


@pytest.mark.parametrize("kind", ["plain", "in_thread"])
@pytest.mark.parametrize("is_retried", [False, True], ids=["once", "retried"])
async def test_commit_under_way_at_the_timeout_counts(
    database: Database, run_worker: Any, client: Client, kind: str, is_retried: bool
) -> None:
    tries: list[int] = []

    def pay(connection: psycopg.Connection[Any]) -> None:
        tries.append(1)
        insert(connection)
        connection.execute(*lockstep.checkpoint("paid"))
        time.sleep(0.6)

    options: dict[str, Any] = {"timeout": timedelta(seconds=0.2)}
    if is_retried:
        options["retries"] = lockstep.Retry(max_attempts=3, delay=timedelta(seconds=0.05))
    async with run_worker(build(database, kind, pay, **options)):
        workflow_id = await client.enqueue("main")
        assert await client.result(workflow_id, timeout=SOON) == "paid"
    assert database.rows("SELECT key FROM ledger") == [("k",)]
    assert len(tries) == 1
