"""A release is replaced by the next under load: database first, then the workers, one by one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import APPS, Database, Gates, WorkerProcess, stopped_at_end
from releases import METHODS, RELEASES, VERSION, install, released_package, run_cli
from waiting import eventually

PREVIOUS = RELEASES[-1]
APP = "upgrade_app:app"


@pytest.fixture
def released(empty: Database, request: pytest.FixtureRequest) -> Database:
    """A database with the release before this one."""
    install(empty, request.param, PREVIOUS)
    empty.rows("CREATE TABLE effects (effect text NOT NULL)")
    empty.rows("CREATE TABLE ledger (key text NOT NULL)")
    return empty


@pytest.fixture
def workers() -> Iterator[list[WorkerProcess]]:
    workers: list[WorkerProcess] = []
    with stopped_at_end(workers):
        yield workers


def fill_with_every_status(database: Database) -> None:
    """Enqueue what workers bring into each status, and hold it there."""
    for name in ("held_in_step", "held_in_transaction", "sleeps", "receives", "awaits_child"):
        database.enqueue(name, positional_args=f'["{name}"]', workflow_id=name)
    database.enqueue("fails", positional_args='["fails"]', workflow_id="fails")
    database.enqueue("books", positional_args='["ended"]', workflow_id="ended")
    database.enqueue("books", "later", positional_args='["queued"]', workflow_id="queued")
    database.enqueue("books", positional_args='["delayed"]', workflow_id="delayed", delay="1 hour")
    database.enqueue("receives", positional_args='["cancelled"]', workflow_id="cancelled")
    database.enqueue(
        "dies", "doomed", positional_args='["dies"]', workflow_id="dies", max_attempts=1
    )
    expected = {
        "held_in_step": "PENDING",
        "held_in_transaction": "PENDING",
        "sleeps": "DELAYED",
        "receives": "WAITING",
        "awaits_child": "WAITING",
        "awaits_child child": "WAITING",
        "fails": "ERROR",
        "ended": "SUCCESS",
        "queued": "ENQUEUED",
        "delayed": "DELAYED",
        "cancelled": "WAITING",
        "dies": "MAX_RECOVERY_ATTEMPTS_EXCEEDED",
    }
    statuses = "SELECT workflow_id, status FROM lockstep.workflow_status"
    eventually(lambda: dict(database.rows(statuses)) == expected, f"statuses {expected}")
    database.rows("SELECT lockstep.cancel_workflow('cancelled')")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("released", METHODS, indirect=True)
def test_work_of_the_release_before_goes_on_during_the_update_and_ends_after_it(
    released: Database, workers: list[WorkerProcess], tmp_path: Path, gates: Gates
) -> None:
    database = released
    old = released_package(PREVIOUS, tmp_path / "old")

    def start(*options: str, **environment: str) -> WorkerProcess:
        worker = WorkerProcess(database, APP, tmp_path, *options, environment=environment)
        workers.append(worker)
        return worker.wait_until_ready()

    def booked(since: int = 0) -> int:
        return int(database.value("SELECT count(*) FROM ledger WHERE key LIKE 'load%%'")) - since

    old_worker = start("--lease", "10", **old)
    start("--queue", "doomed", DIES="yes", **old)
    fill_with_every_status(database)
    gates.wait_until_reached("in_step")
    gates.wait_until_reached("in_transaction")
    version = "SELECT client_version FROM lockstep.executor WHERE pid = %s"
    assert database.value(version, old_worker.pid) == PREVIOUS

    with subprocess.Popen(
        [sys.executable, "upgrade_client.py", str(tmp_path / "stop")],
        cwd=APPS,
        env={**os.environ, "LOCKSTEP_DATABASE_URL": database.dsn, **old},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as old_client:
        eventually(lambda: booked() > 20, "work of the old client and worker")

        done = run_cli(database, "upgrade")
        assert done.stdout.strip() == f"upgraded lockstep {PREVIOUS} to {VERSION}", done.stderr
        assert database.value("SELECT lockstep.version()") == VERSION
        during = booked()
        eventually(lambda: booked(during) > 20, "work of the old worker after the update")
        gates.open("in_step")
        assert database.wait_for_status("held_in_step", "SUCCESS") == "SUCCESS"

        late = WorkerProcess(database, APP, tmp_path, environment=old)
        workers.append(late)
        assert late.process.wait(30) == 1
        assert f"the database has lockstep {VERSION}, this worker is of {PREVIOUS}" in late.log

        new_worker = start("--queue", "default", "--queue", "later", "--queue", "doomed")
        assert database.value(version, new_worker.pid) == VERSION
        during = booked()
        eventually(lambda: booked(during) > 20, "work of both workers")
        gates.open("in_transaction")
        assert old_worker.terminate() == 0
        assert "Traceback" not in old_worker.log
        assert "database trouble" not in old_worker.log
        during = booked()
        eventually(lambda: booked(during) > 20, "work of the old client and the new worker")
        (tmp_path / "stop").touch()
        output, _ = old_client.communicate(timeout=60)
        assert old_client.returncode == 0, output

    for workflow_id in ("sleeps", "delayed"):
        database.rows("SELECT lockstep.fast_forward(%s)", workflow_id)
    for workflow_id in ("cancelled", "dies"):
        database.rows("SELECT lockstep.resume_workflow(%s)", workflow_id)
    for workflow_id in ("receives", "awaits_child child", "cancelled"):
        database.rows("SELECT lockstep.send_message(%s, '\"hello\"', 'go')", workflow_id)
    expected = {
        "ended": ["ended first", "ended second"],
        "queued": ["queued first", "queued second"],
        "delayed": ["delayed first", "delayed second"],
        "sleeps": ["sleeps first", "sleeps second"],
        "receives": ["receives first", "hello"],
        "cancelled": ["cancelled first", "hello"],
        "awaits_child": ["awaits_child first", "awaits_child child first", "hello"],
        "awaits_child child": ["awaits_child child first", "hello"],
        "held_in_step": "held_in_step",
        "held_in_transaction": "held_in_transaction",
        "dies": "dies first",
    }
    for workflow_id in expected:
        database.wait_for_status(workflow_id, "SUCCESS")
    unfinished = "SELECT count(*) FROM lockstep.workflow_status WHERE completed_at IS NULL"
    eventually(lambda: database.value(unfinished) == 0, "the end of all workflows")
    outputs = "SELECT workflow_id, output FROM lockstep.workflow_status WHERE status = 'SUCCESS'"
    load = int(output)
    assert dict(database.rows(outputs)) == {
        **expected,
        **{f"load {n}": [f"load {n} first", f"load {n} second"] for n in range(load)},
    }
    assert database.rows(
        "SELECT workflow_id FROM lockstep.workflow_status WHERE status <> 'SUCCESS'"
    ) == [("fails",)]
    keys = [key for (key,) in database.rows("SELECT key FROM ledger")]
    assert len(keys) == len(set(keys)), "a transactional step took effect twice"
    assert len([key for key in keys if key.startswith("load")]) == 2 * load
