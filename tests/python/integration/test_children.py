"""Workflows that workflows start: results, failures, cancellation, families."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from datetime import date, timedelta
from typing import Any

import lockstep
import psycopg
import pytest
from harness import Database, until_status
from lockstep import sync
from waiting import until

SOON = timedelta(seconds=20)
FORMS = pytest.mark.parametrize("form", ["", "_plain"])
Client = lockstep.AsyncClient


def outcome_of(error: lockstep.LockstepError) -> list[str]:
    return [type(error).__name__, str(error)]


def build_app() -> lockstep.App:
    app = lockstep.App()

    @app.workflow
    async def doubles(number: int) -> int:
        return number * 2

    @app.workflow
    def doubles_plain(number: int) -> int:
        return number * 2

    @app.workflow
    async def waits() -> Any:
        return await lockstep.receive("go")

    @app.workflow
    async def fails() -> None:
        raise KeyError("gone")

    @app.workflow
    async def tomorrow(day: date) -> date:
        return day + timedelta(days=1)

    @app.workflow
    async def starts(number: int) -> Any:
        handle = await lockstep.start_workflow(doubles, number)
        return [handle.workflow_id, await handle.result(), await handle.result()]

    @app.workflow
    def starts_plain(number: int) -> Any:
        handle = sync.start_workflow(doubles_plain, number)
        return [handle.workflow_id, handle.result(), handle.result()]

    @app.workflow
    async def calls(number: int) -> Any:
        return [await doubles(number), (await tomorrow(date(2026, 1, 31))).isoformat()]

    @app.workflow
    def calls_plain(number: int) -> Any:
        return [doubles_plain(number), sync.run(tomorrow(date(2026, 1, 31))).isoformat()]

    @app.workflow
    async def awaits(workflow_id: str, timeout: float | None = None) -> Any:
        limit = None if timeout is None else timedelta(seconds=timeout)
        try:
            return await lockstep.WorkflowHandle[Any](workflow_id).result(timeout=limit)
        except lockstep.LockstepError as error:
            first = outcome_of(error)
        await lockstep.receive("again")
        return first

    @app.workflow
    def awaits_plain(workflow_id: str, timeout: float | None = None) -> Any:
        limit = None if timeout is None else timedelta(seconds=timeout)
        try:
            return sync.WorkflowHandle[Any](workflow_id).result(timeout=limit)
        except lockstep.LockstepError as error:
            first = outcome_of(error)
        sync.receive("again")
        return first

    @app.workflow
    async def family(depth: int) -> list[str]:
        here = [lockstep.context().workflow_id]
        if depth == 0:
            await lockstep.receive("go")
            return here
        return [*here, *await family(depth - 1)]

    @app.workflow
    def family_plain(depth: int) -> list[str]:
        here = [sync.context().workflow_id]
        if depth == 0:
            sync.receive("go")
            return here
        return [*here, *family_plain(depth - 1)]

    return app


@FORMS
async def test_child_s_result_comes_to_its_parent(
    database: Database, run_worker: Any, client: Client, form: str
) -> None:
    async with run_worker(build_app()):
        workflow_id = await client.enqueue(f"starts{form}", 21)
        child_id, *results = await client.result(workflow_id, timeout=SOON)
    assert results == [42, 42]
    assert database.rows(
        "SELECT parent_workflow_id, workflow_name FROM lockstep.workflow_status"
        " WHERE workflow_id = %s",
        child_id,
    ) == [(workflow_id, f"doubles{form}")]
    assert database.steps(workflow_id) == [
        (1, "start_workflow", child_id),
        (2, "result", 42),
        (3, "result", 42),
    ]


@FORMS
async def test_awaited_call_of_a_child_is_one_step_with_a_value_of_the_annotated_type(
    database: Database, run_worker: Any, client: Client, form: str
) -> None:
    async with run_worker(build_app()):
        workflow_id = await client.enqueue(f"calls{form}", 4)
        assert await client.result(workflow_id, timeout=SOON) == [8, "2026-02-01"]
    assert database.steps(workflow_id) == [
        (1, f"doubles{form}", 8),
        (2, "tomorrow", "2026-02-01"),
    ]
    assert database.value("SELECT count(*) FROM lockstep.workflow_status") == 3


@pytest.mark.parametrize("form", ["gather", "map", "threads"])
async def test_hundreds_of_children_fan_out_and_in(
    database: Database, run_worker: Any, client: Client, form: str
) -> None:
    app = lockstep.App()
    calls: Counter[int] = Counter()

    @app.workflow
    async def child(number: int) -> int:
        calls[number] += 1
        if number % 10 == 0:
            await lockstep.sleep(timedelta(seconds=1.2 + random.uniform(0, 0.3)))
        return number

    @app.workflow
    async def fan() -> int:
        if form == "gather":
            return sum(await asyncio.gather(*(child(number) for number in range(300))))
        return sum(await lockstep.map(child, range(300), limit=200))

    @app.workflow
    def fan_on_threads() -> int:
        def call(number: int) -> int:
            return sync.run(child(number))

        return sum(sync.map(call, range(300), limit=100))

    async with run_worker(app, concurrency=50):
        workflow_id = await client.enqueue(fan_on_threads if form == "threads" else fan)
        assert await client.result(workflow_id, timeout=SOON) == sum(range(300))
    assert database.value("SELECT count(*) FROM lockstep.workflow_status") == 301
    assert len(database.steps(workflow_id)) == 300
    assert calls == {n: 2 if n % 10 == 0 else 1 for n in range(300)}, "all started once"


@FORMS
@pytest.mark.parametrize("end", ["failed", "cancelled", "late", "unknown"])
async def test_handle_tells_why_there_is_no_result_also_after_replay(
    database: Database, run_worker: Any, client: Client, form: str, end: str
) -> None:
    async with run_worker(build_app()):
        other = await client.enqueue("fails" if end == "failed" else "waits")
        timeout = None
        expected = {
            "failed": ["WorkflowFailed", f"workflow \"{other}\" ended in ERROR: KeyError: 'gone'"],
            "cancelled": ["WorkflowCancelled", f'workflow "{other}" was cancelled'],
            "late": ["ResultTimeout", f'workflow "{other}" did not end within 0:00:00.400000'],
            "unknown": ["WorkflowNotFound", 'workflow "nobody" does not exist'],
        }[end]
        if end == "late":
            timeout = 0.4
        workflow_id = await client.enqueue(
            f"awaits{form}", "nobody" if end == "unknown" else other, timeout
        )
        if end == "cancelled":
            await until_status(client, workflow_id, "WAITING")
            await client.cancel(other)
        await until(
            lambda: database.rows(
                "SELECT 1 FROM lockstep.workflow_status WHERE waiting_for = '{message:again}'"
            ),
            "the second wait",
        )
        await client.send(workflow_id, None, "again")
        assert await client.result(workflow_id, timeout=SOON) == expected


@FORMS
async def test_handle_of_a_foreign_workflow_waits_for_it(
    database: Database, run_worker: Any, client: Client, form: str
) -> None:
    async with run_worker(build_app()) as worker:
        other = await client.enqueue("waits")
        workflow_id = await client.enqueue(f"awaits{form}", other, 60.0)
        await until_status(client, workflow_id, "WAITING")
        await until(lambda: not worker.runs, "the suspension of both")
        assert database.value(
            "SELECT waiting_for FROM lockstep.workflow_status WHERE workflow_id = %s", workflow_id
        ) == [f"workflow:{other}"]
        await client.send(other, "went", "go")
        assert await client.result(workflow_id, timeout=SOON) == "went"


@FORMS
async def test_cancelled_parent_takes_its_descendants_with_it(
    database: Database, run_worker: Any, client: Client, form: str
) -> None:
    states = "SELECT status, count(*) FROM lockstep.workflow_status GROUP BY 1"
    async with run_worker(build_app()):
        workflow_id = await client.enqueue(f"family{form}", 3)
        await until(lambda: database.rows(states) == [("WAITING", 4)], "four waiting workflows")
        await client.cancel(workflow_id)
        assert database.rows(states) == [("CANCELLED", 4)]


@FORMS
async def test_grandchildren_wake_their_whole_line(
    database: Database, run_worker: Any, client: Client, form: str
) -> None:
    async with run_worker(build_app()):
        workflow_id = await client.enqueue(f"family{form}", 3)
        await until(
            lambda: database.rows(
                "SELECT 1 FROM lockstep.workflow_status WHERE waiting_for = '{message:go}'"
            ),
            "the youngest waits",
        )
        youngest = database.value(
            "SELECT workflow_id FROM lockstep.workflow_status WHERE waiting_for = '{message:go}'"
        )
        await client.send(youngest, None, "go")
        line = await client.result(workflow_id, timeout=SOON)
    assert line[0] == workflow_id
    assert line[-1] == youngest
    parents = dict(
        database.rows("SELECT workflow_id, parent_workflow_id FROM lockstep.workflow_status")
    )
    assert [parents[workflow_id] for workflow_id in line] == [None, *line[:-1]]


async def test_child_whose_arguments_do_not_fit_fails_with_the_reason(
    run_worker: Any, client: Client
) -> None:
    app = lockstep.App()

    @app.workflow
    async def doubles(number: int) -> int:
        return number * 2

    @app.workflow
    async def main(text: Any) -> Any:
        return await doubles(text)

    async with run_worker(app):
        workflow_id = await client.enqueue(main, "not a number")
        with pytest.raises(lockstep.WorkflowFailed, match="InvalidInput: inputs do not fit"):
            await client.result(workflow_id, timeout=SOON)


@FORMS
async def test_child_id_of_another_workflow_is_refused_also_after_replay(
    database: Database, run_worker: Any, client: Client, form: str
) -> None:
    app = lockstep.App()

    @app.workflow
    async def child() -> str:
        return "child"

    @app.workflow
    async def main() -> Any:
        outputs = []
        for child_id in ("free", "taken", "free"):
            try:
                handle = await lockstep.start_workflow(child.options(workflow_id=child_id))
                outputs.append(await handle.result())
            except lockstep.DuplicateWorkflow as error:
                outputs.append(str(error))
        await lockstep.receive("again")
        return outputs

    @app.workflow
    def main_plain() -> Any:
        outputs = []
        for child_id in ("free", "taken", "free"):
            try:
                handle = sync.start_workflow(child.options(workflow_id=child_id))
                outputs.append(handle.result())
            except lockstep.DuplicateWorkflow as error:
                outputs.append(str(error))
        sync.receive("again")
        return outputs

    await client.enqueue("other", workflow_id="taken", queue_name="elsewhere")
    async with run_worker(app):
        workflow_id = await client.enqueue(f"main{form}")
        await until(
            lambda: database.rows(
                "SELECT 1 FROM lockstep.workflow_status WHERE waiting_for = '{message:again}'"
            ),
            "the wait",
        )
        await client.send(workflow_id, None, "again")
        outputs = await client.result(workflow_id, timeout=SOON)
    assert [outputs[0], outputs[2]] == ["child", "child"]
    assert outputs[1].startswith('workflow "taken" exists already. It runs "other"')
    assert database.value("SELECT count(*) FROM lockstep.workflow_status") == 3


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"deduplication_id": "d"}, "a child takes no deduplication_id"),
        ({"debounce": timedelta(seconds=1)}, "a child takes no debounce"),
        ({"debounce_max_delay": timedelta(seconds=1)}, "a child takes no debounce"),
    ],
)
async def test_options_that_no_child_can_have_are_refused(
    run_worker: Any, client: Client, option: dict[str, Any], message: str
) -> None:
    app = lockstep.App()

    @app.workflow
    async def child() -> None: ...

    @app.workflow
    async def parent() -> str:
        try:
            await lockstep.start_workflow(child.options(**option))
        except lockstep.InvalidArgument as error:
            return str(error)
        return "started"

    async with run_worker(app):
        output = await client.result(await client.enqueue("parent"), timeout=SOON)
    assert output.startswith(message)


async def test_failed_child_fails_its_parent_unless_it_is_caught(
    run_worker: Any, client: Client
) -> None:
    app = lockstep.App()

    @app.workflow
    async def fails() -> None:
        raise KeyError("gone")

    @app.workflow
    async def catches() -> str:
        try:
            await fails()
        except lockstep.WorkflowFailed as error:
            return f"{error.type} {error.status}"
        return ""

    @app.workflow
    async def does_not() -> None:
        await fails()

    @app.workflow
    async def gathers() -> Any:
        outcomes = await asyncio.gather(fails(), catches(), return_exceptions=True)
        return [str(outcome)[-30:] for outcome in outcomes]

    async with run_worker(app):
        ids = [await client.enqueue(name) for name in (catches, gathers, does_not)]
        assert await client.result(ids[0], timeout=SOON) == "KeyError ERROR"
        assert await client.result(ids[1], timeout=SOON) == [
            "ended in ERROR: KeyError: 'gone'"[-30:],
            "KeyError ERROR",
        ]
        with pytest.raises(lockstep.WorkflowFailed) as caught:
            await client.result(ids[2], timeout=SOON)
    assert caught.value.type == "WorkflowFailed"


async def test_plain_child_of_an_async_workflow_is_started_and_its_call_refused(
    run_worker: Any, client: Client
) -> None:
    app = lockstep.App()

    @app.workflow
    def plain() -> str:
        return "plain"

    @app.workflow
    async def main() -> Any:
        with pytest.raises(lockstep.BlockingCall, match="start_workflow"):
            plain()
        return await (await lockstep.start_workflow(plain)).result()

    async with run_worker(app):
        assert await client.result(await client.enqueue(main), timeout=SOON) == "plain"


async def test_parent_that_is_cancelled_while_it_starts_a_child_starts_none(
    database: Database, run_worker: Any, client: Client
) -> None:
    app = lockstep.App()
    entered, go_on = asyncio.Event(), asyncio.Event()

    @app.step
    async def held() -> None:
        entered.set()
        await go_on.wait()

    @app.workflow
    async def child() -> None: ...

    @app.workflow
    async def parent() -> None:
        await held()
        await child()

    async with run_worker(app) as worker:
        workflow_id = await client.enqueue(parent)
        await entered.wait()
        async with await psycopg.AsyncConnection.connect(database.dsn) as connection:
            await client.cancel(workflow_id, conn=connection)
            go_on.set()
            await until(
                lambda: database.rows("SELECT 1 FROM pg_locks WHERE NOT granted"),
                "the start of the child waits for the cancellation",
            )
            await connection.commit()
        await until(lambda: not worker.runs, "the end of the run")
    assert database.rows("SELECT workflow_id, status FROM lockstep.workflow_status") == [
        (workflow_id, "CANCELLED")
    ]


async def test_child_has_its_parent_s_deadline(
    database: Database, run_worker: Any, client: Client
) -> None:
    async with run_worker(build_app()):
        workflow_id = await client.enqueue("family", 1, timeout=timedelta(seconds=0.6))
        with pytest.raises(lockstep.WorkflowCancelled, match="deadline"):
            await client.result(workflow_id, timeout=SOON)
        await until(
            lambda: (
                database.rows("SELECT status FROM lockstep.workflow_status") == [("CANCELLED",)] * 2
            ),
            "the end of both",
        )
