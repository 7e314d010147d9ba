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


def test_claims_begin_with_one_and_grow_to_a_portion(claimer: Claimer) -> None:
    assert claims(claimer, 8) == [1, 2, 4, 8, 16, 32, 50, 50]


def test_claims_begin_anew_after_one_that_was_too_large(claimer: Claimer) -> None:
    claims(claimer, 8)
    claimer.claim_fewer()
    assert claims(claimer, 3) == [1, 2, 4]


def test_claims_do_not_shrink_when_little_is_there(claimer: Claimer) -> None:
    claims(claimer, 8)
    claimer.came_back(50, 3)
    assert claims(claimer, 1) == [50]
