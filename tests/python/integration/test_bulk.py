"""Many at once: enqueue_many() and send_many(), of both clients."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import lockstep
import psycopg
import pytest
from harness import Database
from lockstep import _bulk_calls

app = lockstep.App()


@app.workflow(queue_name="orders")
async def fulfil(order_id: int, *, note: str = "") -> str:
    return f"order {order_id} {note}"


@app.workflow(queue_name="orders")
async def collect(count: int) -> list[Any]:
    return [await lockstep.receive("t") for _ in range(count)]


Method = Callable[..., Any]


@pytest.fixture
def sync_client(database: Database) -> Iterator[lockstep.Client]:
    with lockstep.Client(database.dsn) as client:
        yield client


@pytest.fixture(params=["async", "sync"])
def call(
    request: pytest.FixtureRequest, client: lockstep.AsyncClient, sync_client: lockstep.Client
) -> Method:
    """Call a method, by name, of the one client or the other."""

    async def call(method: str, *args: Any, **kwargs: Any) -> Any:
        if request.param == "async":
            return await getattr(client, method)(*args, **kwargs)
        return await asyncio.to_thread(getattr(sync_client, method), *args, **kwargs)

    return call


@pytest.fixture
def small_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_bulk_calls, "PORTION", 3)


def stored(database: Database, columns: str) -> list[tuple[Any, ...]]:
    return database.rows(
        f"SELECT {columns} FROM lockstep.workflow_status ORDER BY available_at, workflow_id"
    )


async def test_inputs_are_sequences_or_mappings(database: Database, call: Method) -> None:
    inputs = [(1,), [2], {"order_id": 3, "note": 'quotes "\\" and {braces}, NULL'}, (), {}]
    ids = await call("enqueue_many", fulfil, iter(inputs))
    assert stored(database, "workflow_id, workflow_name, queue_name, inputs") == [
        (workflow_id, "fulfil", "orders", {"positionalArgs": positional, "namedArgs": named})
        for workflow_id, positional, named in zip(
            ids, [[1], [2], [], [], []], [{}, {}, inputs[2], {}, {}], strict=True
        )
    ]


async def test_ten_thousand_run_in_their_order(
    database: Database, call: Method, run_worker: Any, client: lockstep.AsyncClient
) -> None:
    ids = await call("enqueue_many", fulfil, ((n,) for n in range(10_001)))
    assert len(set(ids)) == 10_001
    rows = stored(database, "workflow_id, inputs -> 'positionalArgs' -> 0")
    assert rows == list(zip(ids, range(10_001), strict=True))
    assert database.value("SELECT count(DISTINCT xmin::text) FROM lockstep.workflow_status") == 1
    async with run_worker(app, queues=["orders"]):
        assert await client.result(ids[10_000], timeout=timedelta(seconds=60)) == "order 10000 "


async def test_arrays_and_options_reach_the_rows(
    database: Database, call: Method, small_portions: None
) -> None:
    ids = await call(
        "enqueue_many",
        fulfil.options(priority=1, headers={"h": 1}),
        [(n,) for n in range(4)],
        workflow_ids=["a", "b", None, "d"],
        deduplication_ids=[None, "x", "y", "z"],
        queue_partition_keys=["k", None, None, "l"],
        priority=2,
        delay=timedelta(hours=1),
        retries=lockstep.Retry(max_attempts=3),
    )
    columns = (
        "workflow_id, deduplication_id, queue_partition_key, priority, status, headers,"
        " (retries ->> 'max_attempts')::int"
    )
    same = (2, "DELAYED", {"h": 1}, 3)
    assert stored(database, columns) == [
        ("a", None, "k", *same),
        ("b", "x", None, *same),
        (ids[2], "y", None, *same),
        ("d", "z", "l", *same),
    ]
    assert [ids[0], ids[1], ids[3]] == ["a", "b", "d"]


async def test_workflow_named_by_a_string(database: Database, call: Method) -> None:
    await call("enqueue_many", "w", [{}])
    await call("enqueue_many", "w", [{}], queue_name="q")
    assert stored(database, "workflow_name, queue_name") == [("w", "default"), ("w", "q")]


async def test_debounced_inputs_are_one_workflow(
    database: Database, call: Method, small_portions: None
) -> None:
    options = {"deduplication_ids": ["d"] * 4, "debounce": timedelta(hours=1)}
    ids = await call("enqueue_many", fulfil, [(n,) for n in range(4)], **options)
    assert len(ids) == 4
    assert stored(database, "workflow_id, inputs -> 'positionalArgs'") == [(ids[0], [3])]
    assert len(set(ids)) == 1


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ([[1, 2]], {}, lockstep.InvalidArgument, r"input 0 is a int: pass a sequence"),
        ([["ab"]], {}, lockstep.InvalidArgument, r"input 0 is a str"),
        ([[(1,)]], {"workflow_ids": []}, lockstep.InvalidArgument, "inputs has 1, workflow_ids"),
        (
            [[(1,)], "options"],
            {},
            lockstep.InvalidArgument,
            "each workflow has its own deduplication_id: pass deduplication_ids",
        ),
        ([[(1,)]], {"prioritty": 1}, TypeError, "takes no prioritty"),
        ([[(1,)]], {"workflow_id": "x"}, TypeError, "takes no workflow_id"),
        ([[(1,)]], {"priority": -1}, lockstep.InvalidArgument, "priority must be 0 or greater"),
        ([[(1,), (object(),)]], {}, lockstep.Unserializable, "cannot store"),
        ([[(1,), ("\0",)]], {}, lockstep.Unserializable, "NUL"),
        (
            [[(1,), (2,)]],
            {"deduplication_ids": [None, "taken"]},
            lockstep.DuplicateWorkflow,
            'deduplication_id "taken"',
        ),
    ],
)
async def test_wrong_input_enqueues_nothing(
    database: Database,
    call: Method,
    arguments: list[Any],
    options: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    database.enqueue("w", "orders", deduplication_id="taken")
    workflow: Any = fulfil
    if arguments[1:]:
        workflow = fulfil.options(deduplication_id="d")
    with pytest.raises(error, match=message):
        await call("enqueue_many", workflow, arguments[0], **options)
    assert database.value("SELECT count(*) FROM lockstep.workflow_status") == 1


async def test_all_portions_or_none(
    database: Database, call: Method, client: lockstep.AsyncClient, small_portions: None
) -> None:
    """What other tasks do with the client meanwhile is no part of it."""
    await call("enqueue", "w", workflow_id="taken")
    refused = call(
        "enqueue_many", fulfil, [(n,) for n in range(7)], workflow_ids=[*"abcdef", "taken"]
    )
    outcomes = await asyncio.gather(
        refused, *(client.enqueue("w") for _ in range(50)), return_exceptions=True
    )
    assert isinstance(outcomes[0], lockstep.DuplicateWorkflow)
    assert stored(database, "count(*) OVER (), workflow_name")[0] == (51, "w")
    assert await call("enqueue_many", fulfil, []) == []


async def test_portions_are_part_of_the_callers_transaction(
    database: Database, client: lockstep.AsyncClient, small_portions: None
) -> None:
    inputs = [(n,) for n in range(7)]
    connection = await psycopg.AsyncConnection.connect(database.dsn)
    async with connection:
        await client.enqueue_many(fulfil, inputs, conn=connection)
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
        await connection.rollback()
        assert stored(database, "1") == []
        await connection.set_autocommit(True)
        async with connection.transaction(force_rollback=True):
            await client.using(connection).enqueue_many(fulfil, inputs)
        assert stored(database, "1") == []
        ids = [*"abcdef", "taken"]
        await client.enqueue("w", workflow_id="taken")
        with pytest.raises(lockstep.DuplicateWorkflow):
            await client.enqueue_many(fulfil, inputs, workflow_ids=ids, conn=connection)
        assert len(stored(database, "1")) == 1
        assert len(await client.enqueue_many(fulfil, inputs, conn=connection)) == 7


async def test_messages_of_many_are_received_in_order(
    database: Database,
    call: Method,
    run_worker: Any,
    client: lockstep.AsyncClient,
    small_portions: None,
) -> None:
    ids = await call("enqueue_many", collect, [(4,), (4,)])
    async with run_worker(app, queues=["orders"]):
        messages = [1, "two", None, {"n": 4}]
        sent = await call("send_many", [*ids * 4], [m for m in messages for _ in ids], "t")
        assert len(set(sent)) == 8
        for workflow_id in ids:
            assert await client.result(workflow_id, timeout=timedelta(seconds=30)) == messages


async def test_message_with_a_known_key_is_not_sent_again(
    database: Database, call: Method, small_portions: None
) -> None:
    ids = await call("enqueue_many", collect, [(1,)] * 4)
    first = await call("send_many", ids, ["m"] * 4, idempotency_keys=["k", "l", None, "m"])
    again = await call("send_many", ids, ["n"] * 4, idempotency_keys=["k", "x", None, "m"])
    assert [a == b for a, b in zip(first, again, strict=True)] == [True, False, False, True]
    assert database.value("SELECT count(*) FROM lockstep.notifications") == 6
    assert await call("send_many", [], []) == []


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((["known", "nowhere"], [1, 2]), lockstep.WorkflowNotFound, 'workflow "nowhere"'),
        ((["known"] * 4 + ["nowhere"], [1] * 5), lockstep.WorkflowNotFound, '"nowhere"'),
        ((["known"], [1, 2]), lockstep.InvalidArgument, "destination_ids has 1, messages has 2"),
        ((["known", " "], [1, 2]), lockstep.InvalidArgument, "destination_id"),
        ((["known"], [1], " "), lockstep.InvalidArgument, "topic"),
        ((["known"] * 2, [1, object()]), lockstep.Unserializable, "cannot store"),
    ],
)
async def test_wrong_message_sends_none(
    database: Database,
    call: Method,
    small_portions: None,
    arguments: tuple[Any, ...],
    error: type[Exception],
    message: str,
) -> None:
    database.enqueue("w", workflow_id="known")
    with pytest.raises(error, match=message):
        await call("send_many", *arguments)
    assert database.value("SELECT count(*) FROM lockstep.notifications") == 0
