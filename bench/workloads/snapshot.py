"""Throughput over time while another session keeps a snapshot open."""

from __future__ import annotations

import statistics
import threading
import time

from ..cluster import checkpoint, connect
from ..peers.lockstep import ENQUEUE_MANY, QUEUE, Lockstep
from ..processes import Workers
from ..session import Session
from .limits import LIMITS, set_limits

_TICK = 0.2
_AHEAD_SECONDS = 1.5
"""Waiting work that the feeder keeps up, in seconds of the expected rate."""

VARIANTS = ("unlimited", "concurrency 100", "a rate")
"""What is told of the queue, of those of the workload limits."""

STEPS_WRITTEN = """
SELECT n_tup_ins FROM pg_stat_user_tables
WHERE relid = 'lockstep.operation_outputs'::regclass
"""

WINDOWS = """
SELECT
    floor(extract(EPOCH FROM w.completed_at - %(start)s) / %(seconds)s)::int AS number,
    count(*) / %(seconds)s::float AS per_second
FROM lockstep.workflow_status AS w
WHERE w.status = 'SUCCESS'
GROUP BY 1 ORDER BY 1
"""


class Feeder(threading.Thread):
    """Keeps workflows waiting; what is done it learns from statistics, not from the table."""

    def __init__(self, peer: Lockstep, waiting: int) -> None:
        super().__init__(daemon=True)
        self._peer = peer
        self._waiting = waiting
        self._stopped = threading.Event()
        self.error: Exception | None = None

    def run(self) -> None:
        """Enqueue what is missing, several times a second."""
        try:
            with connect(self._peer.database) as connection:
                written_before = connection.execute(STEPS_WRITTEN).fetchone()
                enqueued = 0
                while not self._stopped.wait(_TICK):
                    written = connection.execute(STEPS_WRITTEN).fetchone()
                    assert written is not None
                    assert written_before is not None
                    done = (written[0] - written_before[0]) // 3
                    missing = self._waiting - (enqueued - done)
                    if missing > 0:
                        connection.execute(ENQUEUE_MANY, ("steps", QUEUE, missing))
                        enqueued += missing
        except Exception as error:  # noqa: BLE001 - the workload raises it
            self.error = error

    def stop(self) -> None:
        """End it, and raise what went wrong."""
        self._stopped.set()
        self.join()
        if self.error is not None:
            raise self.error


def run(session: Session) -> None:
    """Measure windows before the snapshot is taken and while it is held."""
    peer = Lockstep()
    peer.install()
    for variant in VARIANTS:
        with session.attempt("snapshot", variant):
            _hold(session, peer, variant)


def _hold(session: Session, peer: Lockstep, variant: str) -> None:
    peer.reset()
    set_limits(peer.database, LIMITS[variant])
    checkpoint()
    reference = session.yardstick(4).per_second
    waiting = int(reference * peer.expected["steps"] * _AHEAD_SECONDS * 1.5)
    feeder = Feeder(peer, waiting)
    feeder.start()
    try:
        with peer.start("steps") as workers:
            windows = _measure(session, peer, workers)
    finally:
        feeder.stop()
    before = statistics.median(rate for number, rate in windows if number < 0)
    session.add(
        "snapshot",
        "lockstep",
        variant=variant,
        per_second_before=before,
        per_second_at_end=windows[-1][1],
        remaining=windows[-1][1] / before,
        yardstick_per_second=reference,
        window_seconds=session.scale.snapshot_window_seconds,
        windows=windows,
    )


def _measure(session: Session, peer: Lockstep, workers: Workers) -> list[tuple[int, float]]:
    """Return windows, the number of each counted from the snapshot, and its rate per second."""
    scale = session.scale
    window = scale.snapshot_window_seconds
    time.sleep(scale.snapshot_before_seconds)
    with connect(peer.database) as holder:
        ((start,),) = holder.execute("SELECT clock_timestamp()").fetchall()
        holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        holder.execute("SELECT")
        time.sleep(scale.snapshot_held_seconds)
        holder.execute("ROLLBACK")
    workers.check()
    held = int(scale.snapshot_held_seconds // window)
    # the first window before the snapshot holds the start of the worker
    first = 1 - int(scale.snapshot_before_seconds // window)
    with connect(peer.database) as connection:
        rows = connection.execute(WINDOWS, {"start": start, "seconds": window}).fetchall()
    return [(number, rate) for number, rate in rows if first <= number < held]
