"""Transactional steps: the user's writes and the checkpoint commit together."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from datetime import timedelta
from typing import Any

import lockstep
import psycopg
import pytest
from harness import Database
from psycopg import IsolationLevel

SOON = timedelta(seconds=20)


@pytest.fixture(autouse=True)
def accounts(database: Database) -> None:
    database.rows("CREATE TABLE account (name text PRIMARY KEY, balance int NOT NULL)")
    database.rows("INSERT INTO account VALUES ('a', 0), ('b', 0)")


@pytest.mark.parametrize("kind", ["async", "plain"])
async def test_writes_and_checkpoint_are_one_transaction(
    database: Database, run_worker: Any, client: lockstep.AsyncClient, kind: str
) -> None:
    app = lockstep.App()
    query = "UPDATE account SET balance = balance + %s WHERE name = 'a'"

    if kind == "async":

        @app.transaction(name="deposit")
        async def deposit(conn: psycopg.AsyncConnection[Any], amount: int) -> int:
            await conn.execute(query, (amount,))
            return amount

        @app.workflow(name="main")
        async def main() -> Any:
            return await deposit(5)
    else:

        @app.transaction(name="deposit")
        def deposit_plain(conn: psycopg.Connection[Any], amount: int) -> int:
            conn.execute(query, (amount,))
            return amount

        @app.workflow(name="main")
        def main_plain() -> Any:
            return deposit_plain(5)

    async with run_worker(app):
        workflow_id = await client.enqueue("main")
        assert await client.result(workflow_id, timeout=SOON) == 5
    assert database.value("SELECT balance FROM account WHERE name = 'a'") == 5
    same = database.value(
        "SELECT a.xmin = o.xmin FROM account AS a, lockstep.operation_outputs AS o"
        " WHERE a.name = 'a'"
    )
    assert same, "one transaction wrote both rows"


async def test_failed_transaction_leaves_nothing_but_its_error(
    database: Database, run_worker: Any, client: lockstep.AsyncClient
) -> None:
    app = lockstep.App()

    @app.transaction
    async def broken(conn: psycopg.AsyncConnection[Any]) -> None:
        await conn.execute("UPDATE account SET balance = 99")
        raise ValueError("after the write")

    @app.transaction
    async def violates(conn: psycopg.AsyncConnection[Any]) -> None:
        await conn.execute("INSERT INTO account VALUES ('a', 1)")

    @app.workflow
    async def main() -> list[str]:
        errors = []
        for step in (broken, violates):
            try:
                await step()
            except Exception as error:
                errors.append(type(error).__name__)
        return errors

    async with run_worker(app):
        workflow_id = await client.enqueue(main)
        assert await client.result(workflow_id, timeout=SOON) == ["ValueError", "UniqueViolation"]
    assert database.rows("SELECT DISTINCT balance FROM account") == [(0,)]
    rows = database.rows("SELECT step_name, error IS NULL FROM lockstep.operation_outputs")
    assert sorted(rows) == [("broken", False), ("violates", False)]


@pytest.mark.parametrize("kind", ["async", "plain"])
async def test_serialization_failures_are_retried(
    database: Database, run_worker: Any, client: lockstep.AsyncClient, kind: str
) -> None:
    app = lockstep.App()
    read = "SELECT balance FROM account WHERE name = 'a'"
    write = "UPDATE account SET balance = %s WHERE name = 'a'"
    level = IsolationLevel.SERIALIZABLE

    if kind == "async":

        @app.transaction(name="add", isolation_level=level)
        async def add(conn: psycopg.AsyncConnection[Any]) -> None:
            row = await (await conn.execute(read)).fetchone()
            await asyncio.sleep(0.05)
            assert row is not None
            await conn.execute(write, (row[0] + 1,))

        @app.workflow(name="main")
        async def main() -> None:
            await add()
    else:

        @app.transaction(name="add", isolation_level=level)
        def add_plain(conn: psycopg.Connection[Any]) -> None:
            row = conn.execute(read).fetchone()
            threading.Event().wait(0.05)
            assert row is not None
            conn.execute(write, (row[0] + 1,))

        @app.workflow(name="main")
        def main_plain() -> None:
            add_plain()

    async with run_worker(app):
        ids = [await client.enqueue("main") for _ in range(5)]
        for workflow_id in ids:
            await client.result(workflow_id, timeout=SOON)
    assert database.value("SELECT balance FROM account WHERE name = 'a'") == 5


@pytest.mark.parametrize("kind", ["async", "plain"])
async def test_second_try_after_a_conflict_has_the_isolation_level_too(
    database: Database, run_worker: Any, client: lockstep.AsyncClient, kind: str
) -> None:
    app = lockstep.App()
    levels: list[str] = []
    level = IsolationLevel.REPEATABLE_READ
    show = "SHOW transaction_isolation"
    read = "SELECT balance FROM account WHERE name = 'a'"
    write = "UPDATE account SET balance = balance + 1 WHERE name = 'a'"

    def note(row: Any) -> None:
        levels.append(row[0])
        if len(levels) == 1:
            database.rows(write)  # a rival, after the step took its snapshot

    if kind == "async":

        @app.transaction(name="add", isolation_level=level)
        async def add(conn: psycopg.AsyncConnection[Any]) -> None:
            await conn.execute(read)
            note(await (await conn.execute(show)).fetchone())
            await conn.execute(write)

        @app.workflow(name="main")
        async def main() -> None:
            await add()
    else:

        @app.transaction(name="add", isolation_level=level)
        def add_plain(conn: psycopg.Connection[Any]) -> None:
            conn.execute(read)
            note(conn.execute(show).fetchone())
            conn.execute(write)

        @app.workflow(name="main")
        def main_plain() -> None:
            add_plain()

    async with run_worker(app):
        await client.result(await client.enqueue("main"), timeout=SOON)
    assert levels == ["repeatable read", "repeatable read"]
    assert database.value(read) == 2


async def test_deadlocks_are_retried(
    database: Database, run_worker: Any, client: lockstep.AsyncClient
) -> None:
    app = lockstep.App()
    database.rows(
        "ALTER DATABASE {} SET deadlock_timeout = '50ms'".format(
            database.value("SELECT quote_ident(current_database())")
        )
    )

    @app.transaction
    async def move(conn: psycopg.AsyncConnection[Any], names: list[str]) -> None:
        for name in names:
            await conn.execute("UPDATE account SET balance = balance + 1 WHERE name = %s", (name,))
            await asyncio.sleep(0.1)

    @app.workflow
    async def main(names: list[str]) -> None:
        await move(names)

    async with run_worker(app):
        ids = [await client.enqueue(main, names) for names in (["a", "b"], ["b", "a"])]
        for workflow_id in ids:
            await client.result(workflow_id, timeout=SOON)
    assert database.rows("SELECT DISTINCT balance FROM account") == [(2,)]


@pytest.mark.parametrize("kind", ["async", "plain"])
@pytest.mark.parametrize("call", ["commit", "rollback"])
async def test_step_cannot_end_its_transaction_by_a_method(
    database: Database, run_worker: Any, client: lockstep.AsyncClient, call: str, kind: str
) -> None:
    app = lockstep.App()
    errors: list[BaseException] = []
    write = "UPDATE account SET balance = 99"

    if kind == "async":

        @app.transaction(name="step")
        async def step(conn: psycopg.AsyncConnection[Any]) -> None:
            await conn.execute(write)
            try:
                await getattr(conn, call)()
            except BaseException as error:
                errors.append(error)
                raise

        @app.workflow(name="main")
        async def main() -> None:
            await step()
    else:

        @app.transaction(name="step")
        def step_plain(conn: psycopg.Connection[Any]) -> None:
            conn.execute(write)
            try:
                getattr(conn, call)()
            except BaseException as error:
                errors.append(error)
                raise

        @app.workflow(name="main")
        def main_plain() -> None:
            step_plain()

    async with run_worker(app):
        workflow_id = await client.enqueue("main")
        with pytest.raises(lockstep.WorkflowFailed, match=rf"{call}\(\) inside a transactional"):
            await client.result(workflow_id, timeout=SOON)
    assert [type(error) for error in errors] == [psycopg.ProgrammingError]
    assert database.rows("SELECT DISTINCT balance FROM account") == [(0,)]
    rows = database.rows("SELECT step_name, error ->> 'type' FROM lockstep.operation_outputs")
    assert rows == [("step", "psycopg.ProgrammingError")]


@pytest.mark.parametrize("kind", ["async", "plain"])
async def test_step_that_survives_its_own_commit_call_goes_on_in_its_transaction(
    database: Database, run_worker: Any, client: lockstep.AsyncClient, kind: str
) -> None:
    app = lockstep.App()
    write = "UPDATE account SET balance = balance + 1"

    if kind == "async":

        @app.transaction(name="step")
        async def step(conn: psycopg.AsyncConnection[Any]) -> None:
            await conn.execute(write)
            with contextlib.suppress(psycopg.ProgrammingError):
                await conn.commit()
            await conn.execute(write)

        @app.workflow(name="main")
        async def main() -> None:
            await step()
    else:

        @app.transaction(name="step")
        def step_plain(conn: psycopg.Connection[Any]) -> None:
            conn.execute(write)
            with contextlib.suppress(psycopg.ProgrammingError):
                conn.rollback()
            conn.execute(write)

        @app.workflow(name="main")
        def main_plain() -> None:
            step_plain()

    async with run_worker(app):
        await client.result(await client.enqueue("main"), timeout=SOON)
    assert database.rows("SELECT DISTINCT balance FROM account") == [(2,)]
    same = database.value(
        "SELECT bool_and(a.xmin = o.xmin) FROM account AS a, lockstep.operation_outputs AS o"
    )
    assert same, "one transaction wrote both rows and the checkpoint"


@pytest.mark.parametrize("kind", ["async", "plain"])
async def test_transaction_block_inside_a_step_is_a_savepoint(
    database: Database, run_worker: Any, client: lockstep.AsyncClient, kind: str
) -> None:
    app = lockstep.App()
    before = "UPDATE account SET balance = 1 WHERE name = 'a'"
    inside = "UPDATE account SET balance = 2"
    kept = "UPDATE account SET balance = 3 WHERE name = 'b'"

    if kind == "async":

        @app.transaction(name="step")
        async def step(conn: psycopg.AsyncConnection[Any], fails: bool) -> None:
            await conn.execute(before)
            with contextlib.suppress(ZeroDivisionError):
                async with conn.transaction():
                    await conn.execute(inside)
                    raise ZeroDivisionError
            async with conn.transaction():
                await conn.execute(kept)
            if fails:
                raise ValueError("after both blocks")

        @app.workflow(name="main")
        async def main(fails: bool) -> None:
            await step(fails)
    else:

        @app.transaction(name="step")
        def step_plain(conn: psycopg.Connection[Any], fails: bool) -> None:
            conn.execute(before)
            with contextlib.suppress(ZeroDivisionError), conn.transaction():
                conn.execute(inside)
                raise ZeroDivisionError
            with conn.transaction():
                conn.execute(kept)
            if fails:
                raise ValueError("after both blocks")

        @app.workflow(name="main")
        def main_plain(fails: bool) -> None:
            step_plain(fails)

    balances = "SELECT name, balance FROM account ORDER BY name"
    async with run_worker(app):
        failing = await client.enqueue("main", True)
        with pytest.raises(lockstep.WorkflowFailed, match="after both blocks"):
            await client.result(failing, timeout=SOON)
        assert database.rows(balances) == [("a", 0), ("b", 0)]
        await client.result(await client.enqueue("main", False), timeout=SOON)
        assert database.rows(balances) == [("a", 1), ("b", 3)]


@pytest.mark.parametrize("kind", ["async", "plain"])
@pytest.mark.parametrize("statement", ["COMMIT", "ROLLBACK"])
async def test_step_that_ends_its_transaction_by_a_statement_fails_with_the_reason(
    database: Database, run_worker: Any, client: lockstep.AsyncClient, statement: str, kind: str
) -> None:
    app = lockstep.App()
    write = "UPDATE account SET balance = balance + 1"
    calls: list[str] = []

    if kind == "async":

        @app.transaction(name="step")
        async def step(conn: psycopg.AsyncConnection[Any]) -> None:
            calls.append(statement)
            await conn.execute(write)
            await conn.execute(statement)

        @app.workflow(name="main")
        async def main() -> None:
            await step()
    else:

        @app.transaction(name="step")
        def step_plain(conn: psycopg.Connection[Any]) -> None:
            calls.append(statement)
            conn.execute(write)
            conn.execute(statement)

        @app.workflow(name="main")
        def main_plain() -> None:
            step_plain()

    async with run_worker(app):
        workflow_id = await client.enqueue("main")
        with pytest.raises(lockstep.WorkflowFailed, match='"step" ended its transaction itself'):
            await client.result(workflow_id, timeout=SOON)
    assert calls == [statement], "what may be committed is not done twice"
    rows = database.rows("SELECT step_name, error ->> 'type' FROM lockstep.operation_outputs")
    assert rows == [("step", "psycopg.ProgrammingError")]


@pytest.mark.parametrize("kind", ["async", "plain"])
async def test_step_that_swallows_a_failed_statement_fails(
    database: Database, run_worker: Any, client: lockstep.AsyncClient, kind: str
) -> None:
    app = lockstep.App()
    write = "UPDATE account SET balance = 99"
    duplicate = "INSERT INTO account VALUES ('a', 1)"

    if kind == "async":

        @app.transaction(name="step")
        async def step(conn: psycopg.AsyncConnection[Any]) -> None:
            await conn.execute(write)
            with contextlib.suppress(psycopg.errors.UniqueViolation):
                await conn.execute(duplicate)

        @app.workflow(name="main")
        async def main() -> None:
            await step()
    else:

        @app.transaction(name="step")
        def step_plain(conn: psycopg.Connection[Any]) -> None:
            conn.execute(write)
            with contextlib.suppress(psycopg.errors.UniqueViolation):
                conn.execute(duplicate)

        @app.workflow(name="main")
        def main_plain() -> None:
            step_plain()

    async with run_worker(app):
        workflow_id = await client.enqueue("main")
        with pytest.raises(lockstep.WorkflowFailed, match="transaction is aborted"):
            await client.result(workflow_id, timeout=SOON)
    assert database.rows("SELECT DISTINCT balance FROM account") == [(0,)]


async def test_transaction_of_a_cancelled_workflow_rolls_back(
    database: Database, run_worker: Any, client: lockstep.AsyncClient
) -> None:
    app = lockstep.App()
    entered = asyncio.Event()
    go_on = asyncio.Event()

    @app.transaction
    async def deposit(conn: psycopg.AsyncConnection[Any]) -> None:
        await conn.execute("UPDATE account SET balance = 7")
        entered.set()
        await go_on.wait()

    @app.workflow
    async def main() -> None:
        await deposit()

    async with run_worker(app) as worker:
        workflow_id = await client.enqueue(main)
        await entered.wait()
        assert await client.cancel(workflow_id)
        go_on.set()
        while worker.runs:
            await asyncio.sleep(0.01)
    assert database.rows("SELECT DISTINCT balance FROM account") == [(0,)]
    assert await client.status(workflow_id) == "CANCELLED"
    assert database.steps(workflow_id) == []


@pytest.mark.parametrize("kind", ["async", "plain"])
async def test_lost_connection_keeps_the_isolation_level(
    database: Database, run_worker: Any, client: lockstep.AsyncClient, kind: str
) -> None:
    app = lockstep.App()
    levels: list[str] = []
    level = IsolationLevel.SERIALIZABLE
    show = "SHOW transaction_isolation"
    end = "SELECT pg_terminate_backend(pg_backend_pid())"

    if kind == "async":

        @app.transaction(name="step", isolation_level=level)
        async def step(conn: psycopg.AsyncConnection[Any]) -> None:
            row = await (await conn.execute(show)).fetchone()
            assert row is not None
            levels.append(row[0])
            if len(levels) == 1:
                await conn.execute(end)

        @app.workflow(name="main")
        async def main() -> None:
            await step()
    else:

        @app.transaction(name="step", isolation_level=level)
        def step_plain(conn: psycopg.Connection[Any]) -> None:
            row = conn.execute(show).fetchone()
            assert row is not None
            levels.append(row[0])
            if len(levels) == 1:
                conn.execute(end)

        @app.workflow(name="main")
        def main_plain() -> None:
            step_plain()

    async with run_worker(app):
        await client.result(await client.enqueue("main"), timeout=SOON)
    assert levels == ["serializable", "serializable"]


async def test_failure_gives_way_to_a_commit_that_arrived_meanwhile(
    database: Database, run_worker: Any, client: lockstep.AsyncClient
) -> None:
    app = lockstep.App()

    @app.transaction
    async def book(conn: psycopg.AsyncConnection[Any]) -> str:
        # what a predecessor's late COMMIT would leave behind: its row and its checkpoint
        database.rows("INSERT INTO account VALUES ('late', 1)")
        database.rows(
            "INSERT INTO lockstep.operation_outputs"
            " (workflow_id, step_id, step_name, output, started_at, completed_at)"
            " SELECT workflow_id, 1, 'book', '\"late\"', now(), now() FROM lockstep.workflow_status"
        )
        await conn.execute("INSERT INTO account VALUES ('late', 1)")
        return "second"

    @app.workflow
    async def main() -> str:
        return await book()

    async with run_worker(app):
        assert await client.result(await client.enqueue(main), timeout=SOON) == "late"
    assert database.value("SELECT count(*) FROM account WHERE name = 'late'") == 1


async def test_worker_that_stops_before_its_commit_does_not_block_its_successor(
    database: Database,
) -> None:
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        database.enqueue("w", workflow_id="w")
        executor = database.value("SELECT lockstep.register_executor('{default}', '{w}')")
        database.rows("SELECT * FROM lockstep.claim_workflows(%s, 1)", executor)
        connection.execute("BEGIN")
        connection.execute("SELECT lockstep.record_step(%s, 'w', 1, 1, 's')", (executor,))
        row = connection.execute("SHOW idle_in_transaction_session_timeout").fetchone()
        assert row == ("5s",)
        connection.execute("ROLLBACK")
        row = connection.execute("SHOW idle_in_transaction_session_timeout").fetchone()
        assert row == ("0",)
