"""A base backup and archived WAL bring the database back to a moment; work goes on from there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Database, WorkerProcess, stopped_at_end
from restore.lived_in import APP, OWNER, finish, worker_of
from servers import Cluster, give_to_server
from waiting import eventually


@pytest.fixture
def backup(primary: Cluster) -> Iterator[Path]:
    folder = primary.folder / "backup"
    primary.run("pg_basebackup", "-D", folder, "-X", "none", "-c", "fast", "-d", primary.dsn())
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def mark(primary: Cluster, name: str) -> None:
    """Name this moment, and have the WAL up to it archived."""
    database = Database(primary.dsn())
    database.rows("SELECT pg_create_restore_point(%s)", name)
    segment = database.value("SELECT pg_walfile_name(pg_switch_wal())")
    eventually(lambda: (primary.folder / "archive" / segment).exists(), "the archived WAL")


def recover(backup: Path, archive: Path, target: str) -> None:
    """Prepare a base backup so that its server recovers to a moment and then takes writes."""
    with (backup / "postgresql.auto.conf").open("a") as settings:
        settings.write(
            f"restore_command = 'cp {archive}/%f %p'\n"
            f"recovery_target_name = '{target}'\n"
            "recovery_target_action = 'promote'\n"
        )
    (backup / "recovery.signal").touch()
    give_to_server(backup / "recovery.signal")


def until_writable(database: Database) -> None:
    eventually(lambda: not database.value("SELECT pg_is_in_recovery()"), "the end of recovery", 60)


def test_workflows_resume_from_the_restored_moment(
    primary: Cluster, backup: Path, tmp_path: Path
) -> None:
    original = Database(f"{primary.dsn('lived_in')} user={OWNER}")
    original.enqueue("quick", positional_args='["before"]', workflow_id="before")
    with worker_of(original, tmp_path):
        original.wait_for_status("before", "SUCCESS")
        mark(primary, "a moment")
        original.enqueue("quick", positional_args='["after"]', workflow_id="after")
        original.wait_for_status("after", "SUCCESS")
    recover(backup, primary.folder / "archive", "a moment")
    other = Cluster(primary.bindir, initialize=False)
    try:
        shutil.rmtree(other.data, ignore_errors=True)
        backup.rename(other.data)
        other.start()
        restored = Database(f"{other.dsn('lived_in')} user={OWNER}")
        until_writable(restored)
        assert restored.status("before") == "SUCCESS"
        assert (
            restored.rows("SELECT FROM lockstep.workflow_status WHERE workflow_id = 'after'") == []
        )
        assert restored.rows("SELECT FROM ledger WHERE key = 'after'") == []
        restored.rows("DELETE FROM ledger WHERE key = 'before'")
        finish(restored, tmp_path)
    finally:
        other.stop()


def test_worker_that_lived_on_starts_again_where_the_database_went_back_to(
    primary: Cluster, backup: Path, tmp_path: Path
) -> None:
    """What it knows of the future is not what the database knows: a step would be missing."""
    database = Database(f"{primary.dsn('lived_in')} user={OWNER}")
    database.rows(
        "UPDATE lockstep.workflow_status SET queue_name = 'unserved' WHERE status <> 'PENDING'"
    )
    database.enqueue("relay", positional_args='["baton"]', workflow_id="relay")
    # it has lost executors before, and would keep the worker to itself for as long as it runs
    (tmp_path / "hold.open").touch()
    ledger = "SELECT key FROM ledger WHERE key LIKE 'baton%%' ORDER BY key"
    worker = WorkerProcess(database, APP, tmp_path, "--lease", "3600")
    with stopped_at_end([worker]):
        worker.wait_until_ready()
        eventually(lambda: len(database.rows(ledger)) == 1, "the first write")
        mark(primary, "between two steps")
        (tmp_path / "first.open").touch()
        eventually(lambda: len(database.rows(ledger)) == 2, "the second write")
        primary.shut_down()
        shutil.rmtree(primary.data)
        recover(backup, primary.folder / "archive", "between two steps")
        backup.rename(primary.data)
        primary.start()
        until_writable(database)
        assert worker.process.poll() is None
        (tmp_path / "second.open").touch()
        database.wait_for_status("relay", "SUCCESS")
        assert database.rows(ledger) == [("baton 1",), ("baton 2",), ("baton 3",)]
        assert len(database.steps("relay")) == 5
