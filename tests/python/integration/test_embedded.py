"""The embedded server: the demo, `lockstep dev`, and a workflow on its Postgres."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import lockstep
import psycopg
import pytest
from harness import Database
from lockstep._embedded import EmbeddedServer
from lockstep._errors import LockstepError
from lockstep._install import install_lockstep
from lockstep._version import __version__
from releases import RELEASES, install
from waiting import eventually

ROOT = Path(__file__).parents[3]


def processes_of(marker: str) -> list[str]:
    """Return the command lines of processes that mention a marker."""
    found = []
    for entry in Path("/proc").iterdir() if Path("/proc").exists() else ():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if marker in line:
                found.append(line)
    return found


def dev(folder: Path, *command: str) -> list[str]:
    return [sys.executable, "-m", "lockstep.cli", "dev", "--data", str(folder), *command]


def test_demo_proves_that_nothing_is_lost_and_leaves_nothing(shared_tmp: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "orders" / "demo.py")],
        capture_output=True,
        text=True,
        timeout=110,
        env={**os.environ, "TMPDIR": str(shared_tmp)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Nothing was lost, nothing was paid twice" in done.stdout
    assert "fails" not in done.stdout
    assert list(shared_tmp.iterdir()) == []
    assert processes_of(str(shared_tmp)) == []


async def test_embedded_server_runs_workflows_and_keeps_its_data(shared_tmp: Path) -> None:
    app = lockstep.App()

    @app.workflow
    async def greet(name: str) -> str:
        return f"hello {name}"

    for round_number in (1, 2):
        with EmbeddedServer(shared_tmp / "home") as server:
            said = install_lockstep(server.dsn)
            assert ("installed already" in said) == (round_number == 2)
            with pytest.raises(LockstepError, match="another server runs on"):
                EmbeddedServer(shared_tmp / "home").start()
            worker = lockstep.Worker(app, dsn=server.dsn)
            task = asyncio.create_task(worker.run())
            async with lockstep.AsyncClient(server.dsn) as client:
                workflow_id = await client.enqueue(greet, "you", workflow_id=f"w{round_number}")
                result = await client.result(workflow_id, timeout=timedelta(seconds=20))
            assert result == "hello you"
            worker.stop()
            await task
            with psycopg.connect(server.dsn) as connection:
                row = connection.execute("SELECT count(*) FROM lockstep.workflow_status").fetchone()
            assert row == (round_number,)
    assert processes_of(str(shared_tmp)) == []


@pytest.fixture
def shared_tmp() -> Iterator[Path]:
    """A folder that the server's user may enter, also when the tests run as root."""
    folder = Path(tempfile.mkdtemp(prefix="lockstep-embedded-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_dev_updates_what_the_release_before_left(shared_tmp: Path) -> None:
    with EmbeddedServer(shared_tmp / "home") as server:
        install(Database(server.dsn), "extension", RELEASES[-1])
    script = (
        "import os, psycopg; c = psycopg.connect(os.environ['LOCKSTEP_DATABASE_URL']);"
        "print(c.execute('SELECT lockstep.version()').fetchone()[0])"
    )
    done = subprocess.run(
        dev(shared_tmp / "home", "--", sys.executable, "-c", script),
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.stdout.strip() == __version__, done.stderr


def test_dev_runs_a_command_with_the_database_and_ends_with_it(shared_tmp: Path) -> None:
    script = (
        "import os, psycopg; c = psycopg.connect(os.environ['LOCKSTEP_DATABASE_URL']);"
        "print(c.execute('SELECT lockstep.version()').fetchone()[0]); raise SystemExit(7)"
    )
    done = subprocess.run(
        dev(shared_tmp / "home", "--", sys.executable, "-c", script),
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (done.returncode, done.stdout.strip()) == (7, __version__), done.stderr
    missing = subprocess.run(
        dev(shared_tmp / "home", "--", "no-such-command"),
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert missing.returncode == 127
    assert "cannot run no-such-command" in missing.stderr
    assert processes_of(str(shared_tmp)) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_dev_takes_its_server_with_it(shared_tmp: Path, number: signal.Signals) -> None:
    process = subprocess.Popen(
        dev(shared_tmp / "home"), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("export LOCKSTEP_DATABASE_URL=")
    process.send_signal(number)
    process.wait(60)
    process.stdout.close()
    eventually(lambda: processes_of(str(shared_tmp)) == [], "the end of the server")
