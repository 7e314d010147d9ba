"""
The primitives of a workflow for plain ``def`` workflows, which run on threads.

Each function blocks the calling thread and otherwise does what its namesake in
``lockstep`` does. ``run`` calls an ``async def`` step from a plain workflow.
"""

from __future__ import annotations

import contextvars
import threading
import uuid as _uuid
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from . import _children, _determinism, _poll, _primitives, _saga
from ._branches import RunEnded
from ._errors import BlockingCall, InvalidArgument
from ._options import ConfiguredWorkflow
from ._primitives import WorkflowContext, context
from ._scope import Scope, current_scope, current_scope_or_step, current_workflow
from ._threads import refuse_on_event_loop

if TYPE_CHECKING:
    from ._functions import StepFunction, WorkflowFunction

__all__ = [
    "WorkflowContext",
    "WorkflowHandle",
    "close_stream",
    "compensate",
    "context",
    "get_event",
    "map",
    "now",
    "patch",
    "poll",
    "random",
    "receive",
    "run",
    "send",
    "set_event",
    "set_progress",
    "sleep",
    "sleep_until",
    "start_workflow",
    "uuid",
    "write_stream",
]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


def run(awaitable: Coroutine[Any, Any, T]) -> T:
    """
    Call an ``async def`` step, or await a primitive, from a plain workflow.

    >>> charge_id = lockstep.sync.run(charge(order_id))    # doctest: +SKIP
    """
    try:
        refuse_on_event_loop("lockstep.sync.run()", "await instead")
        scope = current_scope_or_step("run")
    except BlockingCall:
        awaitable.close()
        raise
    return scope.run.branches.from_thread(awaitable)


def _refuse(name: str) -> None:
    refuse_on_event_loop(f"lockstep.sync.{name}()", f"await lockstep.{name}()")


def sleep(duration: timedelta) -> None:
    """Sleep durably; see :func:`lockstep.sleep`."""
    _refuse("sleep")
    run(_primitives.sleep(duration))


def sleep_until(moment: datetime) -> None:
    """Sleep durably until a moment; see :func:`lockstep.sleep_until`."""
    _refuse("sleep_until")
    run(_primitives.sleep_until(moment))


def receive(
    topic: str | None = None,
    *,
    timeout: timedelta | None = None,
    raise_on_timeout: bool = False,
) -> Any:
    """Receive a message; see :func:`lockstep.receive`."""
    _refuse("receive")
    return run(_primitives.receive(topic, timeout=timeout, raise_on_timeout=raise_on_timeout))


def send(
    destination_id: str,
    message: Any,
    topic: str | None = None,
    *,
    idempotency_key: str | None = None,
) -> None:
    """Send a message; see :func:`lockstep.send`."""
    _refuse("send")
    run(_primitives.send(destination_id, message, topic, idempotency_key=idempotency_key))


def set_event(key: str, value: Any) -> None:
    """Publish a value; see :func:`lockstep.set_event`."""
    _refuse("set_event")
    run(_primitives.set_event(key, value))


def get_event(workflow_id: str, key: str, *, timeout: timedelta | None = None) -> Any:
    """Return another workflow's event and wait for the first; see :func:`lockstep.get_event`."""
    _refuse("get_event")
    return run(_primitives.get_event(workflow_id, key, timeout=timeout))


def write_stream(key: str, value: Any) -> None:
    """Append to a stream; see :func:`lockstep.write_stream`."""
    _refuse("write_stream")
    run(_primitives.write_stream(key, value))


def close_stream(key: str) -> None:
    """Close a stream; see :func:`lockstep.close_stream`."""
    _refuse("close_stream")
    run(_primitives.close_stream(key))


def set_progress(done: float, total: float | None = None, note: str | None = None) -> None:
    """Note how far the workflow has come; see :func:`lockstep.set_progress`."""
    _refuse("set_progress")
    run(_primitives.set_progress(done, total, note))


def now() -> datetime:
    """Return the time of the database, recorded; see :func:`lockstep.now`."""
    _refuse("now")
    return run(_determinism.now())


def uuid() -> _uuid.UUID:
    """Return a random UUID, recorded; see :func:`lockstep.uuid`."""
    _refuse("uuid")
    return run(_determinism.uuid())


def random() -> float:
    """Return a random number, recorded; see :func:`lockstep.random`."""
    _refuse("random")
    return run(_determinism.random())


def patch(name: str) -> bool:
    """Tell whether the workflow takes a change of its code; see :func:`lockstep.patch`."""
    _refuse("patch")
    return run(_determinism.patch(name))


def compensate(step: StepFunction[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> None:
    """Register a step that undoes another; see :func:`lockstep.compensate`."""
    _refuse("compensate")
    run(_saga.compensate(step, *args, **kwargs))


def poll(
    function: Callable[..., Any],
    /,
    *args: Any,
    interval: timedelta,
    timeout: timedelta | None = None,
    **kwargs: Any,
) -> Any:
    """Ask until the answer is true; see :func:`lockstep.poll`."""
    _refuse("poll")
    return run(_poll.poll(function, *args, interval=interval, timeout=timeout, **kwargs))


class WorkflowHandle(Generic[R]):
    """A workflow that a plain workflow waits for; see :class:`lockstep.WorkflowHandle`."""

    def __init__(self, workflow_id: str) -> None:
        self._handle: _children.WorkflowHandle[R] = _children.WorkflowHandle(workflow_id)

    @property
    def workflow_id(self) -> str:
        return self._handle.workflow_id

    def __repr__(self) -> str:
        return repr(self._handle)

    def result(self, *, timeout: timedelta | None = None) -> R:
        """Wait for the workflow to end and return its output."""
        _refuse("WorkflowHandle.result")
        return run(self._handle.result(timeout=timeout))


def start_workflow(
    workflow: WorkflowFunction[P, R] | ConfiguredWorkflow[P, R],
    /,
    *args: P.args,
    **kwargs: P.kwargs,
) -> WorkflowHandle[R]:
    """Start a child workflow; see :func:`lockstep.start_workflow`."""
    _refuse("start_workflow")
    started = run(_children.start_workflow(workflow, *args, **kwargs))
    handle: WorkflowHandle[R] = WorkflowHandle(started.workflow_id)
    handle._handle = started
    return handle


def map(function: Callable[[T], R], items: Iterable[T], *, limit: int = 10) -> list[R]:
    """
    Call a plain function for each item on threads, ``limit`` at a time; see :func:`lockstep.map`.
    """
    _refuse("map")
    if limit < 1:
        raise InvalidArgument(f"limit must be 1 or greater, not {limit}")
    items = list(items)
    scope = current_workflow("map")
    branches = _children.branches_for(scope, len(items))
    lock = threading.Lock()
    thread_count = min(limit, len(items))
    left = len(items)

    def call(item: T) -> R:
        nonlocal left
        try:
            return function(item)
        finally:
            with lock:
                left -= 1
                is_idle = left < thread_count
            if is_idle:
                scope.run.branches.count_threads(-1)

    futures: list[Future[R]] = []
    scope.run.branches.count_threads(thread_count - 1)  # the calling one waits
    with ThreadPoolExecutor(limit, thread_name_prefix="lockstep map") as threads:
        for item, branch in zip(items, branches, strict=True):
            branch.task = threads
            here = contextvars.copy_context()
            here.run(current_scope.set, Scope(scope.run, branch))
            futures.append(threads.submit(here.run, call, item))
    scope.run.branches.count_threads(1)
    if scope.run.ended is not None:  # outcomes that are left are no reason to go on
        raise RunEnded
    return [future.result() for future in futures]
