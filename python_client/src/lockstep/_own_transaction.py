"""
Steps that commit their own checkpoint, in a transaction of the user's own stack.

SQLAlchemy, Django and the like hold the connection; the step executes ``record_step()``,
as :func:`checkpoint` gives it, as the last statement of its transaction. Only the
recorded step tells whether that commit arrived, so the worker looks at it each time.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from ._branches import RunEnded
from ._errors import LockstepError
from ._run import Run
from ._scope import current_scope_or_step
from ._step_flow import CallStep, outcome_of
from ._timeout import call_within, within

if TYPE_CHECKING:
    from ._functions import SelfCommittingStep


class Checkpoint(NamedTuple):
    """A query, with its parameters for ``%s``, that records the running step."""

    query: str
    params: tuple[Any, ...]


def checkpoint(output: Any = None) -> Checkpoint:
    """
    Return the statement that records the running step with its output.

    For a step that ``commits_itself``: execute it as the last statement of the transaction
    that does the step's work, then commit. What was written there and the checkpoint commit
    together: exactly once, whatever crashes when. The step's outcome in the workflow is
    this output, whatever its function returns. Raises NotInWorkflow outside of a step.

    >>> cursor.execute(*lockstep.checkpoint("paid"))    # doctest: +SKIP
    """
    scope = current_scope_or_step("checkpoint")
    call = scope.step_call
    if call is None or not getattr(call.step, "records_itself", False):
        raise LockstepError(
            "checkpoint() was called outside of a step that says commits_itself=True"
        )
    run = scope.run
    return Checkpoint(
        "SELECT lockstep.record_step(%s, %s, %s, %s, %s, %s::jsonb, %s)",
        (
            run.worker.executor_id,
            run.workflow_id,
            run.attempt,
            call.step_id,
            call.step.name,
            run.payloads.store(output),
            call.attempt,
        ),
    )


def _state_of(error: BaseException | None) -> str | None:
    """Return the SQLSTATE of an error, or of what it wraps, as SQLAlchemy and Django do."""
    while error is not None:
        state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
        if state is not None:
            return str(state)
        error = getattr(error, "orig", None) or error.__cause__
    return None


def _outcome(
    run: Run,
    step: SelfCommittingStep[..., Any],
    recorded: tuple[str | None, str | None] | None,
    failure: Exception | None,
) -> Any:
    """Return the recorded outcome; without one, raise why there is none."""
    if recorded is not None:
        return outcome_of(run, step, *recorded)
    if run.ended is not None or _state_of(failure) in ("WF001", "WF002"):
        run.loop.call_soon_threadsafe(run.end, "lost")
        raise RunEnded from failure
    if failure is not None:
        raise failure
    raise LockstepError(
        f'step "{step.name}" returned without a recorded outcome: '
        "execute what lockstep.checkpoint() returns and commit"
    )


async def run_async(
    run: Run,
    step: SelfCommittingStep[..., Any],
    action: CallStep,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Run an ``async def`` step that commits itself."""
    failure = None
    try:
        await within(step, step.function(*args, **kwargs))
    except Exception as error:
        failure = error
    recorded = await run.recorded_outcome(action.step_id)
    return _outcome(run, step, recorded, failure)


def run_sync(
    run: Run,
    step: SelfCommittingStep[..., Any],
    action: CallStep,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Run a plain ``def`` step that commits itself, in the calling thread."""
    failure = None
    try:
        call_within(step, partial(step.function, *args, **kwargs))
    except Exception as error:
        failure = error
    recorded = run.branches.from_thread(run.recorded_outcome(action.step_id))
    return _outcome(run, step, recorded, failure)
