"""
pg_dump and pg_restore in all their forms: every row is there, and a worker goes on.

All is done by the owner of the databases, who is no superuser, but pg_dumpall.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from harness import Database
from restore.lived_in import OWNER, assert_same, end_leases, finish, rows_of, worker_of
from servers import Cluster
from waiting import eventually

NewDatabase = Callable[..., Database]

FORMS = {
    "plain": (["--format=plain"], None),
    "inserts": (["--format=plain", "--inserts"], None),
    "custom": (["--format=custom"], ["--exit-on-error"]),
    "custom in parallel": (["--format=custom"], ["--exit-on-error", "--jobs=4"]),
    "directory in parallel": (
        ["--format=directory", "--jobs=4"],
        ["--exit-on-error", "--jobs=4"],
    ),
}


DUMP_IN_PARALLEL = ("pg_dump", "--format=directory", "--jobs=4")
RESTORE_IN_PARALLEL = ("pg_restore", "--exit-on-error", "--jobs=4")


def dump_and_restore(
    cluster: Cluster,
    source: Database,
    target: Database,
    shelf: Path,
    dump_options: list[str],
    restore_options: list[str] | None,
) -> None:
    cluster.run("pg_dump", *dump_options, "--file", shelf / "dump", source.dsn)
    if restore_options is None:
        play(cluster, shelf / "dump", target)
    else:
        cluster.run("pg_restore", *restore_options, "--dbname", target.dsn, shelf / "dump")


def play(cluster: Cluster, script: Path, target: Database) -> None:
    cluster.run("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", script, target.dsn)


def test_lived_in_database_has_rows_in_every_table(lived_in: Database) -> None:
    empty = {table for table, rows in rows_of(lived_in).items() if not rows}
    of_a_transaction = {"lockstep.state_move", "lockstep.pending_grant"}
    assert empty == of_a_transaction, "rows of these live no longer than one"


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_dump_restores_everything(
    cluster: Cluster, lived_in: Database, new_database: NewDatabase, shelf: Path, form: str
) -> None:
    restored = new_database()
    dump_and_restore(cluster, lived_in, restored, shelf, *FORMS[form])
    assert_same(restored, lived_in)


def test_worker_finishes_at_once_what_was_restored_in_parallel(
    cluster: Cluster,
    lived_in: Database,
    new_database: NewDatabase,
    shelf: Path,
    tmp_path: Path,
) -> None:
    """The executor of the dump has a lease of an hour, but not here: nobody waits for its end."""
    restored = new_database()
    dump_and_restore(cluster, lived_in, restored, shelf, *FORMS["directory in parallel"])
    ((executor_id, is_leased),) = restored.rows(
        "SELECT executor_id, expires_at > clock_timestamp() + '30 min' FROM lockstep.executor"
    )
    assert is_leased
    with pytest.raises(psycopg.Error, match="has lost its lease"):
        restored.rows("SELECT lockstep.heartbeat(%s)", executor_id)
    finish(restored, tmp_path, has_live_executors=False)


def test_plain_sql_install_is_dumped_as_ordinary_tables(
    cluster: Cluster, plain_sql: Database, new_database: NewDatabase, shelf: Path, tmp_path: Path
) -> None:
    restored = new_database()
    dump_and_restore(cluster, plain_sql, restored, shelf, *FORMS["directory in parallel"])
    assert_same(restored, plain_sql)
    finish(restored, tmp_path)


def test_dump_over_an_older_state_of_the_same_database_replaces_it(
    cluster: Cluster, lived_in: Database, new_database: NewDatabase, shelf: Path
) -> None:
    restored = new_database("TEMPLATE lived_in")
    restored.rows("DELETE FROM lockstep.operation_outputs")
    restored.rows("SELECT lockstep.enqueue_workflow('quick', 'default', '[\"newer\"]')")
    cluster.run("pg_dump", "--format=custom", "--file", shelf / "dump", lived_in.dsn)
    cluster.run(
        *("pg_restore", "--exit-on-error", "--clean", "--if-exists"),
        *("--dbname", restored.dsn, shelf / "dump"),
    )
    assert_same(restored, lived_in)


def test_dump_under_load_is_of_one_moment(
    cluster: Cluster,
    lived_in: Database,
    new_database: NewDatabase,
    shelf: Path,
    tmp_path: Path,
) -> None:
    """Four connections read it while a worker writes: each write is there with its checkpoint."""
    source = new_database("TEMPLATE lived_in")
    count = 300
    source.rows(
        "SELECT lockstep.enqueue_workflow('quick', 'default', jsonb_build_array('load ' || n))"
        " FROM generate_series(1, %s) AS n",
        count,
    )
    ledger = "SELECT count(*), count(DISTINCT key) FROM ledger WHERE key LIKE 'load%%'"
    with worker_of(source, tmp_path, "--concurrency", "4"):
        eventually(lambda: source.rows(ledger)[0][0] > 10, "some work")
        cluster.run(*DUMP_IN_PARALLEL, "--file", shelf / "dump", source.dsn)
        eventually(lambda: source.rows(ledger) == [(count, count)], "all work")

    restored = new_database()
    cluster.run(*RESTORE_IN_PARALLEL, "--dbname", restored.dsn, shelf / "dump")
    assert restored.rows(ledger)[0][0] > 10
    strays = (
        "SELECT l.key, o.output #>> '{}' FROM ledger AS l FULL JOIN ("
        " SELECT output FROM lockstep.operation_outputs WHERE step_name = 'book'"
        ") AS o ON l.key = o.output #>> '{}' WHERE l.key IS NULL OR o.output IS NULL"
    )
    assert restored.rows(strays) == []
    end_leases(restored)
    with worker_of(restored, tmp_path):
        eventually(lambda: restored.rows(ledger) == [(count, count)], "all work, once")


def test_data_apart_from_the_schema_come_back_with_triggers_off(
    cluster: Cluster, lived_in: Database, new_database: NewDatabase, shelf: Path
) -> None:
    restored = new_database()
    superuser = cluster.dsn(restored.value("SELECT current_database()"))
    cluster.run("pg_dump", "--format=custom", "--file", shelf / "dump", lived_in.dsn)
    pg_restore = ("pg_restore", "--exit-on-error", "--single-transaction", shelf / "dump")
    cluster.run(*pg_restore, "--schema-only", "--dbname", restored.dsn)
    with pytest.raises(AssertionError, match="state machine"):
        cluster.run(*pg_restore, "--data-only", "--dbname", superuser)
    cluster.run(*pg_restore, "--data-only", "--disable-triggers", "--dbname", superuser)
    assert_same(restored, lived_in)


def test_superuser_restores_in_the_name_of_the_owner(
    cluster: Cluster, lived_in: Database, new_database: NewDatabase, shelf: Path
) -> None:
    restored = new_database()
    superuser = Database(cluster.dsn(restored.value("SELECT current_database()")))
    cluster.run("pg_dump", "--format=custom", "--file", shelf / "dump", lived_in.dsn)
    with pytest.raises(AssertionError, match=r"belongs to landlord(.|\n)*pg_restore --role"):
        cluster.run("pg_restore", "--exit-on-error", "-1", "-d", superuser.dsn, shelf / "dump")
    cluster.run(
        *("pg_restore", "--exit-on-error", "--jobs=4", "--role", OWNER),
        *("--dbname", superuser.dsn, shelf / "dump"),
    )
    assert_same(restored, lived_in)


def test_dump_of_the_whole_cluster_brings_roles_and_grants(
    cluster: Cluster, lived_in: Database, shelf: Path, tmp_path: Path
) -> None:
    cluster.run("pg_dumpall", "--file", shelf / "dump", "--dbname", cluster.dsn())
    script = (shelf / "dump").read_text()
    # the role that restores is there already; docs/backup.md says the other
    script = re.sub(r"(?m)^CREATE ROLE postgres;$", "", script)
    others, connect, script = script.partition("\\connect lived_in\n")
    statement = "CREATE EXTENSION IF NOT EXISTS lockstep WITH SCHEMA lockstep;"
    assert statement in script
    script = script.replace(statement, f"SET ROLE {OWNER}; {statement} RESET ROLE;", 1)
    (shelf / "dump").write_text(others + connect + script)
    other = Cluster(cluster.bindir)
    try:
        other.start()
        play(other, shelf / "dump", Database(other.dsn()))
        restored = Database(f"{other.dsn('lived_in')} user={OWNER}")
        assert_same(restored, lived_in)
        finish(restored, tmp_path)
    finally:
        other.stop()


def test_leases_of_a_copy_end_and_then_its_running_workflows_are_taken_over(
    lived_in: Database, new_database: NewDatabase, tmp_path: Path
) -> None:
    restored = new_database("TEMPLATE lived_in")
    (tmp_path / "hold.open").touch()
    restored.rows("UPDATE lockstep.executor SET expires_at = clock_timestamp() + '3 s'")
    ends_at = time.monotonic() + 3
    dead = restored.rows("SELECT executor_id FROM lockstep.executor")
    with worker_of(restored, tmp_path):
        eventually(
            lambda: restored.value("SELECT count(*) > 0 FROM ledger WHERE key = 'later'"),
            "other work",
        )
        if time.monotonic() < ends_at - 0.5:
            assert restored.status("held") == "PENDING"
        restored.wait_for_status("held", "SUCCESS")
        assert time.monotonic() >= ends_at - 0.1
        executors = restored.rows("SELECT executor_id FROM lockstep.executor")
        assert not set(dead) & set(executors)
