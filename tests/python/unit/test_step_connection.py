"""How the connections of transactional steps are made."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from lockstep._transaction import AsyncStepConnection, StepConnection

FAILURES = 12
"""Failed attempts to connect; the pool alone would double its pause after each."""


def failing(times: int, connect: Callable[[], Any]) -> Callable[..., Any]:
    attempts = itertools.count(1)

    def attempt(*args: Any, **kwargs: Any) -> Any:
        if next(attempts) <= times:
            raise psycopg.OperationalError("the server is down")
        return connect()

    return attempt


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made, none of which takes time."""
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(time, "sleep", pauses.append)
    monkeypatch.setattr(asyncio, "sleep", pause)
    return pauses


def test_plain_step_pauses_briefly_however_often_connecting_failed(
    monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    connect = failing(FAILURES, lambda: "connection")
    monkeypatch.setattr(psycopg.Connection, "connect", connect)
    assert StepConnection.connect("") == "connection"
    assert len(pauses) == FAILURES
    assert max(pauses) < 3


async def test_async_step_pauses_briefly_however_often_connecting_failed(
    monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    async def connection() -> str:
        return "connection"

    async def connect(*args: Any, **kwargs: Any) -> str:
        return await attempt()

    attempt = failing(FAILURES, connection)
    monkeypatch.setattr(psycopg.AsyncConnection, "connect", connect)
    assert await AsyncStepConnection.connect("") == "connection"
    assert len(pauses) == FAILURES
    assert max(pauses) < 3


def test_wrong_password_is_reported_in_the_end(
    monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    clock = itertools.count(0.0, 1.0)
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(psycopg.Connection, "connect", failing(1000, lambda: None))
    with pytest.raises(psycopg.OperationalError):
        StepConnection.connect("")
    assert len(pauses) == 29
