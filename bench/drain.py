"""Draining: enqueue some workflows, start workers, see how fast they finish them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .cluster import checkpoint, connect
from .counters import Counters
from .peers.base import Peer
from .processes import Workers
from .session import Session

_TIMEOUT = 120.0
_POLL = 0.1


@dataclass
class Contender:
    """A system that takes part in a workload, possibly with several workers."""

    peer: Peer
    workers: int = 1

    @property
    def label(self) -> str:
        """Name of the system in the results."""
        return self.peer.name if self.workers == 1 else f"{self.peer.name} x{self.workers}"


def wait_until_drained(peer: Peer, workers: Workers) -> None:
    """Poll until no workflow is unfinished, with a query that costs next to nothing."""
    deadline = time.monotonic() + _TIMEOUT
    with connect(peer.database, options="-c enable_seqscan=off") as connection:
        while connection.execute(peer.UNFINISHED).rowcount:
            workers.check()
            if time.monotonic() > deadline:
                raise TimeoutError(f"not drained in {_TIMEOUT:.0f} s: {workers[0].last_words()}")
            time.sleep(_POLL)


def drain(
    session: Session, peer: Peer, workflow: str, n: int, *, workers: int = 1, is_fresh: bool = True
) -> dict[str, Any]:
    """
    Measure one drain of ``n`` workflows and return its numbers.

    Tables are emptied and a checkpoint is taken first, so the pages that are written are
    new and cause no full-page images; how many there were all the same is counted.
    """
    if is_fresh:
        peer.reset()
        checkpoint()
    before = Counters.now(peer.database)
    peer.enqueue(workflow, n)
    enqueued = Counters.now(peer.database).since(before)
    peer.analyze()
    reference = session.yardstick(4)
    before = Counters.now(peer.database)
    with peer.start(workflow, workers) as running:
        wait_until_drained(peer, running)
        worker_cpu = running.cpu_seconds()
    cost = Counters.now(peer.database).since(before)
    drained = peer.finished()
    if drained.finished != n:
        raise RuntimeError(f"{drained.finished} of {n} workflows finished: {running.lines()[-3:]}")
    return {
        "per_second": drained.per_second,
        "yardstick_per_second": reference.per_second,
        "ratio": drained.per_second / reference.per_second,
        "n": n,
        "seconds": drained.seconds,
        "worker_cpu_us": worker_cpu / n * 1e6,
        "postgres_cpu_us": cost.postgres_cpu_seconds / n * 1e6,
        "wal_bytes_run": cost.wal_bytes / n,
        "wal_bytes_bulk_enqueue": enqueued.wal_bytes / n,
        "full_page_images": (cost.wal_full_page_images + enqueued.wal_full_page_images) / n,
        "transactions": cost.transactions / n,
    }


def drain_all(
    session: Session, workload: str, contenders: Sequence[Contender], workflow: str
) -> None:
    """Drain with each system in turn, as often as the scale says."""
    scale = session.scale
    per_second: dict[str, float] = {}
    for repetition in range(1, scale.repetitions + 1):
        for contender in contenders:
            peer = contender.peer
            rate = per_second.get(contender.label) or (
                peer.expected.get(workflow, 0.1) * usual_yardstick(session)
            )
            n = max(scale.smallest_drain, round(rate * scale.drain_seconds, -2))
            with session.attempt(workload, contender.label):
                peer.install()
                result = drain(session, peer, workflow, int(n), workers=contender.workers)
                per_second[contender.label] = result["per_second"]
                session.add(workload, contender.label, repetition=repetition, **result)


def usual_yardstick(session: Session) -> float:
    """Return the median of the yardsticks so far, or measure one."""
    known = [s["yardstick_per_second"] for s in session.samples if "yardstick_per_second" in s]
    return statistics.median(known) if known else session.yardstick(4).per_second
