"""Workflows that a workflow starts, and many calls at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast

from ._branches import Awaited, RunEnded
from ._codec import ReturnCodec, decode_json, encode
from ._durable import RecordedFailure, durable, failure_of
from ._errors import InvalidArgument, ResultTimeout, WorkflowCancelled, WorkflowFailed
from ._options import ConfiguredWorkflow, retry_policy
from ._payloads import Payloads
from ._primitives import look_until_it_comes
from ._run import RecordedStep, Run
from ._scope import Branch, Scope, current_scope, current_workflow

if TYPE_CHECKING:
    from ._functions import WorkflowFunction

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class WorkflowHandle(Generic[R]):
    """
    A workflow that another one waits for; ``workflow_id`` names it.

    One of a workflow that was not started here is made from the id alone.

    >>> output = await lockstep.WorkflowHandle("order-42").result()    # doctest: +SKIP
    """

    def __init__(self, workflow_id: str, *, returns: ReturnCodec | None = None) -> None:
        self.workflow_id = workflow_id
        self._returns = returns

    def __repr__(self) -> str:
        return f"<WorkflowHandle {self.workflow_id!r}>"

    def result(self, *, timeout: timedelta | None = None) -> Coroutine[Any, Any, R]:
        """
        Wait for the workflow to end and return its output; the caller is suspended meanwhile.

        Raises WorkflowFailed, WorkflowCancelled, and ResultTimeout when the timeout, which
        runs from the first call, passes before.
        """
        return _await_result("result", self.workflow_id, self._returns, timeout)


def _await_result(
    name: str,
    workflow_id: str,
    returns: ReturnCodec | None,
    timeout: timedelta | None = None,
    start: Callable[[Run, int], Awaitable[str]] | None = None,
) -> Coroutine[Any, Any, Any]:
    """Wait for a workflow's result, of one that ``start`` starts in the same step if given."""

    def output_of(run: Run, text: str | None) -> Any:
        value = run.payloads.load(text)
        return value if returns is None else returns.decode(value)

    async def operation(run: Run, step_id: int, begun: RecordedStep | None) -> Any:
        awaited_id = workflow_id
        if start is not None:
            known_id = None if begun is None else begun.child_id
            awaited_id = known_id or await start(run, step_id)
        reply = await look_until_it_comes(run, step_id, name, Awaited(awaited_id), timeout)
        if reply["outcome"] == "timed_out":
            raise too_late()
        if reply["error"] is not None:
            return RecordedFailure(decode_json(reply["error"]))
        return output_of(run, reply["output"])

    def replay(run: Run, recorded: RecordedStep) -> Any:
        if recorded.attempts == 0:
            raise too_late()
        return output_of(run, recorded.output)

    def too_late() -> ResultTimeout:
        return ResultTimeout(f'workflow "{workflow_id}" did not end within {timeout}')

    return durable(name, operation, replay=replay, failure=_failure_of)


def _failure_of(document: dict[str, Any]) -> Exception:
    """Return why the awaited workflow has no result, or why it could not be awaited."""
    if "workflow_id" not in document:
        return failure_of(document)
    if document["status"] == "CANCELLED":
        return WorkflowCancelled(f'workflow "{document["workflow_id"]}" was cancelled')
    return WorkflowFailed(
        document["workflow_id"], document["status"], document["type"], document["message"]
    )


def _child_fields(
    name: str,
    workflow: WorkflowFunction[..., Any] | ConfiguredWorkflow[..., Any],
    args: Any,
    kwargs: Any,
    payloads: Payloads,
) -> dict[str, str]:
    options: dict[str, Any] = {}
    if isinstance(workflow, ConfiguredWorkflow):
        if workflow.deduplication_id is not None:
            raise InvalidArgument("a child takes no deduplication_id: give it a workflow_id")
        if workflow.debounce is not None or workflow.debounce_max_delay is not None:
            raise InvalidArgument("a child takes no debounce: enqueue it in a step instead")
        options = workflow.given()
        workflow = workflow.workflow
    options.pop("on_duplicate", None)
    for key in ("delay", "timeout"):
        if key in options:
            options[key] = options[key].total_seconds()
    if "retries" in options:
        options["retries"] = retry_policy(options["retries"])
    if "workflow_id" in options:
        options["child_id"] = options.pop("workflow_id")
    fields = {
        "step_name": name,
        "workflow_name": workflow.name,
        "queue_name": workflow.queue_name,
    }
    return {
        "inputs": payloads.store_inputs(args, kwargs),
        **{key: encode(value) for key, value in (fields | options).items()},
    }


def call_child(
    workflow: WorkflowFunction[..., Any], args: Any, kwargs: Any
) -> Coroutine[Any, Any, Any]:
    """Run a child workflow to its end as one durable call."""
    scope = current_workflow(workflow.name)
    fields = _child_fields(workflow.name, workflow, args, kwargs, scope.run.payloads)

    async def start(run: Run, step_id: int) -> str:
        child_id: str = await run.change("children", step_id, **fields, is_awaited="true")
        return child_id

    return _await_result(workflow.name, "", workflow.returns, start=start)


def start_workflow(
    workflow: WorkflowFunction[P, R] | ConfiguredWorkflow[P, R],
    /,
    *args: P.args,
    **kwargs: P.kwargs,
) -> Coroutine[Any, Any, WorkflowHandle[R]]:
    """
    Start a child workflow and return a handle of it, without waiting for its end.

    The child is enqueued in the commit that records the step, so a replay starts it no
    second time. A cancellation of this workflow cancels the child, and the child has this
    workflow's deadline unless its own comes first. ``child.options(...)`` says how it is
    enqueued. Arguments that do not fit the child end it with InvalidInput. Raises
    InvalidArgument for a bad option, DuplicateWorkflow if its ``workflow_id`` belongs to
    another workflow or queue.

    >>> handle = await lockstep.start_workflow(pack_parcel, 42)    # doctest: +SKIP
    >>> parcel = await handle.result()                             # doctest: +SKIP
    """
    function = workflow.workflow if isinstance(workflow, ConfiguredWorkflow) else workflow
    returns = function.returns
    scope = current_workflow("start_workflow")
    fields = _child_fields("start_workflow", workflow, args, kwargs, scope.run.payloads)

    async def operation(run: Run, step_id: int, begun: RecordedStep | None) -> WorkflowHandle[Any]:
        child_id = await run.change("children", step_id, **fields)
        return WorkflowHandle(child_id, returns=returns)

    def replay(run: Run, recorded: RecordedStep) -> WorkflowHandle[Any]:
        return WorkflowHandle(decode_json(recorded.output), returns=returns)

    return durable("start_workflow", operation, replay=replay)


def branches_for(scope: Scope, count: int) -> list[Branch]:
    """Return a branch for each of many calls, numbered now, in their order."""
    parent = scope.current_branch()
    return [Branch(parent) for _ in range(count)]


def map(
    function: Callable[[T], Awaitable[R]], items: Iterable[T], *, limit: int | None = None
) -> Coroutine[Any, Any, list[R]]:
    """
    Call an async function for each item at once, ``limit`` at a time, and return the outputs.

    The function may be a step, a child workflow or any coroutine function that makes
    durable calls; ``step.in_thread`` calls a plain step. The outputs are in the order of
    the items. All calls are made to their end; if some failed, the error of the first of
    these items is raised then, so that a replay sees the same one.

    >>> labels = await lockstep.map(print_label, parcels, limit=10)    # doctest: +SKIP
    """
    scope = current_workflow("map")
    if limit is not None and limit < 1:
        raise InvalidArgument(f"limit must be 1 or greater, not {limit}")
    items = list(items)
    branches = branches_for(scope, len(items))

    async def call_all() -> list[R]:
        turns = asyncio.Semaphore(limit or len(items) or 1)

        async def call(item: T, branch: Branch) -> R:
            async with turns:
                branch.task = asyncio.current_task()
                current_scope.set(Scope(scope.run, branch))
                return await function(item)

        tasks = [asyncio.ensure_future(call(*each)) for each in zip(items, branches, strict=True)]
        try:
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            for task in tasks:
                task.cancel()
        if scope.run.ended is not None:  # what failed before is no reason to go on
            raise RunEnded
        failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        if failures:
            raise failures[0]
        return cast("list[R]", outcomes)

    return call_all()
