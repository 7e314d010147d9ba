"""
Absurd: workflows by stored procedures, with a thin SDK.

A process runs its tasks over one connection, so its documentation scales by processes:
one worker is four of them here, with claims of 50. In ``bench.tune`` two and four
processes, sync and async, claims of 10 and of 50 differed by less than the samples of one
of them did; a single process and threads in a process were slower.
"""

from __future__ import annotations

from typing import Any, ClassVar

from ..cluster import dsn, run_sql
from .base import Peer

QUEUE = "bench"
BATCH = 50


class Absurd(Peer):
    """The system closest in design: its state machine is SQL."""

    name: ClassVar[str] = "absurd"
    module: ClassVar[str] = "absurd"
    package: ClassVar[str | None] = "absurd-sdk"
    lacks: ClassVar[dict[str, str]] = {
        "steps_threads": "as 3 steps: plain functions",
        "transactional": "no transactional step",
    }
    expected: ClassVar[dict[str, float]] = {"noop": 0.1, "steps": 0.05}
    processes: ClassVar[int] = 4
    enqueue_call: ClassVar[str | None] = """SELECT absurd.spawn_task('bench', 'noop', '{"n": 1}')"""
    STARTED: ClassVar[str] = "SELECT min(started_at) FROM absurd.r_bench"
    FINISHED: ClassVar[str] = "SELECT completed_at FROM absurd.r_bench WHERE state = 'completed'"
    UNFINISHED: ClassVar[str] = """
        SELECT FROM absurd.r_bench WHERE state IN ('pending', 'running', 'sleeping') LIMIT 1"""

    def install_schema(self) -> None:
        import absurdctl

        run_sql(self.database, absurdctl.BUNDLED_SCHEMA_SQL)
        run_sql(self.database, "SELECT absurd.create_queue(%s)", QUEUE)

    def reset(self) -> None:
        run_sql(self.database, "TRUNCATE absurd.t_bench, absurd.r_bench, absurd.c_bench")

    def enqueue(self, workflow: str, n: int) -> None:
        run_sql(
            self.database,
            "SELECT count(*) FROM generate_series(1, %s) AS g,"
            " absurd.spawn_task(%s, %s, jsonb_build_object('n', g))",
            *(n, QUEUE, workflow),
        )


def work(options: dict[str, Any]) -> None:
    """Run a worker: ``batch``, ``threads`` and ``is_async`` are optional."""
    import asyncio

    if options.get("is_async"):
        asyncio.run(_work_on_loop(options))
    else:
        _work(options)


def _work(options: dict[str, Any]) -> None:
    from absurd_sdk import Absurd as Sdk

    from ..worker import ready
    from ..worker import stamp as write_stamp

    app = Sdk(dsn(options["database"]), queue_name=QUEUE)

    @app.register_task("noop")
    def noop(params: Any, context: Any) -> int:
        return int(params["n"])

    @app.register_task("steps")
    def steps(params: Any, context: Any) -> int:
        n = params["n"]
        for name in ("first", "second", "third"):
            n = context.step(name, lambda n=n: n + 1)
        return int(n)

    @app.register_task("stamp")
    def stamp(params: Any, context: Any) -> int:
        return write_stamp(params["n"])

    ready()
    app.start_worker(batch_size=options.get("batch", BATCH), concurrency=options.get("threads", 1))


async def _work_on_loop(options: dict[str, Any]) -> None:
    from absurd_sdk import AsyncAbsurd

    from ..worker import ready

    app = AsyncAbsurd(dsn(options["database"]), queue_name=QUEUE)
    batch = options.get("batch", BATCH)

    @app.register_task("noop")
    async def noop(params: Any, context: Any) -> int:
        return int(params["n"])

    @app.register_task("steps")
    async def steps(params: Any, context: Any) -> int:
        n = params["n"]

        async def add() -> int:
            return int(n + 1)

        for name in ("first", "second", "third"):
            n = await context.step(name, add)
        return int(n)

    ready()
    await app.start_worker(batch_size=batch, concurrency=batch)
