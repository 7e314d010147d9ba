"""How many workflows a worker claims at once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from lockstep._claimer import Claimer


@pytest.fixture
def claimer() -> Claimer:
    worker: Any = SimpleNamespace(
        portion=50, runs={}, is_stopping=False, loop=Mock(), writer=Mock(), pulse=Mock()
    )
    return Claimer(worker, 100)


def claims(claimer: Claimer, count: int) -> list[int]:
    """Make claims that bring all that they ask for; return how many each asked for."""
    asked = []
    for _ in range(count):
        asked.append(claimer.wanted(1, 0))
        claimer.came_back(asked[-1], asked[-1])
    return asked


def test_claims_shrink_after_one_that_was_too_large_and_grow_again(claimer: Claimer) -> None:
    assert claims(claimer, 2) == [50, 50]
    claimer.was_too_much(50)
    assert claims(claimer, 4) == [12, 24, 48, 50]


def test_claims_do_not_shrink_when_little_is_there(claimer: Claimer) -> None:
    claimer.came_back(50, 3)
    assert claims(claimer, 1) == [50]
