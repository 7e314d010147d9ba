"""Sagas: undo what was done when a workflow fails or is cancelled."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, ParamSpec

from ._codec import encode
from ._durable import durable, record
from ._errors import InvalidArgument
from ._run import RecordedStep, Run
from ._scope import current_workflow

if TYPE_CHECKING:
    from ._app import App
    from ._functions import StepFunction

P = ParamSpec("P")

COMPENSATE = "lockstep.compensate"
"""Name of the workflow that undoes another one's steps; the database enqueues it."""


def compensate(
    step: StepFunction[P, Any], /, *args: P.args, **kwargs: P.kwargs
) -> Coroutine[Any, Any, None]:
    """
    Register a step that undoes what this workflow did, should it fail or be cancelled.

    When the workflow ends in ERROR, CANCELLED or the dead letter, a workflow
    "lockstep.compensate", its child, calls the registered steps, the last one first, each
    durably and with its own retries. A workflow that succeeds undoes nothing.

    Register before the step that is to be undone, and let the undo step bear that the
    step did not happen: nothing can come between the two then.

    >>> await lockstep.compensate(refund, order_id)    # doctest: +SKIP
    >>> await charge(order_id)                         # doctest: +SKIP
    """
    scope = current_workflow("compensate")
    if scope.run.worker.app.steps.get(step.name) is not step:
        raise InvalidArgument(
            f'undo step "{step.name}" is not the step of this name in the app: '
            "give it a name of its own"
        )
    inputs = scope.run.payloads.store_inputs(args, kwargs)
    undo = f'{{"step":{encode(step.name)},{inputs[1:]}'

    async def operation(run: Run, step_id: int, begun: RecordedStep | None) -> None:
        await record(run, step_id, "compensate", output=undo)

    return durable("compensate", operation, scope=scope, replay=lambda run, recorded: None)


def compensation_of(app: App) -> Any:
    """Return the function of the workflow that calls registered undo steps."""

    async def run_undo_steps(undo_steps: list[dict[str, Any]]) -> None:
        for undo in undo_steps:
            step = app.steps.get(undo["step"])
            if step is None:
                raise InvalidArgument(f'the app has no step "{undo["step"]}"')
            payloads = current_workflow(COMPENSATE).run.payloads
            args, kwargs = step.arguments.decode(payloads.open_inputs(undo))
            if step.is_async:
                await step(*args, **kwargs)
            else:
                await step.in_thread(*args, **kwargs)

    return run_undo_steps
