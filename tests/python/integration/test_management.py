"""Managing workflows with the clients, async and sync, beside a worker that runs them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import lockstep
import psycopg
import pytest
from harness import Database

app = lockstep.App()
ran: list[str] = []


@app.step
async def note(what: str) -> str:
    ran.append(what)
    return what


@app.workflow(queue_name="q")
async def three_steps(prefix: str, fail: bool = False) -> str:
    await note(f"{prefix}1")
    await note(f"{prefix}2")
    if fail:
        raise ValueError("no stock")
    return await note(f"{prefix}3")


@app.workflow(queue_name="q")
async def waits(timeout: float | None = None) -> Any:
    return await lockstep.receive(
        "go", timeout=None if timeout is None else timedelta(seconds=timeout)
    )


@app.workflow(queue_name="q")
async def sleeps() -> str:
    await lockstep.sleep(timedelta(days=3))
    return "awake"


Caller = Callable[..., Any]


@pytest.fixture
def sync_client(database: Database) -> Any:
    with lockstep.Client(database.dsn) as client:
        yield client


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


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    ran.clear()


def insert(database: Database, workflow_id: str, status: str = "ENQUEUED", **columns: Any) -> None:
    """Insert a workflow in any status."""
    now = datetime.now(timezone.utc)
    values = {
        "workflow_id": workflow_id,
        "workflow_name": "greet",
        "queue_name": "q",
        "status": status,
        **({"completed_at": now} if status in ("SUCCESS", "ERROR", "CANCELLED") else {}),
        **({"error": '{"type": "E", "message": "m"}'} if status == "ERROR" else {}),
        **columns,
    }
    names, places = ", ".join(values), ", ".join(["%s"] * len(values))
    database.rows(
        f"INSERT INTO lockstep.workflow_status ({names}) VALUES ({places})", *values.values()
    )


async def test_get_returns_all_of_a_workflow(database: Database, call: Caller) -> None:
    await call("enqueue", three_steps, "a", workflow_id="w", priority=4, headers={"h": [1]})
    database.rows(
        "INSERT INTO lockstep.workflow_events (workflow_id, key, value)"
        """ VALUES ('w', 'lockstep.progress', '{"done": 1, "total": 3}')"""
    )
    info = await call("get", "w")
    assert info.inputs == {"positionalArgs": ["a"], "namedArgs": {}}
    assert (info.priority, info.headers, info.max_attempts, info.failures) == (4, {"h": [1]}, 50, 0)
    assert (info.waiting_for, info.parent_workflow_id, info.forked_from) == ((), None, None)
    assert info.progress == {"done": 1, "total": 3}
    assert info.available_at is not None
    assert info.enqueued_by == "postgres"


@pytest.mark.parametrize("method", ["list", "cancel_many"])
async def test_unknown_condition_is_refused(client: lockstep.AsyncClient, method: str) -> None:
    with pytest.raises(TypeError, match=r"takes no queue_nam$"):
        await getattr(client, method)(queue_nam="mail")


async def test_list_meets_conditions_and_pages(database: Database, call: Caller) -> None:
    for number in range(5):
        insert(
            database,
            f"w{number}",
            "ERROR" if number % 2 else "SUCCESS",
            headers='{"tenant": "x"}' if number == 3 else None,
        )
    assert [info.workflow_id for info in await call("list")] == ["w4", "w3", "w2", "w1", "w0"]
    first = await call("list", max_count=2)
    assert isinstance(first[0], lockstep.WorkflowInfo)
    second = await call("list", max_count=2, before_id=first[-1].workflow_id)
    assert [info.workflow_id for info in second] == ["w2", "w1"]
    for conditions, expected in (
        ({"status": "ERROR"}, ["w3", "w1"]),
        ({"status": ["ERROR", "SUCCESS"], "id_prefix": "w3"}, ["w3"]),
        ({"headers": {"tenant": "x"}}, ["w3"]),
        ({"error_text": "e: M"}, ["w3", "w1"]),
        ({"workflow_name": "other"}, []),
        ({"queue_name": "q", "created_after": first[1].created_at}, ["w4", "w3"]),
        ({"created_before": second[1].created_at}, ["w0"]),
        ({"parent_workflow_id": "w1"}, []),
        ({"status": None}, ["w4", "w3", "w2", "w1", "w0"]),
    ):
        found = await call("list", **conditions)
        assert [info.workflow_id for info in found] == expected, conditions
    with pytest.raises(lockstep.InvalidArgument, match='"DONE" is no status'):
        await call("list", status="DONE")
    with pytest.raises(lockstep.WorkflowNotFound):
        await call("list", before_id="none")


async def test_a_prefix_is_found_letter_by_letter_in_any_collation(
    database: Database, client: lockstep.AsyncClient
) -> None:
    """In Danish "aa" is one letter that comes after "z"."""
    try:
        database.rows(
            "CREATE DATABASE danish TEMPLATE template0"
            " LOCALE_PROVIDER icu ICU_LOCALE 'da' LC_COLLATE 'C' LC_CTYPE 'C'"
        )
    except psycopg.Error as error:
        pytest.skip(f"this server has no ICU: {error}")
    try:
        danish = Database(psycopg.conninfo.make_conninfo(database.dsn, dbname="danish"))
        danish.rows("CREATE EXTENSION lockstep")
        for workflow_id in ("aa1", "a1", "b1", "A1", "å1", "aå", "a_", "a%"):
            insert(danish, workflow_id)
        insert(danish, "a running one", "PENDING", executor_id="e", attempts=1, started_at="now")
        async with lockstep.AsyncClient(danish.dsn) as other:
            for prefix, expected in (
                ("a", ["a running one", "a%", "a_", "aå", "a1", "aa1"]),
                ("aa", ["aa1"]),
                ("a_", ["a_"]),
                ("å", ["å1"]),
            ):
                found = await other.list(id_prefix=prefix)
                assert [info.workflow_id for info in found] == expected
    finally:
        database.rows("DROP DATABASE IF EXISTS danish WITH (FORCE)")


async def test_iterate_reads_every_page(
    database: Database, client: lockstep.AsyncClient, sync_client: lockstep.Client
) -> None:
    for number in range(5):
        insert(database, f"w{number}")
    expected = ["w4", "w3", "w2", "w1", "w0"]
    for page_size in (2, 5, 100):
        assert [i.workflow_id async for i in client.iterate(page_size=page_size)] == expected
        assert [i.workflow_id for i in sync_client.iterate(page_size=page_size)] == expected


async def test_restart_runs_every_step_again(run_worker: Any, call: Caller) -> None:
    async with run_worker(app, queues=["q"]):
        await call("enqueue", three_steps, "a", workflow_id="w")
        assert await call("result", "w", timeout=timedelta(seconds=20)) == "a3"
        assert [s.output for s in await call("steps", "w")] == ["a1", "a2", "a3"]
        await call("restart", "w")
        assert await call("result", "w", timeout=timedelta(seconds=20)) == "a3"
    assert ran == ["a1", "a2", "a3"] * 2
    assert (await call("get", "w")).attempts == 2


async def test_fork_runs_only_the_steps_from_there(run_worker: Any, call: Caller) -> None:
    async with run_worker(app, queues=["q", "other"]):
        await call("enqueue", three_steps, "a", fail=True, workflow_id="w")
        with pytest.raises(lockstep.WorkflowFailed):
            await call("result", "w", timeout=timedelta(seconds=20))
        fork = await call("fork", "w", 2, new_workflow_id="fork", queue_name="other")
        assert fork == "fork"
        with pytest.raises(lockstep.WorkflowFailed):
            await call("result", "fork", timeout=timedelta(seconds=20))
    assert ran == ["a1", "a2", "a2"]
    info = await call("get", "fork")
    assert (info.forked_from, info.queue_name) == ("w", "other")
    generated = await call("fork", "w", 1, app_version="2")
    assert (await call("get", generated)).app_version == "2"
    with pytest.raises(lockstep.DuplicateWorkflow):
        await call("fork", "fork", 1, new_workflow_id="w")


async def test_fast_forward_ends_sleeps_and_waits(
    database: Database, run_worker: Any, call: Caller
) -> None:
    async with run_worker(app, queues=["q"]):
        await call("enqueue", sleeps, workflow_id="sleep")
        await call("enqueue", waits, workflow_id="message")
        await call("enqueue", waits, workflow_id="null")
        await call("enqueue", waits, workflow_id="nothing")
        await call("enqueue", three_steps, "a", workflow_id="later", delay=timedelta(days=1))
        await asyncio.to_thread(database.wait_for_status, "sleep", "DELAYED")
        for workflow_id in ("message", "null", "nothing"):
            await asyncio.to_thread(database.wait_for_status, workflow_id, "WAITING")
        assert (await call("get", "message")).waiting_for == ("message:go",)
        await call("fast_forward", "sleep")
        await call("fast_forward", "message", {"go": True})
        await call("fast_forward", "null", None)
        await call("fast_forward", "nothing")
        await call("fast_forward", "later")
        results = {
            workflow_id: await call("result", workflow_id, timeout=timedelta(seconds=20))
            for workflow_id in ("sleep", "message", "null", "nothing", "later")
        }
    assert results == {
        "sleep": "awake",
        "message": {"go": True},
        "null": None,
        "nothing": None,
        "later": "a3",
    }
    statuses = {id: (await call("steps", id))[0].status for id in ("null", "nothing")}
    assert statuses == {"null": "SUCCESS", "nothing": "TIMED_OUT"}
    with pytest.raises(lockstep.WrongState, match="is SUCCESS and has no wait to end"):
        await call("fast_forward", "sleep")


async def test_priority_and_queue_of_what_waits(database: Database, call: Caller) -> None:
    insert(database, "w")
    insert(database, "done", "SUCCESS")
    assert await call("set_priority", "w", 3) is True
    assert await call("set_priority", "w", 3) is False
    assert await call("move", "w", "other") is True
    assert await call("move", "w", "other") is False
    info = await call("get", "w")
    assert (info.priority, info.queue_name) == (3, "other")
    with pytest.raises(lockstep.WrongState, match="is SUCCESS and cannot move"):
        await call("move", "done", "other")
    with pytest.raises(lockstep.InvalidArgument):
        await call("set_priority", "w", -1)


async def test_many_are_changed_by_conditions(database: Database, call: Caller) -> None:
    for number in range(4):
        insert(database, f"w{number}", queue_name=f"q{number % 2}")
    assert await call("set_priority_many", 2, queue_name="q0") == ["w2", "w0"]
    assert await call("move_many", "q2", queue_name="q0", max_count=1) == ["w2"]
    since = (await call("get", "w1")).created_at
    assert await call("cancel_many", created_after=since) == ["w3", "w2", "w1"]
    assert await call("resume_many", status=["CANCELLED"], id_prefix="w3") == ["w3"]
    assert await call("restart_many", status="CANCELLED", id_prefix="w2") == ["w2"]
    with pytest.raises(lockstep.InvalidArgument, match="everything=True"):
        await call("cancel_many")
    with pytest.raises(lockstep.InvalidArgument, match="everything=True"):
        await call("cancel_many", status=None)
    assert await call("cancel_many", everything=True) == ["w3", "w2", "w0"]


async def test_purge_goes_on_batch_by_batch(database: Database, call: Caller) -> None:
    for number in range(5):
        insert(database, f"w{number}", "SUCCESS")
    insert(database, "unfinished")
    assert await call("purge", timedelta(days=1)) == 0
    assert await call("purge", timedelta(0), batch_size=2) == 5
    assert [info.workflow_id for info in await call("list")] == ["unfinished"]


async def test_explain_shows_what_happened(run_worker: Any, call: Caller) -> None:
    async with run_worker(app, queues=["q"]):
        await call("enqueue", three_steps, "a", fail=True, workflow_id="w")
        with pytest.raises(lockstep.WorkflowFailed):
            await call("result", "w", timeout=timedelta(seconds=20))
    lines = (await call("explain", "w")).splitlines()
    assert lines[0].startswith(f"✗ {three_steps.name} (w): ERROR, ")
    assert lines[0].endswith("ValueError: no stock")
    assert [line[:6] for line in lines[1:]] == ["├─ ✓ 1", "└─ ✓ 2"]
    assert (await call("explain", "w", "mermaid")).startswith("flowchart TD\n")
    with pytest.raises(lockstep.WorkflowNotFound):
        await call("explain", "none")


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("restart", ("ended",)),
        ("fork", ("ended", 1)),
        ("set_priority", ("waiting", 5)),
        ("move", ("waiting", "other")),
        ("fast_forward", ("waiting",)),
        ("purge", (timedelta(0),)),
        ("cancel_many", ()),
        ("resume_many", ()),
        ("restart_many", ()),
        ("set_priority_many", (5,)),
        ("move_many", ("other",)),
    ],
)
async def test_every_change_is_part_of_the_callers_transaction(
    database: Database, client: lockstep.AsyncClient, method: str, arguments: tuple[Any, ...]
) -> None:
    insert(database, "ended", "ERROR")
    insert(database, "waiting", "DELAYED", available_at=datetime(2099, 1, 1, tzinfo=timezone.utc))
    query = "SELECT w::text FROM lockstep.workflow_status AS w ORDER BY workflow_id"
    before = database.rows(query)
    options = {"everything": True} if method.endswith("_many") else {}
    async with await psycopg.AsyncConnection.connect(database.dsn) as conn:
        with contextlib.suppress(psycopg.Rollback):
            async with conn.transaction():
                await getattr(client, method)(*arguments, conn=conn, **options)
                cursor = await conn.execute(query)
                assert await cursor.fetchall() != before
                raise psycopg.Rollback
    assert database.rows(query) == before


async def test_a_restart_beside_a_worker_that_finishes_loses_nothing(
    run_worker: Any, client: lockstep.AsyncClient
) -> None:
    """Cancel and restart as fast as can be while steps are recorded; each run is whole."""
    async with run_worker(app, queues=["q"]):
        ids = [await client.enqueue(three_steps, f"{n}-", workflow_id=f"w{n}") for n in range(30)]
        for _ in range(10):
            for workflow_id in ids:
                with contextlib.suppress(lockstep.WrongState):
                    await client.cancel(workflow_id)
                with contextlib.suppress(lockstep.WrongState):
                    await client.restart(workflow_id)
        for workflow_id in ids:
            prefix = workflow_id[1:]
            assert await client.result(workflow_id, timeout=timedelta(seconds=20)) == f"{prefix}-3"
            steps = await client.steps(workflow_id)
            assert [step.output for step in steps] == [f"{prefix}-{n}" for n in (1, 2, 3)]
