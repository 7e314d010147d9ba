"""PgQueuer: a job queue without steps, which claims and finishes in batches."""

from __future__ import annotations

from typing import Any, ClassVar

from ..cluster import run_sql
from .base import Peer

BATCH = 500
"""Jobs per claim, and finished jobs per commit: the best of 100 to 1,000 in ``bench.tune``."""

_NO_STEPS = "no steps"


class PgQueuer(Peer):
    """A fast job queue on Postgres; finished jobs leave its table for a log."""

    name: ClassVar[str] = "pgqueuer"
    module: ClassVar[str] = "pgqueuer"
    package: ClassVar[str | None] = "pgqueuer"
    lacks: ClassVar[dict[str, str]] = {
        "steps": _NO_STEPS,
        "steps_threads": _NO_STEPS,
        "transactional": _NO_STEPS,
    }
    expected: ClassVar[dict[str, float]] = {"noop": 0.7}
    STARTED: ClassVar[str] = "SELECT min(created) FROM pgqueuer_log WHERE status = 'picked'"
    FINISHED: ClassVar[str] = "SELECT created FROM pgqueuer_log WHERE status = 'successful'"
    UNFINISHED: ClassVar[str] = "SELECT FROM pgqueuer LIMIT 1"

    def install_schema(self) -> None:
        from pgqueuer.adapters.persistence.qb import QueryBuilderEnvironment

        run_sql(self.database, QueryBuilderEnvironment().build_install_query())

    def reset(self) -> None:
        run_sql(self.database, "TRUNCATE pgqueuer, pgqueuer_log, pgqueuer_statistics")

    def enqueue(self, workflow: str, n: int) -> None:
        run_sql(
            self.database,
            "INSERT INTO pgqueuer (priority, status, entrypoint, payload)"
            " SELECT 0, 'queued', %s, convert_to(g::text, 'UTF8') FROM generate_series(1, %s) AS g",
            *(workflow, n),
        )


def work(options: dict[str, Any]) -> None:
    """Run a worker with asyncpg on uvloop: ``batch`` is optional."""
    import asyncpg
    import uvloop
    from pgqueuer import PgQueuer as Sdk
    from pgqueuer.models import Job

    from ..worker import ready

    async def run() -> None:
        connection = await asyncpg.connect(database=options["database"])
        queuer = Sdk.from_asyncpg_connection(connection)

        @queuer.entrypoint("noop")
        async def noop(job: Job) -> None:
            int(job.payload or b"0")

        ready()
        await queuer.run(batch_size=options.get("batch", BATCH))

    uvloop.run(run())
