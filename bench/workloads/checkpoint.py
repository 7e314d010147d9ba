"""What one step's checkpoint takes on a quiet system, next to a plain INSERT."""

from __future__ import annotations

import json
import statistics
import time

from ..cluster import run_sql
from ..peers.lockstep import QUEUE, Lockstep
from ..session import Session

_TIMEOUT = 60.0


def run(session: Session) -> None:
    """Time trivial steps and INSERTs by turns, in one workflow of one process."""
    peer = Lockstep()
    peer.install()
    for repetition in range(1, session.scale.repetitions + 1):
        peer.reset()
        alone = session.yardstick(1)
        with peer.start("checkpoint") as worker:
            run_sql(
                peer.database,
                "SELECT lockstep.enqueue_workflow('checkpoint', %s,"
                " named_args => jsonb_build_object('n', %s::int))",
                *(QUEUE, session.scale.checkpoint_steps),
            )
            deadline = time.monotonic() + _TIMEOUT
            while not worker.lines():
                worker.check()
                if time.monotonic() > deadline:
                    raise RuntimeError("the workflow did not end in time")
                time.sleep(0.05)
            milliseconds = json.loads(worker.lines()[0])
        step, insert = (statistics.median(milliseconds[name]) for name in ("step", "insert"))
        session.add(
            "checkpoint",
            "lockstep",
            repetition=repetition,
            step_p50_ms=step,
            insert_p50_ms=insert,
            pgbench_ms=alone.latency_ms,
            ratio=step / insert,
        )
