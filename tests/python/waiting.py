"""Waiting for a condition instead of for a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any


def eventually(condition: Callable[[], Any], what: str, timeout: float = 30.0) -> Any:
    """Wait until a condition holds and return its value; fail naming what did not happen."""
    give_up_at = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > give_up_at:
            raise AssertionError(f"{what} did not happen within {timeout} s")
        time.sleep(0.02)


async def until(condition: Callable[[], Any], what: str, timeout: float = 30.0) -> Any:
    """As eventually(), beside a worker in the test's own event loop."""
    give_up_at = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > give_up_at:
            raise AssertionError(f"{what} did not happen within {timeout} s")
        await asyncio.sleep(0.01)
    return value
