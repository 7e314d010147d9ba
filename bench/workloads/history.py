"""Does a long history of finished workflows slow down new ones?"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from ..cluster import checkpoint, connect
from ..drain import drain, usual_yardstick
from ..peers.lockstep import Lockstep
from ..session import Session

# time-ordered ids and moments of the year 2020, as if Lockstep had generated them then
WORKFLOWS = """
INSERT INTO lockstep.workflow_status (
    workflow_id, workflow_name, queue_name, status, inputs, output, executor_id, attempts,
    created_at, available_at, started_at, completed_at
)
SELECT
    p.id, 'steps', 'default', 'SUCCESS',
    '{"positionalArgs": [], "namedArgs": {"n": 1}}', '4', 'executor-of-the-past', 1,
    p.at, p.at, p.at, p.at
FROM past(%s, %s) AS p
"""

STEPS = """
INSERT INTO lockstep.operation_outputs (
    workflow_id, step_id, step_name, output, started_at, completed_at
)
SELECT p.id, s, 'add', '2', p.at, p.at
FROM past(%s, %s) AS p
CROSS JOIN generate_series(1, 3) AS s
"""

PAST = """
CREATE OR REPLACE FUNCTION past(present bigint, wanted bigint)
RETURNS TABLE (id text, at timestamptz)
LANGUAGE sql
AS $$
    SELECT
        '016f5e66-' || lpad(to_hex(g >> 16), 4, '0') || '-7000-8000-' || lpad(to_hex(g), 12, '0'),
        timestamptz '2020-01-01' + g * interval '1 s'
    FROM generate_series(present + 1, wanted) AS g
$$
"""

TABLES = ("lockstep.workflow_status", "lockstep.operation_outputs")

_SHARE = 0.3
"""Part of the steps that is written by the connection that writes the workflows first."""


def _fill(database: str, parts: Sequence[tuple[str, int, int]]) -> None:
    with connect(database, options="-c synchronous_commit=off") as connection:
        for statement, present, wanted in parts:
            connection.execute(statement, (present, wanted))


def _vacuum(database: str, table: str) -> None:
    with connect(database) as connection:
        connection.execute(f"VACUUM (ANALYZE) {table}")


def _grow(session: Session, peer: Lockstep, present: int, wanted: int) -> None:
    """Make the history longer, over two connections that have about the same to do."""
    middle = wanted - int((wanted - present) * _SHARE)
    shares = (
        [(WORKFLOWS, present, wanted), (STEPS, middle, wanted)],
        [(STEPS, present, middle)],
    )
    with ThreadPoolExecutor(len(TABLES)) as threads:
        for fill in [threads.submit(_fill, peer.database, share) for share in shares]:
            fill.result()
        session.tell(f"history: {wanted} workflows inserted")
        for vacuum in [threads.submit(_vacuum, peer.database, table) for table in TABLES]:
            vacuum.result()
    session.tell("history: vacuumed")
    checkpoint()
    session.tell("history: checkpoint done")


def run(session: Session) -> None:
    """Drain three-step workflows with ever more finished ones in the tables."""
    scale = session.scale
    peer = Lockstep()
    peer.install()
    peer.reset()
    with connect(peer.database) as connection:
        connection.execute(PAST)
    rate = peer.expected["steps"] * usual_yardstick(session)
    present = 0
    for size in scale.history_sizes:
        if size > present:
            _grow(session, peer, present, size)
            present = size
        for repetition in range(1, scale.repetitions + 1):
            n = max(scale.smallest_drain, int(rate * scale.drain_seconds))
            peer.mark()
            result = drain(session, peer, "steps", n, is_fresh=False)
            rate = result["per_second"]
            session.add(
                "history", "lockstep", variant=f"{size} finished", repetition=repetition, **result
            )
