"""The figures that follow from the samples: what was reached, and what the goal was."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from .peers.absurd import Absurd
from .peers.bare import Bare
from .peers.base import Peer
from .peers.dbos import Dbos
from .peers.lockstep import Lockstep
from .peers.pgqueuer import PgQueuer
from .peers.procrastinate import Procrastinate

Results = dict[str, Any]
"""What a results file holds."""

PEERS: tuple[type[Peer], ...] = (Lockstep, Dbos, Absurd, Procrastinate, PgQueuer, Bare)
RATES = ("noop", "steps", "steps_threads", "transactional")


@dataclass(frozen=True)
class Figure:
    """One line of the table; ``value`` is None where nothing was measured."""

    workload: str
    what: str
    value: float | None
    unit: str = ""
    goal: float | None = None
    is_less_better: bool = False

    @property
    def verdict(self) -> str:
        """Whether the goal is met, in a word."""
        if self.goal is None or self.value is None:
            return ""
        is_met = self.value <= self.goal if self.is_less_better else self.value >= self.goal
        return "met" if is_met else "missed"


def pick(
    results: Results, workload: str, system: str, key: str, variant: str | None = None
) -> list[float]:
    """Return a number of all samples of a workload and system, in order of repetition."""
    return [
        sample[key]
        for sample in results["samples"]
        if sample["workload"] == workload
        and sample["system"] == system
        and variant in (None, sample["variant"])
        and key in sample
    ]


def median(*args: Any, **kwargs: Any) -> float | None:
    """Return the median of what :func:`pick` finds, or None."""
    values = pick(*args, **kwargs)
    return statistics.median(values) if values else None


def variants(results: Results, workload: str, system: str = "lockstep") -> list[str]:
    """Return the variants of a workload, in the order in which they were measured."""
    found = [
        sample["variant"]
        for sample in results["samples"]
        if (sample["workload"], sample["system"]) == (workload, system)
    ]
    return list(dict.fromkeys(found))


def divide(numerator: float | None, denominator: float | None) -> float | None:
    """Return a quotient, or None if a part of it is missing."""
    return numerator / denominator if numerator is not None and denominator else None


def add(*parts: float | None) -> float | None:
    """Return a sum, or None if a part of it is missing."""
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None


def paired(
    results: Results, workload: str, system: str, other: str, key: str, variant: str | None = None
) -> float | None:
    """Return the median of the quotients of two systems, each of the same repetition."""
    ours, theirs = (pick(results, workload, name, key, variant) for name in (system, other))
    if not ours or len(ours) != len(theirs):
        return divide(
            statistics.median(ours) if ours else None, statistics.median(theirs) if theirs else None
        )
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def _enqueue(results: Results) -> Iterator[Figure]:
    for clients in (1, 4, 16):
        variant = f"{clients} clients"
        value = paired(results, "enqueue", "lockstep", "raw", "per_second", variant)
        yield Figure("enqueue", f"from {clients} connections, per raw INSERT", value, "", 0.8)
        value = median(results, "enqueue", "lockstep", "ratio", variant)
        yield Figure("enqueue", f"from {clients} connections, per yardstick insert", value)
    value = paired(results, "bulk_enqueue", "lockstep", "raw", "per_second")
    yield Figure("bulk_enqueue", "10,000 in one call, per INSERT … SELECT", value, "", 0.6)
    with_workflow, without = (
        median(results, "bulk_enqueue", system, "us_per_row")
        for system in ("attached table", "table")
    )
    added = None if with_workflow is None or without is None else with_workflow - without
    yield Figure("bulk_enqueue", "added to each row by an attached workflow", added, "µs", 15, True)


def _drains(results: Results) -> Iterator[Figure]:
    goals = {
        "noop": ("no-op", 1.5, 6),
        "steps": ("3 steps", 0.5, 25),
        "steps_threads": ("3 steps on threads", 0.25, 12),
        "transactional": ("1 transactional step", 0.25, None),
    }
    for workload, (what, goal, times) in goals.items():
        value = median(results, workload, "lockstep", "per_second")
        yield Figure(workload, f"{what}, workflows", value, "/s")
        value = median(results, workload, "lockstep", "ratio")
        yield Figure(workload, f"{what}, per yardstick insert", value, "", goal)
        value = paired(results, workload, "lockstep", "dbos", "ratio")
        yield Figure(workload, f"{what}, per DBOS", value, "x", times)
    for workflow, what in (("noop", "no-op"), ("steps", "3 steps")):
        value = paired(results, workflow, "lockstep x2", "lockstep", "ratio")
        yield Figure(workflow, f"{what}, two workers per one", value, "x", 1.3)


def _limits(results: Results) -> Iterator[Figure]:
    unlimited, *limited = variants(results, "limits") or [""]
    goals = {"concurrency 100": 0.5, "1,000 partitions": 0.5}
    for variant in limited:
        value = _relative(results, "limits", variant, unlimited, "ratio")
        yield Figure("limits", f"no-op, {variant}, per {unlimited}", value, "x", goals.get(variant))


def _quiet(results: Results) -> Iterator[Figure]:
    for percentile, goal in (("p50", 3), ("p99", 15)):
        value = median(results, "latency", "lockstep", f"{percentile}_ms", "notified")
        yield Figure("latency", f"enqueue to start, {percentile}", value, "ms", goal, True)
    value = median(results, "latency", "lockstep", "p50_ms", "polling 1 s")
    yield Figure("latency", "the same without notifications, p50", value, "ms")
    value = median(results, "checkpoint", "lockstep", "ratio")
    yield Figure("checkpoint", "one step, per INSERT of the same process", value, "x", 1.5, True)
    value = median(results, "checkpoint", "lockstep", "step_p50_ms")
    yield Figure("checkpoint", "one step, p50", value, "ms")
    alone = median(results, "checkpoint", "lockstep", "pgbench_ms")
    yield Figure("checkpoint", "one step, per INSERT of pgbench", divide(value, alone), "x")
    value = median(results, "idle", "lockstep", "transactions_per_second")
    yield Figure("idle", "transactions of an idle worker", value, "/s", 0.3, True)
    value = median(results, "idle", "lockstep", "worker_cpu_percent")
    yield Figure("idle", "CPU of an idle worker", value, "%", 0.2, True)
    for variant, goal in zip(variants(results, "memory"), (60, 90, 200), strict=False):
        value = median(results, "memory", "lockstep", "megabytes", variant)
        yield Figure("memory", f"worker with {_grouped(variant)}", value, "MB", goal, True)


def _cost(results: Results) -> Iterator[Figure]:
    enqueue = median(results, "enqueue", "lockstep", "wal_bytes", "1 clients")
    yield Figure("cost", "WAL of enqueue_workflow()", enqueue, "B")
    for workload, what, goal in (("noop", "no-op", 1800), ("steps", "3 steps", 3200)):
        run = median(results, workload, "lockstep", "wal_bytes_run")
        yield Figure("cost", f"WAL of a run, {what}", run, "B")
        yield Figure("cost", f"WAL of both, {what}", add(enqueue, run), "B", goal, True)
    value = median(results, "steps", "lockstep", "transactions")
    yield Figure("cost", "transactions, 3 steps", value, "", 0.2, True)
    for workload, what in (("noop", "no-op"), ("steps", "3 steps")):
        for key, whose in (("postgres_cpu_us", "Postgres"), ("worker_cpu_us", "worker")):
            value = median(results, workload, "lockstep", key)
            yield Figure("cost", f"CPU of {whose}, {what}", value, "µs")


def _large(results: Results) -> Iterator[Figure]:
    empty, *histories = variants(results, "history") or [""]
    for variant in histories:
        value = _relative(results, "history", variant, empty, "ratio")
        yield Figure("history", f"{_grouped(variant)}, per empty table", value, "x", 0.9)
    short, *longer = variants(results, "backlog") or [""]
    for variant in longer:
        value = _relative(results, "backlog", variant, short, "ratio")
        yield Figure("backlog", f"{_grouped(variant)}, per {_grouped(short)}", value, "x", 0.9)
    value = median(results, "wake", "lockstep", "per_second")
    offered = median(results, "wake", "lockstep", "offered_per_second")
    # more than falls due cannot be woken, so a smoke test has nothing to reach
    goal = 5000 if offered and offered > 5000 else None
    yield Figure("wake", f"woken, of {offered or 0:,.0f}/s falling due", value, "/s", goal)
    begin, end = (
        median(results, "wake", "lockstep", f"megabytes_{when}") for when in ("begin", "end")
    )
    yield Figure("wake", "worker memory, end per begin", divide(end, begin), "x", 1.1, True)
    held = _grouped(f"{_held_seconds(results):.0f}")
    for variant in variants(results, "snapshot"):
        value = median(results, "snapshot", "lockstep", "remaining", variant)
        what = f"3 steps, {variant}".removesuffix(", ").removesuffix(", unlimited")
        yield Figure("snapshot", f"{what}, open for {held} s, per before", value, "x", 0.6)
    rates = [
        median(results, "connections", "lockstep", "per_second", variant) or 0
        for variant in variants(results, "connections")
    ]
    value = divide(rates[-1], max(rates)) if rates else None
    yield Figure("connections", "64 connections, per best of 4, 16, 64", value, "x", 0.8)


def _relative(results: Results, workload: str, variant: str, base: str, key: str) -> float | None:
    return divide(
        median(results, workload, "lockstep", key, variant),
        median(results, workload, "lockstep", key, base),
    )


def _held_seconds(results: Results) -> float:
    for sample in results["samples"]:
        if sample["workload"] == "snapshot":
            return float((sample["windows"][-1][0] + 1) * sample["window_seconds"])
    return 0.0


def _grouped(text: str) -> str:
    """Return a text with thousands separated in its numbers."""
    return " ".join(f"{int(word):,}" if word.isdecimal() else word for word in text.split())


GROUPS: tuple[Callable[[Results], Iterator[Figure]], ...] = (
    *(_enqueue, _drains, _limits, _quiet, _cost, _large),
)


def figures(results: Results) -> list[Figure]:
    """Return all figures, also those that were not measured."""
    return [figure for group in GROUPS for figure in group(results)]
