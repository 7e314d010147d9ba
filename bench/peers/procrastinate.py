"""Procrastinate: a task queue without steps, its state machine in SQL functions."""

from __future__ import annotations

from typing import Any, ClassVar

from ..cluster import dsn, run_sql
from .base import Peer

CONCURRENCY = 5
"""
Jobs in flight, and connections: a fetch takes one job.

In ``bench.tune`` 2 to 5 were alike, 1 and 10 a little slower, 20 and 50 clearly.
"""

_NO_STEPS = "no steps"


class Procrastinate(Peer):
    """A popular task queue on Postgres."""

    name: ClassVar[str] = "procrastinate"
    module: ClassVar[str] = "procrastinate"
    package: ClassVar[str | None] = "procrastinate"
    lacks: ClassVar[dict[str, str]] = {
        "steps": _NO_STEPS,
        "steps_threads": _NO_STEPS,
        "transactional": _NO_STEPS,
    }
    expected: ClassVar[dict[str, float]] = {"noop": 0.08}
    STARTED: ClassVar[str] = "SELECT min(at) FROM procrastinate_events WHERE type = 'started'"
    FINISHED: ClassVar[str] = "SELECT at FROM procrastinate_events WHERE type = 'succeeded'"
    UNFINISHED: ClassVar[str] = """
        SELECT FROM procrastinate_jobs WHERE status IN ('todo', 'doing') LIMIT 1"""

    def install_schema(self) -> None:
        from procrastinate.schema import SchemaManager

        run_sql(self.database, SchemaManager.get_schema())

    def reset(self) -> None:
        run_sql(self.database, "TRUNCATE procrastinate_jobs, procrastinate_events CASCADE")

    def enqueue(self, workflow: str, n: int) -> None:
        run_sql(
            self.database,
            "INSERT INTO procrastinate_jobs (queue_name, task_name, args)"
            " SELECT 'bench', %s, jsonb_build_object('n', g) FROM generate_series(1, %s) AS g",
            *(workflow, n),
        )


def work(options: dict[str, Any]) -> None:
    """Run a worker on uvloop: ``concurrency`` is optional."""
    import logging

    import procrastinate
    import uvloop

    from ..worker import ready

    concurrency = options.get("concurrency", CONCURRENCY)
    logging.getLogger("procrastinate").setLevel(logging.WARNING)
    connector = procrastinate.PsycopgConnector(
        conninfo=dsn(options["database"]), min_size=concurrency, max_size=concurrency
    )
    app = procrastinate.App(connector=connector)

    @app.task(name="noop")
    async def noop(n: int) -> int:
        return n

    async def run() -> None:
        async with app.open_async():
            ready()
            await app.run_worker_async(
                queues=["bench"], concurrency=concurrency, fetch_job_polling_interval=0.1
            )

    uvloop.run(run())
