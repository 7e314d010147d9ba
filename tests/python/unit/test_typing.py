"""What a type checker knows of enqueueing: the arguments are those of the workflow."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parents[3] / "python_client"

# what a type checker must say of a line is its comment: that it is an error, or a type
PROGRAM = """
from datetime import datetime, timedelta
from typing import Any

import lockstep
import psycopg
from lockstep.testing import AsyncWorkflowEnvironment, WorkflowEnvironment

app = lockstep.App()


@app.workflow
async def fulfil(order_id: int, *, note: str = "", timeout: int = 0) -> list[str]:
    return []


@app.workflow
def plain(order_id: int) -> bool:
    return True


@app.scheduled("@daily", on_missed="latest")
@app.scheduled("@hourly", name="often", timeout=timedelta(1))
@app.workflow
async def report(scheduled_at: datetime) -> int:
    return 0


app.scheduled("@daily", on_missed="never")(report)  # error
app.scheduled("@daily", timout=timedelta(1))(report)  # error
app.scheduled("@daily")(len)  # error


async def uses_async(
    client: lockstep.AsyncClient,
    conn: psycopg.AsyncConnection[Any],
    maybe: psycopg.AsyncConnection[Any] | None,
) -> None:
    reveal_type(await client.enqueue(fulfil, 42))  # str
    await client.enqueue(fulfil, 42, note="x", timeout=3)
    await client.enqueue(plain, order_id=1)
    await client.enqueue("fulfil", 42, delay=timedelta(1), note="x", named_args={}, conn=conn)
    await client.enqueue(fulfil, 42, note="x", conn=conn)
    await client.enqueue(plain, 1, conn=maybe)
    await client.using(conn).enqueue(fulfil, 42)
    await client.enqueue(fulfil.options(delay=timedelta(1), priority=3), 42, note="x")
    await client.enqueue(fulfil.options(retries=lockstep.Retry(max_attempts=5)), 42)
    await client.enqueue(fulfil, "42")  # error
    await client.enqueue(fulfil)  # error
    await client.enqueue(fulfil, 42, nope=1)  # error
    await client.enqueue(fulfil, 42, note=1)  # error
    await client.enqueue(plain.options(priority=1), "42")  # error
    await client.using(conn).enqueue(fulfil, "42")  # error
    fulfil.options(dealy=timedelta(1))  # error
    fulfil.options(delay=1)  # error
    await client.enqueue("fulfil", 42, delay=1)  # error
    reveal_type(await client.result("id"))  # Any
    reveal_type(await client.result("id", workflow=fulfil))  # list[str]
    reveal_type(await client.result("id", workflow=plain))  # bool
    reveal_type(await client.get_event("id", "key", timeout=timedelta(1)))  # Any
    async for value in client.read_stream("id", "key", from_offset=1):
        reveal_type(value)  # Any
    reveal_type(await client.enqueue_many(fulfil, [(1,), [2]], priority=1))  # list[str]
    await client.enqueue_many("fulfil", ({"order_id": n} for n in range(3)), conn=conn)
    await client.enqueue_many(fulfil, [1, 2])  # error
    await client.enqueue_many(fulfil, [(1,)], prioritty=1)  # error
    await client.enqueue_many(fulfil, [(1,)], workflow_id="x")  # error
    await client.create_queue("mail", concurrency=1, rate_period=timedelta(1), conn=conn)
    await client.alter_queue("mail", conccurrency=1)  # error
    app.queue("mail", rate_period=1)  # error
    reveal_type(app.queue("mail", concurrency=1, overwrite=True).concurrency)  # int | None
    reveal_type((await client.list_queues())[0].rate_period)  # datetime.timedelta | None
    reveal_type(await client.result("id", workflow=report))  # int
    await client.enqueue(report, "today")  # error
    await client.schedule_workflow("daily", "@daily", report, queue_name="mail", conn=conn)
    await client.schedule_workflow("daily", "@daily", report, timeout=1)  # error
    reveal_type((await client.list_schedules())[0].next_tick_at)  # datetime.datetime | None
    fulfil.options(on_duplicate="retrun")  # error
    await client.enqueue_many(fulfil, [(1,)], on_duplicate="retrun")  # error
    await client.enqueue_many(fulfil, [(1,)], debounce=timedelta(1), deduplication_ids=["x"])
    reveal_type(await client.send_many(["id"], [1], idempotency_keys=[None]))  # list[str]


def uses_sync(client: lockstep.Client, conn: psycopg.Connection[Any]) -> None:
    reveal_type(client.enqueue(fulfil.options(workflow_id="x"), 42))  # str
    client.using(conn).enqueue(plain, 42)
    client.enqueue(plain, "42")  # error
    reveal_type(client.result("id", workflow=fulfil))  # list[str]
    for value in client.read_stream("id", "key"):
        reveal_type(value)  # Any


async def uses_testing(env: AsyncWorkflowEnvironment, plain_env: WorkflowEnvironment) -> None:
    reveal_type(await env.run(fulfil, 42))  # list[str]
    reveal_type(await env.run(plain.options(priority=2), 42))  # bool
    await env.run(fulfil, "42")  # error
    reveal_type(plain_env.run(fulfil, 42, note="x"))  # list[str]
    plain_env.run(plain, 1, 2)  # error
"""


def test_type_checker_compares_arguments_with_the_workflow(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--config-file", PACKAGE / "pyproject.toml"),
            *("--cache-dir", tmp_path / "cache", "--show-error-codes", "--hide-error-context"),
            program,
        ],
        cwd=PACKAGE,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    said: dict[int, str] = {}
    for line in done.stdout.splitlines():
        match = re.match(r"[^:]*program\.py:(\d+): (error|note): (.*)", line)
        if match is None:
            continue
        number, kind, text = int(match[1]), match[2], match[3]
        if kind == "error":
            said[number] = "error"
        elif text.startswith("Revealed type is"):
            said[number] = text.split('"')[1].replace("builtins.", "")
    expected = {
        number: comment
        for number, line in enumerate(PROGRAM.splitlines(), 1)
        for _, separator, comment in [line.partition("  # ")]
        if separator
    }
    assert said == expected, done.stdout
