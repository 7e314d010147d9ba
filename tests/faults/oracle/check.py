"""What the oracle is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Check:
    """A promise, and the query that finds what breaks it."""

    name: str
    promise: str
    query: str


@dataclass(frozen=True)
class Violation:
    """A row that breaks a promise."""

    check: Check
    row: tuple[Any, ...]

    def __str__(self) -> str:
        return f"{self.check.name}: {', '.join(str(value) for value in self.row)}"


CHECKS: list[Check] = []


def check(name: str, promise: str, query: str) -> None:
    CHECKS.append(Check(name, promise, query))
