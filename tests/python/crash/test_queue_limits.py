"""Limits of queues hold exactly under eight worker processes, one of which is killed."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

import psycopg
from harness import Database, WorkerProcess
from waiting import eventually

StartWorker = Callable[..., WorkerProcess]

WORKERS = 8
QUEUES = {
    "few": {"concurrency": 5},
    "each": {"worker_concurrency": 2},
    "tenants": {"concurrency": 12, "partition_concurrency": 2},
    "rated": {"rate_limit": 20, "rate_period": timedelta(seconds=0.5)},
    "rated_tenants": {"partition_rate_limit": 3, "partition_rate_period": timedelta(seconds=0.5)},
}
COUNTS = {"few": 600, "each": 900, "tenants": 800, "rated": 200, "rated_tenants": 150}
TENANTS = 10

_RUNNING = """
    SELECT w.queue_name, coalesce(w.queue_partition_key, ''), w.executor_id, count(*)
    FROM lockstep.workflow_status AS w
    WHERE w.status = 'PENDING'
    GROUP BY 1, 2, 3
"""


def most_at_once(intervals: Iterable[tuple[float, float]]) -> int:
    """Return how many of the intervals overlapped at the worst moment."""
    # an end sorts before a beginning at the same moment
    edges = sorted(edge for begin, end in intervals for edge in ((begin, 1), (end, -1)))
    most = running = 0
    for _, change in edges:
        running += change
        most = max(most, running)
    return most


def most_in_a_window(moments: Iterable[datetime], period: timedelta) -> int:
    """Return how many of the moments lie in the fullest window that is shorter than period."""
    ordered = sorted(moments)
    return max(bisect_left(ordered, first + period) - n for n, first in enumerate(ordered))


class Sampler:
    """Looks every 10 ms at what runs, as the database sees it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.sample_count = 0
        self.most: dict[str, int] = defaultdict(int)
        self.most_of_worker: dict[str, int] = defaultdict(int)
        self.most_of_partition: dict[str, int] = defaultdict(int)

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with psycopg.connect(
            self._database.dsn, autocommit=True, prepare_threshold=None
        ) as connection:
            while not self._stop.wait(0.01):
                self._note(connection.execute(_RUNNING).fetchall())

    def _note(self, rows: list[tuple[Any, ...]]) -> None:
        self.sample_count += 1
        for places, most in (
            ((0,), self.most),
            ((0, 2), self.most_of_worker),
            ((0, 1), self.most_of_partition),
        ):
            counts: dict[tuple[str, ...], int] = defaultdict(int)
            for row in rows:
                counts[tuple(row[place] for place in places)] += row[3]
            for key, count in counts.items():
                most[key[0]] = max(most[key[0]], count)


def test_limits_are_exact_under_eight_workers_and_a_crash(
    database: Database, start_worker: StartWorker
) -> None:
    for queue_name, limits in QUEUES.items():
        names = "".join(f", {name} => %s" for name in limits)
        database.rows(f"SELECT lockstep.create_queue(%s{names})", queue_name, *limits.values())
        database.rows(
            "INSERT INTO lockstep.workflow_status"
            " (workflow_name, queue_name, queue_partition_key, priority)"
            " SELECT 'stay', %s, 'tenant ' || n %% %s, n %% 3 FROM generate_series(1, %s) AS n",
            queue_name,
            TENANTS,
            COUNTS[queue_name],
        )
    options = [option for queue_name in QUEUES for option in ("--queue", queue_name)]

    with Sampler(database) as sampler:
        workers = [
            start_worker("limits_app:app", "--concurrency", "50", *options) for _ in range(WORKERS)
        ]
        eventually(lambda: finished_count(database) > 300, "the end of the first 300")
        workers[0].kill()
        start_worker("limits_app:app", "--concurrency", "50", *options)
        eventually(
            lambda: finished_count(database) == sum(COUNTS.values()), "the end of all", timeout=90
        )

    assert sampler.sample_count > 100
    assert sampler.most["few"] == 5
    assert sampler.most_of_worker["each"] == 2
    assert sampler.most["tenants"] == 12
    assert sampler.most_of_partition["tenants"] == 2

    intervals: dict[tuple[Any, ...], list[tuple[float, float]]] = defaultdict(list)
    for queue_name, partition_key, output in database.rows(
        "SELECT queue_name, queue_partition_key, output FROM lockstep.workflow_status"
    ):
        interval = output["began_at"], output["ended_at"]
        intervals[queue_name,].append(interval)
        intervals[queue_name, partition_key].append(interval)
        intervals[queue_name, output["pid"]].append(interval)
    at_once = {key: most_at_once(value) for key, value in intervals.items()}
    assert at_once["few",] <= 5
    assert at_once["tenants",] <= 12
    assert (
        max(n for key, n in at_once.items() if key[0] == "each" and isinstance(key[-1], int)) <= 2
    )
    assert max(at_once["tenants", f"tenant {n}"] for n in range(TENANTS)) <= 2

    starts: dict[tuple[str, ...], list[datetime]] = defaultdict(list)
    for queue_name, partition_key, started_at in database.rows(
        "SELECT queue_name, queue_partition_key, started_at FROM lockstep.workflow_status"
    ):
        starts[queue_name,].append(started_at)
        starts[queue_name, partition_key].append(started_at)
    period = timedelta(seconds=0.5)
    assert most_in_a_window(starts["rated",], period) == 20
    fullest = {most_in_a_window(starts["rated_tenants", f"tenant {n}"], period) for n in range(10)}
    assert fullest == {3}


def finished_count(database: Database) -> int:
    return int(
        database.value("SELECT count(*) FROM lockstep.workflow_status WHERE status = 'SUCCESS'")
    )
