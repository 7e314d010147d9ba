"""Fixtures for pytest, which finds this module by itself; see docs/testing.md."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .testing import EmbeddedServer


@pytest.fixture(scope="session")
def lockstep_server() -> Iterator[EmbeddedServer]:
    """An embedded Postgres for the whole session; its ``dsn`` is what the other fixtures use."""
    from .testing import start_server

    with start_server() as server:
        yield server


@pytest.fixture
def lockstep_database(lockstep_server: Any) -> Iterator[str]:
    """The connection string of a fresh database with Lockstep in it, gone after the test."""
    from .testing import create_database

    with create_database(lockstep_server.dsn) as dsn:
        yield dsn
