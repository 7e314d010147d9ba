"""The decorators that turn functions into workflows and steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from typing_extensions import Unpack

from ._checks import shown
from ._errors import InvalidArgument
from ._functions import SelfCommittingStep, StepFunction, TransactionFunction, WorkflowFunction
from ._options import SCHEDULED_AT
from ._payloads import PayloadCodec
from ._queue_calls import Queue, QueueLimits
from ._retry import NO_RETRY, Retry
from ._schedule_calls import ScheduleOptions, declaration

if TYPE_CHECKING:
    from psycopg import IsolationLevel

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])
S = TypeVar("S", bound=StepFunction[..., Any])
W = TypeVar("W", bound=WorkflowFunction[..., Any])


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

    Decorators work with and without parentheses, for ``async def`` and plain ``def``. A
    ``codec`` encrypts what workers of the app write, and reads it; clients need the same.
    """

    def __init__(self, *, codec: PayloadCodec | None = None) -> None:
        for part in () if codec is None else ("name", "encode", "decode"):
            if not hasattr(codec, part):
                raise TypeError(f"a codec has name, encode and decode, unlike {shown(codec)}")
        self.codec = codec
        self.workflows: dict[str, WorkflowFunction[..., Any]] = {}
        self.steps: dict[str, StepFunction[..., Any]] = {}
        self.schedules: dict[str, dict[str, Any]] = {}
        self.queues: dict[str, Queue] = {}

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

    def scheduled(
        self,
        cron: str,
        /,
        *,
        name: str | None = None,
        time_zone: str = "UTC",
        queue_name: str | None = None,
        named_args: Mapping[str, Any] | None = None,
        time_arg: str | None = SCHEDULED_AT,
        **options: Unpack[ScheduleOptions],
    ) -> Callable[[W], W]:
        """
        Declare a schedule of a workflow; goes above ``@app.workflow``.

        >>> app = App()
        >>> @app.scheduled("0 9 * * MON", time_zone="Europe/Berlin", on_missed="latest")
        ... @app.workflow
        ... async def weekly_report(scheduled_at: datetime) -> None: ...

        A worker creates the schedule when it starts, or changes it to be as declared; it is
        named as the workflow unless it has a ``name``. The function gets the scheduled time if
        it has a parameter ``scheduled_at``, or the one that ``time_arg`` names. ``options``
        takes the keys of ScheduleOptions. Raises InvalidArgument.
        """
        if not isinstance(cron, str):
            raise InvalidArgument('@app.scheduled takes an expression: @app.scheduled("@daily")')

        def decorate(workflow: W) -> W:
            if self.workflows.get(getattr(workflow, "name", "")) is not workflow:
                raise InvalidArgument("@app.scheduled goes above @app.workflow of the same app")
            schedule_name = workflow.name if name is None else name
            if schedule_name in self.schedules:
                raise InvalidArgument(
                    f'a schedule named "{schedule_name}" is declared already: give it a name'
                )
            self.schedules[schedule_name] = declaration(
                schedule_name, cron, workflow, queue_name, named_args, time_zone, time_arg, options
            )
            return workflow

        return decorate

    def queue(
        self, queue_name: str, /, *, overwrite: bool = False, **limits: Unpack[QueueLimits]
    ) -> Queue:
        """
        Declare the limits of a queue, which a worker creates when it starts.

        >>> app = App()
        >>> mail = app.queue("mail", concurrency=10, rate_limit=100, rate_period=timedelta(hours=1))
        >>> @app.workflow(queue_name=mail.queue_name)
        ... async def remind(address: str) -> None: ...

        If the queue exists with other limits, somebody may have changed them on purpose: they
        hold, and the worker logs a warning that names both. With ``overwrite`` the declaration
        holds. ``limits`` takes the keys of QueueLimits. The queue need not be one that the
        worker serves. Raises InvalidArgument if the queue is declared otherwise already.
        """
        queue = Queue(queue_name, overwrite=overwrite, **limits)
        if self.queues.setdefault(queue_name, queue) != queue:
            raise InvalidArgument(
                f'queue "{queue_name}" is declared already, as {self.queues[queue_name]}'
            )
        return queue

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
