"""What a workflow may do beside calling steps: sleep, talk to others, publish."""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ._branches import Awaited
from ._codec import encode
from ._durable import durable, seconds_or_null
from ._errors import InvalidArgument, WaitTimeout, WorkflowNotFound
from ._run import RecordedStep, Run
from ._scope import current_scope_or_step, current_workflow


@dataclass(frozen=True, slots=True)
class WorkflowContext:
    """
    What a running workflow may know about itself; ``step_id`` is None outside of a step.

    The workflow's id and the step's name the same call at each repetition: together they
    are an idempotency key for a service that the step calls.
    """

    workflow_id: str
    workflow_name: str
    queue_name: str
    attempt: int
    headers: dict[str, Any]
    step_id: int | None


def context() -> WorkflowContext:
    """
    Return the identity of the running workflow and step; raise NotInWorkflow outside of one.

    >>> workflow_id = lockstep.context().workflow_id    # doctest: +SKIP
    """
    scope = current_scope_or_step("context")
    run = scope.run
    return WorkflowContext(
        run.workflow_id,
        run.workflow_name,
        run.queue_name,
        run.attempt,
        run.headers,
        None if scope.step_call is None else scope.step_call.step_id,
    )


def sleep(duration: timedelta) -> Coroutine[Any, Any, None]:
    """
    Sleep durably: the moment to wake up is recorded and survives every crash.

    A long sleep suspends the workflow, which then costs a row and nothing else.

    >>> await lockstep.sleep(timedelta(days=3))    # doctest: +SKIP
    """
    seconds = max(duration.total_seconds(), 0.0)
    return _sleep(lambda run: seconds)


def sleep_until(moment: datetime) -> Coroutine[Any, Any, None]:
    """
    Sleep durably until a moment, an aware datetime, by the database's clock.

    A moment that has passed is no sleep. Raises InvalidArgument for a naive datetime.

    >>> await lockstep.sleep_until(datetime(2027, 1, 1, tzinfo=timezone.utc))  # doctest: +SKIP
    """
    if moment.tzinfo is None:
        raise InvalidArgument(f"sleep_until() needs an aware datetime, not {moment!r}")
    return _sleep(lambda run: max((moment - run.worker.database_time()).total_seconds(), 0.0))


def _sleep(seconds_in: Any) -> Coroutine[Any, Any, None]:
    async def operation(run: Run, step_id: int, begun: RecordedStep | None) -> None:
        if begun is None:
            wakes_at = await run.start_timer(step_id, "sleep", seconds_in(run))
        else:
            wakes_at = begun.wakes_at
        await run.branches.wait(step_id, wakes_at)
        run.change("steps", step_id, step_name=encode("sleep"), output="null")

    return durable("sleep", operation, replay=lambda run, recorded: None)


def receive(
    topic: str | None = None,
    *,
    timeout: timedelta | None = None,
    raise_on_timeout: bool = False,
) -> Coroutine[Any, Any, Any]:
    """
    Receive the oldest message of a topic that was sent to this workflow.

    Returns the message as it was sent, JSON; when the timeout passes first, None, or
    WaitTimeout is raised if ``raise_on_timeout`` says so. The timeout runs from the first
    call, whatever crashes in between. While nothing comes the workflow is suspended.

    >>> approval = await lockstep.receive("approval", timeout=timedelta(hours=24))  # doctest: +SKIP
    """
    fields = {
        "topic": "null" if topic is None else encode(topic),
        "timeout": seconds_or_null(timeout),
    }

    def message_of(is_timeout: bool, message: Any) -> Any:
        if is_timeout and raise_on_timeout:
            raise WaitTimeout(f'no message of topic "{topic or ""}" came within {timeout}')
        return message

    async def operation(run: Run, step_id: int, begun: RecordedStep | None) -> tuple[bool, Any]:
        while True:
            reply = await run.change("receives", step_id, **fields)
            if reply["outcome"] != "waiting":
                return reply["outcome"] == "timed_out", run.payloads.load(reply["message"])
            await run.branches.wait(step_id, run.moment(reply["remaining"]), topic=topic or "")

    def replay(run: Run, recorded: RecordedStep) -> tuple[bool, Any]:
        return recorded.attempts == 0, run.payloads.load(recorded.output)

    async def received(outcome: Coroutine[Any, Any, tuple[bool, Any]]) -> Any:
        return message_of(*await outcome)

    return received(durable("receive", operation, replay=replay))


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
    scope = current_workflow("send")
    fields = {
        "destination_id": encode(destination_id),
        "message": scope.run.payloads.store(message),
        "topic": encode(topic),
        "idempotency_key": encode(idempotency_key),
    }

    async def operation(run: Run, step_id: int, begun: RecordedStep | None) -> None:
        outcome = await run.change("messages", step_id, **fields)
        if outcome == "unknown_destination":
            raise WorkflowNotFound(f'workflow "{destination_id}" does not exist')

    return durable("send", operation, scope=scope)


def set_event(key: str, value: Any) -> Coroutine[Any, Any, None]:
    """
    Publish a value of this workflow under a key; the last value wins.

    Workflows, clients and SQL read it with get_event(), and may wait for it.

    >>> await lockstep.set_event("state", "shipping")    # doctest: +SKIP
    """
    scope = current_workflow("set_event")
    fields = {"key": encode(key), "value": scope.run.payloads.store(value)}

    async def operation(run: Run, step_id: int, begun: RecordedStep | None) -> None:
        await run.change("events", step_id, **fields)

    return durable("set_event", operation, scope=scope)


def get_event(
    workflow_id: str, key: str, *, timeout: timedelta | None = None
) -> Coroutine[Any, Any, Any]:
    """
    Return the value that another workflow published under a key, and wait for the first one.

    Raises WaitTimeout when the timeout, which runs from the first call, passes before, or
    the other workflow ends; ``timedelta(0)`` only looks. Raises WorkflowNotFound if no
    workflow has the id.

    >>> state = await lockstep.get_event(order_id, "state")    # doctest: +SKIP
    """
    awaited = Awaited(workflow_id, key)

    async def operation(run: Run, step_id: int, begun: RecordedStep | None) -> Any:
        reply = await look_until_it_comes(run, step_id, "get_event", awaited, timeout)
        if reply["outcome"] == "timed_out":
            raise _no_event(awaited)
        return run.payloads.load(reply["output"])

    def replay(run: Run, recorded: RecordedStep) -> Any:
        if recorded.attempts == 0:
            raise _no_event(awaited)
        return run.payloads.load(recorded.output)

    return durable("get_event", operation, replay=replay)


def _no_event(awaited: Awaited) -> WaitTimeout:
    return WaitTimeout(
        f'workflow "{awaited.workflow_id}" did not set event "{awaited.key}" in time'
    )


async def look_until_it_comes(
    run: Run, step_id: int, name: str, awaited: Awaited, timeout: timedelta | None
) -> dict[str, Any]:
    """Wait for the end or an event of another workflow; return the answer that says so."""
    fields = {
        "step_name": encode(name),
        "awaited_id": encode(awaited.workflow_id),
        "key": encode(awaited.key),
        "timeout": seconds_or_null(timeout),
    }
    while True:
        reply: dict[str, Any] = await run.change("awaits", step_id, **fields)
        if reply["outcome"] == "unknown":
            raise WorkflowNotFound(f'workflow "{awaited.workflow_id}" does not exist')
        if reply["outcome"] != "waiting":
            run.branches.note_end_of_other()
            return reply
        await run.branches.wait(step_id, run.moment(reply["remaining"]), awaited=awaited)


def write_stream(key: str, value: Any) -> Coroutine[Any, Any, None]:
    """
    Append a value to a stream of this workflow, for readers to follow.

    In a workflow it is recorded as a step and happens once. Inside a step it is written
    as it comes, such as the words of an answer, and again if the step is repeated. Raises
    InvalidArgument when the stream is closed.

    >>> await lockstep.write_stream("answer", token)    # doctest: +SKIP
    """
    scope = current_scope_or_step("write_stream")
    return _write_stream("write_stream", key, value=scope.run.payloads.store(value))


def close_stream(key: str) -> Coroutine[Any, Any, None]:
    """
    Close a stream of this workflow: its readers come to the end of it.

    The end of the workflow ends all of its streams, so that closing one is only needed
    when its readers shall not wait for that.

    >>> await lockstep.close_stream("answer")    # doctest: +SKIP
    """
    return _write_stream("close_stream", key, is_end="true")


def _write_stream(name: str, key: str, **fields: str) -> Coroutine[Any, Any, None]:
    scope = current_scope_or_step(name)
    fields["key"] = encode(key)

    async def operation(run: Run, step_id: int, begun: RecordedStep | None) -> None:
        if await run.change("streams", step_id, **fields) == "closed":
            raise InvalidArgument(f'stream "{key}" is closed')

    if not scope.is_step:
        return durable(name, operation, scope=scope)
    return scope.run.branches.call(lambda: operation(scope.run, scope.run.next_loose_id(), None))


def set_progress(
    done: float, total: float | None = None, note: str | None = None
) -> Coroutine[Any, Any, None]:
    """
    Note how far this workflow has come, for people who look at it.

    No step: the last note counts, it costs no history, and a replay does not note again
    what was passed before. May be called in a workflow and in its steps.

    >>> await lockstep.set_progress(30, 100, "invoices sent")    # doctest: +SKIP
    """
    run = current_scope_or_step("set_progress").run
    fields = {"done": encode(done), "total": encode(total), "note": encode(note)}

    async def operation() -> None:
        if not run.is_replaying:
            await run.change("progress", run.next_loose_id(), **fields)

    return run.branches.call(operation)
