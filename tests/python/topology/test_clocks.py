"""The clocks of worker and server differ, or jump: only the server's counts, and no jump loses."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from harness import Database, Gates, WorkerProcess
from servers import Clock, Cluster
from waiting import eventually

HOUR = 3600
LATE = timedelta(seconds=20)
"""How late something may come on a busy machine, far from the hour by which the clocks differ."""

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="libfaketime is preloaded, which only Linux lets one do"
)
StartWorker = Callable[..., WorkerProcess]
_numbers = itertools.count()


@pytest.fixture(autouse=True)
def set_right(clock: Clock) -> None:
    """Begin with clocks that agree."""
    clock.set_ahead(0)


@pytest.fixture(scope="module")
def server(clock: Clock) -> Iterator[Cluster]:
    """A server that goes by the clock of the test."""
    server = Cluster(clock=clock)
    try:
        server.start()
        Database(server.dsn("template1")).rows("CREATE EXTENSION lockstep")
        yield server
    finally:
        server.stop()


@pytest.fixture
def clocked(clock: Clock, server: Cluster) -> Iterator[Database]:
    """A database on that server."""
    name = f"clocked_{next(_numbers)}"
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        database = Database(server.dsn(name))
        database.rows("CREATE TABLE ledger (key text NOT NULL)")
        yield database
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def ended(database: Database, workflow_name: str) -> int:
    value = database.value(
        "SELECT count(*) FROM lockstep.workflow_status"
        " WHERE workflow_name = %s AND status = 'SUCCESS'",
        workflow_name,
    )
    assert isinstance(value, int)
    return value


def enqueue_bookings(database: Database, count: int, prefix: str) -> None:
    database.rows(
        "SELECT lockstep.enqueue_workflow('books', 'default', workflow_id => %s || n,"
        " positional_args => jsonb_build_array(%s || n)) FROM generate_series(1, %s) AS n",
        prefix,
        prefix,
        count,
    )


def assert_booked_once(database: Database, workflow_count: int) -> None:
    eventually(lambda: ended(database, "books") == workflow_count, "the end of all bookings", 60)
    booked: list[Any] = database.rows("SELECT count(*), count(DISTINCT key) FROM ledger")
    assert booked == [(2 * workflow_count, 2 * workflow_count)]


@pytest.mark.parametrize("ahead", [HOUR, -HOUR], ids=["ahead", "behind"])
def test_clock_of_the_worker_counts_for_nothing(
    database: Database, start_worker: StartWorker, gates: Gates, clock: Clock, ahead: int
) -> None:
    clock.set_ahead(ahead)
    database.rows("SELECT lockstep.create_queue('slow', rate_limit => 1, rate_period => '1 s')")
    began_at = database.value("SELECT clock_timestamp()")
    worker = start_worker(
        *("clock_app:app", "--queue", "default", "--queue", "slow"), environment=clock.environment
    )
    waiting_id = database.enqueue("waits")
    late_id = database.enqueue("naps", positional_args="[100]", timeout="1 s")
    slow_ids = [database.enqueue("ends", "slow") for _ in range(3)]
    delayed_id = database.enqueue("ends", delay="1 s")

    for workflow_id in (waiting_id, *slow_ids, delayed_id):
        database.wait_for_status(workflow_id, "SUCCESS")
    database.wait_for_status(late_id, "CANCELLED")
    eventually(lambda: ended(database, "tick") >= 2, "two ticks")

    steps = dict(
        database.rows(
            "SELECT step_name, completed_at - started_at FROM lockstep.operation_outputs"
            " WHERE workflow_id = %s AND step_name IN ('sleep', 'receive')",
            waiting_id,
        )
    )
    assert sorted(steps) == ["receive", "sleep"]
    assert all(timedelta(seconds=1) <= step < LATE for step in steps.values()), steps
    ((took, now),) = database.rows(
        "SELECT completed_at - started_at, (output #>> '{}')::timestamptz - %s"
        " FROM lockstep.workflow_status WHERE workflow_id = %s",
        began_at,
        waiting_id,
    )
    assert timedelta(seconds=3) <= took < 3 * LATE, "sleep, timeout and back-off"
    assert timedelta(0) <= now < LATE, "lockstep.now() is the server's time"
    spread = database.value(
        "SELECT max(started_at) - min(started_at) FROM lockstep.workflow_status"
        " WHERE queue_name = 'slow'"
    )
    assert timedelta(seconds=2) <= spread < LATE, "three starts by the rate"
    ticks = database.rows(
        "SELECT created_at - (headers ->> 'scheduled_at')::timestamptz"
        " FROM lockstep.workflow_status WHERE workflow_name = 'tick'"
    )
    assert all(timedelta(0) <= late < LATE for (late,) in ticks), "ticks come at their time"

    held_id = database.enqueue("held")
    gates.wait_until_reached("held")
    watcher = start_worker("clock_app:app")
    eventually(
        lambda: database.value(
            "SELECT clock_timestamp() - registered_at > interval '3 s' FROM lockstep.executor"
            " ORDER BY registered_at DESC LIMIT 1"
        ),
        "more than a lease",
    )
    assert (
        database.value(
            "SELECT attempts FROM lockstep.workflow_status WHERE workflow_id = %s", held_id
        )
        == 1
    ), "a live worker keeps what it runs"
    watcher.kill()
    gates.open("held")
    database.wait_for_status(held_id, "SUCCESS")
    assert worker.terminate() == 0


def test_server_clock_that_is_set_back_holds_nothing_up(
    clocked: Database, start_worker: StartWorker, gates: Gates, clock: Clock
) -> None:
    clocked.rows("SELECT lockstep.create_queue('slow', rate_limit => 2, rate_period => '1 s')")
    held_id = clocked.enqueue("held")
    victim = start_worker("clock_app:app", database=clocked)
    gates.wait_until_reached("held")
    start_worker(
        *("clock_app:app", "--queue", "default", "--queue", "slow", "--concurrency", "10"),
        database=clocked,
    )
    enqueue_bookings(clocked, 400, "before")
    slow_ids = [clocked.enqueue("ends", "slow") for _ in range(5)]
    clocked.wait_for_status(slow_ids[0], "SUCCESS")
    eventually(lambda: ended(clocked, "books") > 20, "a part of the backlog")

    clock.set_ahead(-HOUR)
    victim.kill()
    gates.open("held")
    enqueue_bookings(clocked, 50, "after")
    for workflow_id in (held_id, *slow_ids):
        clocked.wait_for_status(workflow_id, "SUCCESS")
    assert_booked_once(clocked, 450)
    assert clocked.value(
        "SELECT count(*) > 10 FROM lockstep.workflow_status WHERE completed_at < created_at"
    ), "the clock was set back under a backlog"


def test_server_clock_that_is_set_ahead_repeats_nothing(
    clocked: Database, start_worker: StartWorker, clock: Clock
) -> None:
    sleeper_id = clocked.enqueue("naps", positional_args="[600]")
    for _ in range(2):
        start_worker("clock_app:app", "--concurrency", "10", database=clocked)
    clocked.wait_for_status(sleeper_id, "DELAYED")
    enqueue_bookings(clocked, 400, "w")
    eventually(lambda: ended(clocked, "books") > 20, "a part of the backlog")
    clock.set_ahead(HOUR)
    clocked.wait_for_status(sleeper_id, "SUCCESS")
    assert_booked_once(clocked, 400)
    missed = clocked.value(
        "SELECT count(*) FROM lockstep.workflow_status WHERE workflow_name = 'tick'"
    )
    assert missed < 200, "ticks of the hour that the clock left out are missed ones"
