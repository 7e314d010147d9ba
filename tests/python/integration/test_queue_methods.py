"""Queues from Python: the client's methods, what an app declares, the commands."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import lockstep
import psycopg
import pytest
from harness import Database
from lockstep.cli._main import cli
from typer.testing import CliRunner, Result
from waiting import until

LIMITS: dict[str, Any] = {
    "concurrency": 1,
    "worker_concurrency": 2,
    "rate_limit": 3,
    "rate_period": timedelta(seconds=1.5),
    "partition_concurrency": 4,
    "partition_rate_limit": 5,
    "partition_rate_period": timedelta(days=1),
}
NO_LIMITS = dict.fromkeys(LIMITS)

Method = Callable[..., Any]


@pytest.fixture(params=["async", "sync"])
def call(
    request: pytest.FixtureRequest, client: lockstep.AsyncClient, database: Database
) -> Iterator[Method]:
    """Call a method, by name, of the one client or the other."""
    with lockstep.Client(database.dsn) as sync_client:

        async def call(method: str, *args: Any, **kwargs: Any) -> Any:
            if request.param == "async":
                return await getattr(client, method)(*args, **kwargs)
            return await asyncio.to_thread(getattr(sync_client, method), *args, **kwargs)

        yield call


def limits_of(database: Database, queue_name: str = "mail") -> dict[str, Any]:
    ((found,),) = database.rows(
        f"SELECT ARRAY[{', '.join(f'{name}::text' for name in LIMITS)}]"
        " FROM lockstep.queue WHERE queue_name = %s",
        queue_name,
    )
    return {name: value for name, value in zip(LIMITS, found, strict=True) if value is not None}


# the client


async def test_queue_is_created_altered_listed_and_dropped(call: Method) -> None:
    await call("create_queue", "mail", **LIMITS)
    (info,) = await call("list_queues")
    counts = ("enqueued_count", "delayed_count", "waiting_count", "pending_count", "worker_count")
    assert info == lockstep.QueueInfo(
        queue_name="mail", is_paused=False, **LIMITS, **dict.fromkeys(counts, 0)
    )
    await call("alter_queue", "mail", concurrency=9, reset=["rate_limit", "partition_concurrency"])
    (info,) = await call("list_queues")
    without = ("rate_limit", "rate_period", "partition_concurrency")
    changed = {**LIMITS, "concurrency": 9, **dict.fromkeys(without)}
    assert {name: getattr(info, name) for name in LIMITS} == changed
    await call("create_queue", "mail")
    (info,) = await call("list_queues")
    assert {name: getattr(info, name) for name in LIMITS} == NO_LIMITS
    await call("drop_queue", "mail")
    assert await call("list_queues") == []


async def test_queue_is_listed_with_what_is_in_it(
    database: Database, call: Method, run_worker: Any
) -> None:
    app = lockstep.App()

    @app.workflow(queue_name="mail")
    async def send() -> None:
        await lockstep.receive("go")

    database.enqueue("send", "mail")
    async with run_worker(app, queues=["mail"]):
        await until(
            lambda: database.rows(
                "SELECT 1 FROM lockstep.workflow_status WHERE status = 'WAITING'"
            ),
            "the wait",
        )
        await call("pause_queue", "mail")
        database.enqueue("send", "mail")
        database.enqueue("send", "mail")
        database.enqueue("send", "mail", delay=timedelta(hours=1))
        (info,) = await call("list_queues")
    assert (info.queue_name, info.is_paused, info.worker_count) == ("mail", True, 1)
    assert (info.enqueued_count, info.delayed_count) == (2, 1)
    assert (info.waiting_count, info.pending_count) == (1, 0)
    with pytest.raises(lockstep.WrongState, match="unfinished workflows"):
        await call("drop_queue", "mail")
    await call("drop_queue", "mail", force=True)
    assert [info.is_paused for info in await call("list_queues")] == [False]


async def test_pause_and_unpause(database: Database, call: Method) -> None:
    await call("pause_queue", "mail")
    assert database.value("SELECT is_paused FROM lockstep.queue") is True
    await call("unpause_queue", "mail")
    assert database.value("SELECT is_paused FROM lockstep.queue") is False


@pytest.mark.parametrize(
    ("method", "arguments", "options", "error", "message"),
    [
        ("create_queue", ("mail",), {"concurrency": 0}, lockstep.InvalidArgument, "1 or greater"),
        ("create_queue", ("mail",), {"rate_limit": 1}, lockstep.InvalidArgument, "rate_period"),
        (
            "create_queue",
            ("mail",),
            {"rate_limit": 1, "rate_period": 60},
            lockstep.InvalidArgument,
            "rate_period must be a timedelta",
        ),
        ("create_queue", (" ",), {}, lockstep.InvalidArgument, "queue_name"),
        ("create_queue", ("mail",), {"conccurrency": 1}, TypeError, "takes no conccurrency"),
        ("alter_queue", ("none",), {"concurrency": 1}, lockstep.QueueNotFound, 'queue "none"'),
        ("alter_queue", ("there",), {"reset": ["x"]}, lockstep.InvalidArgument, 'reset "x"'),
        ("alter_queue", ("there",), {"reset": "all"}, lockstep.InvalidArgument, 'reset "all"'),
        ("drop_queue", ("none",), {}, lockstep.QueueNotFound, 'queue "none"'),
        ("unpause_queue", ("none",), {}, lockstep.QueueNotFound, 'queue "none"'),
        ("pause_queue", ("",), {}, lockstep.InvalidArgument, "queue_name"),
    ],
)
async def test_wrong_calls_are_refused(
    database: Database,
    call: Method,
    method: str,
    arguments: tuple[Any, ...],
    options: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    await call("create_queue", "there")
    with pytest.raises(error, match=message):
        await call(method, *arguments, **options)
    assert database.rows("SELECT queue_name FROM lockstep.queue") == [("there",)]


async def test_change_is_part_of_the_callers_transaction(
    database: Database, client: lockstep.AsyncClient
) -> None:
    async with await psycopg.AsyncConnection.connect(database.dsn) as connection:
        await client.using(connection).create_queue("mail", concurrency=1)
        await connection.rollback()
        await client.create_queue("kept", concurrency=1, conn=connection)
    assert database.rows("SELECT queue_name FROM lockstep.queue") == [("kept",)]


# what an app declares


def declaring(**options: Any) -> lockstep.App:
    app = lockstep.App()
    app.queue("mail", **options)

    @app.workflow(queue_name="mail")
    async def send() -> None: ...

    return app


async def test_worker_creates_what_the_app_declares(
    database: Database, run_worker: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Also queues that it does not serve."""
    app = declaring(**LIMITS)
    assert app.queue("plain") == lockstep.Queue("plain")
    for _ in range(2):
        async with run_worker(app):
            await until(lambda: database.rows("SELECT 1 FROM lockstep.executor"), "the start")
    assert limits_of(database) == {
        **{name: str(value) for name, value in LIMITS.items() if isinstance(value, int)},
        "rate_period": "00:00:01.5",
        "partition_rate_period": "1 day",
    }
    assert limits_of(database, "plain") == {}
    assert not [record for record in caplog.records if "limits" in record.getMessage()]


async def test_limits_of_the_database_hold_and_are_logged(
    database: Database,
    run_worker: Any,
    client: lockstep.AsyncClient,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await client.create_queue("mail", concurrency=20)
    await client.pause_queue("mail")
    app = declaring(concurrency=10, rate_limit=5, rate_period=timedelta(minutes=1))
    async with run_worker(app):
        await until(lambda: database.rows("SELECT 1 FROM lockstep.executor"), "the start")
    assert limits_of(database) == {"concurrency": "20"}
    (warning,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert warning == (
        'queue "mail" keeps the limits that it has in the database: concurrency 20 (declared: 10),'
        " rate_limit none (declared: 5), rate_period none (declared: 00:01:00);"
        " change them there, or declare the queue with overwrite=True"
    )
    caplog.clear()
    async with run_worker(declaring(concurrency=10, overwrite=True)):
        await until(lambda: database.rows("SELECT 1 FROM lockstep.executor"), "the start")
    assert limits_of(database) == {"concurrency": "10"}
    assert database.value("SELECT is_paused FROM lockstep.queue") is True
    assert not [r for r in caplog.records if r.levelno == logging.WARNING]


def test_conflicting_declarations_are_refused_at_once() -> None:
    app = declaring(concurrency=1)
    assert app.queue("mail", concurrency=1).queue_name == "mail"
    with pytest.raises(lockstep.InvalidArgument, match=r'"mail" is declared already, as .*=1'):
        app.queue("mail", concurrency=2)
    with pytest.raises(lockstep.InvalidArgument, match="declared already"):
        app.queue("mail", concurrency=1, overwrite=True)
    with pytest.raises(TypeError, match="conccurrency"):
        app.queue("mail", conccurrency=1)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"concurrency": 0}, "concurrency must be 1 or greater, not 0"),
        ({"worker_concurrency": "2"}, "worker_concurrency must be 1 or greater, not '2'"),
        ({"rate_limit": 1, "rate_period": 60}, "rate_period must be a timedelta, not 60"),
        ({"rate_limit": 1}, "rate_limit and rate_period belong together"),
        (
            {"partition_rate_period": timedelta(1)},
            "partition_rate_limit and partition_rate_period belong together",
        ),
    ],
)
def test_declaration_that_is_no_limit_is_refused_at_once(
    limits: dict[str, Any], message: str
) -> None:
    with pytest.raises(lockstep.InvalidArgument, match=message):
        declaring(**limits)
    with pytest.raises(lockstep.InvalidArgument, match="queue_name"):
        lockstep.App().queue(" ", concurrency=1)


@pytest.mark.direct("PgBouncer takes no startup options")
async def test_role_of_a_worker_may_declare_queues(database: Database) -> None:
    role = f"declaring_{os.getpid()}"
    database.rows(f"CREATE ROLE {role}")
    database.rows(f"SELECT lockstep.grant_usage('{role}', 'worker')")
    dsn = psycopg.conninfo.make_conninfo(database.dsn, options=f"-c role={role}")
    worker = lockstep.Worker(declaring(concurrency=3), dsn=dsn)
    running = asyncio.create_task(worker.run())
    try:
        await until(lambda: worker.executor_id or running.done(), "the start")
    finally:
        worker.stop()
        await running
    assert limits_of(database) == {"concurrency": "3"}
    database.rows(f"DROP OWNED BY {role}")
    database.rows(f"DROP ROLE {role}")


# the commands


@pytest.fixture
def run(database: Database) -> Callable[..., Result]:
    def run(*args: str) -> Result:
        return CliRunner().invoke(cli, args, env={"LOCKSTEP_DATABASE_URL": database.dsn})

    return run


def test_commands_change_and_show_queues(database: Database, run: Callable[..., Result]) -> None:
    rate = ("--rate-limit", "3", "--rate-period", "1.5s")
    partition = ("--partition-rate-limit", "5", "--partition-rate-period", "1d")
    created = run(
        *("queue", "create", "mail", "--concurrency", "1", "--worker-concurrency", "2", *rate),
        *("--partition-concurrency", "4", *partition),
    )
    assert (created.exit_code, created.output) == (0, "")
    (info,) = json.loads(run("queues", "--json").stdout)
    assert {name: info[name] for name in LIMITS} == {
        **LIMITS,
        "rate_period": "PT1.5S",
        "partition_rate_period": "P1D",
    }
    database.enqueue("send", "mail")
    database.enqueue("send", "other [red]")
    assert run("queue", "pause", "mail").exit_code == 0
    header, *lines = run("queues").stdout.splitlines()
    assert header.split() == [
        *("queue", "enqueued", "delayed", "waiting", "running", "workers", "limits"),
    ]
    assert [" ".join(line.split()) for line in lines] == [
        "mail 1 0 0 0 0 paused, 1 at once, 2 per worker, 3 in 1.5s, 4 per partition,"
        " 5 per partition in 1d",
        "other [red] 1 0 0 0 0",
    ]
    assert run("queue", "unpause", "mail").exit_code == 0
    altered = run("queue", "alter", "mail", "--concurrency", "7", "--reset", "rate-limit")
    assert altered.exit_code == 0
    assert limits_of(database)["concurrency"] == "7"
    assert "rate_limit" not in limits_of(database)
    refused = run("queue", "drop", "mail")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert 'queue "mail" has unfinished workflows' in refused.stderr
    assert run("queue", "drop", "mail", "--force").exit_code == 0
    assert database.rows("SELECT 1 FROM lockstep.queue") == []


@pytest.mark.parametrize(
    ("command", "exit_code", "message"),
    [
        (("queue", "alter", "none", "--concurrency", "1"), 1, 'queue "none" has no limits'),
        (("queue", "create", "mail", "--concurrency", "0"), 1, "must be 1 or greater"),
        (("queue", "create", "mail", "--rate-period", "soon"), 2, '"soon" is no duration'),
        (("queue", "alter", "mail", "--reset", "all"), 1, 'queue "mail" has no limits'),
    ],
)
def test_errors_of_commands_are_readable(
    run: Callable[..., Result], command: tuple[str, ...], exit_code: int, message: str
) -> None:
    done = run(*command)
    assert (done.exit_code, done.stdout) == (exit_code, "")
    assert message in done.stderr
