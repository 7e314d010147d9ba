"""The clients, async and sync: what they send, what they raise, whose transaction it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import lockstep
import psycopg
import pytest
from harness import Database
from psycopg.rows import dict_row

app = lockstep.App()


@app.workflow(queue_name="orders")
async def fulfil(order_id: int, *, note: str = "") -> str:
    return f"{order_id}{note}"


@pytest.fixture
def sync_client(database: Database) -> Any:
    with lockstep.Client(database.dsn) as client:
        yield client


Caller = Callable[..., Any]


@pytest.fixture(params=["async", "sync"])
def call(
    request: pytest.FixtureRequest, client: lockstep.AsyncClient, sync_client: lockstep.Client
) -> Caller:
    """Call a method of either client by name; always awaited."""

    async def call(method: str, *args: Any, **kwargs: Any) -> Any:
        if request.param == "async":
            return await getattr(client, method)(*args, **kwargs)
        return await asyncio.to_thread(getattr(sync_client, method), *args, **kwargs)

    return call


async def test_every_option_reaches_the_row(database: Database, call: Caller) -> None:
    when = datetime(2099, 1, 1, tzinfo=timezone.utc)
    workflow_id = await call(
        "enqueue",
        "name",
        1,
        queue_name="q",
        workflow_id="id",
        deduplication_id="d",
        priority=3,
        queue_partition_key="p",
        run_at=when,
        timeout=timedelta(minutes=5),
        max_attempts=7,
        app_version="v",
        headers={"h": 1},
        named_args={"timeout": 9},
        extra="x",
    )
    assert workflow_id == "id"
    rows = database.rows(
        "SELECT workflow_name, queue_name, status, inputs, priority, deduplication_id,"
        " queue_partition_key, app_version, max_attempts, available_at, timeout, headers"
        " FROM lockstep.workflow_status"
    )
    assert rows == [
        (
            *("name", "q", "DELAYED"),
            {"positionalArgs": [1], "namedArgs": {"timeout": 9, "extra": "x"}},
            *(3, "d", "p", "v", 7, when, timedelta(minutes=5), {"h": 1}),
        )
    ]


async def test_function_brings_its_name_and_queue(database: Database, call: Caller) -> None:
    await call("enqueue", fulfil, 1)
    await call("enqueue", fulfil, 2, queue_name="other")
    await call("enqueue", "by name", 3)
    rows = database.rows(
        "SELECT workflow_name, queue_name FROM lockstep.workflow_status ORDER BY created_at"
    )
    assert rows == [("fulfil", "orders"), ("fulfil", "other"), ("by name", "default")]


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"priority": -1}, lockstep.InvalidArgument, "priority must be 0 or greater"),
        ({"queue_name": " "}, lockstep.InvalidArgument, "queue_name must have"),
        ({"workflow_id": ""}, lockstep.InvalidArgument, "workflow_id must have"),
        ({"delay": timedelta(seconds=-1)}, lockstep.InvalidArgument, "delay must not be negative"),
        ({"on_duplicate": "ignore"}, lockstep.InvalidArgument, "on_duplicate must be"),
        ({"number": object()}, lockstep.Unserializable, "cannot store"),
        ({"text": "\x00"}, lockstep.Unserializable, "NUL"),
    ],
)
async def test_bad_arguments_raise_and_leave_nothing(
    database: Database, call: Caller, options: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        await call("enqueue", "name", **options)
    assert database.value("SELECT count(*) FROM lockstep.workflow_status") == 0


async def test_duplicates_raise_or_return(call: Caller) -> None:
    first = await call("enqueue", fulfil, 1, deduplication_id="d")
    with pytest.raises(lockstep.DuplicateWorkflow, match=first):
        await call("enqueue", fulfil, 1, deduplication_id="d")
    again = await call("enqueue", fulfil, 1, deduplication_id="d", on_duplicate="return")
    assert again == first
    await call("enqueue", "one", workflow_id="w")
    with pytest.raises(lockstep.DuplicateWorkflow, match="exists already"):
        await call("enqueue", "two", workflow_id="w")


@pytest.mark.parametrize("method", ["status", "get", "result", "cancel", "resume"])
async def test_unknown_workflow_is_not_found(call: Caller, method: str) -> None:
    with pytest.raises(lockstep.WorkflowNotFound, match='workflow "nobody" does not exist'):
        await call(method, "nobody")


async def test_result_times_out_while_nobody_works(call: Caller) -> None:
    workflow_id = await call("enqueue", fulfil, 1)
    with pytest.raises(lockstep.ResultTimeout, match="ENQUEUED"):
        await call("result", workflow_id, timeout=timedelta(seconds=0.2))
    with pytest.raises(TimeoutError):
        await call("result", workflow_id, timeout=timedelta(0))


async def test_cancelled_workflow_says_so_and_can_be_resumed(call: Caller, run_worker: Any) -> None:
    workflow_id = await call("enqueue", fulfil, 1)
    assert await call("resume", workflow_id) is False
    assert await call("cancel", workflow_id) is True
    assert await call("cancel", workflow_id) is False
    with pytest.raises(lockstep.WorkflowCancelled):
        await call("result", workflow_id)
    assert await call("resume", workflow_id) is True
    async with run_worker(app, queues=["orders"]):
        assert await call("result", workflow_id, timeout=timedelta(seconds=20)) == "1"
    for method in ("cancel", "resume"):
        with pytest.raises(lockstep.WrongState, match="SUCCESS"):
            await call(method, workflow_id)


async def test_outbox_with_the_callers_connection(
    database: Database, client: lockstep.AsyncClient
) -> None:
    database.rows("CREATE TABLE orders (id int)")
    connection = await psycopg.AsyncConnection.connect(database.dsn, row_factory=dict_row)
    async with connection:
        async with connection.transaction(force_rollback=True):
            await connection.execute("INSERT INTO orders VALUES (1)")
            await client.enqueue(fulfil, 1, workflow_id="rolled back", conn=connection)
        async with connection.transaction():
            await connection.execute("INSERT INTO orders VALUES (2)")
            await client.enqueue(fulfil, 2, workflow_id="committed", conn=connection)
            with pytest.raises(lockstep.WorkflowNotFound):
                await client.status("committed")
            assert await client.status("committed", conn=connection) == "ENQUEUED"
    assert database.rows("SELECT workflow_id FROM lockstep.workflow_status") == [("committed",)]
    assert database.rows("SELECT id FROM orders") == [(2,)]


def test_outbox_with_the_callers_sync_connection(
    database: Database, sync_client: lockstep.Client
) -> None:
    with psycopg.connect(database.dsn) as connection:
        sync_client.enqueue(fulfil, 1, conn=connection)
        sync_client.send(sync_client.enqueue(fulfil, 2, conn=connection), "m", conn=connection)
        connection.rollback()
    assert database.value("SELECT count(*) FROM lockstep.workflow_status") == 0
    assert database.value("SELECT count(*) FROM lockstep.notifications") == 0


@pytest.mark.direct("loses its own session: a pooler gives it another one")
async def test_client_connects_again_after_its_connection_was_lost(
    database: Database, call: Caller
) -> None:
    workflow_id = await call("enqueue", fulfil, 1)
    database.rows(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'lockstep client' AND datname = current_database()"
    )
    with pytest.raises(psycopg.OperationalError):
        await call("status", workflow_id)
    assert await call("status", workflow_id) == "ENQUEUED"
