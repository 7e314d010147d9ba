"""Installing: as an extension, as plain SQL, by whom, where to, and back from a dump."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import lockstep
import psycopg
import pytest
from harness import Database
from lockstep._version import __version__ as VERSION
from servers import Cluster
from waiting import eventually

ROOT = Path(__file__).parents[3]

ENDED = {"SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"}


def run_cli(database: Database, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lockstep.cli", *arguments],
        env={**os.environ, "LOCKSTEP_DATABASE_URL": database.dsn},
        capture_output=True,
        text=True,
    )


def test_role_with_create_on_the_database_installs_and_owns_the_extension(
    installer: Database,
) -> None:
    installer.rows("CREATE EXTENSION lockstep")
    owners = installer.rows(
        "SELECT DISTINCT relowner::regrole::text FROM pg_class"
        " WHERE relnamespace = 'lockstep'::regnamespace"
    )
    assert owners == [("installer",)]
    assert installer.value("SELECT lockstep.enqueue_workflow('w', 'q')")


def test_role_whose_name_needs_quotes_installs_too(empty: Database) -> None:
    name = empty.value("SELECT current_database()")
    empty.rows('CREATE ROLE "App.Owner@home" LOGIN')
    try:
        empty.rows(f'GRANT CREATE ON DATABASE {name} TO "App.Owner@home"')
        Database(f"{empty.dsn} user=App.Owner@home").rows("CREATE EXTENSION lockstep")
    finally:
        empty.rows('DROP OWNED BY "App.Owner@home" CASCADE')
        empty.rows('DROP ROLE "App.Owner@home"')


def test_schema_of_somebody_else_is_refused(empty: Database, installer: Database) -> None:
    empty.rows("CREATE ROLE squatter")
    empty.rows("CREATE SCHEMA lockstep AUTHORIZATION squatter")
    try:
        for database in (empty, installer):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                database.rows("CREATE EXTENSION lockstep")
        result = run_cli(empty, "install", "--method", "sql")
        assert result.returncode == 1
        assert 'schema "lockstep" belongs to squatter' in result.stderr
    finally:
        empty.rows("DROP OWNED BY squatter CASCADE")
        empty.rows("DROP ROLE squatter")


@pytest.mark.parametrize("method", ["extension", "sql"])
def test_install_command_is_idempotent(installer: Database, method: str) -> None:
    first = run_cli(installer, "install", "--method", method)
    assert first.returncode == 0, first.stderr
    assert f"installed lockstep {VERSION}" in first.stdout
    workflow_id = installer.enqueue("w")
    again = run_cli(installer, "install", "--method", method)
    assert again.stdout.strip() == f"lockstep {VERSION} is installed already"
    assert installer.status(workflow_id) == "ENQUEUED"
    extensions = installer.rows("SELECT extname FROM pg_extension WHERE extname = 'lockstep'")
    assert extensions == ([("lockstep",)] if method == "extension" else [])


@pytest.mark.parametrize("method", ["extension", "sql"])
def test_rival_installs_all_end_well(empty: Database, method: str) -> None:
    waiting = (
        "SELECT count(*) = 3 FROM pg_stat_activity"
        " WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    with psycopg.connect(empty.dsn) as connection:
        connection.execute("CREATE SCHEMA lockstep")  # holds all of them until the rollback
        rivals = [
            subprocess.Popen(
                [sys.executable, "-m", "lockstep.cli", "install", "--method", method],
                env={**os.environ, "LOCKSTEP_DATABASE_URL": empty.dsn},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for _ in range(3)
        ]
        eventually(lambda: empty.value(waiting), "three installs at the same point")
        connection.rollback()
    outputs = [rival.communicate(timeout=60)[0] for rival in rivals]
    assert [rival.returncode for rival in rivals] == [0, 0, 0], outputs
    assert sum(f"installed lockstep {VERSION}" in output for output in outputs) == 1


def test_command_line_says_its_version_and_what_is_wrong(empty: Database) -> None:
    assert run_cli(empty, "version").stdout.strip() == VERSION
    nowhere = run_cli(Database("host=/nowhere"), "install")
    assert nowhere.returncode == 1
    assert nowhere.stderr.startswith("lockstep: ")
    assert "Traceback" not in nowhere.stderr
    unknown = run_cli(empty, "worker", "no_such_module:app")
    assert unknown.returncode == 2
    assert 'no module "no_such_module"' in " ".join(unknown.stderr.split())


def test_files_go_where_destdir_says(tmp_path: Path) -> None:
    pg_config = os.environ.get("PG_CONFIG", "pg_config")
    subprocess.run(
        ["make", "-s", "install", f"DESTDIR={tmp_path}", f"PG_CONFIG={pg_config}"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    names = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    scripts = {path.name for path in (ROOT / "extension").glob("*.sql")}
    assert f"lockstep--{VERSION}.sql" in scripts
    assert names == {"lockstep.control", *scripts}


def fill_with_every_status(database: Database) -> None:
    """Leave a workflow in each status, running ones with an executor that is gone."""
    script = """
    SELECT lockstep.enqueue_workflow('replays', 'default', workflow_id => name)
    FROM unnest(ARRAY['SUCCESS', 'ERROR', 'CANCELLED', 'PENDING', 'WAITING', 'SLEEPING']) AS name;
    SELECT lockstep.enqueue_workflow('replays', 'default', workflow_id => 'DELAYED',
                                     delay => '2 seconds');
    SELECT lockstep.enqueue_workflow('replays', 'default', workflow_id => 'DEAD',
                                     max_attempts => 1);
    INSERT INTO lockstep.executor (executor_id, queues, workflow_names, lease_duration, expires_at)
    SELECT id, '{default}', '{replays}', '2 s', clock_timestamp() + interval '2 s'
    FROM unnest(ARRAY['e1', 'e2']) AS id;
    SELECT count(*) FROM lockstep.claim_workflows('e1', 7);
    SELECT lockstep.record_steps('e1', jsonb_agg(jsonb_build_object(
        'workflow_id', workflow_id, 'attempt', 1, 'step_id', 1, 'step_name', 'once',
        'output', 'before')))
    FROM lockstep.workflow_status WHERE status = 'PENDING';
    SELECT lockstep.finish_workflows('e1', '[
        {"workflow_id": "SUCCESS", "attempt": 1, "output": "before"},
        {"workflow_id": "ERROR", "attempt": 1, "error": {"type": "E", "message": "m"}}]');
    SELECT lockstep.cancel_workflow('CANCELLED');
    SELECT lockstep.start_timers('e1', '[{"workflow_id": "SLEEPING", "attempt": 1, "step_id": 2,
        "step_name": "sleep", "delay": 2}]');
    SELECT lockstep.receive_messages('e1', '[{"workflow_id": "WAITING", "attempt": 1,
        "step_id": 2, "topic": "t", "timeout": 2}]');
    SELECT lockstep.suspend_workflows('e1', '[
        {"workflow_id": "SLEEPING", "attempt": 1, "step_ids": [2]},
        {"workflow_id": "WAITING", "attempt": 1, "step_ids": [2], "topics": ["t"]}]');
    SELECT lockstep.enqueue_workflow('replays', 'default', workflow_id => 'ENQUEUED');
    SELECT lockstep.create_queue('limited', concurrency => 5);
    SELECT lockstep.send_message('ENQUEUED', '"kept"', 'kept');
    UPDATE lockstep.executor SET expires_at = clock_timestamp() WHERE executor_id = 'e2';
    """
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        connection.execute(script)
        connection.execute(
            "UPDATE lockstep.workflow_status SET executor_id = 'e2' WHERE workflow_id = 'DEAD'"
        )
        connection.execute("SELECT lockstep.recover_workflows()")


@pytest.mark.parametrize("method", ["extension", "sql"])
async def test_dump_and_restore_keep_every_workflow_and_a_worker_finishes_them(
    cluster: Cluster, empty: Database, run_worker: Any, database: Database, method: str
) -> None:
    assert run_cli(empty, "install", "--method", method).returncode == 0
    fill_with_every_status(empty)
    query = (
        "SELECT to_jsonb(w) - 'executor_id' FROM lockstep.workflow_status AS w ORDER BY workflow_id"
    )
    before = empty.rows(query)
    statuses = {row[0]["status"] for row in before}
    assert statuses == {*ENDED, "ENQUEUED", "DELAYED", "PENDING", "WAITING"}

    database.rows("DROP EXTENSION lockstep")
    database.rows("DROP SCHEMA lockstep")
    dump = subprocess.run(
        [cluster.bindir / "pg_dump", empty.dsn], capture_output=True, text=True, check=True
    )
    restore = subprocess.run(
        [cluster.bindir / "psql", "-X", "-v", "ON_ERROR_STOP=1", "-q", database.dsn],
        input=dump.stdout,
        capture_output=True,
        text=True,
    )
    assert restore.returncode == 0, restore.stderr
    assert database.rows(query) == before
    for table in ("operation_outputs", "notifications", "workflow_events", "queue", "executor"):
        rows = f"SELECT to_jsonb(t) FROM lockstep.{table} AS t ORDER BY 1"
        assert database.rows(rows) == empty.rows(rows), table

    app = lockstep.App()
    calls: list[str] = []

    @app.step
    async def once(workflow_id: str) -> str:
        calls.append(workflow_id)
        return "after"

    @app.workflow
    async def replays() -> str:
        workflow_id = lockstep.context().workflow_id
        outcome = await once(workflow_id)
        if workflow_id == "WAITING":
            assert await lockstep.receive("t", timeout=timedelta(seconds=2)) is None
        if workflow_id == "SLEEPING":
            await lockstep.sleep(timedelta(seconds=2))
        return outcome

    async with run_worker(app), lockstep.AsyncClient(database.dsn) as client:
        for name, output in {
            **dict.fromkeys(("PENDING", "WAITING", "SLEEPING"), "before"),
            **dict.fromkeys(("ENQUEUED", "DELAYED"), "after"),
        }.items():
            assert await client.result(name, timeout=timedelta(seconds=20)) == output
    assert sorted(calls) == ["DELAYED", "ENQUEUED"]
    left = database.rows("SELECT DISTINCT status FROM lockstep.workflow_status")
    assert {status for (status,) in left} == ENDED
