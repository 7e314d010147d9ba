"""The primary is gone for good and a standby takes its place, under workers that go on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import lockstep
import psycopg
import pytest
from harness import Database, Gates, WorkerProcess
from servers import Cluster
from waiting import eventually

COUNT = 150
WAIT_FOR_STANDBY = (
    "ALTER SYSTEM SET synchronous_standby_names = 'standby'",
    "SELECT pg_reload_conf()",
)
BALANCE = "SELECT account, sum(amount) FROM ledger GROUP BY account ORDER BY account"


@pytest.fixture
def standby(primary: Cluster) -> Iterator[Cluster]:
    """A standby of the primary; it streams without a vote in its commits."""
    standby = primary.standby()
    try:
        standby.start()
        yield standby
    finally:
        standby.stop()


@pytest.fixture
def database(primary: Cluster, standby: Cluster) -> Database:
    """Whichever of the two servers takes writes."""
    return Database(
        f"host=127.0.0.1,127.0.0.1 port={primary.port},{standby.port} user=postgres"
        " dbname=postgres target_session_attrs=read-write"
    )


def until_caught_up(primary: Cluster, standby: Cluster) -> None:
    """Wait until the standby has all that the primary has committed so far."""
    place = Database(primary.dsn()).value("SELECT pg_current_wal_insert_lsn()::text")
    eventually(
        lambda: Database(standby.dsn()).value("SELECT pg_last_wal_replay_lsn() >= %s", place),
        "the standby to catch up",
    )


class Applicant(threading.Thread):
    """Enqueues through a failover, as an application does: again until it is acknowledged."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self._dsn = database.dsn
        self.acknowledged: dict[str, float] = {}

    def run(self) -> None:
        with lockstep.Client(self._dsn) as client:
            for number in range(COUNT):
                workflow_id = f"w{number}"
                while workflow_id not in self.acknowledged:
                    try:
                        client.enqueue("move", "a", "b", workflow_id=workflow_id)
                        self.acknowledged[workflow_id] = time.monotonic()
                    except psycopg.OperationalError:
                        time.sleep(0.05)
                time.sleep(0.01)


def test_synchronous_standby_takes_over_without_a_lost_commit(
    primary: Cluster,
    standby: Cluster,
    database: Database,
    start_worker: Callable[..., WorkerProcess],
) -> None:
    for statement in WAIT_FOR_STANDBY:
        Database(primary.dsn()).rows(statement)
    primary.wait_for_standby("sync")
    workers = [start_worker("bank_app:app", "--lease", "5") for _ in range(2)]
    applicant = Applicant(database)
    applicant.start()
    eventually(lambda: len(applicant.acknowledged) > COUNT // 3, "a third of the work")
    acknowledged = set(applicant.acknowledged)

    primary.kill()
    killed_at = time.monotonic()
    standby.promote()
    applicant.join(60)
    assert not applicant.is_alive()

    kept = {row[0] for row in database.rows("SELECT workflow_id FROM lockstep.workflow_status")}
    assert acknowledged <= kept
    assert len(kept) == COUNT
    gap = min(at for at in applicant.acknowledged.values() if at > killed_at) - killed_at
    print(f"first enqueue after the death of the primary: {gap:.2f} s")
    eventually(
        lambda: database.value("SELECT bool_and(status = 'SUCCESS') FROM lockstep.workflow_status"),
        "the end of all workflows",
        60,
    )
    assert database.rows(BALANCE) == [("a", -COUNT), ("b", COUNT)]
    assert [worker.process.poll() for worker in workers] == [None, None]


def test_repeated_enqueue_is_acknowledged_when_the_standby_has_it(
    primary: Cluster, standby: Cluster
) -> None:
    server = Database(primary.dsn())
    for statement in WAIT_FOR_STANDBY:
        server.rows(statement)
    primary.wait_for_standby("sync")
    standby.shut_down()
    waiting = "SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    with ThreadPoolExecutor(2) as clients:
        first = clients.submit(server.enqueue, "move", workflow_id="w")
        eventually(lambda: server.value(waiting), "the wait for the standby")
        primary.kill()
        assert isinstance(first.exception(), psycopg.OperationalError)
        primary.start()
        assert server.status("w") == "ENQUEUED", "committed, and nowhere else"
        again = clients.submit(server.enqueue, "move", workflow_id="w")
        eventually(lambda: again.done() or server.value(waiting), "an answer, or the wait for one")
        assert not again.done()
        standby.start()
        assert again.result(30) == "w"
    assert Database(standby.dsn()).status("w") == "ENQUEUED"


def test_worker_forgets_what_an_asynchronous_standby_never_got(
    primary: Cluster,
    standby: Cluster,
    database: Database,
    start_worker: Callable[..., WorkerProcess],
    gates: Gates,
) -> None:
    primary.wait_for_standby("async")
    worker = start_worker("bank_app:app", "--lease", "30")
    workflow_id = database.enqueue("move_slowly", positional_args='["a", "b"]')
    gates.wait_until_reached("begun")
    until_caught_up(primary, standby)
    standby.shut_down()
    lost_id = database.enqueue("move", positional_args='["c", "d"]')
    gates.open("begun")
    gates.wait_until_reached("between")
    database.wait_for_status(lost_id, "SUCCESS")
    assert database.rows(BALANCE) == [("a", -1), ("c", -1), ("d", 1)]

    primary.kill()
    standby.start()
    left = Database(standby.dsn(database.name)).rows(BALANCE)
    assert left == [], "the standby never got the last commits"
    standby.promote()
    gates.open("between")
    database.wait_for_status(workflow_id, "SUCCESS")
    assert database.rows(BALANCE) == [("a", -1), ("b", 1)], "the booking that was lost came again"
    assert [name for _, name, _ in database.steps(workflow_id)] == ["hold", "book", "hold", "book"]
    assert database.value("SELECT count(*) FROM lockstep.workflow_status") == 1, "as an enqueue is"
    assert worker.process.poll() is None
    assert "lease lost" in worker.log
