"""What a workflow does: steps, replay, inputs, errors, in async and in plain form."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from datetime import timedelta
from typing import Any

import lockstep
import pytest
from harness import Database
from pydantic import BaseModel

SOON = timedelta(seconds=20)
Client = lockstep.AsyncClient


class Order(BaseModel):
    id: int
    amount: float


async def test_steps_are_recorded_in_order(
    database: Database, run_worker: Any, client: Client
) -> None:
    app = lockstep.App()

    @app.step
    async def add(a: int, b: int) -> int:
        return a + b

    @app.workflow
    async def total(order: Order) -> float:
        return order.amount + await add(await add(1, 2), 3)

    async with run_worker(app):
        workflow_id = await client.enqueue(total, Order(id=1, amount=0.5))
        assert await client.result(workflow_id, timeout=SOON) == 6.5
    assert database.steps(workflow_id) == [(1, "add", 3), (2, "add", 6)]


async def test_plain_workflows_run_on_threads(
    database: Database, run_worker: Any, client: Client
) -> None:
    app = lockstep.App()
    threads: list[str] = []

    @app.step
    def where() -> str:
        threads.append(threading.current_thread().name)
        return "step"

    @app.step
    async def on_the_loop() -> str:
        threads.append(threading.current_thread().name)
        return "async step"

    @app.workflow
    def plain(*, times: int) -> list[str]:
        threads.append(threading.current_thread().name)
        return [where() for _ in range(times)] + [lockstep.sync.run(on_the_loop())]

    async with run_worker(app):
        workflow_id = await client.enqueue(plain, times=2)
        assert await client.result(workflow_id, timeout=SOON) == ["step", "step", "async step"]
    assert threads[0].startswith("lockstep")
    assert threads[1] == threads[0], "a plain step runs in its workflow's own thread"
    assert threads[3] == "MainThread"
    assert [name for _, name, _ in database.steps(workflow_id)] == ["where", "where", "on_the_loop"]


async def test_replay_skips_recorded_steps(
    database: Database, run_worker: Any, client: Client
) -> None:
    app = lockstep.App()
    calls: list[str] = []

    @app.step
    async def once(name: str) -> str:
        calls.append(name)
        return name

    @app.step
    async def fails(error: bool) -> None:
        calls.append("fails")
        raise KeyError("gone")

    @app.workflow
    async def naps() -> list[str]:
        names = [await once("a")]
        try:
            await fails(True)
        except KeyError as error:
            names.append(str(error))
        await lockstep.sleep(timedelta(seconds=1.2))
        return [*names, await once("b")]

    async with run_worker(app):
        workflow_id = await client.enqueue(naps)
        result = await client.result(workflow_id, timeout=SOON)
    assert result == ["a", "'gone'", "b"]
    assert calls == ["a", "fails", "b"]


async def test_gathered_steps_are_numbered_by_call(
    database: Database, run_worker: Any, client: Client
) -> None:
    app = lockstep.App()

    @app.step
    async def wait(number: int) -> int:
        await asyncio.sleep((5 - number) / 100)
        return number

    @app.workflow
    async def fan() -> list[int]:
        return list(await asyncio.gather(*(wait(n) for n in range(5))))

    async with run_worker(app):
        workflow_id = await client.enqueue(fan)
        assert await client.result(workflow_id, timeout=SOON) == [0, 1, 2, 3, 4]
    assert [(i, output) for i, _, output in database.steps(workflow_id)] == [
        (n + 1, n) for n in range(5)
    ]


async def test_gathered_waits_suspend_together(
    database: Database, run_worker: Any, client: Client
) -> None:
    app = lockstep.App()
    runs: list[int] = []

    @app.workflow
    async def two_waits() -> list[Any]:
        runs.append(1)
        return list(
            await asyncio.gather(
                lockstep.receive("left", timeout=timedelta(hours=1)), lockstep.receive("right")
            )
        )

    async with run_worker(app):
        workflow_id = await client.enqueue(two_waits)
        await wait_for(client, workflow_id, "WAITING")
        (waiting_for,) = database.rows("SELECT waiting_for FROM lockstep.workflow_status")[0]
        assert waiting_for == ["message:left", "message:right"]
        await client.send(workflow_id, 1, "right")
        await client.send(workflow_id, 2, "left")
        assert await client.result(workflow_id, timeout=SOON) == [2, 1]
    assert len(runs) > 1


@pytest.mark.parametrize("kind", ["async", "plain"])
async def test_input_that_does_not_fit_never_reaches_user_code(
    database: Database, run_worker: Any, client: Client, kind: str
) -> None:
    app = lockstep.App()
    calls: list[Order] = []

    if kind == "async":

        @app.workflow(name="load")
        async def load(order: Order) -> None:
            calls.append(order)
    else:

        @app.workflow(name="load")
        def load_plain(order: Order) -> None:
            calls.append(order)

    async with run_worker(app):
        workflow_id = await client.enqueue("load", order={"id": "x"})
        with pytest.raises(lockstep.WorkflowFailed, match="valid integer") as caught:
            await client.result(workflow_id, timeout=SOON)
    assert caught.value.type == "InvalidInput"
    assert calls == []


@pytest.mark.parametrize("kind", ["async", "plain"])
async def test_exception_ends_the_workflow_in_error(
    database: Database, run_worker: Any, client: Client, kind: str
) -> None:
    app = lockstep.App()

    if kind == "async":

        @app.workflow(name="fail")
        async def fail() -> None:
            raise ZeroDivisionError("by hand")
    else:

        @app.workflow(name="fail")
        def fail_plain() -> None:
            raise ZeroDivisionError("by hand")

    async with run_worker(app):
        workflow_id = await client.enqueue("fail")
        with pytest.raises(lockstep.WorkflowFailed):
            await client.result(workflow_id, timeout=SOON)
    error = (await client.get(workflow_id)).error
    assert error is not None
    assert (error["type"], error["message"]) == ("ZeroDivisionError", "by hand")
    assert "by hand" in error["traceback"]


@pytest.mark.parametrize("value", ["object", "nul", "deep", "huge"])
async def test_unserializable_result_ends_in_error(
    database: Database, run_worker: Any, client: Client, value: str
) -> None:
    app = lockstep.App()

    @app.workflow
    async def returns() -> Any:
        if value == "object":
            return object()
        if value == "nul":
            return "a\x00b"
        if value == "huge":
            return 10**200_000
        deep: list[Any] = []
        for _ in range(100_000):
            deep = [deep]
        return deep

    @app.workflow
    async def innocent() -> str:
        return "fine"

    async with run_worker(app):
        workflow_id = await client.enqueue(returns)
        others = [await client.enqueue(innocent) for _ in range(5)]
        with pytest.raises(lockstep.WorkflowFailed) as caught:
            await client.result(workflow_id, timeout=SOON)
        for other in others:
            assert await client.result(other, timeout=SOON) == "fine"
    assert caught.value.type == "Unserializable"


async def test_result_and_its_error_that_the_database_refuses_end_in_a_plain_error(
    database: Database, run_worker: Any, client: Client
) -> None:
    app = lockstep.App()
    database.rows(
        "ALTER TABLE lockstep.workflow_status ADD CONSTRAINT has_no_secret_check"
        " CHECK (strpos(output::text, 'secret') = 0 AND strpos(error::text, 'secret') = 0)"
    )

    @app.workflow
    async def returns() -> str:
        return "a secret"

    async with run_worker(app):
        workflow_id = await client.enqueue(returns)
        with pytest.raises(lockstep.WorkflowFailed, match="refused the outcome"):
            await client.result(workflow_id, timeout=SOON)


@pytest.mark.parametrize("kind", ["async", "plain"])
@pytest.mark.parametrize("refusal", ["check", "trigger", "plain trigger"])
async def test_result_that_the_database_refuses_ends_in_error(
    database: Database, run_worker: Any, client: Client, refusal: str, kind: str
) -> None:
    app = lockstep.App()
    calls: list[str] = []

    if refusal == "check":
        database.rows(
            "ALTER TABLE lockstep.workflow_status ADD CONSTRAINT has_no_secret_check"
            " CHECK (strpos(output::text, 'secret') = 0)"
        )
    else:
        code = "P0001" if refusal == "plain trigger" else "check_violation"
        database.rows(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " IF strpos(NEW.output::text, 'secret') > 0 THEN"
            f" RAISE EXCEPTION 'no secrets' USING ERRCODE = '{code}'; END IF;"
            " RETURN NEW; END $$"
        )
        database.rows(
            "CREATE TRIGGER refuse BEFORE UPDATE ON lockstep.workflow_status"
            " FOR EACH ROW EXECUTE FUNCTION refuse()"
        )

    if kind == "async":

        @app.workflow(name="returns")
        async def returns(text: str) -> str:
            calls.append(text)
            return text
    else:

        @app.workflow(name="returns")
        def returns_plain(text: str) -> str:
            calls.append(text)
            return text

    async with run_worker(app) as worker:
        texts = ["fine", "secret", "good"]
        fine, refused, good = [await client.enqueue("returns", text) for text in texts]
        with pytest.raises(lockstep.WorkflowFailed, match="the database refused") as caught:
            await client.result(refused, timeout=SOON)
        assert await client.result(fine, timeout=SOON) == "fine"
        assert await client.result(good, timeout=SOON) == "good"
        while worker.runs:
            await asyncio.sleep(0.01)
    assert caught.value.type == "Unserializable"
    assert await client.status(refused) == "ERROR"
    assert sorted(calls) == sorted(texts), "none is run again"


async def test_unregistered_workflow_is_left_for_others_and_reported_once(
    database: Database, run_worker: Any, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    app = lockstep.App()

    @app.workflow
    async def known() -> str:
        return "known"

    caplog.set_level(logging.INFO, "lockstep.worker")
    async with run_worker(app, lease=timedelta(seconds=1)):
        workflow_id = await client.enqueue("unknown")
        known_id = await client.enqueue(known)
        assert await client.result(known_id, timeout=SOON) == "known"
        await asyncio.sleep(1.5)
        assert await client.status(workflow_id) == "ENQUEUED"
        rows = database.rows("SELECT workflow_name FROM lockstep.unserved_workflows")
        assert rows == [("unknown",)]
    reports = [r for r in caplog.records if '"unknown"' in r.getMessage()]
    assert len(reports) == 1


async def test_changed_code_is_told_both_names(
    database: Database, run_worker: Any, client: Client
) -> None:
    is_new = False
    app = lockstep.App()

    @app.step
    async def charge() -> None: ...

    @app.step
    async def ship() -> None: ...

    @app.workflow
    async def fulfil() -> None:
        try:
            await (ship() if is_new else charge())
        except Exception:
            await ship()  # code that catches everything cannot go on with the wrong history
        await lockstep.receive()

    async with run_worker(app):
        workflow_id = await client.enqueue(fulfil)
        await wait_for(client, workflow_id, "WAITING")
        is_new = True
        await client.send(workflow_id, None)
        with pytest.raises(
            lockstep.WorkflowFailed, match='step 1 was "charge" when recorded and is "ship" now'
        ):
            await client.result(workflow_id, timeout=SOON)


async def test_blocking_step_in_an_async_workflow_is_refused(
    database: Database, run_worker: Any, client: Client
) -> None:
    app = lockstep.App()

    @app.step
    def blocks() -> str:
        return "done"

    @app.workflow
    async def wrong() -> str:
        return blocks()

    @app.workflow
    async def sleeps() -> None:
        lockstep.sync.sleep(timedelta(seconds=1))

    @app.workflow
    async def right() -> str:
        return await blocks.in_thread()

    async with run_worker(app):
        for workflow, hint in (
            (wrong, r"await blocks\.in_thread"),
            (sleeps, "await lockstep.sleep"),
        ):
            with pytest.raises(lockstep.WorkflowFailed, match=hint):
                await client.result(await client.enqueue(workflow), timeout=SOON)
        assert await client.result(await client.enqueue(right), timeout=SOON) == "done"


async def test_workflow_knows_its_id_and_headers(
    database: Database, run_worker: Any, client: Client
) -> None:
    app = lockstep.App()

    @app.workflow
    async def who() -> list[Any]:
        context = lockstep.context()
        return [context.workflow_id, context.headers, context.attempt, context.step_id]

    async with run_worker(app):
        workflow_id = await client.enqueue(who, workflow_id="me", headers={"trace": "t"})
        assert await client.result(workflow_id, timeout=SOON) == ["me", {"trace": "t"}, 1, None]


async def test_step_knows_its_workflow_and_number(
    database: Database, run_worker: Any, client: Client
) -> None:
    app = lockstep.App()

    def key() -> str:
        context = lockstep.context()
        return f"{context.workflow_id}/{context.step_id}"

    @app.step
    async def first() -> str:
        return key()

    @app.step
    def second() -> str:
        return key()

    @app.transaction
    async def third(conn: Any) -> str:
        return key()

    @app.workflow
    async def keys() -> list[str]:
        return [await first(), await second.in_thread(), await third()]

    async with run_worker(app):
        workflow_id = await client.enqueue(keys, workflow_id="me")
        assert await client.result(workflow_id, timeout=SOON) == ["me/1", "me/2", "me/3"]


async def test_user_code_that_catches_everything_cannot_stop_a_suspension(
    database: Database, run_worker: Any, client: Client
) -> None:
    app = lockstep.App()
    leaks: list[str] = []

    @app.step
    async def leak() -> None:
        leaks.append("leak")

    @app.workflow
    async def stubborn() -> Any:
        try:
            return await lockstep.receive("t")
        except BaseException:
            await leak()
            raise
        finally:
            leaks.append("finally")

    async with run_worker(app):
        workflow_id = await client.enqueue(stubborn)
        await wait_for(client, workflow_id, "WAITING")
        await client.send(workflow_id, "m", "t")
        assert await client.result(workflow_id, timeout=SOON) == "m"
    assert "leak" not in leaks
    assert [name for _, name, _ in database.steps(workflow_id)] == ["receive"]


@pytest.mark.parametrize("value", ["300 levels deep", "1e5000"])
async def test_json_that_python_cannot_read_fails_one_workflow_only(
    database: Database, run_worker: Any, client: Client, value: str
) -> None:
    app = lockstep.App()

    @app.workflow
    async def echo(value: Any) -> Any:
        return value

    @app.workflow
    async def listens() -> Any:
        return await lockstep.receive("t")

    poison = "[" * 300 + "]" * 300 if value.endswith("deep") else value
    bad = database.enqueue("echo", positional_args=f"[{poison}]")
    good = await client.enqueue(echo, 1)
    listener = await client.enqueue(listens)
    database.rows("SELECT lockstep.send_message(%s, %s, 't')", listener, poison)
    async with run_worker(app):
        assert await client.result(good, timeout=SOON) == 1
        for workflow_id in (bad, listener):
            with pytest.raises(lockstep.WorkflowFailed, match="cannot read a JSON value"):
                await client.result(workflow_id, timeout=SOON)


async def test_exception_that_cannot_be_shown_ends_the_workflow_too(
    database: Database, run_worker: Any, client: Client
) -> None:
    app = lockstep.App()

    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    @app.workflow
    async def fails() -> None:
        raise Broken

    async with run_worker(app) as worker:
        with pytest.raises(lockstep.WorkflowFailed, match="cannot be shown"):
            await client.result(await client.enqueue(fails), timeout=SOON)
        assert worker.runs == {}


async def test_tasks_that_nobody_awaits_leave_no_log_entry(
    database: Database, run_worker: Any, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    app = lockstep.App()

    @app.workflow
    async def forgets() -> Any:
        forgotten = asyncio.create_task(lockstep.receive("other"))  # noqa: RUF006, F841
        return await lockstep.receive("t")

    async with run_worker(app):
        workflow_id = await client.enqueue(forgets)
        await wait_for(client, workflow_id, "WAITING")
        await client.send(workflow_id, 1, "t")
        assert await client.result(workflow_id, timeout=SOON) == 1
    gc.collect()
    assert [r for r in caplog.records if r.name == "asyncio"] == []


async def wait_for(client: Client, workflow_id: str, status: str) -> None:
    for _ in range(1000):
        if await client.status(workflow_id) == status:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{workflow_id} is {await client.status(workflow_id)}, not {status}")


async def test_many_plain_workflows_share_their_commits(
    database: Database, run_worker: Any, client: Client
) -> None:
    app = lockstep.App()

    @app.step
    def add(number: int) -> int:
        return number + 1

    @app.workflow
    def main(number: int) -> int:
        return add(add(add(number)))

    database.rows(
        "SELECT lockstep.enqueue_workflow('main', 'default', workflow_id => 'w' || n,"
        " positional_args => jsonb_build_array(n)) FROM generate_series(1, 500) AS n"
    )
    async with run_worker(app, concurrency=100):
        for number in range(1, 501):
            assert await client.result(f"w{number}", timeout=SOON) == number + 3
    assert database.value("SELECT count(*) FROM lockstep.operation_outputs") == 1500
    transactions = database.value(
        "SELECT count(DISTINCT xmin::text) FROM lockstep.operation_outputs"
    )
    assert transactions < 1000, "checkpoints of many workflows go into one commit"


async def test_thread_whose_workflow_was_taken_away_is_unwound(
    database: Database, run_worker: Any, client: Client
) -> None:
    app = lockstep.App()
    entered, go_on, left = threading.Event(), threading.Event(), threading.Event()

    @app.step
    def held() -> None:
        entered.set()
        go_on.wait(20)

    @app.workflow
    def main() -> None:
        try:
            held()
        finally:
            left.set()

    async with run_worker(app):
        workflow_id = await client.enqueue(main)
        await asyncio.to_thread(entered.wait, 20)
        await client.cancel(workflow_id)
        go_on.set()
        assert await asyncio.to_thread(left.wait, 20)
    assert await client.status(workflow_id) == "CANCELLED"
    assert database.steps(workflow_id) == []


async def test_code_behind_a_wait_does_not_run_when_the_workflow_is_suspended(
    database: Database, run_worker: Any, client: Client
) -> None:
    app = lockstep.App()
    seen: list[Any] = []

    @app.workflow
    async def main() -> Any:
        results = await asyncio.gather(
            lockstep.receive("a"), lockstep.receive("b"), return_exceptions=True
        )
        seen.append(results)
        return results

    async with run_worker(app):
        workflow_id = await client.enqueue(main)
        await wait_for(client, workflow_id, "WAITING")
        await client.send(workflow_id, 1, "a")
        await client.send(workflow_id, 2, "b")
        assert await client.result(workflow_id, timeout=SOON) == [1, 2]
    assert seen == [[1, 2]]
