"""The decorators that turn functions into workflows and steps."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast, overload

from . import _transaction
from ._codec import ArgumentCodec, ReturnCodec
from ._retry import NO_RETRY, Retry
from ._run import Run
from ._scope import Scope, current_scope
from ._step_flow import CallStep, drive, drive_in_thread, step_flow
from .sync import refuse_on_event_loop

if TYPE_CHECKING:
    from psycopg import IsolationLevel

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])

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

    def __init__(self, function: Callable[P, R], name: str | None, queue_name: str) -> None:
        super().__init__(function, name)
        self.queue_name = queue_name
        self.arguments = ArgumentCodec(self.name, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    async def call_in(self, run: Run, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call the function as part of a run: on the event loop, or on a thread."""
        current_scope.set(Scope(run))
        if self.is_async:
            return await cast(Any, self.function(*args, **kwargs))
        call = functools.partial(contextvars.copy_context().run, self.function, *args, **kwargs)
        return await run.loop.run_in_executor(run.worker.threads, call)


class StepFunction(_Named[P, R]):
    """
    A function whose outcome is recorded once per workflow.

    Called inside a workflow, it is a durable step; anywhere else, also inside another
    step, it simply runs.
    """

    records_itself = False

    def __init__(self, function: Callable[P, R], name: str | None, retry: Retry) -> None:
        super().__init__(function, name)
        self.retry = retry

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        scope = current_scope.get()
        if scope is None or scope.is_step:
            return self.function(*args, **kwargs)
        run = scope.run
        if self.is_async:
            flow = step_flow(run, self, run.next_step_id())
            call = functools.partial(self._call_on_loop, run, args, kwargs)
            return cast(R, run.primitive(functools.partial(drive, run, flow, call)))
        refuse_on_event_loop(
            f'step "{self.name}" is a plain def, which',
            f'"async def {self.name}", or call it as "await {self.name}.in_thread(...)"',
        )
        flow = step_flow(run, self, run.next_step_id())
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
        flow = step_flow(run, self, run.next_step_id())

        async def call(action: CallStep) -> Any:
            here = functools.partial(self._call_here, run, args, kwargs, action)
            context = contextvars.copy_context()
            return await run.loop.run_in_executor(run.worker.threads, context.run, here)

        return cast(R, await run.primitive(functools.partial(drive, run, flow, call)))

    async def _call_on_loop(
        self, run: Run, args: tuple[Any, ...], kwargs: dict[str, Any], action: CallStep
    ) -> Any:
        token = current_scope.set(Scope(run, is_step=True))
        try:
            return await self.call_async(run, action, args, kwargs)
        finally:
            current_scope.reset(token)

    def _call_here(
        self, run: Run, args: tuple[Any, ...], kwargs: dict[str, Any], action: CallStep
    ) -> Any:
        token = current_scope.set(Scope(run, is_step=True))
        try:
            return self.call_sync(run, action, args, kwargs)
        finally:
            current_scope.reset(token)

    async def call_async(
        self, run: Run, action: CallStep, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Call an ``async def`` step's function inside its workflow."""
        return await cast(Any, self.function(*args, **kwargs))

    def call_sync(
        self, run: Run, action: CallStep, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Call a plain step's function inside its workflow."""
        return self.function(*args, **kwargs)


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
        isolation_level: IsolationLevel | None,
    ) -> None:
        super().__init__(function, name, retry)
        self.isolation_level = isolation_level

    async def call_async(
        self, run: Run, action: CallStep, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        return await _transaction.run_async(run, self, action, args, kwargs)

    def call_sync(
        self, run: Run, action: CallStep, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        return _transaction.run_sync(run, self, action, args, kwargs)


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

    @overload
    def workflow(self, function: Callable[P, R], /) -> WorkflowFunction[P, R]: ...
    @overload
    def workflow(
        self, /, *, name: str | None = None, queue_name: str = "default"
    ) -> Callable[[Callable[P, R]], WorkflowFunction[P, R]]: ...
    def workflow(
        self,
        function: Any = None,
        /,
        *,
        name: str | None = None,
        queue_name: str = "default",
    ) -> Any:
        """
        Register a function as a workflow, under its own name or a given one.

        ``queue_name`` is where a client enqueues it unless told otherwise.
        """

        def decorate(function: Callable[..., Any]) -> WorkflowFunction[..., Any]:
            workflow = WorkflowFunction(function, name, queue_name)
            if workflow.name in self.workflows:
                raise ValueError(f'a workflow named "{workflow.name}" is registered already')
            self.workflows[workflow.name] = workflow
            return workflow

        return decorate if function is None else decorate(function)

    @overload
    def step(self, function: Callable[P, R], /) -> StepFunction[P, R]: ...
    @overload
    def step(
        self, /, *, name: str | None = None, retries: Retry = NO_RETRY
    ) -> Callable[[Callable[P, R]], StepFunction[P, R]]: ...
    def step(
        self,
        function: Any = None,
        /,
        *,
        name: str | None = None,
        retries: Retry = NO_RETRY,
    ) -> Any:
        """
        Make a function a step: its outcome is recorded once, before the next step starts.

        Its side effect happens at least once: a crash between the effect and the record
        repeats it. ``retries`` says how a failure is tried again; by default it is not.
        """

        def decorate(function: Callable[..., Any]) -> StepFunction[..., Any]:
            return StepFunction(function, name, retries)

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
        isolation_level: IsolationLevel | None = None,
    ) -> Callable[[F], TransactionFunction[..., Any]]: ...
    def transaction(
        self,
        function: Any = None,
        /,
        *,
        name: str | None = None,
        retries: Retry = NO_RETRY,
        isolation_level: IsolationLevel | None = None,
    ) -> Any:
        """
        Make a function a transactional step: its writes and its checkpoint commit together.

        The function's first parameter is a psycopg connection (an AsyncConnection for
        ``async def``) in an open transaction of ``isolation_level``; callers leave it out.
        What it writes through that connection happens exactly once, whatever crashes
        when. Serialization failures and deadlocks are retried on their own account;
        ``retries`` is for everything else.
        """

        def decorate(function: Callable[..., Any]) -> TransactionFunction[..., Any]:
            return TransactionFunction(function, name, retries, isolation_level)

        return decorate if function is None else decorate(function)
