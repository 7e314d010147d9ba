"""Exits that user code asks for: they end its step or task, not the worker."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator
from typing import Any

from ._errors import StepFailed
from ._scope import current_scope

_EXITS = (SystemExit, KeyboardInterrupt, GeneratorExit)


@contextlib.contextmanager
def exits_contained() -> Iterator[None]:
    """Turn an exit, which would stop the event loop, into a failure."""
    try:
        yield
    except _EXITS as error:
        raise StepFailed(type(error).__name__, str(error)) from error


async def _contained(coroutine: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await coroutine
    except (SystemExit, KeyboardInterrupt) as error:
        raise StepFailed(type(error).__name__, str(error)) from error


def task_factory(
    loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any
) -> asyncio.Task[Any]:
    """Make a task; one of a workflow's code cannot stop the event loop by an exit."""
    if current_scope.get() is None or not asyncio.iscoroutine(coroutine):
        return asyncio.Task(coroutine, loop=loop, **options)
    task = asyncio.Task(_contained(coroutine), loop=loop, **options)
    task.add_done_callback(lambda _: coroutine.close())  # if it was cancelled before it began
    return task
