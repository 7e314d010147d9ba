"""A client that enqueues a tiny workflow at a fixed pace and waits for its result."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import lockstep
import psycopg

_PACE = 0.2
_PATIENCE = 120.0


class Canary:
    """
    Measures latency from outside: from the first try to enqueue until the result is there.

    It does not wait for one workflow before it enqueues the next, so that a standstill is
    seen by all whom it would have met.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._fresh: list[float] = []
        self.acknowledged: list[int] = []
        self.latencies: list[tuple[float, float]] = []
        """When each began, by the monotonic clock, and its milliseconds."""
        self.troubles: list[str] = []

    async def run(self, until: float) -> None:
        """Enqueue until a moment of the monotonic clock, and wait for what is under way."""
        begins = time.monotonic()
        number = 0
        waiting = []
        async with lockstep.AsyncClient(self._dsn) as client:
            while begins < until:
                number += 1
                waiting.append(asyncio.create_task(self._try(client, number, begins)))
                begins += _PACE
                await asyncio.sleep(begins - time.monotonic())
            await asyncio.gather(*waiting)

    def take(self) -> list[float]:
        """Return the latencies of what has ended since the last call, in milliseconds."""
        fresh, self._fresh = self._fresh, []
        return fresh

    async def _try(self, client: lockstep.AsyncClient, number: int, began: float) -> None:
        workflow_id = f"canary-{number}"
        while time.monotonic() < began + _PATIENCE:
            try:
                await client.enqueue("pack", number, workflow_id=workflow_id)
                output = await client.result(workflow_id, timeout=timedelta(seconds=_PATIENCE))
            except (psycopg.Error, OSError):
                await asyncio.sleep(0.05)
                continue
            milliseconds = (time.monotonic() - began) * 1000
            self._fresh.append(milliseconds)
            self.latencies.append((began, milliseconds))
            self.acknowledged.append(number)
            if output != 3 * number:
                self.troubles.append(f"{workflow_id} returned {output}")
            return
        self.troubles.append(f"{workflow_id} had no result after {_PATIENCE:.0f} s")
