"""What the soak looks at: sizes in the database, memory of a worker, latency from outside."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

import psutil
from faults.site import Site

_SIZES = """
SELECT
    clock_timestamp(),
    sum(pg_table_size(c.oid)) / 1e6,
    sum(pg_indexes_size(c.oid)) / 1e6,
    sum(pg_indexes_size(c.oid)) FILTER (WHERE c.relname = 'workflow_status') / 1e6,
    sum(d.dead_tuple_count)
FROM pg_class AS c
CROSS JOIN LATERAL public.pgstattuple_approx(c.oid) AS d
WHERE c.relnamespace = 'lockstep'::regnamespace AND c.relkind = 'r'
"""
_WORKFLOWS = """
SELECT
    count(*),
    count(*) FILTER (WHERE w.completed_at IS NULL),
    count(*) FILTER (WHERE w.completed_at > %s AND w.completed_at <= %s)
FROM lockstep.workflow_status AS w
"""
_INDEXES = """
SELECT i.indexrelid::regclass::text, pg_relation_size(i.indexrelid) / 1e6, s.avg_leaf_density
FROM pg_index AS i
INNER JOIN pg_class AS c ON c.oid = i.indexrelid
INNER JOIN pg_am AS a ON a.oid = c.relam
CROSS JOIN LATERAL public.pgstatindex(i.indexrelid) AS s
WHERE c.relnamespace = 'lockstep'::regnamespace
    AND a.amname = 'btree'
    AND pg_relation_size(i.indexrelid) > 65536
ORDER BY 2 DESC
"""


@dataclass(frozen=True)
class Sample:
    """
    One look at the running system.

    Sizes are in MB, latencies in milliseconds from an enqueue to its result, as a client sees
    them; a percentile is of all canaries since the look before, None if none ended. Dead
    tuples are counted in the tables: a crash of the server makes its statistics forget them.
    """

    seconds: float
    tables_mb: float
    indexes_mb: float
    workflow_indexes_mb: float
    dead_tuples: int
    history: int
    unfinished: int
    worker_mb: float
    latency_p50_ms: float | None
    latency_p99_ms: float | None
    finished_per_second: float


@dataclass(frozen=True)
class IndexFigure:
    """How large an index is, and how full its leaves."""

    name: str
    megabytes: float
    leaf_density: float

    def __str__(self) -> str:
        return f"{self.name:45} {self.megabytes:6.2f} MB, leaves {self.leaf_density:3.0f} % full"


class Sampler:
    """Takes samples; it remembers when it took the last."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._looked_at: datetime.datetime | None = None

    async def sample(self, seconds: float, latencies: list[float], worker_pid: int) -> Sample:
        """Look at it all, as soon as the server answers."""
        ((now, tables, indexes, of_workflows, dead),) = await self._site.insist(_SIZES)
        since = self._looked_at or now
        ((history, unfinished, finished),) = await self._site.insist(_WORKFLOWS, since, now)
        elapsed = (now - since).total_seconds()
        self._looked_at = now
        return Sample(
            seconds=round(seconds, 1),
            tables_mb=round(float(tables), 2),
            indexes_mb=round(float(indexes), 2),
            workflow_indexes_mb=round(float(of_workflows), 2),
            dead_tuples=int(dead),
            history=history,
            unfinished=unfinished,
            worker_mb=round(psutil.Process(worker_pid).memory_info().rss / 1e6, 1),
            latency_p50_ms=percentile(latencies, 0.5),
            latency_p99_ms=percentile(latencies, 0.99),
            finished_per_second=round(finished / elapsed, 1) if elapsed else 0.0,
        )

    async def indexes(self) -> list[IndexFigure]:
        """Look at every B-tree of more than a few pages."""
        return [IndexFigure(n, float(m), d) for n, m, d in await self._site.insist(_INDEXES)]


def percentile(values: list[float], share: float) -> float | None:
    """Return the value below which a share of the values lies, by nearest rank; None of none."""
    if not values:
        return None
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1)
