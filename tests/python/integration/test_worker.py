"""The worker as a process in a database: wake-up, polling, limits, cancellation, poolers."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import timedelta
from typing import Any

import lockstep
import psycopg
import pytest
from harness import Database
from lockstep._session import Session
from servers import Cluster

SOON = timedelta(seconds=20)
Client = lockstep.AsyncClient


@pytest.fixture
def app() -> lockstep.App:
    app = lockstep.App()

    @app.step
    async def add(a: int, b: int) -> int:
        return a + b

    @app.workflow
    async def work(number: int = 1) -> int:
        return await add(number, 1)

    @app.workflow
    async def naps() -> str:
        await lockstep.sleep(timedelta(seconds=1.3))
        return "rested"

    return app


async def until_idle(database: Database) -> None:
    for _ in range(500):
        if database.rows("SELECT 1 FROM lockstep.executor WHERE is_idle"):
            await asyncio.sleep(1.0)  # past the quick polls
            return
        await asyncio.sleep(0.02)
    raise AssertionError("the worker never said that it is idle")


@pytest.mark.direct("hears a notification")
async def test_idle_worker_hears_of_new_work_at_once(
    database: Database, run_worker: Any, client: Client, app: lockstep.App
) -> None:
    async with run_worker(app, poll_interval=timedelta(seconds=30)):
        await until_idle(database)
        began = time.monotonic()
        await client.result(await client.enqueue("work"), timeout=SOON)
        assert time.monotonic() - began < 1.0, "long before the next poll"


@pytest.mark.direct("hears a notification")
async def test_idle_worker_hears_of_work_from_plain_sql(
    database: Database, run_worker: Any, client: Client, app: lockstep.App
) -> None:
    database.rows("CREATE TABLE orders (id int)")
    database.rows(
        "CREATE FUNCTION start() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " PERFORM lockstep.enqueue_workflow('work', 'default', workflow_id => 'order-' || NEW.id,"
        " named_args => jsonb_build_object('number', NEW.id)); RETURN NULL; END $$"
    )
    database.rows(
        "CREATE TRIGGER start AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION start()"
    )
    async with run_worker(app, poll_interval=timedelta(seconds=30)):
        await until_idle(database)
        began = time.monotonic()
        database.rows("INSERT INTO orders SELECT generate_series(1, 1000)")
        assert await client.result("order-1000", timeout=SOON) == 1001
        assert time.monotonic() - began < 10
        eventually_done = "SELECT count(*) FROM lockstep.workflow_status WHERE status = 'SUCCESS'"
        for _ in range(500):
            if database.value(eventually_done) == 1000:
                break
            await asyncio.sleep(0.02)
        assert database.value(eventually_done) == 1000
    assert database.value("SELECT count(*) FROM lockstep.operation_outputs") == 1000


async def test_row_inserted_by_hand_is_found_by_polling(
    database: Database, run_worker: Any, client: Client, app: lockstep.App
) -> None:
    async with run_worker(app, poll_interval=timedelta(seconds=0.2)):
        workflow_id = database.value(
            "INSERT INTO lockstep.workflow_status (workflow_name, queue_name)"
            " VALUES ('work', 'default') RETURNING workflow_id"
        )
        assert await client.result(workflow_id, timeout=SOON) == 2


@pytest.mark.direct("hears a notification")
async def test_delayed_workflow_starts_when_it_is_due(
    database: Database, run_worker: Any, client: Client, app: lockstep.App
) -> None:
    async with run_worker(app, poll_interval=timedelta(seconds=30)):
        await until_idle(database)
        workflow_id = await client.enqueue("work", delay=timedelta(seconds=0.6))
        assert await client.status(workflow_id) == "DELAYED"
        await client.result(workflow_id, timeout=SOON)
    late = database.value("SELECT started_at - available_at FROM lockstep.workflow_status")
    assert timedelta(0) <= late < timedelta(seconds=1)


async def test_concurrency_limits_what_is_in_flight(
    database: Database, run_worker: Any, client: Client
) -> None:
    app = lockstep.App()
    running = 0
    most = 0

    @app.step
    async def work() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.05)
        running -= 1

    @app.workflow
    async def main() -> None:
        await work()

    ids = [await client.enqueue(main) for _ in range(20)]
    async with run_worker(app, concurrency=4):
        for workflow_id in ids:
            await client.result(workflow_id, timeout=SOON)
    assert most == 4


async def test_queue_limits_hold_over_two_workers(
    database: Database, run_worker: Any, client: Client
) -> None:
    app = lockstep.App()
    running: dict[str, int] = {"a": 0, "b": 0}
    most: dict[str, int] = {"a": 0, "b": 0}

    @app.step
    async def work(key: str) -> None:
        running[key] += 1
        most[key] = max(most[key], running[key])
        await asyncio.sleep(0.03)
        running[key] -= 1

    @app.workflow
    async def main(key: str) -> None:
        await work(key)

    database.rows(
        "SELECT lockstep.create_queue('limited', concurrency => 3, partition_concurrency => 2)"
    )
    ids = [
        await client.enqueue(main, key, queue_name="limited", queue_partition_key=key)
        for key in "ab" * 8
    ]
    async with (
        run_worker(app, queues=["limited"], poll_interval=timedelta(seconds=0.1)),
        run_worker(app, queues=["limited"], poll_interval=timedelta(seconds=0.1)),
    ):
        for workflow_id in ids:
            await client.result(workflow_id, timeout=SOON)
    assert most == {"a": 2, "b": 2}


async def test_cancelled_workflow_stops_at_its_next_step(
    database: Database, run_worker: Any, client: Client
) -> None:
    app = lockstep.App()
    entered, go_on = asyncio.Event(), asyncio.Event()
    calls: list[str] = []

    @app.step
    async def held() -> None:
        entered.set()
        await go_on.wait()

    @app.step
    async def after() -> None:
        calls.append("after")

    @app.workflow
    async def main() -> None:
        await held()
        await after()

    async with run_worker(app) as worker:
        workflow_id = await client.enqueue(main)
        await entered.wait()
        await client.cancel(workflow_id)
        go_on.set()
        while worker.runs:
            await asyncio.sleep(0.01)
    assert calls == []
    assert await client.status(workflow_id) == "CANCELLED"


async def test_deadline_cancels_a_waiting_workflow(
    database: Database, run_worker: Any, client: Client
) -> None:
    app = lockstep.App()

    @app.workflow
    async def waits() -> Any:
        return await lockstep.receive()

    async with run_worker(app):
        workflow_id = await client.enqueue(waits, timeout=timedelta(seconds=0.7))
        with pytest.raises(lockstep.WorkflowCancelled, match="deadline"):
            await client.result(workflow_id, timeout=SOON)


async def test_version_pinned_workflows_go_to_workers_of_that_version(
    database: Database, run_worker: Any, client: Client, app: lockstep.App
) -> None:
    pinned = await client.enqueue("work", app_version="v2")
    free = await client.enqueue("work")
    async with run_worker(app):
        await client.result(free, timeout=SOON)
        assert await client.status(pinned) == "ENQUEUED"
    async with run_worker(app, app_version="v2"):
        await client.result(pinned, timeout=SOON)


async def test_locked_row_holds_up_no_other_workflow(
    database: Database, run_worker: Any, client: Client
) -> None:
    app = lockstep.App()
    go_on = asyncio.Event()

    @app.workflow
    async def held() -> str:
        await go_on.wait()
        return "held"

    @app.workflow
    async def free() -> str:
        return "free"

    async with run_worker(app):
        held_id = await client.enqueue(held)
        for _ in range(200):
            if await client.status(held_id) == "PENDING":
                break
            await asyncio.sleep(0.02)
        connection = await psycopg.AsyncConnection.connect(database.dsn)
        async with connection:
            await connection.execute(
                "SELECT 1 FROM lockstep.workflow_status WHERE workflow_id = %s FOR UPDATE",
                (held_id,),
            )
            go_on.set()
            for _ in range(3):
                assert await client.result(await client.enqueue(free), timeout=SOON) == "free"
            assert await client.status(held_id) == "PENDING"
        assert await client.result(held_id, timeout=SOON) == "held"


async def test_database_without_lockstep_is_named_as_such(
    cluster: Cluster, app: lockstep.App
) -> None:
    with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE bare TEMPLATE template0")
    try:
        with pytest.raises(lockstep.NotInstalled, match="lockstep install"):
            await lockstep.Worker(app, dsn=cluster.dsn("bare")).run()
    finally:
        with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
            connection.execute("DROP DATABASE bare WITH (FORCE)")


async def test_everything_works_behind_a_transaction_pooler(
    pooled_dsn: str, database: Database, app: lockstep.App
) -> None:
    database.rows("CREATE TABLE ledger (key int)")

    @app.transaction
    async def book(conn: psycopg.AsyncConnection[Any], key: int) -> None:
        await conn.execute("INSERT INTO ledger VALUES (%s)", (key,))

    @app.workflow
    async def books(key: int) -> Any:
        await book(key)
        return await lockstep.receive("t")

    worker = lockstep.Worker(app, dsn=pooled_dsn, poll_interval=timedelta(seconds=0.1))
    task = asyncio.create_task(worker.run())
    async with lockstep.AsyncClient(pooled_dsn) as client:
        plain = [await client.enqueue("work", n) for n in range(30)]
        waiting = [await client.enqueue(books, n) for n in range(30)]
        for n, workflow_id in enumerate(plain):
            assert await client.result(workflow_id, timeout=SOON) == n + 1
        for n, workflow_id in enumerate(waiting):
            await client.send(workflow_id, n, "t")
        for n, workflow_id in enumerate(waiting):
            assert await client.result(workflow_id, timeout=SOON) == n
        nap = await client.enqueue("naps")
        assert await client.result(nap, timeout=SOON) == "rested"
    assert not worker.listener.is_connected
    worker.stop()
    await task
    assert sorted(database.rows("SELECT key FROM ledger")) == [(n,) for n in range(30)]


@pytest.mark.direct("hears a notification")
async def test_place_in_a_limited_queue_is_taken_when_it_becomes_free(
    database: Database, run_worker: Any, client: Client
) -> None:
    app = lockstep.App()

    @app.step
    async def work() -> None:
        await asyncio.sleep(0.3)

    @app.workflow
    async def main() -> None:
        await work()

    database.rows("SELECT lockstep.create_queue('slow', concurrency => 1)")
    async with run_worker(app, queues=["slow"]), run_worker(app, queues=["slow"]):
        await until_idle(database)
        ids = [await client.enqueue(main, queue_name="slow") for _ in range(6)]
        for workflow_id in ids:
            await client.result(workflow_id, timeout=SOON)
    idle = database.value(
        "SELECT max(gap) FROM (SELECT started_at - lag(completed_at) OVER (ORDER BY started_at)"
        " FROM lockstep.workflow_status) AS g (gap)"
    )
    assert idle < timedelta(seconds=0.25), "no place stays free while work waits"


async def test_client_that_holds_a_queue_row_stops_no_other_queue(
    database: Database, run_worker: Any, client: Client, app: lockstep.App
) -> None:
    database.rows("SELECT lockstep.create_queue('limited', concurrency => 1)")
    async with run_worker(app, queues=["limited", "default"]):
        with psycopg.connect(database.dsn) as connection:
            connection.execute("SELECT lockstep.pause_queue('limited')")
            limited = await client.enqueue("work", queue_name="limited")
            for number in range(3):
                assert await client.result(await client.enqueue("work", number), timeout=SOON)
            assert await client.status(limited) == "ENQUEUED"
            connection.rollback()
        assert await client.result(limited, timeout=SOON) == 2


async def test_worker_without_the_capability_ends_with_the_reason(
    database: Database, app: lockstep.App
) -> None:
    database.rows("CREATE ROLE only_client LOGIN")
    try:
        database.rows("SELECT lockstep.grant_usage('only_client', 'client')")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="register_executor"):
            await lockstep.Worker(app, dsn=f"{database.dsn} user=only_client").run()
    finally:
        database.rows("DROP OWNED BY only_client")
        database.rows("DROP ROLE only_client")


@pytest.mark.direct("looks for its session")
async def test_each_request_names_the_connection_that_it_goes_over(
    database: Database,
    run_worker: Any,
    client: Client,
    app: lockstep.App,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: list[tuple[int, int]] = []
    execute = Session._execute

    async def execute_noting(session: Session, connection: Any, query: str, params: Any) -> Any:
        if "advance_workflows" in query:
            sent.append((session.generation, json.loads(params[1])["connection_number"]))
        return await execute(session, connection, query, params)

    monkeypatch.setattr(Session, "_execute", execute_noting)
    async with run_worker(app):
        for _ in range(3):
            assert await client.result(await client.enqueue("work"), timeout=SOON) == 2
            database.rows(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE application_name = 'lockstep worker' AND datname = current_database()"
            )
        assert await client.result(await client.enqueue("work"), timeout=SOON) == 2
        numbers = [number for _, number in sent]
        assert [generation for generation, _ in sent] == numbers
        assert numbers[0] == 1
        assert numbers[-1] >= 4
        assert database.value("SELECT connection_number FROM lockstep.executor") == numbers[-1]
