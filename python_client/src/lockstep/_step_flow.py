"""
A step, as a generator without I/O that is driven from the event loop or from a thread.

The generator holds what must not differ between the two: replay, attempts, pauses, and
the order of effect and record.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from ._codec import decode_error, decode_json, encode, encode_error
from ._errors import Unserializable

if TYPE_CHECKING:
    from ._functions import StepFunction
    from ._run import Run

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CallStep:
    """Ask the driver to call the step's function."""

    step_id: int
    attempt: int


@dataclass(frozen=True, slots=True)
class RecordStep:
    """Ask the driver to record the step's outcome and to wait for the commit."""

    step_id: int
    fields: dict[str, str]


Action = CallStep | RecordStep | Callable[[], Awaitable[Any]]


def step_flow(run: Run, step: StepFunction[..., Any], step_id: int) -> Generator[Action, Any, Any]:
    """
    Take a step from its recorded past, through attempts and pauses, to its outcome.

    Yields what is to be done: CallStep for the function itself, RecordStep for its outcome,
    anything else is a coroutine function to run on the worker's loop.
    """
    recorded = run.recorded(step_id, step.name)
    attempt = 0
    if recorded is not None:
        if recorded.is_finished:
            return outcome_of(run, step, recorded.output, recorded.error)
        attempt = recorded.attempts
        yield partial(run.branches.wait, step_id, recorded.wakes_at)

    while True:
        attempt += 1
        started = time.perf_counter()
        try:
            value = yield CallStep(step_id, attempt)
            if step.records_itself:
                return value
            text, value = step.returns.encode(value)
            outcome = {"output": run.payloads.seal(text)}
            failure = None
        except Exception as error:
            if error is run.fatal:
                raise  # the outcome cannot be written
            failure = error
            outcome = {"error": run.payloads.seal_error(encode_error(error))}
            pause = (
                None
                if isinstance(error, Unserializable)
                else step.retry.pause_after(attempt, error)
            )
            if pause is not None:
                wakes_at = yield partial(
                    run.start_timer,
                    step_id,
                    step.name,
                    pause.total_seconds(),
                    attempt,
                    outcome["error"],
                )
                yield partial(run.branches.wait, step_id, wakes_at)
                continue

        duration = time.perf_counter() - started
        yield RecordStep(
            step_id,
            {
                "step_name": encode(step.name),
                "attempts": str(attempt),
                "duration": f"{duration:.6f}",
                **outcome,
            },
        )
        if failure is not None:
            if step.records_itself:  # its own commit, still under way just now, comes first
                recorded_outcome = yield partial(run.recorded_outcome, step_id)
                return outcome_of(run, step, *recorded_outcome)
            raise failure
        return value


def outcome_of(
    run: Run, step: StepFunction[..., Any], output: str | None, error: str | None
) -> Any:
    """Return a recorded output, or raise the recorded error; both are JSON texts."""
    if error is not None:
        raise decode_error(run.payloads.open_error(decode_json(error)))
    return step.returns.decode(run.payloads.load(output))


async def drive(
    run: Run,
    flow: Generator[Action, Any, T],
    call: Callable[[CallStep], Awaitable[Any]],
) -> T:
    """Drive a step from the event loop."""
    reply: Any = None
    failure: BaseException | None = None
    while True:
        try:
            action = flow.throw(failure) if failure is not None else flow.send(reply)
        except StopIteration as stop:
            value: T = stop.value
            return value
        failure = None
        try:
            if isinstance(action, CallStep):
                reply = await call(action)
            elif isinstance(action, RecordStep):
                reply = await run.change("steps", action.step_id, **action.fields)
            else:
                reply = await action()
        except BaseException as error:
            failure = error


def drive_in_thread(
    run: Run,
    flow: Generator[Action, Any, T],
    call: Callable[[CallStep], Any],
) -> T:
    """Drive a step from a thread: its function runs here, the rest on the worker's loop."""
    reply: Any = None
    failure: BaseException | None = None
    while True:
        try:
            action = flow.throw(failure) if failure is not None else flow.send(reply)
        except StopIteration as stop:
            value: T = stop.value
            return value
        failure = None
        try:
            if isinstance(action, CallStep):
                reply = call(action)
            elif isinstance(action, RecordStep):
                run.record_step_in_thread(action.step_id, **action.fields)
            else:
                reply = run.branches.from_thread(run.branches.call(action))
        except BaseException as error:
            failure = error
