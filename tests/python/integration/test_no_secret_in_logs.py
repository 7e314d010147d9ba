"""No password and no payload comes into a log, at any level, whatever fails."""

from __future__ import annotations

import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import lockstep
import psycopg
import pytest
from harness import APPS, Database, WorkerProcess, stopped_at_end
from lockstep.cli._main import cli
from servers import Cluster
from typer.testing import CliRunner
from waiting import eventually

SECRET = "hunter2-4711"
MALFORMED = (
    "postgresql://u:{0}@127.0.0.1:1:2/db",
    "postgresql://u:a@{0}@127.0.0.1:1/db",
    "postgresql://u:{0}#x@127.0.0.1:1/db",
    "postgresql://u:{0}/x@127.0.0.1:1/db",
    "postgresql://u:{0}@127.0.0.1:1/db",
    "postgresql://u:{0}%zz@127.0.0.1:1/db",
    "host=127.0.0.1 port=1 password='{0}",
    "host=127.0.0.1 port=1 password={0} x",
    "host=127.0.0.1 port=one password={0}",
)


@pytest.fixture
def reached_by_tcp() -> Iterator[Cluster]:
    cluster = Cluster(tcp=True)
    try:
        cluster.start()
        with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
            connection.execute("CREATE EXTENSION lockstep")
        yield cluster
    finally:
        cluster.stop()


def test_worker_logs_neither_password_nor_payload(reached_by_tcp: Cluster, tmp_path: Path) -> None:
    cluster = reached_by_tcp
    database = Database(f"postgresql://postgres:{SECRET}@127.0.0.1:{cluster.port}/postgres")
    worker = WorkerProcess(database, "secretive_app:app", tmp_path, "--log-level", "DEBUG")
    with stopped_at_end([worker]):
        worker.wait_until_ready()
        names = ("raises", "violates", "takes_a_number", "returns_what_is_refused", "exits")
        with lockstep.Client(database.dsn) as client:
            for name in names:
                with pytest.raises(lockstep.WorkflowFailed):
                    client.result(client.enqueue(name, SECRET))
            talking = client.enqueue("talks", SECRET)
            client.send(talking, SECRET, "go")
            assert client.result(talking) == SECRET
        cluster.kill()
        eventually(lambda: "database trouble" in worker.log, "trouble")
        cluster.start()
        eventually(lambda: database.value("SELECT count(*) FROM lockstep.executor"), "its return")
        assert worker.terminate() == 0
    assert "debug messages come into the log" in worker.log
    assert SECRET not in worker.log
    assert "hunter2" not in worker.log


@pytest.mark.parametrize("dsn", MALFORMED)
@pytest.mark.parametrize("command", ["list", "install", "upgrade"])
def test_command_line_masks_the_password(
    dsn: str, command: str, capfd: pytest.CaptureFixture[str]
) -> None:
    done = CliRunner().invoke(cli, [command, "--dsn", dsn.format(SECRET)])
    said = done.output + "".join(capfd.readouterr())
    assert done.exit_code == 1
    assert "lockstep: " in said
    assert "hunter2" not in said
    assert "4711" not in said


@pytest.mark.parametrize("dsn", MALFORMED)
async def test_no_error_of_a_worker_or_client_quotes_the_password(dsn: str) -> None:
    app = lockstep.App()

    @app.workflow
    async def main() -> None: ...

    dsn = dsn.format(SECRET)
    for attempt in (
        lambda: lockstep.Worker(app, dsn=dsn).run(),
        lambda: lockstep.AsyncClient(dsn).status("w"),
        lambda: lockstep.AsyncClient(dsn).result("w"),
    ):
        with pytest.raises((psycopg.Error, lockstep.InvalidArgument)) as raised:
            await attempt()
        shown = "".join(traceback.format_exception(raised.value))
        assert "hunter2" not in shown
        assert "4711" not in shown


def test_worker_process_masks_the_password() -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "lockstep.cli", "worker", "secretive_app:app"),
            *("--log-level", "DEBUG", "--dsn", MALFORMED[1].format(SECRET)),
        ],
        cwd=APPS,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "***" in done.stderr
    assert "hunter2" not in done.stderr + done.stdout
