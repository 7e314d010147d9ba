"""Time from the COMMIT of an enqueue to the first line of the workflow, on an idle worker."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from ..cluster import connect
from ..peers.absurd import Absurd
from ..peers.base import Peer
from ..peers.dbos import Dbos
from ..peers.lockstep import Lockstep
from ..session import Session

ENQUEUE = {
    "lockstep": "SELECT lockstep.enqueue_workflow('stamp', %s,"
    " named_args => jsonb_build_object('n', %s::int))",
    "dbos": "SELECT dbos.enqueue_workflow('stamp', %s, ARRAY[to_json(%s::int)])",
    "absurd": "SELECT absurd.spawn_task(%s, 'stamp', jsonb_build_object('n', %s::int))",
}

_SETTLE = 3.0
"""Seconds until a worker that was just started is idle."""

_LAST_START = 10.0
"""Seconds within which the last workflow must have started."""


@dataclass
class Subject:
    """A system whose latency is sampled: where to enqueue and what its workers are told."""

    variant: str
    peer: Peer
    samples: int
    gap: float
    """Mean pause between two samples, in seconds."""
    queues: Sequence[str] = ("bench",)
    options: dict[str, Any] = field(default_factory=dict)


def _sample(subject: Subject) -> list[float]:
    """Enqueue now and then, and return how long each workflow took to start, in ms."""
    peer = subject.peer
    peer.install()
    peer.reset()
    workers = [peer.start("stamp", queue=queue, **subject.options) for queue in subject.queues]
    committed: dict[int, float] = {}
    try:
        time.sleep(_SETTLE)
        with connect(peer.database) as connection:
            for n in range(subject.samples):
                queue = subject.queues[n % len(subject.queues)]
                with connection.transaction():
                    connection.execute(ENQUEUE[peer.name], (queue, n))
                    committed[n] = time.time()
                time.sleep(subject.gap * random.uniform(0.5, 1.5))
        deadline = time.monotonic() + _LAST_START
        while sum(len(w.lines()) for w in workers) < subject.samples:
            if time.monotonic() > deadline:
                raise RuntimeError("not all workflows started")
            time.sleep(0.05)
        lines = [line.split() for w in workers for line in w.lines()]
    finally:
        for running in workers:
            running.__exit__(None, None, None)
    return [(float(moment) - committed[int(n)]) * 1000 for n, moment in lines]


def _percentile(values: Sequence[float], fraction: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * fraction))]


def _add(session: Session, subject: Subject, milliseconds: list[float]) -> None:
    session.add(
        "latency",
        subject.peer.name,
        variant=subject.variant,
        p50_ms=_percentile(milliseconds, 0.5),
        p99_ms=_percentile(milliseconds, 0.99),
        all_ms=[round(value, 3) for value in milliseconds],
    )


def run(session: Session) -> None:
    """
    Sample Lockstep with notifications alone, then all that poll, side by side.

    A worker that found work looks again soon, so samples that are to meet an idle poller
    lie far apart; several queues, each with a worker of its own, share the waiting.
    """
    scale = session.scale
    notified = Subject(
        "notified", Lockstep(), scale.latency_samples, scale.latency_gap, queues=["default"]
    )
    with session.attempt("latency", "lockstep"):
        _add(session, notified, _sample(notified))
    queues = [f"queue{number}" for number in range(4)]
    polled = scale.polled_samples
    others = [
        Subject("polling 1 s", Lockstep(), polled, 0.6, queues, {"listen": False}),
        Subject("polling 1 s (default)", Dbos("dbos_default"), polled, 0.6, options=DBOS_DEFAULT),
        Subject("polling 0.02 s", Dbos(), polled, 0.6),
        Subject("polling 0.25 s (default)", Absurd(), polled, 0.6),
    ]
    with ThreadPoolExecutor(len(others)) as threads:
        pending = [(subject, threads.submit(_sample, subject)) for subject in others]
        for subject, result in pending:
            with session.attempt("latency", f"{subject.peer.name} {subject.variant}"):
                _add(session, subject, result.result())


DBOS_DEFAULT = {"polling_seconds": 1.0}
