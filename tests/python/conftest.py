from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import lockstep
import psycopg
import pytest
from harness import Database, Gates, WorkerProcess, stopped_at_end
from servers import Cluster, PgBouncer, pgbouncer

_numbers = itertools.count()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--pgbouncer",
        action="store_true",
        help="put a PgBouncer in transaction mode between all tests and their server",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what needs a session of its own; the summary counts it, with the reason."""
    if config.getoption("--pgbouncer"):
        for item in items:
            if marker := item.get_closest_marker("direct"):
                item.add_marker(pytest.mark.skip(reason=f"needs no pooler: {marker.args[0]}"))


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


@pytest.fixture(scope="session")
def bouncer(cluster: Cluster) -> Iterator[PgBouncer]:
    """A PgBouncer in transaction mode in front of the server of all tests."""
    with pgbouncer(cluster) as bouncer:
        yield bouncer


@pytest.fixture(scope="session")
def entrance(request: pytest.FixtureRequest, cluster: Cluster) -> Cluster | PgBouncer:
    """What tests connect to: the server, with --pgbouncer the PgBouncer in front of it."""
    if request.config.getoption("--pgbouncer"):
        bouncer = request.getfixturevalue("bouncer")
        assert isinstance(bouncer, PgBouncer)
        return bouncer
    return cluster


@pytest.fixture
def own_entrance(
    request: pytest.FixtureRequest, own_cluster: Cluster
) -> Iterator[Cluster | PgBouncer]:
    """As ``entrance``, to a server that the test may kill."""
    if request.config.getoption("--pgbouncer"):
        with pgbouncer(own_cluster, "server_login_retry = 1") as bouncer:
            yield bouncer
    else:
        yield own_cluster


@pytest.fixture
def database(cluster: Cluster, entrance: Cluster | PgBouncer) -> Iterator[Database]:
    name = f"test_{next(_numbers)}"
    with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield Database(entrance.dsn(name))
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def empty(cluster: Cluster) -> Iterator[Database]:
    """A database without Lockstep."""
    name = f"empty_{next(_numbers)}"
    with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        yield Database(cluster.dsn(name))
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def installer(cluster: Cluster, empty: Database) -> Iterator[Database]:
    """The same database, as a role that has CREATE on it and nothing else."""
    name = empty.value("SELECT current_database()")
    empty.rows("CREATE ROLE installer LOGIN")
    empty.rows(f"GRANT CREATE ON DATABASE {name} TO installer")
    yield Database(f"{empty.dsn} user=installer")
    empty.rows("DROP OWNED BY installer")
    empty.rows("DROP ROLE installer")


@pytest.fixture
def start_worker(database: Database, tmp_path: Path) -> Iterator[Callable[..., WorkerProcess]]:
    """Start worker processes of an app in tests/python/apps; killed when the test ends."""
    workers: list[WorkerProcess] = []

    def start(
        app: str = "crash_app:app",
        *options: str,
        database: Database = database,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> WorkerProcess:
        worker = WorkerProcess(database, app, tmp_path, *options, environment=environment)
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
        worker = lockstep.Worker(app, **{"dsn": database.dsn, **options})
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
def pooled_dsn(bouncer: PgBouncer, database: Database) -> str:
    """The database of the test by way of a PgBouncer in transaction mode."""
    return bouncer.dsn(database.name)
