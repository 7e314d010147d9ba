"""Drain queues with limits, beside one without: what keeping a limit costs."""

from __future__ import annotations

from ..cluster import run_sql
from ..drain import drain, usual_yardstick
from ..peers.lockstep import QUEUE, Lockstep
from ..session import Session

PARTITIONS = 1000

LIMITS = {
    "unlimited": "",
    "concurrency 100": "concurrency => 100",
    "a rate": "rate_limit => 1000000000, rate_period => '1 s'",
    "1,000 partitions": "partition_concurrency => 2",
    "1,000 partitions with a rate": (
        "partition_rate_limit => 1000000, partition_rate_period => '1 s'"
    ),
}
"""What create_queue() is told for each variant."""

ENQUEUE_IN_PARTITIONS = """
INSERT INTO lockstep.workflow_status (workflow_name, queue_name, queue_partition_key, inputs)
SELECT
    %s, %s, 'tenant ' || g %% %s,
    jsonb_build_object('positionalArgs', '[]'::jsonb, 'namedArgs', jsonb_build_object('n', g))
FROM generate_series(1, %s) AS g
"""


def set_limits(database: str, limits: str) -> None:
    """Give the queue that workers drain these limits and no others."""
    run_sql(database, "TRUNCATE lockstep.queue, lockstep.queue_start")
    if limits:
        run_sql(database, f"SELECT lockstep.create_queue('{QUEUE}', {limits})")


class LimitedLockstep(Lockstep):
    """Lockstep with limits on the queue that is drained."""

    limits = ""

    def enqueue(self, workflow: str, n: int) -> None:
        set_limits(self.database, self.limits)
        if "partition" in self.limits:
            run_sql(self.database, ENQUEUE_IN_PARTITIONS, workflow, QUEUE, PARTITIONS, n)
        else:
            super().enqueue(workflow, n)


def run(session: Session) -> None:
    """Measure each limit in turn, as often as the scale says."""
    scale = session.scale
    peer = LimitedLockstep()
    peer.install()
    for repetition in range(1, scale.repetitions + 1):
        for variant, peer.limits in LIMITS.items():
            n = max(scale.smallest_drain, round(usual_yardstick(session) * scale.drain_seconds, -2))
            with session.attempt("limits", variant):
                result = drain(session, peer, "noop", int(n))
                session.add("limits", peer.name, variant=variant, repetition=repetition, **result)
