"""What an idle worker does to its database, and to its own processor."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from ..cluster import run_sql
from ..counters import Counters
from ..peers.absurd import Absurd
from ..peers.base import Peer
from ..peers.dbos import Dbos
from ..peers.lockstep import Lockstep
from ..session import Session
from .latency import DBOS_DEFAULT


@contextmanager
def _without_autovacuum() -> Iterator[None]:
    for statement in ("ALTER SYSTEM SET autovacuum = off", "SELECT pg_reload_conf()"):
        run_sql("postgres", statement)
    try:
        yield
    finally:
        for statement in ("ALTER SYSTEM RESET autovacuum", "SELECT pg_reload_conf()"):
            run_sql("postgres", statement)


def run(session: Session) -> None:
    """Let one worker of each system be idle at the same time, each in its own database."""
    scale = session.scale
    subjects: list[tuple[str, Peer, dict[str, Any]]] = [
        ("notified", Lockstep(), {}),
        ("polling 1 s (default)", Dbos("dbos_default"), DBOS_DEFAULT),
        ("polling 0.02 s", Dbos(), {}),
        ("polling 0.25 s (default)", Absurd(), {}),
    ]
    with ExitStack() as stack:
        # its visits to each database would count as the workers' transactions
        stack.enter_context(_without_autovacuum())
        running = []
        for variant, peer, options in subjects:
            with session.attempt("idle", f"{peer.name} {variant}"):
                peer.install()
                peer.reset()
                workers = stack.enter_context(peer.start_processes("noop", 1, **options))
                running.append((variant, peer, workers))
        time.sleep(scale.idle_settle_seconds)
        before = [(Counters.now(peer.database), w.cpu_seconds()) for _, peer, w in running]
        time.sleep(scale.idle_seconds)
        for (variant, peer, workers), (counters, cpu) in zip(running, before, strict=True):
            with session.attempt("idle", f"{peer.name} {variant}"):
                workers.check()
                cost = Counters.now(peer.database).since(counters)
                session.add(
                    "idle",
                    peer.name,
                    variant=variant,
                    transactions_per_second=cost.transactions / cost.seconds,
                    worker_cpu_percent=(workers.cpu_seconds() - cpu) / cost.seconds * 100,
                    megabytes=workers[0].rss_bytes() / 1e6,
                    seconds=cost.seconds,
                )
