"""
Whatever is passed to a method of a client, it does what it says or refuses in words.

HOSTILE_EXAMPLES sets how many calls of each method are made, HOSTILE_SEED from where on.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import os
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any, get_type_hints

import lockstep
import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from lockstep._functions import WorkflowFunction
from lockstep._options import OPTION_NAMES, ConfiguredWorkflow
from property.hostile_python import Odd, hostile, ordinary
from property.world import BYSTANDERS, HEALTH, NAMES, create_world
from psycopg import AsyncConnection
from servers import Cluster

EXAMPLES = int(os.environ.get("HOSTILE_EXAMPLES", "12"))
SEED = int(os.environ.get("HOSTILE_SEED", "6"))
# what they change is chosen by a filter or an age, and may be any workflow
FOR_MANY = {
    *("cancel_many", "resume_many", "restart_many", "set_priority_many", "move_many", "purge"),
}
# they wait for a workflow that is not there to end
WAITING = {"result", "get_event", "read_stream"}
# those that are no calls: they are tested by themselves
NO_CALLS = {"using", "close"}
LONGEST_TEXT = 3000
OWN: dict[str, list[Any]] = {
    "destination_ids": [["pending"], ["pending", "waiting"]],
    "messages": [["go"], ["go", {"a": 1}]],
    "inputs": [[(1,)], [{"order_id": 1}, ()]],
    "everything": [True],
    "from_time": [datetime(2026, 1, 1, tzinfo=timezone.utc)],
    "to_time": [datetime(2026, 1, 2, tzinfo=timezone.utc)],
    "timeout": [None, timedelta(0)],
    "from_offset": [0],
    "to_queue": ["mail"],
    "args": [[], [1, "two"]],
}


class Refused(Exception):
    """A call was refused as it may be."""


@pytest.fixture(scope="module")
def dsn(cluster: Cluster) -> Iterator[str]:
    with psycopg.connect(cluster.dsn(), autocommit=True) as admin:
        admin.execute("CREATE DATABASE hostile_client")
        dsn = cluster.dsn("hostile_client")
        create_world(dsn)
        with lockstep.Client(dsn) as client:
            client.schedule_workflow("nightly", "0 3 * * *", "send")
            client.create_queue("mail", concurrency=10)
        yield dsn
        admin.execute("DROP DATABASE hostile_client WITH (FORCE)")


@contextlib.contextmanager
def _loop() -> Iterator[Callable[[Any], Any]]:
    loop = asyncio.new_event_loop()
    try:
        yield loop.run_until_complete
    finally:
        loop.close()


def methods_of(cls: type[Any]) -> dict[str, Callable[..., Any]]:
    """Return the public methods of a class, by name."""
    return {
        name: member
        for name, member in inspect.getmembers(cls, inspect.isroutine)
        if not name.startswith("_") and name not in NO_CALLS
    }


METHODS = methods_of(lockstep.AsyncClient)


def parameters_of(name: str) -> tuple[dict[str, Any], set[str]]:
    """Return the annotations of a method's parameters, and which of them may be left out."""
    if name == "enqueue":
        options = get_type_hints(ConfiguredWorkflow, localns={"WorkflowFunction": WorkflowFunction})
        annotations = {"args": list, "named_args": options["headers"]}
        annotations |= {option: options[option] for option in OPTION_NAMES}
        return {"workflow": options["workflow"] | str, **annotations}, set(annotations)
    method = METHODS[name]
    hints = get_type_hints(method)
    annotations, optional = {}, set()
    for parameter in list(inspect.signature(method).parameters.values())[1:]:
        if parameter.kind is parameter.VAR_KEYWORD:
            fields = get_type_hints(hints[parameter.name].__args__[0])
            annotations |= fields
            optional |= set(fields)
        elif parameter.name != "conn":
            annotations[parameter.name] = hints[parameter.name]
            if parameter.default is not parameter.empty:
                optional.add(parameter.name)
    return annotations, optional


def named(name: str) -> list[Any]:
    """Return the values that a parameter of the name takes."""
    if name in OWN:
        return OWN[name]
    values = NAMES.get(name, [])
    if name in ("retries", "headers", "named_args"):
        return [json.loads(value) for value in values]
    return [] if name in ("rate_period", "partition_rate_period") else values


def arguments_of(name: str, odd_count: int = 2) -> st.SearchStrategy[dict[str, Any]]:
    """Return arguments of a method, of which at most so many are hostile."""
    annotations, optional = parameters_of(name)

    @st.composite
    def some(draw: st.DrawFn) -> dict[str, Any]:
        odd = (
            draw(st.sets(st.sampled_from(sorted(annotations)), max_size=odd_count))
            if annotations
            else set()
        )
        return {
            each: draw(
                hostile(annotation)
                if each in odd
                else st.sampled_from(ordinary(each, annotation, named))
            )
            for each, annotation in annotations.items()
            if each in odd or each not in optional or draw(st.integers(0, 5)) == 0
        }

    return some()


async def call(client: Any, name: str, arguments: dict[str, Any]) -> None:
    """Make a call; raise Refused if it was refused as it may be."""
    given = {
        each: value.value if isinstance(value, Odd) else value for each, value in arguments.items()
    }
    positional: list[Any] = []
    if name in ("enqueue", "enqueue_many", "schedule_workflow"):
        positional = [given.pop("workflow")] if name != "schedule_workflow" else []
    if name == "enqueue" and isinstance(args := given.pop("args", ()), (list, tuple)):
        positional += args
    try:
        answer = getattr(client, name)(*positional, **given)
        if isinstance(answer, AsyncIterator):
            async with asyncio.timeout(0.3):
                async for _ in answer:
                    pass
        else:
            async with asyncio.timeout(0.3 if name in WAITING else 30):
                await answer
    except (lockstep.LockstepError, ValueError, TypeError) as error:
        text = str(error)
        if not 0 < len(text.strip()) < LONGEST_TEXT:
            raise AssertionError(f"{error!r:.500} says {len(text)} characters") from None
        raise Refused(f"{type(error).__name__}: {text}") from error
    except TimeoutError:
        assert name in WAITING, "it hangs"


async def check(
    client: lockstep.AsyncClient, conn: AsyncConnection[Any], name: str, arguments: dict[str, Any]
) -> bool:
    """Make a call that is undone; all else must be as before. Tell if it went."""
    bound = client.using(conn)
    before = await (await conn.execute(BYSTANDERS)).fetchone()
    try:
        await call(bound, name, arguments)
    except Refused as refusal:
        await conn.rollback()
        with contextlib.suppress(Refused):
            await call(client, name, arguments)
            raise AssertionError(f"went on the client's own connection: {refusal}") from None
        assert await (await conn.execute(BYSTANDERS)).fetchone() == before
        return False
    else:
        if name not in FOR_MANY:
            assert await (await conn.execute(BYSTANDERS)).fetchone() == before
            await conn.execute(HEALTH)
        await bound.list()
        await bound.list_queues()
        await bound.list_schedules()
        return True
    finally:
        await conn.rollback()


@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", METHODS)
def test_each_call_goes_or_is_refused_in_words(dsn: str, name: str) -> None:
    went: list[bool] = []

    def make_calls(count: int, odd_count: int) -> None:
        @seed(SEED)
        @settings(
            max_examples=count,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(arguments_of(name, odd_count))
        def make(arguments: dict[str, Any]) -> None:
            went.append(run(check(client, conn, name, arguments)))

        make()

    with _loop() as run:
        conn = run(AsyncConnection.connect(dsn))
        client = lockstep.AsyncClient(dsn)
        try:
            make_calls(EXAMPLES if parameters_of(name)[0] else 1, 2)
            if not any(went):
                make_calls(30, 0)
        finally:
            run(client.close())
            run(conn.close())
    assert any(went), "each call was refused"
