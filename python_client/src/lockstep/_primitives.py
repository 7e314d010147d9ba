"""What a workflow may do beside calling steps: sleep, receive, send, publish."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from ._codec import decode_json, encode
from ._errors import WorkflowNotFound
from ._run import Run
from ._scope import current_run


@dataclass(frozen=True, slots=True)
class WorkflowContext:
    """What a running workflow may know about itself."""

    workflow_id: str
    workflow_name: str
    queue_name: str
    attempt: int
    headers: dict[str, Any]


def context() -> WorkflowContext:
    """
    Return the identity of the running workflow; raise NotInWorkflow outside of one.

    >>> workflow_id = lockstep.context().workflow_id    # doctest: +SKIP
    """
    run = current_run("context")
    return WorkflowContext(
        run.workflow_id, run.workflow_name, run.queue_name, run.attempt, run.headers
    )


def _as_step(
    name: str, operation: Callable[[Run, int], Awaitable[Any]]
) -> Coroutine[Any, Any, Any]:
    """Number the call now, so that ids follow the order of calls, and run it when awaited."""
    run = current_run(name)
    step_id = run.next_step_id()
    return run.primitive(functools.partial(operation, run, step_id))


def sleep(duration: timedelta) -> Coroutine[Any, Any, None]:
    """
    Sleep durably: the moment to wake up is recorded and survives every crash.

    A long sleep suspends the workflow, which then costs a row and nothing else.

    >>> await lockstep.sleep(timedelta(days=3))    # doctest: +SKIP
    """
    seconds = max(duration.total_seconds(), 0.0)

    async def operation(run: Run, step_id: int) -> None:
        recorded = run.recorded(step_id, "sleep")
        if recorded is None:
            wakes_at = await run.start_timer(step_id, "sleep", seconds)
        elif recorded.is_finished:
            return
        else:
            wakes_at = recorded.wakes_at
        await run.wait(step_id, wakes_at)
        run.change("steps", step_id, step_name=encode("sleep"), output="null")

    return _as_step("sleep", operation)


def receive(
    topic: str | None = None, *, timeout: timedelta | None = None
) -> Coroutine[Any, Any, Any]:
    """
    Receive the oldest message of a topic that was sent to this workflow.

    Returns the message as it was sent, JSON; None when the timeout passes first. The
    timeout runs from the first call, whatever crashes in between. While nothing comes the
    workflow is suspended.

    >>> approval = await lockstep.receive("approval", timeout=timedelta(hours=24))  # doctest: +SKIP
    """
    fields = {
        "topic": "null" if topic is None else encode(topic),
        "timeout": "null" if timeout is None else repr(timeout.total_seconds()),
    }

    async def operation(run: Run, step_id: int) -> Any:
        recorded = run.recorded(step_id, "receive")
        if recorded is not None and recorded.is_finished:
            return decode_json(recorded.output)
        while True:
            reply = await run.change("receives", step_id, **fields)
            if reply["outcome"] != "waiting":
                return decode_json(reply["message"])
            await run.wait(step_id, run.moment(reply["remaining"]), topic or "")

    return _as_step("receive", operation)


def send(
    destination_id: str,
    message: Any,
    topic: str | None = None,
    *,
    idempotency_key: str | None = None,
) -> Coroutine[Any, Any, None]:
    """
    Send a message to another workflow, exactly once, recorded as a step.

    Raises WorkflowNotFound if no workflow has the id.

    >>> await lockstep.send(parent_id, {"state": "packed"}, "progress")    # doctest: +SKIP
    """
    fields = {
        "destination_id": encode(destination_id),
        "message": encode(message),
        "topic": encode(topic),
        "idempotency_key": encode(idempotency_key),
    }

    async def operation(run: Run, step_id: int) -> None:
        if run.recorded(step_id, "send") is not None:
            return
        outcome = await run.change("messages", step_id, **fields)
        if outcome == "unknown_destination":
            raise WorkflowNotFound(f'workflow "{destination_id}" does not exist')

    return _as_step("send", operation)


def set_event(key: str, value: Any) -> Coroutine[Any, Any, None]:
    """
    Publish a value of this workflow under a key; the last value wins.

    Clients and SQL read it with get_event().

    >>> await lockstep.set_event("state", "shipping")    # doctest: +SKIP
    """
    fields = {"key": encode(key), "value": encode(value)}

    async def operation(run: Run, step_id: int) -> None:
        if run.recorded(step_id, "set_event") is None:
            await run.change("events", step_id, **fields)

    return _as_step("set_event", operation)
