"""
What a snapshot costs that is held open: claims must not get slower with what it hides.

Vacuum may remove nothing that a REPEATABLE READ reader could still see, so each claimed
workflow leaves dead entries at the head of the claim index.
"""

from __future__ import annotations

import asyncio
import statistics
from dataclasses import dataclass

import psycopg

from .site import Site

_ROUND = 4000
_PROBES = 40
_ROUNDS_WITH_READER = 4

_ENQUEUE = """
    WITH unit AS (
        SELECT %s || n AS id, jsonb_build_array(n) AS args FROM generate_series(1, %s) AS n
    ),
    expected AS (INSERT INTO bank.expected SELECT u.id, 'pack', u.args FROM unit AS u)
    SELECT lockstep.enqueue_workflow('pack', 'default', u.args, workflow_id => u.id) FROM unit AS u
"""


@dataclass(frozen=True)
class Figure:
    """What one round took."""

    what: str
    workflows_per_second: float
    milliseconds_to_start: float
    longest_to_start: float

    def __str__(self) -> str:
        return (
            f"{self.what}: {self.workflows_per_second:.0f} workflows/s; one alone started after"
            f" {self.milliseconds_to_start:.1f} ms (median), at most {self.longest_to_start:.1f} ms"
        )


async def measure(site: Site) -> list[Figure]:
    """Measure rounds of workflows without a reader, then with one open all the time."""
    figures = [await _round(site, "no reader")]
    reader = await psycopg.AsyncConnection.connect(site.direct_dsn)
    async with reader:
        await reader.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
        await reader.execute("SELECT count(*) FROM lockstep.workflow_status")
        for number in range(1, _ROUNDS_WITH_READER + 1):
            figures.append(await _round(site, f"reader open, {number * _ROUND} workflows later"))
    return figures


async def _round(site: Site, what: str) -> Figure:
    prefix = f"{what}: "
    await _enqueue_and_wait(site, prefix, _ROUND)
    ((seconds,),) = await site.ask(
        "SELECT extract(EPOCH FROM max(completed_at) - min(started_at))::float8"
        " FROM lockstep.workflow_status WHERE starts_with(workflow_id, %s)",
        prefix,
    )
    for number in range(_PROBES):
        await _enqueue_and_wait(site, f"probe {number}, {what}: ", 1)
    waits = await site.ask(
        "SELECT extract(EPOCH FROM started_at - created_at)::float8 * 1000"
        " FROM lockstep.workflow_status"
        " WHERE workflow_id LIKE 'probe%%' AND strpos(workflow_id, %s) > 0",
        what,
    )
    milliseconds = [wait for (wait,) in waits]
    return Figure(what, _ROUND / seconds, statistics.median(milliseconds), max(milliseconds))


async def _enqueue_and_wait(site: Site, prefix: str, count: int) -> None:
    await site.ask(_ENQUEUE, prefix, count)
    ended = 0
    while ended < count:
        await asyncio.sleep(0.2 if count > 1 else 0.02)
        ((ended,),) = await site.ask(
            "SELECT count(completed_at) FROM lockstep.workflow_status"
            " WHERE starts_with(workflow_id, %s)",
            prefix,
        )
