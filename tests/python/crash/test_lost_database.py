"""The server or its connections go away under load; nothing is lost, nothing doubled."""

from __future__ import annotations

import time
from collections.abc import Callable

import psycopg
import pytest
from harness import Database, Gates, WorkerProcess
from servers import Cluster, PgBouncer
from waiting import eventually

COUNT = 400


@pytest.fixture
def database(own_cluster: Cluster, own_entrance: Cluster | PgBouncer) -> Database:
    with psycopg.connect(own_cluster.dsn(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE shop")
    return Database(own_entrance.dsn("shop"))


def enqueue_load(database: Database) -> None:
    database.rows(
        "SELECT lockstep.enqueue_workflow('load', 'default', workflow_id => 'w' || n,"
        " positional_args => jsonb_build_array('w' || n)) FROM generate_series(1, %s) AS n",
        COUNT,
    )


def some_finished(database: Database, count: int) -> None:
    eventually(
        lambda: database.value(
            "SELECT count(*) >= %s FROM lockstep.workflow_status WHERE status = 'SUCCESS'", count
        ),
        f"{count} finished workflows",
    )


def assert_all_done_once(database: Database) -> None:
    eventually(
        lambda: database.value(
            "SELECT count(*) = %s FROM lockstep.workflow_status WHERE status = 'SUCCESS'", COUNT
        ),
        "the end of all workflows",
        90,
    )
    ledger = database.rows("SELECT key, count(*) FROM ledger GROUP BY key HAVING count(*) <> 1")
    assert ledger == [], "every transactional step happened once"
    assert database.value("SELECT count(DISTINCT key) FROM ledger") == COUNT
    assert database.value("SELECT count(*) FROM lockstep.operation_outputs") == 4 * COUNT
    outputs = database.rows("SELECT DISTINCT output FROM lockstep.workflow_status")
    assert outputs == [(3,)]


def test_killed_server_under_load_loses_and_doubles_nothing(
    own_cluster: Cluster, database: Database, start_worker: Callable[..., WorkerProcess]
) -> None:
    enqueue_load(database)
    for _ in range(2):
        start_worker("crash_app:app", "--concurrency", "20", "--max-connections", "4")
    some_finished(database, 20)
    for _ in range(2):
        own_cluster.kill()
        own_cluster.start()
        time.sleep(0.5)
    assert_all_done_once(database)


def test_terminated_backends_under_load_lose_and_double_nothing(
    own_cluster: Cluster, database: Database, start_worker: Callable[..., WorkerProcess]
) -> None:
    enqueue_load(database)
    server = Database(own_cluster.dsn(database.name))
    worker = start_worker("crash_app:app", "--concurrency", "20", "--max-connections", "4")
    some_finished(database, 10)
    for _ in range(15):
        server.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name LIKE 'lockstep%%'"
        )
        time.sleep(0.1)
    assert_all_done_once(database)
    assert worker.process.poll() is None


def test_outage_longer_than_the_lease_costs_no_worker_what_it_runs(
    own_cluster: Cluster,
    database: Database,
    start_worker: Callable[..., WorkerProcess],
    gates: Gates,
) -> None:
    server = Database(own_cluster.dsn(database.name))
    for _ in range(3):
        database.enqueue("held_in_step")
        start_worker("crash_app:app", "--concurrency", "1", "--lease", "5")
    gates.wait_until_reached("in_step", times=3)
    own_cluster.kill()
    time.sleep(6)
    own_cluster.start()
    eventually(
        lambda: (
            server.value(
                "SELECT count(*) FROM lockstep.executor WHERE expires_at > clock_timestamp()"
            )
            == 3
        ),
        "the return of the workers",
    )
    gates.open("in_step")
    eventually(
        lambda: (
            server.rows("SELECT DISTINCT status, attempts FROM lockstep.workflow_status")
            == [("SUCCESS", 1)]
        ),
        "the end of all workflows in their first attempt",
    )
    assert server.effects() == {"first": 3, "second": 3, "third": 3}
