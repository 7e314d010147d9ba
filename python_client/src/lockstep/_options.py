"""How a workflow is enqueued, beside its arguments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, Literal, ParamSpec, TypeVar

from ._checks import refuse_other_type
from ._errors import InvalidArgument
from ._retry import Retry

if TYPE_CHECKING:
    from ._functions import WorkflowFunction

P = ParamSpec("P")
R = TypeVar("R")

SCHEDULED_AT = "scheduled_at"
"""The argument that receives the time of a tick, and the header that has it."""

OnDuplicate = Literal["raise", "return"]
"""What a call does whose deduplication id an unfinished workflow has."""


@dataclass(frozen=True, slots=True)
class ConfiguredWorkflow(Generic[P, R]):
    """
    A workflow with options for enqueueing it, as WorkflowFunction.options() makes it.

    Accepted wherever a workflow function is; the arguments are still those of the workflow.
    """

    workflow: WorkflowFunction[P, R]
    queue_name: str | None = None
    workflow_id: str | None = None
    deduplication_id: str | None = None
    on_duplicate: OnDuplicate = "raise"
    priority: int = 0
    queue_partition_key: str | None = None
    delay: timedelta | None = None
    run_at: datetime | None = None
    timeout: timedelta | None = None
    deadline: datetime | None = None
    max_attempts: int | None = None
    app_version: str | None = None
    headers: Mapping[str, Any] | None = None
    retries: Retry | Mapping[str, Any] | None = None
    debounce: timedelta | None = None
    debounce_max_delay: timedelta | None = None

    def given(self) -> dict[str, Any]:
        """Return the options that are set, by name."""
        options = {name: getattr(self, name) for name in OPTION_NAMES}
        return {name: value for name, value in options.items() if value is not None}


OPTION_NAMES = tuple(field.name for field in fields(ConfiguredWorkflow))[1:]


def refuse_unknown(given: Iterable[str], known: type[Any], what: str) -> None:
    """Refuse keywords that a TypedDict does not name, as Python does for a signature."""
    unknown = set(given) - known.__annotations__.keys()
    if unknown:
        raise TypeError(f"{what} takes no {', '.join(sorted(unknown))}")


def retry_policy(retries: Retry | Mapping[str, Any]) -> dict[str, Any]:
    """
    Return a retry policy as the database keeps it: durations are in seconds.

    Which exceptions are retried cannot be kept there, so ``retry_on`` is refused.
    """
    if isinstance(retries, Retry):
        if retries.retry_on is not Exception:
            raise InvalidArgument(
                "retries of an enqueued workflow cannot have retry_on: "
                "pass them to @app.workflow(retries=...)"
            )
        return dict(retries.policy)
    refuse_other_type("retries", retries, Mapping)
    return {
        name: value.total_seconds() if isinstance(value, timedelta) else value
        for name, value in retries.items()
    }
