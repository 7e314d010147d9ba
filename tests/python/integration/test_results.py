"""Waiting for results and events: woken by what comes, over one connection, however many wait."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import lockstep
import psycopg
import pydantic
import pytest
from harness import Database
from lockstep import _watcher
from waiting import eventually

SOON = timedelta(seconds=20)
WAITING = (
    " FROM pg_stat_activity WHERE application_name = 'lockstep client waiting'"
    " AND datname = current_database()"
)


class Order(pydantic.BaseModel):
    order_id: int


app = lockstep.App()


@app.workflow
async def echo(value: Any) -> Any:
    return value


@app.workflow
async def orders(order_id: int) -> Order:
    return Order(order_id=order_id)


@app.workflow
async def fails() -> None:
    raise ValueError("broken")


class Executor:
    """An executor that a test plays: runs workflows of queue "played", one call at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.id = database.value("SELECT lockstep.register_executor('{played}', '{w}', '1 day')")

    def run(self, count: int = 1) -> list[str]:
        for _ in range(count):
            self._database.enqueue("w", "played")
        rows = self._database.rows(
            "SELECT workflow_id FROM lockstep.claim_workflows(%s, %s)", self.id, count
        )
        return [workflow_id for (workflow_id,) in rows]

    def finish(self, *workflow_ids: str) -> None:
        self._database.rows(
            "SELECT lockstep.finish_workflows(%s, (SELECT jsonb_agg(jsonb_build_object("
            "'workflow_id', w, 'attempt', 1, 'output', w)) FROM unnest(%s::text[]) AS w))",
            self.id,
            list(workflow_ids),
        )

    def set_event(self, workflow_id: str, step_id: int, key: str, value: str) -> None:
        self._database.rows(
            "SELECT lockstep.set_events(%s, jsonb_build_array(jsonb_build_object('workflow_id',"
            " %s::text, 'attempt', 1, 'step_id', %s::int, 'key', %s::text, 'value', %s::jsonb)))",
            *(self.id, workflow_id, step_id, key, value),
        )


@pytest.fixture
def executor(database: Database) -> Executor:
    return Executor(database)


@pytest.fixture
def sync_client(database: Database) -> Iterator[lockstep.Client]:
    with lockstep.Client(database.dsn) as client:
        yield client


@pytest.fixture
def queries(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The queries of watchers, as they are sent."""
    sent: list[str] = []
    call = _watcher.AsyncWatcher._call

    async def noting(connection: Any, what: Any) -> Any:
        sent.append(what.query)
        return await call(connection, what)

    monkeypatch.setattr(_watcher.AsyncWatcher, "_call", staticmethod(noting))
    return sent


def waiter_count(database: Database) -> int:
    count = database.value("SELECT count(*) FROM lockstep.waiter WHERE is_client")
    assert isinstance(count, int)
    return count


async def until_entered(database: Database, count: int) -> None:
    await asyncio.to_thread(eventually, lambda: waiter_count(database) == count, f"{count} watches")


@pytest.mark.direct("hears a notification")
async def test_result_comes_at_once_and_nothing_polls_meanwhile(
    database: Database,
    executor: Executor,
    client: lockstep.AsyncClient,
    queries: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_watcher, "_SAFETY_INTERVAL", 600.0)
    workflow_ids = executor.run(50)
    waiting = [asyncio.create_task(client.result(id, timeout=SOON)) for id in workflow_ids]
    await until_entered(database, 50)
    await asyncio.sleep(0.1)
    before = len(queries)
    committed = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
    await asyncio.sleep(1.5)  # what was done until now is in the statistics
    commits_before = database.value(committed)
    await asyncio.sleep(2.5)
    assert database.value(committed) - commits_before <= 2  # our own
    assert len(queries) == before
    began = time.monotonic()
    executor.finish(*workflow_ids)
    assert await asyncio.gather(*waiting) == workflow_ids
    assert time.monotonic() - began < 0.5
    assert len(queries) - before <= 2, "one query for what ended together"
    assert waiter_count(database) == 0


@pytest.mark.direct("looks for its session in pg_stat_activity")
async def test_thousand_waiters_share_one_connection(
    database: Database, client: lockstep.AsyncClient, run_worker: Any
) -> None:
    ids = await asyncio.gather(*(client.enqueue(echo, n) for n in range(1000)))
    waiting = asyncio.gather(*(client.result(id, timeout=SOON) for id in ids))
    await until_entered(database, 1000)
    assert database.value(f"SELECT count(*) {WAITING}") == 1
    async with run_worker(app):
        assert await waiting == list(range(1000))
    assert database.value(f"SELECT count(*) {WAITING}") == 1
    assert waiter_count(database) == 0


@pytest.mark.direct("looks for its session in pg_stat_activity")
def test_threads_share_one_connection(
    database: Database, sync_client: lockstep.Client, executor: Executor
) -> None:
    ids = executor.run(300)
    with ThreadPoolExecutor(300) as pool:
        waiting = [pool.submit(sync_client.result, id, timeout=SOON) for id in ids]
        eventually(lambda: waiter_count(database) == 300, "300 watches")
        assert database.value(f"SELECT count(*) {WAITING}") == 1
        executor.finish(*ids)
        assert [future.result() for future in waiting] == ids
    sync_client.close()
    eventually(lambda: database.value(f"SELECT count(*) {WAITING}") == 0, "the end")
    assert not [thread for thread in threading.enumerate() if thread.name == "lockstep client"]
    assert sync_client.result(ids[0]) == ids[0], "a closed client opens again"


@pytest.mark.direct("looks for its session in pg_stat_activity")
@pytest.mark.parametrize("ends", ["before", "meanwhile", "after"])
async def test_lost_connection_loses_no_result(
    database: Database, executor: Executor, client: lockstep.AsyncClient, ends: str
) -> None:
    ids = executor.run(20)
    waiting = [asyncio.create_task(client.result(id, timeout=SOON)) for id in ids]
    await until_entered(database, 20)
    began = time.monotonic()
    with psycopg.connect(database.dsn) as connection:
        finish = (
            "SELECT lockstep.finish_workflows(%s, (SELECT jsonb_agg(jsonb_build_object("
            "'workflow_id', w, 'attempt', 1, 'output', w)) FROM unnest(%s::text[]) AS w))"
        )
        if ends == "meanwhile":  # the notification goes to nobody
            connection.execute(finish, [executor.id, ids])
        connection.execute(f"SELECT pg_terminate_backend(pid, 5000) {WAITING}")
        if ends == "before":
            connection.execute(finish, [executor.id, ids])
    if ends == "after":
        await asyncio.to_thread(
            eventually, lambda: database.value(f"SELECT count(*) {WAITING}") == 1, "a connection"
        )
        executor.finish(*ids)
    assert await asyncio.gather(*waiting) == ids
    assert time.monotonic() - began < 3


@pytest.mark.direct("loses a notification")
async def test_lost_notification_is_made_up_for(
    executor: Executor,
    database: Database,
    client: lockstep.AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_watcher, "_SAFETY_INTERVAL", 0.5)
    hear = _watcher.AsyncWatcher._hear
    monkeypatch.setattr(
        _watcher.AsyncWatcher, "_hear", lambda self, n: None if n.payload else hear(self, n)
    )
    ids = executor.run(2)
    waiting = [asyncio.create_task(client.result(id, timeout=SOON)) for id in ids]
    await until_entered(database, 2)
    executor.finish(*ids)
    assert await asyncio.gather(*waiting) == ids


@pytest.mark.direct("enters a watch: behind a pooler clients look instead")
async def test_end_that_is_being_committed_when_the_wait_begins_is_not_missed(
    database: Database, client: lockstep.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_watcher, "_SAFETY_INTERVAL", 600.0)
    workflow_id = await client.enqueue(echo, 1)
    connection = await psycopg.AsyncConnection.connect(database.dsn)
    async with connection:
        await client.cancel(workflow_id, conn=connection)
        waiting = asyncio.create_task(client.result(workflow_id, timeout=SOON))
        await until_entered(database, 1)
        await asyncio.sleep(0.5)
        assert not waiting.done()
        await connection.commit()
        began = time.monotonic()
        with pytest.raises(lockstep.WorkflowCancelled):
            await waiting
        assert time.monotonic() - began < 1.0
    await asyncio.to_thread(
        eventually, lambda: waiter_count(database) == 0, "the removal of the watch"
    )


async def test_results_come_through_a_transaction_pooler(
    pooled_dsn: str, database: Database, executor: Executor, queries: list[str]
) -> None:
    ids = executor.run(100)
    async with lockstep.AsyncClient(pooled_dsn) as client:
        waiting = [asyncio.create_task(client.result(id, timeout=SOON)) for id in ids]
        await asyncio.sleep(2.0)
        before = len(queries)
        await asyncio.sleep(2.0)
        assert 2 <= len(queries) - before <= 6, "one query for all, every half a second"
        assert waiter_count(database) == 0, "nobody would hear"
        executor.finish(*ids)
        assert await asyncio.gather(*waiting) == ids
    assert waiter_count(database) == 0


def test_results_come_through_a_transaction_pooler_to_threads(
    pooled_dsn: str, executor: Executor
) -> None:
    ids = executor.run(10)
    with lockstep.Client(pooled_dsn) as client, ThreadPoolExecutor(10) as pool:
        waiting = [pool.submit(client.result, id, timeout=SOON) for id in ids]
        executor.finish(*ids)
        assert [future.result() for future in waiting] == ids


@pytest.mark.direct("enters a watch: behind a pooler clients look instead")
async def test_who_does_not_wait_any_more_is_forgotten(
    database: Database, executor: Executor, client: lockstep.AsyncClient
) -> None:
    (workflow_id,) = executor.run()
    patient = asyncio.create_task(client.result(workflow_id, timeout=SOON))
    cancelled = asyncio.create_task(client.get_event(workflow_id, "k", timeout=SOON))
    with pytest.raises(lockstep.ResultTimeout, match="is PENDING after 0:00:00"):
        await client.result(workflow_id, timeout=timedelta(seconds=0.1))
    await until_entered(database, 2)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    await until_entered(database, 1)
    executor.finish(workflow_id)
    assert await patient == workflow_id


@pytest.mark.direct("enters a watch: behind a pooler clients look instead")
async def test_close_ends_who_waits_and_removes_the_watch(
    database: Database, executor: Executor, client: lockstep.AsyncClient
) -> None:
    (workflow_id,) = executor.run()
    waiting = asyncio.create_task(client.result(workflow_id))
    await until_entered(database, 1)
    await client.close()
    with pytest.raises(psycopg.OperationalError, match="the client was closed"):
        await waiting
    assert waiter_count(database) == 0
    assert database.value(f"SELECT count(*) {WAITING}") == 0
    executor.finish(workflow_id)
    assert await client.result(workflow_id, timeout=SOON) == workflow_id


@pytest.mark.direct("enters a watch: behind a pooler clients look instead")
def test_close_ends_the_threads_that_wait(
    database: Database, executor: Executor, sync_client: lockstep.Client
) -> None:
    ids = executor.run(20)
    with ThreadPoolExecutor(20) as pool:
        waiting = [pool.submit(sync_client.result, id) for id in ids]
        eventually(lambda: waiter_count(database) == 20, "20 watches")
        sync_client.close()
        for future in waiting:
            assert isinstance(future.exception(10), psycopg.OperationalError)
    assert waiter_count(database) == 0


@pytest.mark.direct("enters a watch: behind a pooler clients look instead")
async def test_connection_ends_when_nobody_waits(
    database: Database, executor: Executor, client: lockstep.AsyncClient, monkeypatch: Any
) -> None:
    monkeypatch.setattr(_watcher, "_LINGER", 0.3)
    for _ in range(2):
        (workflow_id,) = executor.run()
        waiting = asyncio.create_task(client.result(workflow_id, timeout=SOON))
        await until_entered(database, 1)
        executor.finish(workflow_id)
        assert await waiting == workflow_id
        await asyncio.to_thread(
            eventually, lambda: database.value(f"SELECT count(*) {WAITING}") == 0, "the end"
        )


@pytest.mark.direct("enters a watch: behind a pooler clients look instead")
async def test_refused_look_is_raised_and_does_not_hang(
    database: Database, executor: Executor, client: lockstep.AsyncClient
) -> None:
    (workflow_id,) = executor.run()
    waiting = asyncio.create_task(client.result(workflow_id))
    await until_entered(database, 1)
    database.rows("ALTER FUNCTION lockstep.check_watches(jsonb, boolean) RENAME TO no_more")
    executor.finish(workflow_id)
    with pytest.raises(lockstep.InvalidArgument, match=r"check_watches.* does not exist"):
        await asyncio.wait_for(waiting, 10)


@pytest.mark.direct("enters a watch: behind a pooler clients look instead")
@pytest.mark.parametrize("is_connected", [False, True])
async def test_failures_are_told_also_to_who_waits(
    client: lockstep.AsyncClient, run_worker: Any, database: Database, is_connected: bool
) -> None:
    async with run_worker(app), contextlib.AsyncExitStack() as stack:
        if is_connected:
            forever = asyncio.create_task(client.result(await client.enqueue("nobody runs it")))
            stack.callback(forever.cancel)
            await until_entered(database, 1)
        with pytest.raises(lockstep.WorkflowFailed, match="ValueError: broken"):
            await client.result(await client.enqueue(fails), timeout=SOON)
        with pytest.raises(lockstep.WorkflowNotFound, match='"no such" does not exist'):
            await client.result("no such")
        with pytest.raises(lockstep.Unserializable):
            await client.result("\x00")
        assert await client.result(await client.enqueue(echo, None), timeout=SOON) is None


async def test_known_workflow_makes_the_output_what_it_returns(
    client: lockstep.AsyncClient, sync_client: lockstep.Client, run_worker: Any
) -> None:
    async with run_worker(app):
        workflow_id = await client.enqueue(orders, 7)
        assert await client.result(workflow_id, timeout=SOON) == {"order_id": 7}
        assert await client.result(workflow_id, workflow=orders) == Order(order_id=7)
        assert sync_client.result(workflow_id, workflow=orders) == Order(order_id=7)


async def test_result_with_the_callers_connection_polls_on_it(
    database: Database, executor: Executor, client: lockstep.AsyncClient
) -> None:
    (workflow_id,) = executor.run()
    connection = await psycopg.AsyncConnection.connect(database.dsn, autocommit=True)
    async with connection:
        waiting = asyncio.create_task(client.result(workflow_id, timeout=SOON, conn=connection))
        bound = client.using(connection)
        await asyncio.sleep(0.2)
        assert database.value(f"SELECT count(*) {WAITING}") == 0
        with pytest.raises(lockstep.ResultTimeout):
            await bound.result(workflow_id, timeout=timedelta(seconds=0.05))
        with pytest.raises(lockstep.WaitTimeout):
            await bound.get_event(workflow_id, "k", timeout=timedelta(seconds=0.05))
        executor.finish(workflow_id)
        assert await waiting == workflow_id
        async with bound:
            pass
        assert not connection.closed, "a bound client does not close what is not its own"


# events


@pytest.mark.parametrize("form", ["async", "sync", "conn"])
async def test_event_is_waited_for(
    database: Database,
    executor: Executor,
    client: lockstep.AsyncClient,
    sync_client: lockstep.Client,
    form: str,
) -> None:
    async def get_event(*args: Any, **kwargs: Any) -> Any:
        if form == "sync":
            return await asyncio.to_thread(sync_client.get_event, *args, **kwargs)
        if form == "async":
            return await client.get_event(*args, **kwargs)
        async with await psycopg.AsyncConnection.connect(database.dsn, autocommit=True) as conn:
            return await client.get_event(*args, conn=conn, **kwargs)

    (workflow_id,) = executor.run()
    assert await get_event(workflow_id, "state") is None
    for timeout in (0.0, 0.2):
        with pytest.raises(lockstep.WaitTimeout, match='set no event "state" in'):
            await get_event(workflow_id, "state", timeout=timedelta(seconds=timeout))
    waiting = asyncio.create_task(get_event(workflow_id, "state", timeout=SOON))
    await asyncio.sleep(0.3)
    executor.set_event(workflow_id, 1, "other", "1")
    await asyncio.sleep(0.2)
    assert not waiting.done()
    executor.set_event(workflow_id, 2, "state", '{"n": 1}')
    assert await waiting == {"n": 1}
    executor.set_event(workflow_id, 3, "state", "null")
    assert await get_event(workflow_id, "state", timeout=SOON) is None, "it is set, to null"
    never = asyncio.create_task(get_event(workflow_id, "never", timeout=SOON))
    await asyncio.sleep(0.2)
    executor.finish(workflow_id)
    with pytest.raises(lockstep.WaitTimeout, match='ended in SUCCESS without an event "never"'):
        await asyncio.wait_for(never, 5)
    assert await get_event(workflow_id, "other", timeout=SOON) == 1
    with pytest.raises(lockstep.WorkflowNotFound):
        await get_event("no such", "state", timeout=SOON)
