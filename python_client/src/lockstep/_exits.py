"""Exits that user code asks for: they end its step or task, not the worker."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

from ._errors import StepFailed
from ._scope import current_scope

T = TypeVar("T")

EXITS = (SystemExit, KeyboardInterrupt, GeneratorExit)


def failure_of(exit: BaseException) -> StepFailed:
    """Return the failure that stands for an exit, which would stop the event loop."""
    return StepFailed(type(exit).__name__, str(exit))


def call_on_thread(function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
    """Call a plain function; no future would take a StopIteration, and whoever waits hang."""
    try:
        return function(*args, **kwargs)
    except StopIteration as error:
        raise RuntimeError("function raised StopIteration") from error


_workers_on: Counter[asyncio.AbstractEventLoop] = Counter()


@contextlib.contextmanager
def tasks_contained(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Let no task of a workflow's code stop the loop, while one of its workers runs."""
    _workers_on[loop] += 1
    if loop.get_task_factory() is None:
        loop.set_task_factory(_make_task)
    try:
        yield
    finally:
        _workers_on[loop] -= 1
        if not _workers_on[loop]:
            del _workers_on[loop]
            if loop.get_task_factory() is _make_task:
                loop.set_task_factory(None)


async def _contained(coroutine: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await coroutine
    except (SystemExit, KeyboardInterrupt) as error:
        raise failure_of(error) from error


def _make_task(
    loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any
) -> asyncio.Task[Any]:
    """Make a task; one of a workflow's code cannot stop the event loop by an exit."""
    if current_scope.get() is None or not asyncio.iscoroutine(coroutine):
        return asyncio.Task(coroutine, loop=loop, **options)
    task = asyncio.Task(_contained(coroutine), loop=loop, **options)
    task.add_done_callback(lambda _: coroutine.close())  # if it was cancelled before it began
    return task
