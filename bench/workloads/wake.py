"""Wake a crowd of sleeping workflows that fall due within one minute."""

from __future__ import annotations

import datetime
import time

from ..cluster import run_sql
from ..peers.lockstep import QUEUE, Lockstep
from ..session import Session
from .backlog import ENQUEUE_SLEEPERS

DUE_WITHIN = 60.0
"""Seconds in which all of them fall due: what is offered per second follows from it."""

_RSS_INTERVAL = 1.0


def run(session: Session) -> None:
    """Count who was woken in a window that begins when the first falls due."""
    scale = session.scale
    count = scale.wake_count
    peer = Lockstep()
    peer.install()
    peer.reset()
    now = datetime.datetime.now(datetime.timezone.utc)
    begin = now + datetime.timedelta(seconds=scale.wake_fill_seconds)
    step = datetime.timedelta(seconds=DUE_WITHIN / count)
    run_sql(peer.database, ENQUEUE_SLEEPERS, QUEUE, begin, step, count)
    peer.analyze()
    with peer.start("noop") as workers:
        # if it took longer to enqueue them, some are due already, and the window is as long
        start = max(time.time(), begin.timestamp())
        time.sleep(max(0.0, start - time.time()))
        ((asleep_before,),) = run_sql(peer.database, ASLEEP)
        memory = []
        while time.time() < start + scale.wake_window_seconds:
            memory.append(workers[0].rss_bytes())
            time.sleep(_RSS_INTERVAL)
        ((asleep_after,),) = run_sql(peer.database, ASLEEP)
        seconds = time.time() - start
    ((finished,),) = run_sql(peer.database, FINISHED)
    session.add(
        "wake",
        "lockstep",
        per_second=(asleep_before - asleep_after) / seconds,
        finished_per_second=finished / seconds,
        offered_per_second=count / DUE_WITHIN,
        asleep_before=asleep_before,
        # a worker that has nothing in flight yet is smaller, whatever it wakes
        megabytes_begin=memory[len(memory) // 10] / 1e6,
        megabytes_end=memory[-1] / 1e6,
        megabytes_most=max(memory) / 1e6,
        seconds=seconds,
    )


ASLEEP = "SELECT count(*) FROM lockstep.workflow_status WHERE status = 'DELAYED'"
FINISHED = "SELECT count(*) FROM lockstep.workflow_status WHERE status = 'SUCCESS'"
