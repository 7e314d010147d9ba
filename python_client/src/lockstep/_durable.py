"""What every durable call beside a step has in common: a number, a record, a replay."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from ._codec import decode_error, decode_json, encode, encode_error
from ._errors import LockstepError, NotDeterministic, PayloadError, StepMismatch
from ._run import RecordedStep, Run
from ._scope import Scope, current_workflow


@dataclass(frozen=True, slots=True)
class RecordedFailure:
    """What an operation returns that ended in an error which the database recorded."""

    document: dict[str, Any]


def _output_of(run: Run, recorded: RecordedStep) -> Any:
    return run.payloads.load(recorded.output)


def failure_of(document: dict[str, Any]) -> Exception:
    """Return the exception of a recorded error."""
    return decode_error(document)


def durable(
    name: str,
    operation: Callable[[Run, int, RecordedStep | None], Awaitable[Any]],
    *,
    scope: Scope | None = None,
    replay: Callable[[Run, RecordedStep], Any] = _output_of,
    failure: Callable[[dict[str, Any]], Exception] = failure_of,
) -> Coroutine[Any, Any, Any]:
    """
    Number a call now, so that ids follow the order of calls, and make it when awaited.

    ``operation`` is called with the run, the step's id and what an unfinished earlier
    attempt left; ``replay`` and ``failure`` turn a finished one's record into the value or
    the exception. What Lockstep refuses is recorded as the step's failure, so that a
    replay takes the same way.
    """
    scope = current_workflow(name) if scope is None else scope
    run = scope.run
    step_id = scope.next_step_id()

    async def call() -> Any:
        recorded = run.recorded(step_id, name)
        if recorded is not None and recorded.is_finished:
            if recorded.error is not None:
                raise failure(run.payloads.open_error(decode_json(recorded.error)))
            return replay(run, recorded)
        try:
            outcome = await operation(run, step_id, recorded)
        except (StepMismatch, NotDeterministic, PayloadError):
            raise
        except LockstepError as error:
            await record(run, step_id, name, error=encode_error(error))
            raise
        if isinstance(outcome, RecordedFailure):
            raise failure(run.payloads.open_error(outcome.document))
        return outcome

    return run.branches.call(call)


async def record(run: Run, step_id: int, name: str, **outcome: str) -> None:
    """Record the outcome of a call: ``output`` or ``error``, a JSON text."""
    await run.change("steps", step_id, step_name=encode(name), **outcome)


def seconds_or_null(duration: timedelta | None) -> str:
    """Return a duration as JSON, in seconds."""
    return "null" if duration is None else repr(duration.total_seconds())
