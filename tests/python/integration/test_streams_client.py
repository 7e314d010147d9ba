"""Readers of a stream: they follow a running workflow and end with it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import lockstep
import psycopg
import pytest
from harness import Database
from lockstep import _watcher


class Writer:
    """An executor that runs one workflow, whose streams a test writes."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._executor = database.value(
            "SELECT lockstep.register_executor('{played}', '{w}', '1 day')"
        )
        self._step_ids = itertools.count(1)
        self.workflow_id = database.enqueue("w", "played")
        database.rows("SELECT lockstep.claim_workflows(%s, 1)", self._executor)

    def write(self, *values: Any, key: str = "s") -> None:
        self._write({"key": key, "value": value} for value in values)

    def close(self, key: str = "s") -> None:
        self._write([{"key": key, "is_end": True}])

    def _write(self, values: Any) -> None:
        held = {"workflow_id": self.workflow_id, "attempt": 1}
        documents = [{**held, "step_id": next(self._step_ids), **value} for value in values]
        self._database.rows(
            "SELECT lockstep.write_streams(%s, %s::jsonb)", self._executor, json.dumps(documents)
        )

    def finish(self) -> None:
        self._database.rows(
            "SELECT lockstep.finish_workflows(%s, jsonb_build_array(jsonb_build_object("
            "'workflow_id', %s::text, 'attempt', 1)))",
            *(self._executor, self.workflow_id),
        )


@pytest.fixture
def writer(database: Database) -> Writer:
    return Writer(database)


class Reader:
    """A reader of stream "s": async, sync in a thread, or on a connection of its own."""

    def __init__(self, values: AsyncIterator[Any] | Iterator[Any]) -> None:
        self._values = values

    async def next(self) -> Any:
        """Return the next value, or "end"."""
        if isinstance(self._values, AsyncIterator):
            return await asyncio.wait_for(anext(self._values, "end"), 20)
        return await asyncio.wait_for(asyncio.to_thread(next, self._values, "end"), 20)

    async def rest(self) -> list[Any]:
        values = []
        while (value := await self.next()) != "end":
            values.append(value)
        return values


@pytest.fixture(params=["async", "sync", "conn"])
async def read(
    request: pytest.FixtureRequest, database: Database, client: lockstep.AsyncClient
) -> AsyncIterator[Any]:
    with lockstep.Client(database.dsn) as sync_client:
        connection = await psycopg.AsyncConnection.connect(database.dsn, autocommit=True)
        async with connection:

            def read(workflow_id: str, **options: Any) -> Reader:
                if request.param == "sync":
                    return Reader(sync_client.read_stream(workflow_id, "s", **options))
                if request.param == "conn":
                    options["conn"] = connection
                return Reader(client.read_stream(workflow_id, "s", **options))

            yield read


async def test_reader_follows_until_the_stream_closes(writer: Writer, read: Any) -> None:
    writer.write(0, {"n": 1})
    reader = read(writer.workflow_id)
    assert [await reader.next(), await reader.next()] == [0, {"n": 1}]
    for value in (None, "x", [1]):
        waiting = asyncio.create_task(reader.next())
        await asyncio.sleep(0.15)
        assert not waiting.done()
        writer.write("another", key="other")
        writer.write(value)
        assert await waiting == value
    waiting = asyncio.create_task(reader.rest())
    await asyncio.sleep(0.1)
    writer.write(5)
    writer.close()
    assert await waiting == [5]
    assert await read(writer.workflow_id, from_offset=3).rest() == ["x", [1], 5]
    assert await read(writer.workflow_id, from_offset=9).rest() == []


async def test_reader_ends_with_the_workflow_after_the_last_value(
    writer: Writer, read: Any
) -> None:
    waiting = asyncio.create_task(read(writer.workflow_id).rest())
    await asyncio.sleep(0.2)
    writer.write(1, 2)
    writer.finish()
    assert await waiting == [1, 2]
    assert await read(writer.workflow_id).rest() == [1, 2]


async def test_reader_of_a_workflow_that_does_not_exist_is_told(read: Any) -> None:
    with pytest.raises(lockstep.WorkflowNotFound):
        await read("no such").next()


async def test_long_stream_is_read_in_portions(writer: Writer, read: Any) -> None:
    writer.write(*range(2500))
    writer.close()
    assert await read(writer.workflow_id).rest() == list(range(2500))


@pytest.mark.direct("hears a notification")
async def test_many_readers_follow_over_one_connection_and_are_woken_at_once(
    writer: Writer,
    database: Database,
    client: lockstep.AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_watcher, "_SAFETY_INTERVAL", 600.0)
    seen = [0] * 100

    async def follow(n: int) -> list[Any]:
        values = []
        async for value in client.read_stream(writer.workflow_id, "s"):
            values.append(value)
            seen[n] += 1
        return values

    following = asyncio.gather(*(follow(n) for n in range(100)))
    slowest = 0.0
    for n in range(20):
        await asyncio.sleep(0.02)
        began = time.monotonic()
        await asyncio.to_thread(writer.write, n)
        while min(seen) <= n:
            await asyncio.sleep(0.005)
        slowest = max(slowest, time.monotonic() - began)
    writer.close()
    assert await asyncio.wait_for(following, 20) == [list(range(20))] * 100
    assert slowest < 1.0
    assert (
        database.value(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name = 'lockstep client waiting'"
        )
        == 1
    )


async def test_reader_that_stops_leaves_no_watch(
    writer: Writer, database: Database, client: lockstep.AsyncClient
) -> None:
    writer.write(1)
    with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
        values = client.read_stream(writer.workflow_id, "s")
        assert await anext(values) == 1
        await asyncio.wait_for(anext(values), 0.2)
    for _ in range(300):
        if database.value("SELECT count(*) FROM lockstep.waiter") == 0:
            break
        await asyncio.sleep(0.01)
    assert database.value("SELECT count(*) FROM lockstep.waiter") == 0


async def test_readers_follow_through_a_transaction_pooler(pooled_dsn: str, writer: Writer) -> None:
    async with lockstep.AsyncClient(pooled_dsn) as client:
        reader = Reader(client.read_stream(writer.workflow_id, "s"))
        for n in range(5):
            waiting = asyncio.create_task(reader.next())
            await asyncio.sleep(0.05)
            writer.write(n)
            assert await waiting == n
        writer.finish()
        assert await reader.rest() == []
