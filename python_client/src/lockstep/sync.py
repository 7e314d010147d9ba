"""
The primitives of a workflow for plain ``def`` workflows, which run on threads.

Each function blocks the calling thread and otherwise does what its namesake in
``lockstep`` does. ``run`` calls an ``async def`` step from a plain workflow.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any, TypeVar

from . import _primitives
from ._errors import BlockingCall
from ._primitives import WorkflowContext, context
from ._scope import current_run

__all__ = ["WorkflowContext", "context", "receive", "run", "send", "set_event", "sleep"]

T = TypeVar("T")


def refuse_on_event_loop(what: str, instead: str) -> None:
    """Raise BlockingCall if the calling thread runs an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise BlockingCall(f"{what} would block the event loop here; write {instead}")


def run(awaitable: Coroutine[Any, Any, T]) -> T:
    """
    Call an ``async def`` step, or await a primitive, from a plain workflow.

    >>> charge_id = lockstep.sync.run(charge(order_id))    # doctest: +SKIP
    """
    try:
        refuse_on_event_loop("lockstep.sync.run()", "await instead")
    except BlockingCall:
        awaitable.close()
        raise
    return current_run("run").from_thread(awaitable)


def sleep(duration: timedelta) -> None:
    """Sleep durably; see :func:`lockstep.sleep`."""
    refuse_on_event_loop("lockstep.sync.sleep()", "await lockstep.sleep()")
    run(_primitives.sleep(duration))


def receive(topic: str | None = None, *, timeout: timedelta | None = None) -> Any:
    """Receive a message; see :func:`lockstep.receive`."""
    refuse_on_event_loop("lockstep.sync.receive()", "await lockstep.receive()")
    return run(_primitives.receive(topic, timeout=timeout))


def send(
    destination_id: str,
    message: Any,
    topic: str | None = None,
    *,
    idempotency_key: str | None = None,
) -> None:
    """Send a message; see :func:`lockstep.send`."""
    refuse_on_event_loop("lockstep.sync.send()", "await lockstep.send()")
    run(_primitives.send(destination_id, message, topic, idempotency_key=idempotency_key))


def set_event(key: str, value: Any) -> None:
    """Publish a value; see :func:`lockstep.set_event`."""
    refuse_on_event_loop("lockstep.sync.set_event()", "await lockstep.set_event()")
    run(_primitives.set_event(key, value))
