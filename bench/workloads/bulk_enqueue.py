"""Enqueue 10,000 workflows with one call."""

from __future__ import annotations

import time

from ..cluster import checkpoint, connect, run_sql
from ..peers.lockstep import Lockstep
from ..session import Session
from .enqueue import CREATE_COPY, RAW_COLUMNS

COUNT = 10_000

FUNCTION = """
SELECT count(*) FROM lockstep.enqueue_workflows(
    'noop', 'default',
    named_args => ARRAY(SELECT jsonb_build_object('n', g) FROM generate_series(1, %s) AS g)
)
"""

RAW = f"""
INSERT INTO raw_copy ({RAW_COLUMNS})
SELECT
    gen_random_uuid()::text, 'noop', 'default', 'ENQUEUED',
    jsonb_build_object('positionalArgs', '[]'::jsonb, 'namedArgs', jsonb_build_object('n', g)), 0,
    NULL, NULL, NULL, 50,
    clock_timestamp(), clock_timestamp(), NULL, NULL, session_user, NULL
FROM generate_series(1, %s) AS g
"""


def run(session: Session) -> None:
    """Measure ``enqueue_workflows()`` and an INSERT ... SELECT of the same rows."""
    peer = Lockstep()
    peer.install()
    run_sql(peer.database, CREATE_COPY)
    statements = {"raw": RAW, "lockstep": FUNCTION}
    for repetition in range(1, session.scale.bulk_repetitions + 1):
        peer.reset()
        run_sql(peer.database, "TRUNCATE raw_copy")
        checkpoint()
        for system, statement in statements.items():
            with session.attempt("bulk_enqueue", system), connect(peer.database) as connection:
                began = time.perf_counter()
                connection.execute(statement, (COUNT,))
                per_second = COUNT / (time.perf_counter() - began)
                session.add("bulk_enqueue", system, repetition=repetition, per_second=per_second)
