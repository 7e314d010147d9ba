"""Lockstep itself, as ``lockstep worker`` with extra ``uvloop`` runs it: 200 in flight."""

from __future__ import annotations

from typing import Any, ClassVar

from ..cluster import dsn, run_sql
from .base import Peer

QUEUE = "default"
ACCOUNTS = 10_000
"""Rows of the table that transactional steps update."""

CREATE_ACCOUNTS = """
CREATE TABLE account (id int PRIMARY KEY, balance int NOT NULL) WITH (fillfactor = 50)
"""

ENQUEUE_MANY = """
INSERT INTO lockstep.workflow_status (workflow_name, queue_name, inputs)
SELECT
    %s, %s,
    jsonb_build_object('positionalArgs', '[]'::jsonb, 'namedArgs', jsonb_build_object('n', g))
FROM generate_series(1, %s) AS g
"""


class Lockstep(Peer):
    """The system that all others are compared with."""

    name: ClassVar[str] = "lockstep"
    module: ClassVar[str] = "lockstep"
    package: ClassVar[str | None] = "pg-lockstep"
    expected: ClassVar[dict[str, float]] = {
        "noop": 1.0,
        "steps": 0.4,
        "steps_threads": 0.2,
        "transactional": 0.1,
    }
    enqueue_call: ClassVar[str | None] = (
        """SELECT lockstep.enqueue_workflow('noop', 'default', named_args => '{"n": 1}')"""
    )
    STARTED: ClassVar[str] = """
        SELECT min(w.started_at) FROM lockstep.workflow_status AS w, bench_mark AS m
        WHERE w.workflow_id >= m.workflow_id"""
    # ids are time-ordered: what this run enqueued is found by the primary key
    FINISHED: ClassVar[str] = """
        SELECT w.completed_at FROM lockstep.workflow_status AS w, bench_mark AS m
        WHERE w.workflow_id >= m.workflow_id AND w.status = 'SUCCESS'"""
    UNFINISHED: ClassVar[str] = """
        SELECT WHERE
            EXISTS (SELECT FROM lockstep.workflow_status WHERE status = 'ENQUEUED')
            OR EXISTS (SELECT FROM lockstep.workflow_status WHERE status = 'PENDING')"""

    def install_schema(self) -> None:
        run_sql(self.database, "CREATE EXTENSION lockstep")
        run_sql(self.database, "CREATE TABLE bench_mark (workflow_id text NOT NULL)")
        run_sql(self.database, CREATE_ACCOUNTS)
        self.reset()

    def reset(self) -> None:
        run_sql(
            self.database,
            f"""
            TRUNCATE lockstep.workflow_status, lockstep.operation_outputs, lockstep.executor;
            TRUNCATE account;
            INSERT INTO account SELECT g, 0 FROM generate_series(0, {ACCOUNTS - 1}) AS g
            """,
        )
        self.mark()

    def mark(self) -> None:
        """Let :meth:`finished` count what is enqueued from now on, and nothing older."""
        run_sql(
            self.database,
            "TRUNCATE bench_mark; INSERT INTO bench_mark SELECT lockstep._generate_id()",
        )

    def enqueue(self, workflow: str, n: int) -> None:
        run_sql(self.database, ENQUEUE_MANY, workflow, QUEUE, n)


def work(options: dict[str, Any]) -> None:
    """Run a worker: ``concurrency``, ``queue`` and ``listen`` are optional."""
    from datetime import timedelta

    import lockstep
    import uvloop

    from ..worker import ready

    if not options.get("listen", True):
        _deafen()
    worker = lockstep.Worker(
        _app(options["database"]),
        queues=[options.get("queue", QUEUE)],
        dsn=dsn(options["database"]),
        concurrency=options.get("concurrency", 200),
        grace=timedelta(seconds=1),
    )

    async def run() -> None:
        ready()
        await worker.run()

    uvloop.run(run())


def _deafen() -> None:
    """Let no notification arrive, as behind a transaction pooler; LISTEN itself succeeds."""
    import asyncio
    from collections.abc import AsyncGenerator

    import psycopg

    async def notifies(
        self: object, *, timeout: float = 3600.0, stop_after: int | None = None
    ) -> AsyncGenerator[psycopg.Notify, None]:
        await asyncio.sleep(timeout)
        return
        yield

    psycopg.AsyncConnection.notifies = notifies  # type: ignore[assignment]


def _app(database: str) -> Any:
    """Return the app with every workflow of the benchmark."""
    import asyncio

    import lockstep

    from ..worker import stamp as write_stamp

    app = lockstep.App()

    @app.step
    async def add(n: int) -> int:
        return n + 1

    @app.step
    def add_in_thread(n: int) -> int:
        return n + 1

    @app.transaction
    async def deposit(connection: Any, account: int) -> None:
        await connection.execute(
            "UPDATE account SET balance = balance + 1 WHERE id = %s", (account,)
        )

    @app.workflow
    async def noop(n: int) -> int:
        return n

    @app.workflow
    async def steps(n: int) -> int:
        return await add(await add(await add(n)))

    @app.workflow
    def steps_threads(n: int) -> int:
        return add_in_thread(add_in_thread(add_in_thread(n)))

    @app.workflow
    async def transactional(n: int) -> None:
        await deposit(n % ACCOUNTS)

    @app.workflow
    async def stamp(n: int) -> int:
        return write_stamp(n)

    @app.workflow
    async def hold(n: int) -> None:
        await asyncio.sleep(3600)

    @app.workflow
    async def checkpoint(n: int) -> None:
        await _time_checkpoints(add, n, database)

    return app


async def _time_checkpoints(step: Any, n: int, database: str) -> None:
    """Print the ms that ``n`` steps and ``n`` plain INSERTs take, one after the other."""
    import json
    import time

    import psycopg

    from ..cluster import YARDSTICK_DATABASE, YARDSTICK_INSERT

    milliseconds: dict[str, list[float]] = {"step": [], "insert": []}
    connection = await psycopg.AsyncConnection.connect(dsn(YARDSTICK_DATABASE), autocommit=True)
    async with connection:
        for number in range(n):
            start = time.perf_counter()
            await connection.execute(YARDSTICK_INSERT, prepare=True)
            between = time.perf_counter()
            await step(number)
            milliseconds["insert"].append((between - start) * 1000)
            milliseconds["step"].append((time.perf_counter() - between) * 1000)
    print(json.dumps(milliseconds), flush=True)
