"""Waiting for messages and events, and writing what others wait for."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import lockstep
import pytest
from harness import Database, until_status
from lockstep import sync
from waiting import until

SOON = timedelta(seconds=20)
FORMS = pytest.mark.parametrize("form", ["", "_plain"])
Client = lockstep.AsyncClient


def build_app() -> lockstep.App:
    app = lockstep.App()

    @app.workflow
    async def receives(seconds: float, raises: bool) -> Any:
        try:
            got = await lockstep.receive(
                "t", timeout=timedelta(seconds=seconds), raise_on_timeout=raises
            )
        except lockstep.WaitTimeout as error:
            got = str(error)
        return [got, await lockstep.receive("again")]

    @app.workflow
    def receives_plain(seconds: float, raises: bool) -> Any:
        try:
            got = sync.receive("t", timeout=timedelta(seconds=seconds), raise_on_timeout=raises)
        except lockstep.WaitTimeout as error:
            got = str(error)
        return [got, sync.receive("again")]

    @app.workflow
    async def reads(other: str, seconds: float | None) -> Any:
        timeout = None if seconds is None else timedelta(seconds=seconds)
        try:
            got = await lockstep.get_event(other, "state", timeout=timeout)
        except (lockstep.WaitTimeout, lockstep.WorkflowNotFound) as error:
            got = [type(error).__name__, str(error)]
        return [got, await lockstep.receive("again")]

    @app.workflow
    def reads_plain(other: str, seconds: float | None) -> Any:
        timeout = None if seconds is None else timedelta(seconds=seconds)
        try:
            got = sync.get_event(other, "state", timeout=timeout)
        except (lockstep.WaitTimeout, lockstep.WorkflowNotFound) as error:
            got = [type(error).__name__, str(error)]
        return [got, sync.receive("again")]

    @app.workflow
    async def sets(value: Any) -> None:
        await lockstep.receive("go")
        await lockstep.set_event("state", value)

    @app.workflow
    def sets_plain(value: Any) -> None:
        sync.receive("go")
        sync.set_event("state", value)

    @app.step
    async def says(words: list[Any]) -> None:
        for word in words:
            await lockstep.write_stream("said", word)

    @app.step
    def says_plain(words: list[Any]) -> None:
        for word in words:
            sync.write_stream("said", word)

    @app.step
    async def closes() -> None:
        await lockstep.close_stream("said")

    @app.step
    def closes_plain() -> None:
        sync.close_stream("said")

    @app.workflow
    async def streams() -> Any:
        await lockstep.write_stream("said", 1)
        await says([2, None])
        await lockstep.receive("go")
        await lockstep.write_stream("said", {"four": 4})
        await lockstep.write_stream("other", "x")
        await closes()
        await lockstep.close_stream("said")
        refusals = []
        for call in (lockstep.write_stream("said", 5), says([6])):
            try:
                await call
            except lockstep.InvalidArgument as error:
                refusals.append(str(error))
        await lockstep.receive("again")
        return refusals

    @app.workflow
    def streams_plain() -> Any:
        sync.write_stream("said", 1)
        says_plain([2, None])
        sync.receive("go")
        sync.write_stream("said", {"four": 4})
        sync.write_stream("other", "x")
        closes_plain()
        sync.close_stream("said")
        refusals = []
        for call in (lambda: sync.write_stream("said", 5), lambda: says_plain([6])):
            try:
                call()
            except lockstep.InvalidArgument as error:
                refusals.append(str(error))
        sync.receive("again")
        return refusals

    return app


async def second_wait(database: Database, workflow_id: str) -> None:
    await until(
        lambda: database.rows(
            "SELECT 1 FROM lockstep.workflow_status"
            " WHERE workflow_id = %s AND waiting_for = '{message:again}'",
            workflow_id,
        ),
        "the second wait",
    )


@FORMS
@pytest.mark.parametrize("raises", [False, True], ids=["returns", "raises"])
async def test_receive_that_timed_out_stays_so_at_the_replay(
    database: Database, run_worker: Any, client: Client, form: str, raises: bool
) -> None:
    async with run_worker(build_app()):
        workflow_id = await client.enqueue(f"receives{form}", 0.1, raises)
        await second_wait(database, workflow_id)
        await client.send(workflow_id, "too late", "t")
        await client.send(workflow_id, None, "again")
        got, _ = await client.result(workflow_id, timeout=SOON)
    assert got == ('no message of topic "t" came within 0:00:00.100000' if raises else None)


@FORMS
async def test_message_that_is_null_is_no_timeout(
    database: Database, run_worker: Any, client: Client, form: str
) -> None:
    async with run_worker(build_app()):
        workflow_id = await client.enqueue(f"receives{form}", 20, True)
        await client.send(workflow_id, None, "t")
        await second_wait(database, workflow_id)
        await client.send(workflow_id, "over", "again")
        assert await client.result(workflow_id, timeout=SOON) == [None, "over"]


@FORMS
@pytest.mark.parametrize("when", ["before", "while waiting"])
@pytest.mark.parametrize("value", [{"n": 1}, None], ids=["value", "null"])
async def test_event_of_another_workflow_comes_whether_set_before_or_later(
    database: Database, run_worker: Any, client: Client, form: str, when: str, value: Any
) -> None:
    async with run_worker(build_app()) as worker:
        other = await client.enqueue(f"sets{form}", value)
        if when == "before":
            await client.send(other, None, "go")
            await client.result(other, timeout=SOON)
        workflow_id = await client.enqueue(f"reads{form}", other, None)
        if when == "while waiting":
            await until_status(client, workflow_id, "WAITING")
            await until(lambda: not worker.runs, "the suspension")
            assert database.value(
                "SELECT waiting_for FROM lockstep.workflow_status WHERE workflow_id = %s",
                workflow_id,
            ) == [f"event:state of workflow:{other}"]
            await client.send(other, None, "go")
        await second_wait(database, workflow_id)
        await client.send(workflow_id, None, "again")
        assert await client.result(workflow_id, timeout=SOON) == [value, None]


@FORMS
@pytest.mark.parametrize("seconds", [0, 0.2])
async def test_event_that_does_not_come_in_time_is_not_seen_at_the_replay_either(
    database: Database, run_worker: Any, client: Client, form: str, seconds: float
) -> None:
    async with run_worker(build_app()):
        other = await client.enqueue(f"sets{form}", 1)
        workflow_id = await client.enqueue(f"reads{form}", other, seconds)
        await second_wait(database, workflow_id)
        await client.send(other, None, "go")
        await client.result(other, timeout=SOON)
        await client.send(workflow_id, None, "again")
        got, _ = await client.result(workflow_id, timeout=SOON)
    assert got == ["WaitTimeout", f'workflow "{other}" did not set event "state" in time']


@FORMS
async def test_wait_for_an_event_ends_with_the_workflow_that_did_not_set_it(
    database: Database, run_worker: Any, client: Client, form: str
) -> None:
    async with run_worker(build_app()) as worker:
        other = await client.enqueue(f"sets{form}", 1)
        workflow_id = await client.enqueue(f"reads{form}", other, None)
        await until_status(client, workflow_id, "WAITING")
        await until(lambda: not worker.runs, "the suspension")
        await client.cancel(other)
        await second_wait(database, workflow_id)
        await client.send(workflow_id, None, "again")
        got, _ = await client.result(workflow_id, timeout=SOON)
    assert got == ["WaitTimeout", f'workflow "{other}" did not set event "state" in time']


@FORMS
async def test_event_of_an_unknown_workflow_is_refused_also_if_it_exists_later(
    database: Database, run_worker: Any, client: Client, form: str
) -> None:
    async with run_worker(build_app()):
        workflow_id = await client.enqueue(f"reads{form}", "later", None)
        await second_wait(database, workflow_id)
        await client.enqueue("sets", 1, workflow_id="later")
        await client.send(workflow_id, None, "again")
        got, _ = await client.result(workflow_id, timeout=SOON)
    assert got == ["WorkflowNotFound", 'workflow "later" does not exist']


@FORMS
async def test_stream_has_each_value_once_and_refuses_more_when_closed(
    database: Database, run_worker: Any, client: Client, form: str
) -> None:
    async with run_worker(build_app()):
        workflow_id = await client.enqueue(f"streams{form}")
        await until_status(client, workflow_id, "WAITING")
        await client.send(workflow_id, None, "go")
        await second_wait(database, workflow_id)
        await client.send(workflow_id, None, "again")
        refusals = await client.result(workflow_id, timeout=SOON)
    assert refusals == ['stream "said" is closed'] * 2
    rows = database.rows(
        "SELECT value_offset, value, is_end FROM lockstep.read_stream(%s, 'said')", workflow_id
    )
    assert rows == [
        (0, 1, False),
        (1, 2, False),
        (2, None, False),
        (3, {"four": 4}, False),
        (4, None, True),
    ]
    other = database.rows("SELECT value FROM lockstep.read_stream(%s, 'other')", workflow_id)
    assert other == [("x",)]


@FORMS
async def test_step_that_is_repeated_writes_its_stream_again(
    database: Database, run_worker: Any, client: Client, form: str
) -> None:
    app = lockstep.App()
    tries: list[int] = []

    @app.step(retries=lockstep.Retry(max_attempts=2, delay=timedelta(0)))
    async def says() -> None:
        tries.append(1)
        await asyncio.gather(*(lockstep.write_stream("said", len(tries)) for _ in range(3)))
        if len(tries) == 1:
            raise ValueError("again")

    @app.step(retries=lockstep.Retry(max_attempts=2, delay=timedelta(0)))
    def says_plain() -> None:
        tries.append(1)
        for _ in range(3):
            sync.write_stream("said", len(tries))
        if len(tries) == 1:
            raise ValueError("again")

    @app.workflow
    async def main() -> None:
        await says()

    @app.workflow
    def main_plain() -> None:
        says_plain()

    async with run_worker(app):
        workflow_id = await client.enqueue(f"main{form}")
        await client.result(workflow_id, timeout=SOON)
    rows = database.rows("SELECT value FROM lockstep.read_stream(%s, 'said')", workflow_id)
    assert [value for (value,) in rows] == [1, 1, 1, 2, 2, 2]
    assert len(database.steps(workflow_id)) == 1
