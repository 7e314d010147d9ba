"""
DBOS Transact for Python, its queues in a Postgres system database.

What its documentation offers for throughput: a queue that is polled often and lets the
worker run many workflows at once, and no log below warnings. The values are from
``bench.tune``.
"""

from __future__ import annotations

from typing import Any, ClassVar

from ..cluster import dsn, run_sql, url
from .base import Peer
from .lockstep import ACCOUNTS, CREATE_ACCOUNTS

QUEUE = "bench"
POLLING_SECONDS = 0.02
"""Pause between two claims; the default is 1."""

IN_FLIGHT = {"noop": 1000, "steps": 30, "steps_threads": 30}
IN_FLIGHT_OTHERWISE = 100
"""
Workflows in flight, and threads.

No-ops gained up to 1,000. With steps, 10 to 1,000 differed by less than the samples of one
of them did, and no value was the best in each trial.
"""


class Dbos(Peer):
    """The closest relative: a workflow library on Postgres."""

    name: ClassVar[str] = "dbos"
    module: ClassVar[str] = "dbos"
    package: ClassVar[str | None] = "dbos"
    expected: ClassVar[dict[str, float]] = {
        "noop": 0.03,
        "steps": 0.012,
        "steps_threads": 0.012,
        "transactional": 0.02,
    }
    enqueue_call: ClassVar[str | None] = (
        "SELECT dbos.enqueue_workflow('noop', 'bench', ARRAY['1'::json])"
    )
    STARTED: ClassVar[str] = """
        SELECT to_timestamp(min(started_at_epoch_ms) / 1000.0) FROM dbos.workflow_status"""
    FINISHED: ClassVar[str] = """
        SELECT to_timestamp(completed_at / 1000.0) FROM dbos.workflow_status
        WHERE status = 'SUCCESS'"""
    UNFINISHED: ClassVar[str] = """
        SELECT FROM dbos.workflow_status WHERE status IN ('ENQUEUED', 'PENDING') LIMIT 1"""

    def install_schema(self) -> None:
        # the first worker of a database creates DBOS's tables, and its datasource's
        with self.start("noop"):
            pass
        run_sql(self.database, CREATE_ACCOUNTS)
        run_sql(
            self.database,
            "INSERT INTO account SELECT g, 0 FROM generate_series(0, %s) AS g",
            ACCOUNTS - 1,
        )

    def reset(self) -> None:
        tables = run_sql(
            self.database,
            "SELECT string_agg(format('%%I.%%I', schemaname, tablename), ', ') FROM pg_tables"
            " WHERE schemaname = 'dbos' AND tablename = ANY (%s)",
            ["workflow_status", "workflow_input", "workflow_output", "operation_outputs"],
        )
        run_sql(self.database, f"TRUNCATE {tables[0][0]} CASCADE")

    def enqueue(self, workflow: str, n: int) -> None:
        run_sql(
            self.database,
            "SELECT count(dbos.enqueue_workflow(%s, %s, ARRAY[to_json(g)]))"
            " FROM generate_series(1, %s) AS g",
            *(workflow, QUEUE, n),
        )


def work(options: dict[str, Any]) -> None:
    """Run a worker: ``polling_seconds`` and ``concurrency`` are optional."""
    import asyncio
    import signal
    import threading

    import sqlalchemy
    from dbos import DBOS, AsyncSQLAlchemyDatasource

    from ..worker import ready
    from ..worker import stamp as write_stamp

    database = options["database"]
    concurrency = options.get(
        "concurrency", IN_FLIGHT.get(options["workflow"], IN_FLIGHT_OTHERWISE)
    )
    DBOS(
        config={
            "name": "bench",
            "system_database_url": url(database),
            "application_version": "1",
            "log_level": "WARNING",
            "sys_db_pool_size": 20,
            "max_executor_threads": concurrency,
        }
    )
    accounts: Any = None
    if options["workflow"] == "transactional":
        accounts = asyncio.run(
            AsyncSQLAlchemyDatasource.create(dsn(database), engine=_engine(database))
        )

    @DBOS.step()
    async def add(n: int) -> int:
        return n + 1

    @DBOS.step()
    def add_in_thread(n: int) -> int:
        return n + 1

    @DBOS.workflow(name="noop")
    async def noop(n: int) -> int:
        return n

    @DBOS.workflow(name="steps")
    async def steps(n: int) -> int:
        return await add(await add(await add(n)))

    @DBOS.workflow(name="steps_threads")
    def steps_threads(n: int) -> int:
        return add_in_thread(add_in_thread(add_in_thread(n)))

    async def deposit(account: int) -> None:
        await accounts.sql_session().execute(
            sqlalchemy.text("UPDATE account SET balance = balance + 1 WHERE id = :id"),
            {"id": account},
        )

    @DBOS.workflow(name="transactional")
    async def transactional(n: int) -> None:
        await accounts.run_tx_step_async(
            {"name": "deposit", "isolation_level": "READ COMMITTED"}, deposit, n % ACCOUNTS
        )

    @DBOS.workflow(name="stamp")
    async def stamp(n: int) -> int:
        return write_stamp(n)

    DBOS.launch()
    DBOS.register_queue(
        QUEUE,
        worker_concurrency=concurrency,
        polling_interval_sec=options.get("polling_seconds", POLLING_SECONDS),
        on_conflict="always_update",
    )
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    ready()
    stopped.wait()
    # DBOS waits for its threads at exit, and the drain is over
    import os

    os._exit(0)


def _engine(database: str) -> Any:
    from sqlalchemy.ext.asyncio import create_async_engine

    return create_async_engine(
        url(database).replace("postgresql://", "postgresql+psycopg://"), pool_size=20
    )
