"""What decorated functions become: workflows, steps and steps in a transaction."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast

from . import _own_transaction, _transaction
from ._checks import refuse_bad_duration, refuse_bad_name, refuse_other_type, shown
from ._children import call_child
from ._codec import ArgumentCodec, ReturnCodec
from ._exits import EXITS, call_on_thread, failure_of
from ._options import ConfiguredWorkflow, OnDuplicate
from ._retry import Retry
from ._run import Run
from ._scope import Branch, Scope, StepCall, current_scope
from ._step_flow import CallStep, drive, drive_in_thread, step_flow
from ._threads import refuse_on_event_loop
from ._timeout import call_within, within

if TYPE_CHECKING:
    from psycopg import IsolationLevel

P = ParamSpec("P")
R = TypeVar("R")


class _Named(Generic[P, R]):
    """A decorated function: what workflows and steps have in common."""

    def __init__(self, function: Callable[P, R], name: str | None) -> None:
        routine: object = function
        if not inspect.isroutine(routine) or inspect.isbuiltin(routine):
            raise TypeError(f"a workflow or step is a function, not {shown(function)}")
        self.function = function
        self.name = function.__name__ if name is None else name
        refuse_bad_name("name", self.name)
        self.is_async = inspect.iscoroutinefunction(function)
        self.returns = ReturnCodec(function)
        functools.update_wrapper(cast(Any, self), function)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


class WorkflowFunction(_Named[P, R]):
    """
    A function that a worker runs durably.

    Calling it directly simply runs it, as a unit test wants; a client enqueues it.
    """

    def __init__(
        self,
        function: Callable[P, R],
        name: str | None,
        queue_name: str,
        retry: Retry | None = None,
    ) -> None:
        super().__init__(function, name)
        refuse_bad_name("queue_name", queue_name)
        if retry is not None:
            refuse_other_type("retries", retry, Retry)
        self.queue_name = queue_name
        self.retry = retry
        self.arguments = ArgumentCodec(self.name, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        scope = current_scope.get()
        if scope is None or scope.is_step:
            return self.function(*args, **kwargs)
        if not self.is_async:
            refuse_on_event_loop(
                f'workflow "{self.name}" is a plain def, which',
                '"handle = await lockstep.start_workflow(...)" and "await handle.result()"',
            )
        call = call_child(self, args, kwargs)
        return cast(R, call if self.is_async else scope.run.branches.from_thread(call))

    @property
    def retry_policy(self) -> dict[str, float] | None:
        """How a failure of the workflow is tried again, unless its row says otherwise."""
        return None if self.retry is None else self.retry.policy

    def is_retried(self, error: BaseException) -> bool:
        """Tell whether a failure is of a kind that may be tried again."""
        return isinstance(error, Exception if self.retry is None else self.retry.retry_on)

    def options(
        self,
        *,
        queue_name: str | None = None,
        workflow_id: str | None = None,
        deduplication_id: str | None = None,
        on_duplicate: OnDuplicate = "raise",
        priority: int = 0,
        queue_partition_key: str | None = None,
        delay: timedelta | None = None,
        run_at: datetime | None = None,
        timeout: timedelta | None = None,
        deadline: datetime | None = None,
        max_attempts: int | None = None,
        app_version: str | None = None,
        headers: Mapping[str, Any] | None = None,
        retries: Retry | Mapping[str, Any] | None = None,
        debounce: timedelta | None = None,
        debounce_max_delay: timedelta | None = None,
    ) -> ConfiguredWorkflow[P, R]:
        """
        Return the workflow with options for enqueueing it; nothing is checked before that.

        >>> later = fulfil.options(delay=timedelta(hours=1), priority=5)    # doctest: +SKIP
        >>> client.enqueue(later, 42)                                       # doctest: +SKIP

        ``retries`` is a Retry or a mapping of its fields, durations in seconds.
        """
        return ConfiguredWorkflow(
            self,
            queue_name=queue_name,
            workflow_id=workflow_id,
            deduplication_id=deduplication_id,
            on_duplicate=on_duplicate,
            priority=priority,
            queue_partition_key=queue_partition_key,
            delay=delay,
            run_at=run_at,
            timeout=timeout,
            deadline=deadline,
            max_attempts=max_attempts,
            app_version=app_version,
            headers=headers,
            retries=retries,
            debounce=debounce,
            debounce_max_delay=debounce_max_delay,
        )

    async def call_in(self, run: Run, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call the function as part of a run: on the event loop, or on a thread."""
        task = asyncio.current_task() if self.is_async else run.worker.threads
        current_scope.set(Scope(run, Branch(task=task)))
        if self.is_async:
            return await cast(Any, self.function(*args, **kwargs))
        run.branches.count_threads(1)
        call = functools.partial(
            contextvars.copy_context().run, call_on_thread, self.function, *args, **kwargs
        )
        return await run.loop.run_in_executor(run.worker.threads, call)


class StepFunction(_Named[P, R]):
    """
    A function whose outcome is recorded once per workflow.

    Called inside a workflow, it is a durable step; anywhere else, also inside another
    step, it simply runs.
    """

    records_itself = False

    def __init__(
        self,
        function: Callable[P, R],
        name: str | None,
        retry: Retry,
        timeout: timedelta | None = None,
    ) -> None:
        super().__init__(function, name)
        refuse_other_type("retries", retry, Retry)
        self.retry = retry
        self.arguments = ArgumentCodec(self.name, function)
        if timeout is not None:
            refuse_bad_duration("timeout", timeout, is_positive=True)
        self.timeout = None if timeout is None else timeout.total_seconds()

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        scope = current_scope.get()
        if scope is None or scope.is_step:
            return self.function(*args, **kwargs)
        run = scope.run
        if self.is_async:
            flow = step_flow(run, self, scope.next_step_id())
            call = functools.partial(self._call_on_loop, run, args, kwargs)
            return cast(R, run.branches.call(functools.partial(drive, run, flow, call)))
        refuse_on_event_loop(
            f'step "{self.name}" is a plain def, which',
            f'"async def {self.name}", or call it as "await {self.name}.in_thread(...)"',
        )
        flow = step_flow(run, self, scope.next_step_id())
        return cast(
            R, drive_in_thread(run, flow, functools.partial(self._call_here, run, args, kwargs))
        )

    async def in_thread(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a plain ``def`` step from an ``async def`` workflow, on a thread."""
        scope = current_scope.get()
        if self.is_async:
            raise TypeError(f'step "{self.name}" is async: await it directly')
        if scope is None or scope.is_step:
            return await asyncio.to_thread(self.function, *args, **kwargs)
        run = scope.run
        flow = step_flow(run, self, scope.next_step_id())

        async def call(action: CallStep) -> Any:
            here = functools.partial(self._call_here, run, args, kwargs, action)
            context = contextvars.copy_context()
            return await run.loop.run_in_executor(run.worker.threads, context.run, here)

        return cast(R, await run.branches.call(functools.partial(drive, run, flow, call)))

    async def _call_on_loop(
        self, run: Run, args: tuple[Any, ...], kwargs: dict[str, Any], action: CallStep
    ) -> Any:
        token = self._enter(run, action)
        try:
            return await self.call_async(run, action, args, kwargs)
        except EXITS as error:
            raise failure_of(error) from error
        finally:
            current_scope.reset(token)

    def _call_here(
        self, run: Run, args: tuple[Any, ...], kwargs: dict[str, Any], action: CallStep
    ) -> Any:
        token = self._enter(run, action)
        try:
            return call_on_thread(self.call_sync, run, action, args, kwargs)
        except EXITS as error:
            raise failure_of(error) from error
        finally:
            current_scope.reset(token)

    def _enter(self, run: Run, action: CallStep) -> contextvars.Token[Scope | None]:
        step_call = StepCall(self, action.step_id, action.attempt)
        return current_scope.set(Scope(run, Branch(), step_call))

    async def call_async(
        self, run: Run, action: CallStep, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Call an ``async def`` step's function inside its workflow."""
        return await within(self, cast(Any, self.function(*args, **kwargs)))

    def call_sync(
        self, run: Run, action: CallStep, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Call a plain step's function inside its workflow."""
        return call_within(self, functools.partial(self.function, *args, **kwargs))


def _without_connection(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function with the parameters that callers of a transactional step pass."""
    connection, *parameters = inspect.signature(function).parameters.values()

    def shell() -> None: ...

    shell.__module__ = function.__module__
    shell.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    shell.__annotations__ = {
        name: annotation
        for name, annotation in function.__annotations__.items()
        if name not in (connection.name, "return")
    }
    return shell


class TransactionFunction(StepFunction[P, R]):
    """
    A step that receives a psycopg connection, inside the transaction of its checkpoint.

    Called outside a workflow it takes the connection as its first argument, as written.
    """

    records_itself = True

    def __init__(
        self,
        function: Callable[P, R],
        name: str | None,
        retry: Retry,
        timeout: timedelta | None,
        isolation_level: IsolationLevel | None,
    ) -> None:
        super().__init__(function, name, retry, timeout)
        if timeout is not None and not self.is_async:
            raise ValueError("a plain transaction takes no timeout: set statement_timeout in it")
        self.isolation_level = isolation_level
        self.arguments = ArgumentCodec(self.name, _without_connection(function))

    async def call_async(
        self, run: Run, action: CallStep, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        return await _transaction.run_async(run, self, action, args, kwargs)

    def call_sync(
        self, run: Run, action: CallStep, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        return _transaction.run_sync(run, self, action, args, kwargs)


class SelfCommittingStep(StepFunction[P, R]):
    """A step that commits its own checkpoint, in a transaction of the user's own stack."""

    records_itself = True

    async def call_async(
        self, run: Run, action: CallStep, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        return await _own_transaction.run_async(run, self, action, args, kwargs)

    def call_sync(
        self, run: Run, action: CallStep, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        return _own_transaction.run_sync(run, self, action, args, kwargs)
