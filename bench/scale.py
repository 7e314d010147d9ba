"""How much is measured: everything, or a smoke test of the same code."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """Sizes of all workloads; times are in seconds."""

    name: str
    repetitions: int = 3
    yardstick_seconds: int = 1
    yardstick_transactions: int | None = None
    """Per client, instead of a time."""
    drain_seconds: float = 2.2
    """How long a drain should take: its size follows from the expected rate."""
    smallest_drain: int = 1000
    pgbench_seconds: int = 1
    pgbench_transactions: int | None = None
    bulk_repetitions: int = 5
    latency_samples: int = 200
    latency_gap: float = 0.12
    """Mean pause between two samples."""
    polled_samples: int = 40
    checkpoint_steps: int = 500
    idle_settle_seconds: float = 12
    idle_seconds: float = 60
    connections_backlog: int = 300_000
    connections_seconds: int = 6
    backlog_small: int = 10_000
    backlog_large: int = 1_000_000
    backlog_repetitions: int = 3
    wake_count: int = 1_000_000
    wake_fill_seconds: float = 12
    """Time allowed to enqueue the sleepers, before the first falls due."""
    wake_window_seconds: float = 30
    memory_in_flight: tuple[int, ...] = (0, 1_000, 10_000)
    snapshot_before_seconds: float = 30
    snapshot_held_seconds: float = 300
    snapshot_window_seconds: float = 10
    history_sizes: tuple[int, ...] = (0, 1_000_000, 10_000_000)
    free_disk_bytes: int = 40_000_000_000


FULL = Scale("full")

QUICK = Scale(
    "quick",
    repetitions=1,
    yardstick_transactions=400,
    pgbench_transactions=100,
    drain_seconds=0.3,
    smallest_drain=200,
    bulk_repetitions=3,
    latency_samples=20,
    latency_gap=0.1,
    polled_samples=6,
    checkpoint_steps=100,
    idle_settle_seconds=2,
    idle_seconds=6,
    connections_backlog=60_000,
    backlog_small=2_000,
    backlog_large=30_000,
    backlog_repetitions=2,
    wake_count=30_000,
    wake_fill_seconds=2,
    wake_window_seconds=4,
    connections_seconds=1,
    memory_in_flight=(0, 100, 1_000),
    snapshot_before_seconds=3,
    snapshot_held_seconds=6,
    snapshot_window_seconds=1,
    history_sizes=(0, 20_000, 100_000),
    free_disk_bytes=1_000_000_000,
)
