"""The SQL calls that enqueue and send many at once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from typing_extensions import TypedDict

from ._calls import Call, _first, written_options
from ._checks import shown
from ._errors import InvalidArgument
from ._functions import WorkflowFunction
from ._options import ConfiguredWorkflow, OnDuplicate, refuse_unknown
from ._payloads import Payloads
from ._retry import Retry

T = TypeVar("T")

PORTION = 10_000
"""Workflows or messages that go into one call, all calls into one transaction."""


class EnqueueOptions(TypedDict, total=False):
    """Options of enqueueing that hold for each of many workflows."""

    queue_name: str | None
    on_duplicate: OnDuplicate
    priority: int
    delay: timedelta | None
    run_at: datetime | None
    timeout: timedelta | None
    deadline: datetime | None
    max_attempts: int | None
    app_version: str | None
    headers: Mapping[str, Any] | None
    retries: Retry | Mapping[str, Any] | None
    debounce: timedelta | None
    debounce_max_delay: timedelta | None


OWN_OPTIONS = ("workflow_id", "deduplication_id", "queue_partition_key")
"""Options that each of many workflows has for itself: an array of them is passed."""


def enqueue_workflows(
    workflow: WorkflowFunction[..., Any] | ConfiguredWorkflow[..., Any] | str,
    inputs: Iterable[Sequence[Any] | Mapping[str, Any]],
    arrays: Mapping[str, Sequence[str | None] | None],
    shared: Mapping[str, Any],
    payloads: Payloads,
) -> list[Call[str]]:
    """Enqueue a workflow with each of many inputs; arrays are named as the parameters."""
    refuse_unknown(shared, EnqueueOptions, "enqueue_many()")
    options = {name: value for name, value in shared.items() if value is not None}
    if isinstance(workflow, ConfiguredWorkflow):
        options = workflow.given() | options
        workflow = workflow.workflow
        for name in OWN_OPTIONS:
            if name in options:
                raise InvalidArgument(f"each workflow has its own {name}: pass {name}s")
    queue_name = options.pop("queue_name", None) or getattr(workflow, "queue_name", "default")
    names, values = written_options(options)
    positional: list[str | None] = []
    named: list[str | None] = []
    for place, arguments in enumerate(inputs):
        if isinstance(arguments, Mapping):
            positional.append(None)
            named.append(payloads.store_named(arguments))
        elif isinstance(arguments, (tuple, list)):
            positional.append(payloads.store_all(arguments))
            named.append(None)
        else:
            raise InvalidArgument(
                f"input {place} is a {type(arguments).__name__}: pass a sequence of positional"
                " arguments, such as (42,), or a mapping of named ones"
            )
    _same_length({"inputs": named, **arrays})
    given = {name: values for name, values in arrays.items() if values is not None}
    taken = "".join(f", {name} => %b::text[]" for name in given)
    return [
        Call(
            "SELECT lockstep.enqueue_workflows("
            f"%s, %s, %b::text[]::jsonb[], %b::text[]::jsonb[]{taken}{names})",
            (
                workflow.name if isinstance(workflow, WorkflowFunction) else workflow,
                queue_name,
                *(_texts(array[part]) for array in (named, positional, *given.values())),
                *values,
            ),
            _first,
        )
        for part in _parts(len(named))
    ]


def send_messages(
    destination_ids: Sequence[str],
    messages: Sequence[Any],
    topic: str | None,
    idempotency_keys: Sequence[str | None] | None,
    payloads: Payloads,
) -> list[Call[str]]:
    """Send a message to each of many workflows."""
    _same_length(
        {
            "destination_ids": destination_ids,
            "messages": messages,
            "idempotency_keys": idempotency_keys,
        }
    )
    texts = [payloads.store(message) for message in messages]
    return [
        Call(
            "SELECT lockstep.send_messages(%b::text[], %b::text[]::jsonb[], %s, %b::text[])",
            (
                _texts(destination_ids[part]),
                _texts(texts[part]),
                topic,
                None if idempotency_keys is None else _texts(idempotency_keys[part]),
            ),
            _first,
        )
        for part in _parts(len(texts))
    ]


def _parts(count: int) -> list[slice]:
    return [slice(begin, begin + PORTION) for begin in range(0, count, PORTION)]


def _texts(values: Iterable[str | None]) -> list[str | None]:
    for value in values:
        if not isinstance(value, (str, int, UUID, type(None))):
            raise InvalidArgument(f"an id or key must be a str, not {shown(value)}")
    return [None if value is None else str(value) for value in values]


def _same_length(arrays: Mapping[str, Collection[Any] | None]) -> None:
    lengths = {name: len(values) for name, values in arrays.items() if values is not None}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise InvalidArgument(f"one element for each is needed: {said}")
