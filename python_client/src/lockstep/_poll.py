"""Ask again and again, without a history that grows."""

from __future__ import annotations

import contextvars
import functools
import inspect
import time
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

from ._codec import ReturnCodec, encode_error
from ._durable import durable, record
from ._errors import InvalidArgument, LockstepError, WaitTimeout
from ._exits import call_on_thread
from ._run import RecordedStep, Run
from ._scope import Branch, Scope, StepCall, current_scope


def poll(
    function: Callable[..., Any],
    /,
    *args: Any,
    interval: timedelta,
    timeout: timedelta | None = None,
    **kwargs: Any,
) -> Coroutine[Any, Any, Any]:
    """
    Call a function every ``interval`` until it returns something true, and return that.

    One step, however often the function is called; between two calls the workflow is
    suspended. Raises WaitTimeout when ``timeout``, which runs from the first call, is over;
    what the function raises ends the poll and is recorded. The function may be a step,
    whose retries and timeout do not apply here, or any other, async or plain; plain ones
    run on a thread.

    >>> paid = await lockstep.poll(                                   # doctest: +SKIP
    ...     is_paid, order_id, interval=timedelta(minutes=1), timeout=timedelta(days=2)
    ... )
    """
    if interval <= timedelta(0):
        raise InvalidArgument(f"interval must be positive, not {interval}")
    if getattr(function, "records_itself", False):
        raise InvalidArgument("poll() asks no step that commits itself")
    asked = getattr(function, "function", function)
    name = getattr(function, "name", None) or f"poll {asked.__name__}"
    returns = ReturnCodec(asked)
    allowed = None if timeout is None else timeout.total_seconds()

    async def operation(run: Run, step_id: int, begun: RecordedStep | None) -> Any:
        began_at = time.monotonic()
        count = 0
        if begun is not None:
            began_at, count = begun.began_at, begun.attempts
            await run.branches.wait(step_id, begun.wakes_at)
        while True:
            count += 1
            try:
                value = await _ask(run, StepCall(function, step_id, count), asked, args, kwargs)
                text, value = returns.encode(value)
            except LockstepError:
                raise
            except Exception as error:
                await record(
                    run,
                    step_id,
                    name,
                    error=run.payloads.seal_error(encode_error(error)),
                    attempts=str(count),
                )
                raise
            if value:
                output = run.payloads.seal(text)
                await record(run, step_id, name, output=output, attempts=str(count))
                return value
            left = None if allowed is None else began_at + allowed - time.monotonic()
            if left is not None and left <= 0:
                raise WaitTimeout(f'"{name}" returned nothing true within {timeout}')
            pause = (
                interval.total_seconds() if left is None else min(interval.total_seconds(), left)
            )
            await run.branches.wait(step_id, await run.start_timer(step_id, name, pause, count))

    def replay(run: Run, recorded: RecordedStep) -> Any:
        return returns.decode(run.payloads.load(recorded.output))

    return durable(name, operation, replay=replay)


async def _ask(
    run: Run, call: StepCall, function: Callable[..., Any], args: Any, kwargs: Any
) -> Any:
    token = current_scope.set(Scope(run, Branch(), call))
    try:
        if inspect.iscoroutinefunction(function):
            return await function(*args, **kwargs)
        context = contextvars.copy_context()
        asked = functools.partial(context.run, call_on_thread, function, *args, **kwargs)
        return await run.loop.run_in_executor(run.worker.threads, asked)
    finally:
        current_scope.reset(token)
