"""Does a large backlog, or a million sleepers beside it, slow down the claim?"""

from __future__ import annotations

import time

from ..cluster import connect, run_sql
from ..peers.lockstep import QUEUE, Lockstep
from ..session import Session

ENQUEUE_SLEEPERS = """
INSERT INTO lockstep.workflow_status (workflow_name, queue_name, status, inputs, available_at)
SELECT
    'noop', %s, 'DELAYED',
    jsonb_build_object('positionalArgs', '[]'::jsonb, 'namedArgs', jsonb_build_object('n', g)),
    %s::timestamptz + g * %s::interval
FROM generate_series(1, %s) AS g
"""

# the first 5 % are the start of the process
RATE = """
WITH finished AS (
    SELECT w.completed_at, row_number() OVER (ORDER BY w.completed_at) AS number
    FROM lockstep.workflow_status AS w
    WHERE w.completed_at >= %(since)s
)

SELECT
    count(*),
    (%(n)s * 0.95 / nullif(extract(EPOCH FROM
        min(f.completed_at) FILTER (WHERE f.number >= %(n)s)
        - min(f.completed_at) FILTER (WHERE f.number >= %(n)s * 0.05)
    ), 0))::float
FROM finished AS f
"""


def _drain_some(session: Session, peer: Lockstep, variant: str, repetition: int, n: int) -> None:
    """Run a worker until it finished ``n`` workflows, and see how fast they were."""
    reference = session.yardstick(4).per_second
    ((since,),) = run_sql(peer.database, "SELECT clock_timestamp()")
    parameters = {"since": since, "n": n}
    with peer.start("noop") as workers:
        # no look at the table while it is measured: so long it takes in any case
        time.sleep(n / (reference * peer.expected["noop"]))
        deadline = time.monotonic() + 60
        while _count(peer, parameters)[0] < n:
            workers.check()
            if time.monotonic() > deadline:
                raise RuntimeError(f"fewer than {n} workflows finished")
            time.sleep(0.5)
    per_second = _count(peer, parameters)[1]
    session.add(
        "backlog",
        "lockstep",
        variant=variant,
        repetition=repetition,
        per_second=per_second,
        yardstick_per_second=reference,
        ratio=per_second / reference,
    )


def _count(peer: Lockstep, parameters: dict[str, object]) -> tuple[int, float]:
    with connect(peer.database) as connection:
        row = connection.execute(RATE, parameters).fetchone()
    assert row is not None
    return int(row[0]), float(row[1] or 0)


def run(session: Session) -> None:
    """Drain the same number from a short queue, a long one, and one beside many sleepers."""
    scale = session.scale
    small, large = scale.backlog_small, scale.backlog_large
    peer = Lockstep()
    peer.install()

    for repetition in range(1, scale.backlog_repetitions + 1):
        with session.attempt("backlog", "short"):
            peer.reset()
            peer.enqueue("noop", small)
            peer.analyze()
            _drain_some(session, peer, f"{small} waiting", repetition, small)

    with session.attempt("backlog", "long"):
        peer.reset()
        # no checkpoint afterwards: the full-page images would be a cost of the checkpoint
        peer.enqueue("noop", large)
        peer.analyze()
        for repetition in range(1, scale.backlog_repetitions + 1):
            _drain_some(session, peer, f"{large} waiting", repetition, small)

    with session.attempt("backlog", "sleepers"):
        peer.reset()
        run_sql(peer.database, ENQUEUE_SLEEPERS, QUEUE, "2100-01-01", "1 ms", large)
        for repetition in range(1, scale.backlog_repetitions + 1):
            peer.enqueue("noop", small)
            peer.analyze()
            variant = f"{small} waiting, {large} delayed"
            _drain_some(session, peer, variant, repetition, small)
