"""
Try configurations of the peers: ``bench/start --tune [PEER …]``.

What the modules of ``bench.peers`` take as the best configuration was found with it. Each
is drained three times, in turn with the others of its system; printed are the median of
the rate per insert of the yardstick, and the lowest and the highest. Differences within
those do not count.
"""

from __future__ import annotations

import sys
from typing import Any

from .cluster import install_yardstick
from .drain import wait_until_drained
from .peers.absurd import Absurd
from .peers.base import Peer
from .peers.dbos import Dbos
from .peers.pgqueuer import PgQueuer
from .peers.procrastinate import Procrastinate
from .scale import FULL
from .session import Session

REPETITIONS = 3

Trial = tuple[Peer, str, int, list[dict[str, Any]]]
"""A system, a workflow, how many of it, and options to choose from."""


def _trials() -> list[Trial]:
    dbos = Dbos()
    polled: list[dict[str, Any]] = [
        {"concurrency": concurrency, "polling_seconds": polling}
        for concurrency in (100, 300, 1000)
        for polling in (0.005, 0.02, 0.1)
    ]
    dbos_steps: list[dict[str, Any]] = [{"concurrency": c} for c in (10, 30, 100, 300, 1000)]
    absurd: list[dict[str, Any]] = [
        *({"batch": 10, "processes": p, "is_async": False} for p in (2, 4)),
        *({"batch": 50, "processes": p, "is_async": False} for p in (1, 2, 4)),
        {"batch": 50, "processes": 2, "threads": 10, "is_async": False},
        *({"batch": 50, "processes": p, "is_async": True} for p in (1, 2, 3, 4)),
    ]
    return [
        (dbos, "noop", 1500, polled),
        (dbos, "steps", 300, dbos_steps),
        (dbos, "steps_threads", 300, dbos_steps),
        (dbos, "transactional", 300, dbos_steps),
        (Absurd(), "noop", 1500, absurd),
        (Absurd(), "steps", 500, absurd),
        (Procrastinate(), "noop", 800, [{"concurrency": c} for c in (1, 2, 5, 10, 20, 50)]),
        (PgQueuer(), "noop", 20_000, [{"batch": b} for b in (100, 200, 500, 1000)]),
    ]


def _run(session: Session, peer: Peer, workflow: str, n: int, options: dict[str, Any]) -> float:
    peer.install()
    peer.reset()
    peer.enqueue(workflow, n)
    peer.analyze()
    reference = session.yardstick(4).per_second
    told = dict(options)
    processes = told.pop("processes", 1)
    with peer.start_processes(workflow, processes, **told) as workers:
        wait_until_drained(peer, workers)
    return peer.finished().per_second / reference


def main() -> None:
    """Try everything, or the systems that are named as arguments."""
    install_yardstick()
    session = Session(FULL)
    for peer, workflow, n, candidates in _trials():
        if sys.argv[1:] and peer.name not in sys.argv[1:]:
            continue
        ratios: dict[int, list[float]] = {}
        for _ in range(REPETITIONS):
            for index, options in enumerate(candidates):
                ratios.setdefault(index, []).append(_run(session, peer, workflow, n, options))
        for index, options in enumerate(candidates):
            low, middle, high = sorted(ratios[index])[:: (REPETITIONS - 1) // 2]
            print(f"{peer.name:14} {workflow:14} {middle:.4f} ({low:.4f} to {high:.4f}) {options}")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
