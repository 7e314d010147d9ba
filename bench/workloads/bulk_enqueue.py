"""Enqueue 10,000 workflows with one call, and with one INSERT into an attached table."""

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

CREATE_TABLES = """
CREATE TABLE plain_rows (id int PRIMARY KEY, note text);
CREATE TABLE attached_rows (id int PRIMARY KEY, note text);
SELECT lockstep.attach_workflow('attached_rows', 'noop', 'default')
"""

FILL_PLAIN = "INSERT INTO plain_rows SELECT g, 'note' FROM generate_series(1, %s) AS g"
FILL_ATTACHED = FILL_PLAIN.replace("plain_rows", "attached_rows")


def run(session: Session) -> None:
    """
    Measure ``enqueue_workflows()``, an INSERT ... SELECT of the same rows, and an INSERT
    of as many rows into tables with and without an attached workflow.
    """
    peer = Lockstep()
    peer.install()
    run_sql(peer.database, CREATE_COPY)
    run_sql(peer.database, CREATE_TABLES)
    statements = {
        "raw": RAW,
        "lockstep": FUNCTION,
        "table": FILL_PLAIN,
        "attached table": FILL_ATTACHED,
    }
    for repetition in range(1, session.scale.bulk_repetitions + 1):
        peer.reset()
        run_sql(peer.database, "TRUNCATE raw_copy, plain_rows, attached_rows")
        checkpoint()
        for system, statement in statements.items():
            with session.attempt("bulk_enqueue", system), connect(peer.database) as connection:
                began = time.perf_counter()
                connection.execute(statement, (COUNT,))
                seconds = time.perf_counter() - began
                session.add(
                    "bulk_enqueue",
                    system,
                    repetition=repetition,
                    per_second=COUNT / seconds,
                    us_per_row=seconds / COUNT * 1e6,
                )
