"""Whatever enqueues takes all options of enqueueing."""

from __future__ import annotations

import inspect
from typing import Any

import lockstep
import pytest
import typer.main
from lockstep._bulk_calls import OWN_OPTIONS
from lockstep._options import OPTION_NAMES
from lockstep.cli._main import cli

OPTIONS = set(OPTION_NAMES)


def names_in(command: str) -> set[str]:
    """Return the parameters of a command, as the library calls them."""
    found: Any = typer.main.get_command(cli)
    for name in command.split():
        found = found.commands[name]
    called = {"queue": "queue_name", "id": "workflow_id"}
    return {called.get(parameter.name, parameter.name) for parameter in found.params}


def test_options_of_a_workflow_are_all() -> None:
    signature = inspect.signature(lockstep.WorkflowFunction.options)
    assert set(signature.parameters) - {"self"} == OPTIONS


def test_options_of_many_are_shared_or_arrays() -> None:
    shared = set(lockstep.EnqueueOptions.__annotations__)
    assert shared | set(OWN_OPTIONS) == OPTIONS
    assert not shared & set(OWN_OPTIONS)
    arrays = {f"{name}s" for name in OWN_OPTIONS}
    assert arrays <= set(inspect.signature(lockstep.Client.enqueue_many).parameters)


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("enqueue", OPTIONS),
        ("schedule create", set(lockstep.ScheduleOptions.__annotations__)),
        ("queue create", set(lockstep.QueueLimits.__annotations__)),
        ("queue alter", set(lockstep.QueueLimits.__annotations__)),
    ],
)
def test_commands_take_all_options(command: str, options: set[str]) -> None:
    assert options - names_in(command) == set()
