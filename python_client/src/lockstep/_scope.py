"""What the running code belongs to: a workflow, one of its steps, or neither."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ._errors import NotInWorkflow

if TYPE_CHECKING:
    from ._run import Run


@dataclass(frozen=True, slots=True)
class Scope:
    """The run that the current code is part of, and whether inside a step."""

    run: Run
    is_step: bool = False


current_scope: ContextVar[Scope | None] = ContextVar("lockstep_scope", default=None)


def current_run(primitive: str) -> Run:
    """Return the run of the workflow that calls a primitive, or raise NotInWorkflow."""
    scope = current_scope.get()
    if scope is None:
        raise NotInWorkflow(f"{primitive}() is only available inside a running workflow")
    if scope.is_step:
        raise NotInWorkflow(
            f"{primitive}() was called inside a step; call it from the workflow itself"
        )
    return scope.run
