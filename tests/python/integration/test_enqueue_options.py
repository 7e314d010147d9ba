"""How a workflow is enqueued: options beside its arguments, and whose connection it is."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import FrozenInstanceError
from datetime import datetime, timedelta, timezone
from typing import Any

import lockstep
import psycopg
import pytest
from harness import Database

app = lockstep.App()


@app.workflow(queue_name="orders")
async def fulfil(order_id: int, *, note: str = "") -> None: ...


@app.workflow
async def own(delay: int, headers: str = "", named_args: str = "") -> None: ...


@app.workflow
async def anything(**kwargs: Any) -> None: ...


WHEN = datetime(2099, 1, 1, tzinfo=timezone.utc)
OPTIONS: dict[str, Any] = {
    "queue_name": "q",
    "workflow_id": "id",
    "deduplication_id": "d",
    "priority": 3,
    "queue_partition_key": "p",
    "run_at": WHEN,
    "timeout": timedelta(minutes=5),
    "max_attempts": 7,
    "app_version": "v",
    "headers": {"h": 1},
    "retries": {"max_attempts": 5, "delay": 0.5},
}
STORED = (
    *("fulfil", "q", "DELAYED", {"positionalArgs": [1], "namedArgs": {"note": "n"}}, 3, "d", "p"),
    *("v", 7, WHEN, timedelta(minutes=5), {"h": 1}, {"max_attempts": 5, "delay": 0.5}),
)
Enqueue = Callable[..., Any]


@pytest.fixture
def sync_client(database: Database) -> Iterator[lockstep.Client]:
    with lockstep.Client(database.dsn) as client:
        yield client


@pytest.fixture(params=["async", "sync"])
def enqueue(
    request: pytest.FixtureRequest, client: lockstep.AsyncClient, sync_client: lockstep.Client
) -> Enqueue:
    async def enqueue(*args: Any, **kwargs: Any) -> str:
        if request.param == "async":
            return await client.enqueue(*args, **kwargs)
        return await asyncio.to_thread(sync_client.enqueue, *args, **kwargs)

    return enqueue


def stored(database: Database) -> list[tuple[Any, ...]]:
    return database.rows(
        "SELECT workflow_name, queue_name, status, inputs, priority, deduplication_id,"
        " queue_partition_key, app_version, max_attempts, available_at, timeout, headers, retries"
        " FROM lockstep.workflow_status"
    )


def inputs(database: Database, workflow_id: str) -> Any:
    return database.value(
        "SELECT inputs FROM lockstep.workflow_status WHERE workflow_id = %s", workflow_id
    )


async def test_every_option_of_a_configured_workflow_reaches_the_row(
    database: Database, enqueue: Enqueue
) -> None:
    assert await enqueue(fulfil.options(**OPTIONS), 1, note="n") == "id"
    assert stored(database) == [STORED]


async def test_function_takes_options_as_keywords_too(database: Database, enqueue: Enqueue) -> None:
    assert await enqueue(fulfil, 1, note="n", **OPTIONS) == "id"
    assert stored(database) == [STORED]


async def test_remaining_options_reach_the_row(database: Database, enqueue: Enqueue) -> None:
    later = fulfil.options(delay=timedelta(days=1), deadline=WHEN, deduplication_id="d")
    first = await enqueue(later, 1)
    row = database.rows(
        "SELECT status, deadline_at, queue_name, available_at - created_at"
        " FROM lockstep.workflow_status"
    )
    assert row == [("DELAYED", WHEN, "orders", timedelta(days=1))]
    with pytest.raises(lockstep.DuplicateWorkflow):
        await enqueue(later, 1)
    again = fulfil.options(deduplication_id="d", on_duplicate="return")
    assert await enqueue(again, 1) == first


async def test_debounced_calls_are_one_workflow_with_the_last_inputs(
    database: Database, enqueue: Enqueue
) -> None:
    debounced = fulfil.options(
        deduplication_id="d",
        debounce=timedelta(hours=1),
        debounce_max_delay=timedelta(minutes=30),
        headers={"h": 1},
        retries=lockstep.Retry(max_attempts=2),
    )
    first = await enqueue(debounced, 1)
    assert await enqueue(debounced, 2) == first
    by_name = {"queue_name": "orders", "deduplication_id": "d", "debounce": timedelta(hours=1)}
    assert await enqueue("fulfil", 3, **by_name) == first
    rows = database.rows(
        "SELECT status, inputs -> 'positionalArgs', available_at - created_at > interval '59 min'"
        " FROM lockstep.workflow_status"
    )
    assert rows == [("DELAYED", [3], True)]
    assert await enqueue(debounced, 4) == first
    delay = "SELECT available_at - created_at FROM lockstep.workflow_status"
    assert database.value(delay) == timedelta(minutes=30)
    with pytest.raises(lockstep.DuplicateWorkflow, match='deduplication_id "d"'):
        await enqueue("other", **by_name)
    with pytest.raises(lockstep.InvalidArgument, match="needs a deduplication_id"):
        await enqueue(fulfil.options(debounce=timedelta(seconds=1)), 1)
    with pytest.raises(lockstep.InvalidArgument, match="excludes delay"):
        await enqueue(dataclasses.replace(debounced, delay=timedelta(seconds=1)), 1)


async def test_keyword_that_is_a_parameter_of_the_workflow_is_its_argument(
    database: Database, enqueue: Enqueue
) -> None:
    """As the types say; options() has the option of the same name."""
    workflow_id = await enqueue(own, delay=5, headers="x", named_args="y")
    named = {"delay": 5, "headers": "x", "named_args": "y"}
    assert inputs(database, workflow_id)["namedArgs"] == named
    workflow_id = await enqueue(own.options(delay=timedelta(hours=1)), delay=5)
    assert inputs(database, workflow_id)["namedArgs"] == {"delay": 5}
    assert database.status(workflow_id) == "DELAYED"
    workflow_id = await enqueue(anything.options(), delay=1, priority=2, named_args=3)
    expected = {"delay": 1, "priority": 2, "named_args": 3}
    assert inputs(database, workflow_id)["namedArgs"] == expected


async def test_retry_becomes_a_policy_in_seconds(database: Database, enqueue: Enqueue) -> None:
    retry = lockstep.Retry(max_attempts=4, delay=timedelta(seconds=0.5), jitter=0.1)
    for retries in (retry, {"max_attempts": 4, "delay": timedelta(seconds=0.5)}):
        await enqueue("w", retries=retries)
    policies = database.rows("SELECT retries FROM lockstep.workflow_status ORDER BY created_at")
    whole = {"max_attempts": 4, "delay": 0.5, "backoff": 2.0, "max_delay": 3600, "jitter": 0.1}
    assert policies == [(whole,), ({"max_attempts": 4, "delay": 0.5},)]
    with pytest.raises(lockstep.InvalidArgument, match="retry_on"):
        await enqueue("w", retries=lockstep.Retry(retry_on=ValueError))
    with pytest.raises(lockstep.InvalidArgument, match='"attempts" is no key'):
        await enqueue("w", retries={"attempts": 1})


def test_options_are_kept_and_cannot_change() -> None:
    later = fulfil.options(priority=3)
    assert isinstance(later, lockstep.ConfiguredWorkflow)
    assert later.workflow is fulfil
    assert later.given() == {"on_duplicate": "raise", "priority": 3}
    with pytest.raises(FrozenInstanceError):
        later.priority = 4  # type: ignore[misc]
    with pytest.raises(TypeError):
        fulfil.options(prioritty=3)  # type: ignore[call-arg]


async def test_bound_client_is_part_of_the_callers_transaction(
    database: Database, client: lockstep.AsyncClient
) -> None:
    connection = await psycopg.AsyncConnection.connect(database.dsn)
    async with connection:
        outbox = client.using(connection)
        async with connection.transaction(force_rollback=True):
            await outbox.enqueue(fulfil.options(workflow_id="rolled back"), 1)
        async with connection.transaction():
            workflow_id = await outbox.enqueue(fulfil.options(workflow_id="committed"), 2)
            await outbox.send(workflow_id, "m")
            assert await outbox.status(workflow_id) == "ENQUEUED"
            with pytest.raises(lockstep.WorkflowNotFound):
                await client.status(workflow_id)
    assert database.rows("SELECT workflow_id FROM lockstep.workflow_status") == [("committed",)]
    assert database.value("SELECT count(*) FROM lockstep.notifications") == 1


def test_bound_sync_client_is_part_of_the_callers_transaction(
    database: Database, sync_client: lockstep.Client
) -> None:
    with psycopg.connect(database.dsn) as connection:
        sync_client.using(connection).enqueue(fulfil, 1)
        connection.rollback()
    assert stored(database) == []
