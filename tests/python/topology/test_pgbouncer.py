"""A PgBouncer in transaction mode between everybody and the server, in trouble of its own."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import lockstep
import psycopg
import pytest
from harness import Database, WorkerProcess
from servers import Cluster, PgBouncer, pgbouncer
from waiting import eventually

SOON = timedelta(seconds=60)


@pytest.fixture
def small(cluster: Cluster) -> Iterator[PgBouncer]:
    """Two connections to the server for everybody, closed as soon as they are idle."""
    with pgbouncer(cluster, "default_pool_size = 2", "server_idle_timeout = 1") as bouncer:
        yield bouncer


@pytest.fixture
def bank(database: Database, small: PgBouncer) -> Database:
    database.rows("CREATE TABLE ledger (account text NOT NULL, amount int NOT NULL)")
    return Database(small.dsn(database.name))


def move_money(bank: Database, count: int) -> None:
    """Enqueue transfers and wait for each, as an application behind the pooler does."""
    with lockstep.Client(bank.dsn) as client:
        for number in range(count):
            workflow_id = f"w{time.monotonic_ns()}"
            while True:
                try:
                    client.enqueue("move", "a", "b", workflow_id=workflow_id)
                    assert client.result(workflow_id, timeout=SOON) == "moved", number
                    break
                except psycopg.OperationalError:
                    time.sleep(0.1)


def assert_moved(database: Database, count: int) -> None:
    assert database.rows("SELECT account, sum(amount) FROM ledger GROUP BY 1 ORDER BY 1") == [
        ("a", -count),
        ("b", count),
    ]


def test_two_connections_do_for_two_workers_and_ten_clients(
    database: Database, bank: Database, start_worker: Callable[..., WorkerProcess]
) -> None:
    for _ in range(2):
        start_worker("bank_app:app", "--lease", "10", database=bank)
    with ThreadPoolExecutor(10) as clients:
        list(clients.map(lambda _: move_money(bank, 3), range(10)))
    assert_moved(database, 30)
    time.sleep(2.5)  # the pooler closes what is idle; nobody notices
    move_money(bank, 1)
    assert_moved(database, 31)


@pytest.mark.parametrize("trouble", ["killed", "paused"])
def test_pooler_in_trouble_under_load_loses_and_doubles_nothing(
    database: Database,
    small: PgBouncer,
    bank: Database,
    start_worker: Callable[..., WorkerProcess],
    trouble: str,
) -> None:
    workers = [start_worker("bank_app:app", "--lease", "2", database=bank) for _ in range(2)]
    with ThreadPoolExecutor(4) as clients:
        moves = [clients.submit(move_money, bank, 10) for _ in range(4)]
        for _ in range(2):
            count = database.value("SELECT count(*) FROM ledger")
            eventually(
                lambda count=count: database.value(
                    "SELECT count(*) >= least(%s + 8, 80) FROM ledger", count
                ),
                "some transfers",
            )
            if trouble == "killed":
                small.stop(signal.SIGKILL)
                time.sleep(0.5)
                small.start()
            else:
                small.administer("PAUSE")
                time.sleep(3)  # longer than a lease
                small.administer("RESUME")
        for move in moves:
            move.result(60)
    assert_moved(database, 40)
    assert [worker.process.poll() for worker in workers] == [None, None]
