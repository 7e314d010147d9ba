"""A soak: a run of the fault harness with companions that measure and purge."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Coroutine
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

import psycopg
from faults import oracle
from faults.injections.server import KillServer
from faults.plan import Planned, make_plan
from faults.run import Options, Run

from .canary import Canary
from .retention import Retention, bring_back
from .samples import IndexFigure, Sample, Sampler, percentile
from .site import SoakSite
from .trend import Trend, trend

KINDS = (
    "worker killed",
    "worker killed at a point",
    "worker stopped at a point",
    "worker stopped beyond its lease",
    "worker stopped within its lease",
    "worker asked to stop",
    "backends terminated",
    "connections reset",
    "answers of commits lost",
)
"""Faults that are over soon, so that there is something to measure most of the time."""

_BETWEEN_CRASHES = 600.0
"""
The server is killed at this pace, first after half of it. A crash makes Postgres forget what
was to be vacuumed, and it is over a minute until autovacuum comes again: without it for long
the indexes grow, whatever Lockstep does.
"""

LIMITS = {
    "tables_mb": 0.10,
    "indexes_mb": 0.10,
    "workflow_indexes_mb": 0.10,
    "dead_tuples": 0.25,
    "history": 0.10,
    "unfinished": 0.25,
    "worker_mb": 0.05,
    "latency_p50_ms": 0.25,
    "latency_p99_ms": 0.50,
}
"""Growth per hour, as a share of the median, that is called upwards if it is certain."""

_SHORTEST_TO_JUDGE = 20 * 60.0


class Soak(Run):
    """A run whose load and faults are steady, and which is looked at all the time."""

    def __init__(self, site: SoakSite, options: Options, rate: float) -> None:
        super().__init__(site, options)
        self._site: SoakSite = site
        self._plan = self._make_plan()
        self.rate = rate
        self.keep = max(10.0, min(180.0, options.seconds / 10))
        self.warm_after = max(0.2 * options.seconds, min(300.0, 0.4 * options.seconds))
        self._interval = min(10.0, options.seconds / 20)
        self._canary = Canary(site.driver_proxied_dsn)
        self._retention = Retention(site, self.keep)
        self.samples: list[Sample] = []
        self.indexes: list[IndexFigure] = []
        minutes = options.seconds / 60
        self.report.command = f"make soak SEED={options.seed} MINUTES={minutes:g} RATE={rate:g}"

    def _make_plan(self) -> list[Planned]:
        options = self._options
        drawn = make_plan(options.seed, 2 * options.faults, options.spacing, options.kinds)
        plan = [planned for planned in drawn if planned.at < options.seconds]
        random = Random(options.seed)
        crash_at = _BETWEEN_CRASHES / 2
        while crash_at < options.seconds:
            plan.append(Planned(crash_at, KillServer.draw(random)))
            crash_at += _BETWEEN_CRASHES
        return plan

    def _companions(self) -> list[Coroutine[Any, Any, None]]:
        until = self._began + self._options.seconds
        return [self._canary.run(until), self._retention.run(until), self._look(until)]

    async def _look(self, until: float) -> None:
        sampler = Sampler(self._site)
        veteran = self._site.veteran
        assert veteran is not None
        at = time.monotonic()
        while at < until:
            elapsed = time.monotonic() - self._began
            self.samples.append(await sampler.sample(elapsed, self._canary.take(), veteran.pid))
            at += self._interval
            await asyncio.sleep(at - time.monotonic())
        self.indexes = await sampler.indexes()

    def _judge(self) -> None:
        site = self._site
        with psycopg.connect(site.direct_dsn, autocommit=True) as connection:
            bring_back(connection)
            oracle.load_files(connection, site.folder)
            self._add_canaries(connection)
            self.report.violations = list(oracle.judge(connection))
            self.report.read_database(connection)
        self.report.troubles += site.faults_in_worker + self._canary.troubles
        self.report.started_workers = site.started_workers
        self.report.read_logs(site.worker_logs())

    def _add_canaries(self, connection: psycopg.Connection[Any]) -> None:
        """Tell the oracle of what the canary enqueued."""
        numbers = self._canary.acknowledged
        connection.execute(
            "INSERT INTO bank.journal"
            " SELECT 'canary-' || n, 'committed' FROM unnest(%s::int[]) AS n",
            (numbers,),
        )
        connection.execute(
            "INSERT INTO bank.expected"
            " SELECT 'canary-' || n, 'pack', jsonb_build_array(n) FROM unnest(%s::int[]) AS n",
            (numbers,),
        )

    # the result

    @property
    def warm(self) -> list[Sample]:
        return [sample for sample in self.samples if sample.seconds >= self.warm_after]

    @property
    def trends(self) -> list[Trend]:
        return [
            trend(name, [(s.seconds, getattr(s, name)) for s in self.warm], limit)
            for name, limit in LIMITS.items()
        ]

    @property
    def is_long_enough(self) -> bool:
        """Whether the warm part of the run is long enough to speak of trends."""
        return self._options.seconds - self.warm_after >= _SHORTEST_TO_JUDGE

    @property
    def is_good(self) -> bool:
        return self.report.is_good and not self.upwards

    @property
    def upwards(self) -> list[str]:
        """What surely grows, if the run was long enough to say."""
        return [each.name for each in self.trends if each.is_upwards and self.is_long_enough]

    @property
    def crashes(self) -> list[float]:
        """When the server was to be killed, in seconds from the start."""
        return [planned.at for planned in self._plan if isinstance(planned.fault, KillServer)]

    @property
    def latencies(self) -> list[float]:
        """Every canary of the warm part, in milliseconds."""
        warm_from = self._began + self.warm_after
        return [took for began, took in self._canary.latencies if began >= warm_from]

    def __str__(self) -> str:
        warm = self.latencies
        finished = statistics.mean(sample.finished_per_second for sample in self.warm)
        verdict = ", ".join(self.upwards) or (
            "nothing" if self.is_long_enough else "too short to say"
        )
        return "\n".join(
            [
                str(self.report),
                "",
                f"latency of {len(warm)} canaries once warm: p50 {percentile(warm, 0.5)} ms,"
                f" p99 {percentile(warm, 0.99)} ms, longest {max(warm):.0f} ms",
                f"finished once warm: {finished:.1f} workflows/s",
                f"purged: {self._retention.purged} workflows, those that ended over"
                f" {self.keep:.0f} s before; longest call {self._retention.longest:.1f} s",
                "indexes at the end:",
                *(f"  {index}" for index in self.indexes),
                f"trends after {self.warm_after / 60:.1f} minutes:",
                *(f"  {each}" for each in self.trends),
                f"goes upwards: {verdict}",
            ]
        )

    def write(self, path: Path) -> None:
        """Write what was seen as JSON: a row for each sample."""
        path.parent.mkdir(parents=True, exist_ok=True)
        fields = list(asdict(self.samples[0]))
        head = {
            "command": self.report.command,
            "seconds": self._options.seconds,
            "warm_after": self.warm_after,
            "crashes": self.crashes,
            "kept_seconds": self.keep,
            "faults": dict(self.report.injected),
            "violations": len(self.report.violations) + len(self.report.troubles),
            "counts": self.report.counts,
            "latency_ms": {
                "p50": percentile(self.latencies, 0.5),
                "p99": percentile(self.latencies, 0.99),
                "longest": round(max(self.latencies), 1),
            },
            "trends": [asdict(each) for each in self.trends],
            "fields": fields,
        }
        rows = ",\n".join(json.dumps(list(asdict(sample).values())) for sample in self.samples)
        text = json.dumps(head, indent=1)[:-2]
        path.write_text(f'{text},\n "samples": [\n{rows}\n]}}\n')
