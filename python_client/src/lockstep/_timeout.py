"""The time that one attempt of a step may take."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import TYPE_CHECKING, Any

from ._errors import StepTimeout

if sys.version_info >= (3, 11):
    from asyncio import timeout as limit
else:
    from async_timeout import timeout as limit

if TYPE_CHECKING:
    from ._functions import StepFunction


def _too_slow(step: StepFunction[..., Any]) -> StepTimeout:
    return StepTimeout(f'step "{step.name}" took longer than {step.timeout:g} s')


async def within(step: StepFunction[..., Any], call: Coroutine[Any, Any, Any]) -> Any:
    """Await an attempt of a step; cancel it and raise StepTimeout when its time is over."""
    if step.timeout is None:
        return await call
    try:
        async with limit(step.timeout) as alarm:
            return await call
    except (TimeoutError, asyncio.TimeoutError) as error:  # two classes before Python 3.11
        if _is_over(alarm):
            raise _too_slow(step) from error
        raise


def _is_over(alarm: Any) -> bool:
    expired = alarm.expired
    return bool(expired() if callable(expired) else expired)


def call_within(step: StepFunction[..., Any], call: Callable[[], Any]) -> Any:
    """Make an attempt of a plain step; leave it and raise StepTimeout when its time is over."""
    if step.timeout is None:
        return call()
    outcome: Future[Any] = Future()
    context = contextvars.copy_context()

    def run() -> None:
        try:
            outcome.set_result(context.run(call))
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=run, name=f"lockstep step {step.name}", daemon=True).start()
    try:
        return outcome.result(step.timeout)
    except FutureTimeout as error:
        if outcome.done():  # its own error, or it ended just now
            return outcome.result()
        raise _too_slow(step) from error
