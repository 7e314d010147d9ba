"""What callers must not pass, or what others have stored: refused in words, and nobody stops."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import lockstep
import pytest
from harness import Database
from lockstep._session import Session
from psycopg.errors import ProgramLimitExceeded

Run = Callable[..., contextlib.AbstractAsyncContextManager[lockstep.Worker]]
SOON = timedelta(seconds=60)
LARGE = "x" * (16 * 2**20)


def build_app() -> lockstep.App:
    app = lockstep.App()

    @app.workflow
    async def measures(text: str) -> int:
        return len(text)

    @app.workflow
    async def returns_a_lot() -> str:
        return LARGE

    @app.step
    async def reads_a_lot() -> str:
        return LARGE

    @app.workflow
    async def goes_on_without() -> str:
        try:
            return await reads_a_lot()
        except lockstep.Unserializable as error:
            return str(error)

    return app


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda c: c.enqueue("a", workflow_id="a\0b"), "NUL"),
        (lambda c: c.enqueue("a", workflow_id="a\ud800b"), "UTF-8 cannot hold"),
        (lambda c: c.enqueue("a", "a\0b"), "NUL"),
        (lambda c: c.enqueue("a", "a\ud800b"), "surrogates"),
        (lambda c: c.enqueue("a", priority=2**31), "another type"),
        (lambda c: c.enqueue("a", timeout=30), "another type.*timeout => smallint"),
        (lambda c: c.enqueue("a", timeout=timedelta.max), "at most 1000 years"),
        (lambda c: c.enqueue("a", delay=object()), "cannot adapt type 'object'"),
        (lambda c: c.enqueue("a", LARGE), "takes 16.0 MB as JSON, more than 16 MB"),
        (
            lambda c: c.enqueue("a", [0] * 1_500_000),
            "positional_args must not be larger than 16 MB",
        ),
        (lambda c: c.get("a\0b"), "NUL"),
        (lambda c: c.list(max_count=2**40), "integer out of range|another type"),
        (lambda c: c.purge(30), "another type"),
        (lambda c: c.get_event("w", "k", timeout=timedelta(0)), "no event"),
    ],
)
async def test_a_client_says_what_it_cannot_take(
    database: Database, call: Callable[[lockstep.AsyncClient], Any], text: str
) -> None:
    async with lockstep.AsyncClient(database.dsn) as client:
        await client.enqueue("a", workflow_id="w")
        refusals = (lockstep.InvalidArgument, lockstep.Unserializable, lockstep.WaitTimeout)
        with pytest.raises(refusals, match=text):
            await call(client)
        assert await client.status("w") == "ENQUEUED"


async def test_a_value_that_is_too_large_fails_its_step_or_workflow_alone(
    run_worker: Run, client: lockstep.AsyncClient
) -> None:
    async with run_worker(build_app()):
        with pytest.raises(lockstep.WorkflowFailed, match="more than 16 MB"):
            await client.result(await client.enqueue("returns_a_lot"), timeout=SOON)
        caught = await client.result(await client.enqueue("goes_on_without"), timeout=SOON)
        assert "keep large data elsewhere" in caught


async def test_workflows_that_are_too_large_for_one_claim_are_claimed_in_several(
    run_worker: Run, client: lockstep.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    execute = Session._execute

    async def execute_with_little_room(
        session: Session, connection: Any, query: str, params: Any
    ) -> Any:
        if "advance_workflows" in query and params[2]:
            asked.append(params[2])
            if params[2] > 2:
                raise ProgramLimitExceeded("cannot enlarge string buffer")
        return await execute(session, connection, query, params)

    monkeypatch.setattr(Session, "_execute", execute_with_little_room)
    monkeypatch.setattr(ProgramLimitExceeded, "sqlstate", "54000")
    ids = await client.enqueue_many("measures", [("ab",)] * 12)
    async with run_worker(build_app(), concurrency=24):
        assert [await client.result(id, timeout=SOON) for id in ids] == [2] * 12
    assert asked[0] == 12
    assert 2 in asked


async def test_workflows_are_listed_whatever_others_stored(
    database: Database, run_worker: Run, client: lockstep.AsyncClient
) -> None:
    database.rows(
        "SELECT lockstep.enqueue_workflow('measures', 'default', workflow_id => v.id,"
        " positional_args => v.args::jsonb) FROM (VALUES"
        " ('deep', repeat('[', 1500) || repeat(']', 1500)),"
        " ('long', '[1' || repeat('0', 9000) || ']'),"
        " ('plain', '[\"x\"]')) AS v (id, args)"
    )
    infos = {info.workflow_id: info for info in await client.list()}
    assert infos["plain"].inputs["positionalArgs"] == ["x"]
    for name in ("deep", "long"):
        assert isinstance(infos[name].inputs, lockstep.UnreadableJson)
    async with run_worker(build_app()):
        assert await client.result("plain", timeout=SOON) == 1
        for name in ("deep", "long"):
            with pytest.raises(lockstep.WorkflowFailed, match="cannot read a JSON value"):
                await client.result(name, timeout=SOON)
