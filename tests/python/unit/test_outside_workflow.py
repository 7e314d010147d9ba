"""Decorated functions without a worker or a database, as a user's unit tests call them."""

from __future__ import annotations

from datetime import timedelta

import lockstep
import pytest

app = lockstep.App()


@app.step
async def double(number: int) -> int:
    return 2 * number


@app.step(name="halve", retries=lockstep.Retry(max_attempts=2))
def half(number: int) -> int:
    return number // 2


@app.workflow
async def both(number: int) -> tuple[int, int]:
    return await double(number), await half.in_thread(number)


@app.workflow(name="plain")
def plain_workflow(number: int) -> int:
    return half(number)


async def test_workflows_and_steps_simply_run() -> None:
    assert await both(4) == (8, 2)
    assert plain_workflow(4) == 2
    assert half(4) == 2


def test_decorators_keep_names_and_docs() -> None:
    assert double.name == "double"
    assert half.name == "halve"
    assert both.__name__ == "both"
    assert set(app.workflows) >= {"both", "plain"}


def test_two_workflows_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="registered already"):

        @app.workflow(name="plain")
        def another() -> None: ...


async def test_primitives_need_a_workflow() -> None:
    for call in (
        lambda: lockstep.sleep(timedelta(0)),
        lambda: lockstep.receive("t"),
        lambda: lockstep.send("w", 1),
        lambda: lockstep.set_event("k", 1),
        lockstep.context,
    ):
        with pytest.raises(lockstep.NotInWorkflow):
            call()


def test_database_is_found_in_the_documented_order(monkeypatch: pytest.MonkeyPatch) -> None:
    from lockstep._dsn import resolve_dsn

    monkeypatch.delenv("LOCKSTEP_DATABASE_URL", raising=False)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    assert resolve_dsn() == ""
    monkeypatch.setenv("DATABASE_URL", "second")
    assert resolve_dsn() == "second"
    monkeypatch.setenv("LOCKSTEP_DATABASE_URL", "first")
    assert resolve_dsn() == "first"
    assert resolve_dsn("argument") == "argument"


def test_worker_without_workflows_is_refused() -> None:
    with pytest.raises(lockstep.InvalidArgument, match="no workflows"):
        lockstep.Worker(lockstep.App())
