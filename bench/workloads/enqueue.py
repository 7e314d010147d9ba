"""Enqueue workflows one by one, each a commit, from 1, 4 and 16 connections."""

from __future__ import annotations

from typing import Any

from ..cluster import pgbench, run_sql
from ..counters import Counters
from ..peers.absurd import Absurd
from ..peers.base import Peer
from ..peers.dbos import Dbos
from ..peers.lockstep import Lockstep
from ..session import Session

CLIENTS = (1, 4, 16)

CREATE_COPY = "CREATE TABLE raw_copy (LIKE lockstep.workflow_status INCLUDING ALL)"

RAW_COLUMNS = """
    workflow_id, workflow_name, queue_name, status, inputs, priority,
    deduplication_id, queue_partition_key, app_version, max_attempts,
    created_at, available_at, deadline_at, timeout, enqueued_by, headers
"""
"""The columns that ``enqueue_workflow()`` writes."""

# a random id costs less than the time-ordered one that Lockstep generates
RAW_INSERT = f"""
INSERT INTO raw_copy ({RAW_COLUMNS})
VALUES (
    gen_random_uuid()::text, 'noop', 'default', 'ENQUEUED',
    '{{"positionalArgs": [], "namedArgs": {{"n": 1}}}}', 0,
    NULL, NULL, NULL, 50,
    clock_timestamp(), clock_timestamp(), NULL, NULL, session_user, NULL
)
"""
"""The INSERT that an application would write by hand, into a table of the same shape."""


def _measure(session: Session, database: str, script: str, clients: int) -> dict[str, Any]:
    scale = session.scale
    before = Counters.now(database)
    result = pgbench(
        database,
        script,
        clients,
        seconds=scale.pgbench_seconds,
        transactions=scale.pgbench_transactions,
    )
    cost = Counters.now(database).since(before)
    return {
        "per_second": result.per_second,
        "latency_ms": result.latency_ms,
        "wal_bytes": cost.wal_bytes / result.transactions,
        "postgres_cpu_us": cost.postgres_cpu_seconds / result.transactions * 1e6,
    }


def run(session: Session) -> None:
    """Measure the enqueue functions of each system, and a raw INSERT, without a worker."""
    own = Lockstep()
    peers: tuple[Peer, ...] = (own, Dbos(), Absurd())
    for peer in peers:
        with session.attempt("enqueue", peer.name):
            peer.install()
    with session.attempt("enqueue", "raw"):
        run_sql(own.database, CREATE_COPY)
    calls: list[tuple[str, str, str]] = [("raw", own.database, RAW_INSERT)]
    calls += [(peer.name, peer.database, peer.enqueue_call or "") for peer in peers]
    for repetition in range(1, session.scale.repetitions + 1):
        for clients in CLIENTS:
            for peer in peers:
                with session.attempt("enqueue", peer.name):
                    peer.reset()
            with session.attempt("enqueue", "raw"):
                run_sql(own.database, "TRUNCATE raw_copy")
            reference = session.yardstick(clients).per_second
            for system, database, script in calls:
                with session.attempt("enqueue", system):
                    numbers = _measure(session, database, script, clients)
                    session.add(
                        "enqueue",
                        system,
                        variant=f"{clients} clients",
                        repetition=repetition,
                        yardstick_per_second=reference,
                        ratio=numbers["per_second"] / reference,
                        **numbers,
                    )
