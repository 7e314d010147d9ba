"""Retention as the documentation advises it: batches, again and again, while all goes on."""

from __future__ import annotations

import asyncio
import time

import psycopg
from faults.site import Site

_BATCH = 10_000
_PURGED = ("workflow_status", "operation_outputs", "notifications", "workflow_events")


class Retention:
    """Purges what ended longer ago than ``keep`` seconds, every third of that time."""

    def __init__(self, site: Site, keep: float) -> None:
        self._site = site
        self._keep = keep
        self.purged = 0
        self.longest = 0.0

    async def run(self, until: float) -> None:
        """Purge until a moment of the monotonic clock."""
        while (pause := min(self._keep / 3, until - time.monotonic())) > 0:
            await asyncio.sleep(pause)
            count = _BATCH
            while count == _BATCH:
                began = time.monotonic()
                try:
                    count = await self._purge()
                except psycopg.OperationalError:
                    break  # the server is down: the next round does it
                self.purged += count
                self.longest = max(self.longest, time.monotonic() - began)

    async def _purge(self) -> int:
        ((_, count),) = await self._site.ask(
            "SELECT set_config('bank.is_purging', 'on', true),"
            " lockstep.purge_workflows(make_interval(secs => %s), %s)",
            self._keep,
            _BATCH,
        )
        return int(count)


def bring_back(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    """Put what was purged back, so that the oracle judges the whole run."""
    connection.execute("SET session_replication_role = replica")
    for table in _PURGED:
        connection.execute(f"INSERT INTO lockstep.{table} SELECT * FROM bank.purged_{table}")
    connection.execute("RESET session_replication_role")
