"""The decorators that turn functions into workflows and steps."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast, overload

from . import _own_transaction, _transaction
from ._children import call_child
from ._codec import ArgumentCodec, ReturnCodec
from ._options import ConfiguredWorkflow
from ._retry import NO_RETRY, Retry
from ._run import Run
from ._scope import Branch, Scope, StepCall, current_scope
from ._step_flow import CallStep, drive, drive_in_thread, step_flow
from ._threads import refuse_on_event_loop
from ._timeout import call_within, within

if TYPE_CHECKING:
    from psycopg import IsolationLevel

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])
S = TypeVar("S", bound="StepFunction[..., Any]")

_MAX_NAME_LENGTH = 512


class _Named(Generic[P, R]):
    """A decorated function: what workflows and steps have in common."""

    def __init__(self, function: Callable[P, R], name: str | None) -> None:
        self.function = function
        self.name = name or function.__name__
        if len(self.name) > _MAX_NAME_LENGTH:
            raise ValueError(f"a name has at most {_MAX_NAME_LENGTH} characters: {self.name!r}")
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
        call = call_child(scope, self, args, kwargs)
        return cast(R, call if self.is_async else scope.run.from_thread(call))

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
        on_duplicate: str = "raise",
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
        )

    async def call_in(self, run: Run, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call the function as part of a run: on the event loop, or on a thread."""
        task = asyncio.current_task() if self.is_async else run.worker.threads
        current_scope.set(Scope(run, Branch(task=task)))
        if self.is_async:
            return await cast(Any, self.function(*args, **kwargs))
        run.count_threads(1)
        call = functools.partial(contextvars.copy_context().run, self.function, *args, **kwargs)
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
        self.retry = retry
        self.arguments = ArgumentCodec(self.name, function)
        self.timeout = None if timeout is None else timeout.total_seconds()
        if self.timeout is not None and self.timeout <= 0:
            raise ValueError(f"timeout must be positive, not {timeout}")

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        scope = current_scope.get()
        if scope is None or scope.is_step:
            return self.function(*args, **kwargs)
        run = scope.run
        if self.is_async:
            flow = step_flow(run, self, scope.next_step_id())
            call = functools.partial(self._call_on_loop, run, args, kwargs)
            return cast(R, run.primitive(functools.partial(drive, run, flow, call)))
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

        return cast(R, await run.primitive(functools.partial(drive, run, flow, call)))

    async def _call_on_loop(
        self, run: Run, args: tuple[Any, ...], kwargs: dict[str, Any], action: CallStep
    ) -> Any:
        token = self._enter(run, action)
        try:
            return await self.call_async(run, action, args, kwargs)
        finally:
            current_scope.reset(token)

    def _call_here(
        self, run: Run, args: tuple[Any, ...], kwargs: dict[str, Any], action: CallStep
    ) -> Any:
        token = self._enter(run, action)
        try:
            return self.call_sync(run, action, args, kwargs)
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


class App:
    """
    The workflows and steps of an application.

    >>> app = App()
    >>> @app.step
    ... async def greet(name: str) -> str:
    ...     return f"hello {name}"
    >>> @app.workflow
    ... async def welcome(name: str) -> str:
    ...     return await greet(name)

    Decorators work with and without parentheses, for ``async def`` and plain ``def``.
    """

    def __init__(self) -> None:
        self.workflows: dict[str, WorkflowFunction[..., Any]] = {}
        self.steps: dict[str, StepFunction[..., Any]] = {}

    @overload
    def workflow(self, function: Callable[P, R], /) -> WorkflowFunction[P, R]: ...
    @overload
    def workflow(
        self,
        /,
        *,
        name: str | None = None,
        queue_name: str = "default",
        retries: Retry | None = None,
    ) -> Callable[[Callable[P, R]], WorkflowFunction[P, R]]: ...
    def workflow(
        self,
        function: Any = None,
        /,
        *,
        name: str | None = None,
        queue_name: str = "default",
        retries: Retry | None = None,
    ) -> Any:
        """
        Register a function as a workflow, under its own name or a given one.

        ``queue_name`` is where a client enqueues it unless told otherwise. ``retries`` says
        how a failure of the workflow is tried again, from its last checkpoint, unless it
        was enqueued with a policy of its own; by default it is not.
        """

        def decorate(function: Callable[..., Any]) -> WorkflowFunction[..., Any]:
            workflow = WorkflowFunction(function, name, queue_name, retries)
            if workflow.name in self.workflows:
                raise ValueError(f'a workflow named "{workflow.name}" is registered already')
            self.workflows[workflow.name] = workflow
            return workflow

        return decorate if function is None else decorate(function)

    @overload
    def step(self, function: Callable[P, R], /) -> StepFunction[P, R]: ...
    @overload
    def step(
        self,
        /,
        *,
        name: str | None = None,
        retries: Retry = NO_RETRY,
        timeout: timedelta | None = None,
        commits_itself: bool = False,
    ) -> Callable[[Callable[P, R]], StepFunction[P, R]]: ...
    def step(
        self,
        function: Any = None,
        /,
        *,
        name: str | None = None,
        retries: Retry = NO_RETRY,
        timeout: timedelta | None = None,
        commits_itself: bool = False,
    ) -> Any:
        """
        Make a function a step: its outcome is recorded once, before the next step starts.

        Its side effect happens at least once: a crash between the effect and the record
        repeats it. ``retries`` says how a failure is tried again; by default it is not. An
        attempt that takes longer than ``timeout`` fails with StepTimeout; a plain ``def``
        cannot be interrupted, so its thread goes on and what it returns is dropped.

        A step that ``commits_itself`` records its own outcome, in a transaction of the
        user's own stack, with what :func:`lockstep.checkpoint` gives it.
        """
        kind = SelfCommittingStep if commits_itself else StepFunction

        def decorate(function: Callable[..., Any]) -> StepFunction[..., Any]:
            return self._register(kind(function, name, retries, timeout))

        return decorate if function is None else decorate(function)

    # Concatenate[Connection, P] would say it better, but cannot express "sync or async".
    @overload
    def transaction(self, function: F, /) -> TransactionFunction[..., Any]: ...
    @overload
    def transaction(
        self,
        /,
        *,
        name: str | None = None,
        retries: Retry = NO_RETRY,
        timeout: timedelta | None = None,
        isolation_level: IsolationLevel | None = None,
    ) -> Callable[[F], TransactionFunction[..., Any]]: ...
    def transaction(
        self,
        function: Any = None,
        /,
        *,
        name: str | None = None,
        retries: Retry = NO_RETRY,
        timeout: timedelta | None = None,
        isolation_level: IsolationLevel | None = None,
    ) -> Any:
        """
        Make a function a transactional step: its writes and its checkpoint commit together.

        The function's first parameter is a psycopg connection (an AsyncConnection for
        ``async def``) in an open transaction of ``isolation_level``; callers leave it out.
        What it writes through that connection happens exactly once, whatever crashes
        when. Serialization failures and deadlocks are retried on their own account;
        ``retries`` is for everything else. ``timeout`` rolls an attempt back and fails it
        with StepTimeout; a plain ``def`` cannot be interrupted, so it takes none: set
        statement_timeout in it instead.
        """

        def decorate(function: Callable[..., Any]) -> TransactionFunction[..., Any]:
            step = TransactionFunction(function, name, retries, timeout, isolation_level)
            return self._register(step)

        return decorate if function is None else decorate(function)

    def _register(self, step: S) -> S:
        self.steps[step.name] = step
        return step
