"""What the running code belongs to: a branch of a workflow, one of its steps, or neither."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ._errors import NotDeterministic, NotInWorkflow

if TYPE_CHECKING:
    from ._run import Run

_BITS = 16
_LARGEST_NUMBER = (1 << _BITS) - 1
_LARGEST_COUNT = (1 << (31 - _BITS)) - 1


class Branch:
    """
    A line of durable calls that come one after the other, with a count of its own.

    The calls of the workflow itself are 1, 2, 3 and so on. A task that it starts is a
    branch: its first call takes the next number there, n, and those that follow are
    n + 65536, n + 2 * 65536 and so on. So a call has the same number at each replay,
    however the branches that run beside each other are interleaved. A branch of a branch
    makes one call: its second would have a number that the branch itself gives.
    """

    __slots__ = ("_anchor", "_count", "_is_nested", "task")

    def __init__(self, parent: Branch | None = None, task: object = None) -> None:
        self._anchor = None if parent is None else parent.take_number()
        self._is_nested = parent is not None and parent._anchor is not None
        self._count = 0
        self.task = task

    @property
    def next_number(self) -> int:
        """The number of the call that comes next."""
        if self._anchor is None:
            if self._count == _LARGEST_NUMBER:
                raise NotDeterministic(
                    f"a workflow makes at most {_LARGEST_NUMBER} durable calls: "
                    "let child workflows make some of them"
                )
            return self._count + 1
        if self._count and (self._is_nested or self._count > _LARGEST_COUNT):
            raise NotDeterministic(
                "a task inside a task of a workflow makes one durable call, and a task "
                f"at most {_LARGEST_COUNT + 1}: let a child workflow make them"
            )
        return self._anchor + (self._count << _BITS)

    def take_number(self) -> int:
        """Return the number of the call that is made now."""
        number = self.next_number
        self._count += 1
        return number


@dataclass(slots=True)
class StepCall:
    """A call of a step's function, while it runs."""

    step: Any
    step_id: int
    attempt: int


@dataclass(slots=True)
class Scope:
    """The run and branch that the current code is part of, and the step, if inside one."""

    run: Run
    branch: Branch
    step_call: StepCall | None = None

    @property
    def is_step(self) -> bool:
        return self.step_call is not None

    def current_branch(self) -> Branch:
        """Return the branch of the running task, a new one if the task made no call yet."""
        try:
            task = asyncio.current_task()
        except RuntimeError:  # on a thread, which is of the branch that its context says
            return self.branch
        if self.branch.task is task:
            return self.branch
        branch = Branch(self.branch, task)
        current_scope.set(Scope(self.run, branch))
        return branch

    def next_step_id(self) -> int:
        """Return the id of the step that is called now."""
        return self.current_branch().take_number()


current_scope: ContextVar[Scope | None] = ContextVar("lockstep_scope", default=None)


def current_workflow(primitive: str) -> Scope:
    """Return the scope of the workflow that calls a primitive, or raise NotInWorkflow."""
    scope = current_scope_or_step(primitive)
    if scope.is_step:
        raise NotInWorkflow(
            f"{primitive}() was called inside a step; call it from the workflow itself"
        )
    return scope


def current_scope_or_step(primitive: str) -> Scope:
    """Return the scope of a primitive that workflows and their steps may call."""
    scope = current_scope.get()
    if scope is None:
        raise NotInWorkflow(f"{primitive}() is only available inside a running workflow")
    return scope
