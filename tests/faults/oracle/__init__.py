"""
The oracle: what must be true when everything has drained, each promise with a query.

A query returns a row for each violation. The journal of the driver and the side effects
outside of the database are loaded from their files first (``load_files``); everything else
is in the tables of the bank and of Lockstep.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg

from . import effects, enqueueing, leftovers, messages  # noqa: F401 - each adds its checks
from .check import CHECKS, Check, Violation

__all__ = ["CHECKS", "Check", "Violation", "judge", "load_files"]

FILES = ("journal", "effect", "stopped_worker")
"""Files of a run's folder, loaded into the tables of the bank that have their names."""


def load_files(connection: psycopg.Connection[Any], folder: Path) -> None:
    """Load what the driver was told and what happened outside of the database."""
    for table in FILES:
        connection.execute(f"TRUNCATE bank.{table}")
        with connection.cursor().copy(f"COPY bank.{table} FROM STDIN") as copy:
            copy.write((folder / table).read_bytes())
    connection.execute("ANALYZE")


def judge(
    connection: psycopg.Connection[Any], checks: Sequence[Check] = CHECKS
) -> Iterator[Violation]:
    """Yield what breaks a promise."""
    for promise in checks:
        for row in connection.execute(promise.query).fetchall():
            yield Violation(promise, row)
