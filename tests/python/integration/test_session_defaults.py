"""Whatever a database or role sets as its sessions' defaults, workers and clients work the same."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import lockstep
import psycopg
import pytest
from harness import Database
from psycopg import sql

Run = Callable[..., contextlib.AbstractAsyncContextManager[lockstep.Worker]]
SOON = timedelta(seconds=60)
TEXT = "text with 'quotes', \\backslashes\\ and \N{PILE OF POO}"

DEFAULTS = {
    "texts of other shapes": {
        "DateStyle": "German, DMY",
        "IntervalStyle": "sql_standard",
        "TimeZone": "America/St_Johns",
        "extra_float_digits": "-15",
        "bytea_output": "escape",
        "lc_messages": "C",
    },
    "times in the manner of SQL": {
        "DateStyle": "SQL, MDY",
        "IntervalStyle": "iso_8601",
        "client_encoding": "LATIN1",
        "search_path": "",
        "default_transaction_isolation": "repeatable read",
    },
    "strings as they once were": {
        "standard_conforming_strings": "off",
        "quote_all_identifiers": "on",
        "escape_string_warning": "off",
    },
    "serializable": {"default_transaction_isolation": "serializable"},
    "impatience": {
        "statement_timeout": "5s",
        "lock_timeout": "100ms",
        "idle_in_transaction_session_timeout": "1s",
        "idle_session_timeout": "2s",
    },
    "a planner without choices": {
        "plpgsql.extra_errors": "all",
        "plan_cache_mode": "force_custom_plan",
        "enable_indexscan": "off",
        "enable_indexonlyscan": "off",
        "enable_bitmapscan": "off",
        "enable_nestloop": "off",
        "jit_above_cost": "0",
        "row_security": "off",
    },
}


def build_app() -> lockstep.App:
    app = lockstep.App()

    @app.step
    async def echo(value: Any) -> Any:
        return value

    @app.transaction
    async def counts(conn: psycopg.AsyncConnection[Any], value: str) -> int:
        await conn.execute("INSERT INTO public.effect VALUES (%s)", (value,))
        cursor = await conn.execute("SELECT count(*) FROM public.effect")
        return (await cursor.fetchone() or (0,))[0]

    @app.workflow
    async def child(value: str) -> str:
        return await echo(value)

    @app.workflow(retries=lockstep.Retry(max_attempts=2, delay=timedelta(milliseconds=100)))
    async def all_of_it(value: str) -> list[Any]:
        got = [await echo(value), await counts(value), await child(value)]
        await lockstep.sleep(timedelta(milliseconds=1200))
        await lockstep.set_event("state", value)
        await lockstep.write_stream("lines", value)
        await lockstep.set_progress(1, 2, value)
        got.append(await lockstep.receive("topic", timeout=SOON))
        return [*got, (await lockstep.now()).year > 2000]

    @app.workflow
    async def ticks(scheduled_at: datetime) -> str:
        return scheduled_at.isoformat()

    return app


@pytest.mark.parametrize("defaults", DEFAULTS.values(), ids=DEFAULTS)
async def test_workers_and_clients_do_not_depend_on_the_defaults_of_a_session(
    database: Database, run_worker: Run, defaults: dict[str, str]
) -> None:
    database.rows("CREATE TABLE effect (value text)")
    name = sql.Identifier(str(psycopg.conninfo.conninfo_to_dict(database.dsn)["dbname"]))
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        for setting, value in defaults.items():
            connection.execute(
                sql.SQL("ALTER DATABASE {} SET {} = {}").format(
                    name, sql.SQL(setting), sql.Literal(value)
                )
            )
    async with run_worker(build_app()), lockstep.AsyncClient(database.dsn) as client:
        workflow_id = await client.enqueue(
            "all_of_it",
            TEXT,
            delay=timedelta(milliseconds=100),
            timeout=timedelta(days=400, seconds=1, microseconds=1),
            headers={"text": TEXT},
        )
        assert await client.get_event(workflow_id, "state", timeout=SOON) == TEXT
        await client.send(workflow_id, {"text": TEXT}, "topic")
        expected = [TEXT, 1, TEXT, {"text": TEXT}, True]
        assert await client.result(workflow_id, timeout=SOON) == expected
        info = await client.get(workflow_id)
        assert info.completed_at
        assert info.started_at
        now = datetime.now(timezone.utc)
        assert timedelta(0) < info.completed_at - info.started_at < timedelta(minutes=2)
        assert abs(now - info.completed_at) < timedelta(minutes=2)
        assert info.deadline_at
        assert timedelta(399) < info.deadline_at - now < timedelta(401)
        assert info.headers == {"text": TEXT}
        assert info.enqueued_by == "postgres"
        values = [value async for value in client.read_stream(workflow_id, "lines")]
        assert values == [TEXT]

        for odd_id in ("a%_\\b", "axyzb"):
            await client.enqueue("child", TEXT, workflow_id=odd_id)
        assert [item.workflow_id for item in await client.list(id_prefix="a%_\\")] == ["a%_\\b"]
        steps = await client.steps(workflow_id)
        assert steps[0].output == TEXT
        ids = await client.enqueue_many(
            "child", [{"value": TEXT}, {"value": ""}], workflow_ids=["of mine", None]
        )
        assert ids[0] == "of mine"
        assert len(ids[1]) == 36
        assert [await client.result(id, timeout=SOON) for id in ids] == [TEXT, ""]

        await client.create_queue(
            "limited", rate_limit=3, rate_period=timedelta(days=40, seconds=5)
        )
        (queue,) = [q for q in await client.list_queues() if q.queue_name == "limited"]
        assert queue.rate_period == timedelta(days=40, seconds=5)
        await client.schedule_workflow(
            "often", "* * * * *", "ticks", timeout=timedelta(days=2, seconds=3)
        )
        (schedule,) = await client.list_schedules()
        assert schedule.timeout == timedelta(days=2, seconds=3)
        at = datetime(2026, 11, 1, tzinfo=timezone.utc)
        backfill = await client.backfill_schedule("often", at, at + timedelta(minutes=2))
        await client.result(backfill, timeout=SOON)
        tick = await client.trigger_schedule("often")
        assert (await client.result(tick, timeout=SOON)).endswith("+00:00")
        assert "all_of_it" in await client.explain(workflow_id, format="mermaid")
        await client.purge(timedelta(days=30))

    database = Database(f"{database.dsn} client_encoding=UTF8")
    database.rows("CREATE TABLE public.row_of_mine (id int PRIMARY KEY, name text)")
    attach = (
        "SELECT lockstep.attach_workflow('public.row_of_mine', 'child', 'of rows',"
        " events => '{INSERT,UPDATE}', columns => '{name}',"
        " named_args => 'jsonb_build_object($$value$$, new.name)')"
    )
    attached = database.value(attach)
    assert database.value(attach) == attached
    database.rows("INSERT INTO public.row_of_mine VALUES (1, %s)", TEXT)
    database.rows("UPDATE public.row_of_mine SET id = 2")
    inputs = (
        "SELECT inputs -> 'namedArgs' FROM lockstep.workflow_status WHERE queue_name = 'of rows'"
    )
    assert database.rows(inputs) == [({"value": TEXT},)]
