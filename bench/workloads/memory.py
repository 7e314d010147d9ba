"""Resident memory of a worker: idle, and with many workflows in flight."""

from __future__ import annotations

import time

from ..cluster import run_sql
from ..peers.dbos import Dbos
from ..peers.lockstep import Lockstep
from ..session import Session

_SETTLE = 2.0
_TIMEOUT = 60.0


def run(session: Session) -> None:
    """Measure Lockstep with workflows that sleep in their body, and DBOS idle."""
    peer = Lockstep()
    peer.install()
    for count in session.scale.memory_in_flight:
        with session.attempt("memory", "lockstep"):
            peer.reset()
            peer.enqueue("hold", count)
            with peer.start("hold", concurrency=max(count, 200)) as workers:
                workers.is_to_be_killed = True
                deadline = time.monotonic() + _TIMEOUT
                while _running(peer.database) < count:
                    workers.check()
                    if time.monotonic() > deadline:
                        raise RuntimeError(f"only {_running(peer.database)} workflows run")
                    time.sleep(0.1)
                time.sleep(_SETTLE)
                megabytes = workers[0].rss_bytes() / 1e6
            session.add("memory", "lockstep", variant=f"{count} in flight", megabytes=megabytes)
    with session.attempt("memory", "dbos"):
        other = Dbos()
        other.install()
        other.reset()
        with other.start("noop") as workers:
            time.sleep(_SETTLE)
            megabytes = workers[0].rss_bytes() / 1e6
        session.add("memory", "dbos", variant="0 in flight", megabytes=megabytes)


def _running(database: str) -> int:
    ((count,),) = run_sql(
        database, "SELECT count(*) FROM lockstep.workflow_status WHERE status = 'PENDING'"
    )
    return int(count)
