from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import lockstep
import psycopg
import pytest
from harness import (
    Cluster,
    Database,
    Gates,
    WorkerProcess,
    die_with_parent,
    eventually,
    stopped_at_end,
)

_numbers = itertools.count()


def _new_cluster() -> Cluster:
    cluster = Cluster()
    try:
        cluster.start()
        with psycopg.connect(cluster.dsn("template1"), autocommit=True) as connection:
            connection.execute("CREATE EXTENSION lockstep")
    except BaseException:
        cluster.stop()
        raise
    return cluster


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A server for all tests of this process; every new database has the extension."""
    cluster = _new_cluster()
    yield cluster
    cluster.stop()


@pytest.fixture
def own_cluster() -> Iterator[Cluster]:
    """A server that the test may kill."""
    cluster = _new_cluster()
    yield cluster
    cluster.stop()


@pytest.fixture
def database(cluster: Cluster) -> Iterator[Database]:
    name = f"test_{next(_numbers)}"
    with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield Database(cluster.dsn(name))
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def start_worker(database: Database, tmp_path: Path) -> Iterator[Callable[..., WorkerProcess]]:
    """Start worker processes of an app in tests/python/apps; killed when the test ends."""
    workers: list[WorkerProcess] = []

    def start(
        app: str = "crash_app:app", *options: str, database: Database = database
    ) -> WorkerProcess:
        worker = WorkerProcess(database, app, tmp_path, *options)
        workers.append(worker)
        return worker.wait_until_ready()

    with stopped_at_end(workers):
        yield start


@pytest.fixture
def gates(tmp_path: Path) -> Gates:
    return Gates(tmp_path)


@pytest.fixture
async def run_worker(
    database: Database,
) -> Callable[..., contextlib.AbstractAsyncContextManager[lockstep.Worker]]:
    """Run a worker of an app inside the test's own event loop."""

    @contextlib.asynccontextmanager
    async def run(app: lockstep.App, **options: Any) -> AsyncIterator[lockstep.Worker]:
        worker = lockstep.Worker(app, dsn=database.dsn, **options)
        task = asyncio.create_task(worker.run())
        try:
            yield worker
        finally:
            if not task.done():
                worker.stop()
                worker.stop()
            await task

    return run


@pytest.fixture
async def client(database: Database) -> AsyncIterator[lockstep.AsyncClient]:
    async with lockstep.AsyncClient(database.dsn) as client:
        yield client


@pytest.fixture
def pooled_dsn(cluster: Cluster, database: Database, tmp_path: Path) -> Iterator[str]:
    """A PgBouncer in transaction mode in front of the database."""
    folder = cluster.folder / f"bouncer-{os.getpid()}"
    folder.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    name = psycopg.conninfo.conninfo_to_dict(database.dsn)["dbname"]
    config = folder / "pgbouncer.ini"
    config.write_text(
        f"[databases]\n{name} = host={cluster.folder} port=5432 user=postgres\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = any\npool_mode = transaction\ndefault_pool_size = 4\n"
        f"logfile = {folder}/log\n"
    )
    user: dict[str, Any] = {}
    if os.geteuid() == 0:
        entry = pwd.getpwnam("postgres")
        user = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        for path in (folder, config):
            os.chown(path, entry.pw_uid, entry.pw_gid)
    program = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
    process = subprocess.Popen(
        [program, "-q", str(config)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=die_with_parent,
        **user,
    )
    dsn = f"host=127.0.0.1 port={port} user=postgres dbname={name}"

    def answers() -> bool:
        try:
            psycopg.connect(dsn, prepare_threshold=None).close()
        except psycopg.OperationalError:
            return False
        return True

    try:
        eventually(answers, "the start of PgBouncer")
        yield dsn
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder)
