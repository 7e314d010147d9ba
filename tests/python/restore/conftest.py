from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from harness import Database
from lockstep._install import plain_sql as plain_sql_script
from restore.lived_in import OWNER, create_roles, live_in, move_in
from servers import Cluster, give_to_server

_numbers = itertools.count()


def execute(cluster: Cluster, statement: str) -> None:
    with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        connection.execute(statement)


def owned(cluster: Cluster, name: str) -> Database:
    """Return a database as its owner sees it, who is no superuser."""
    return Database(f"{cluster.dsn(name)} user={OWNER}")


@pytest.fixture(scope="session")
def roles(cluster: Cluster) -> None:
    create_roles(cluster)


@pytest.fixture(scope="session")
def lived_in(
    cluster: Cluster, roles: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Database]:
    """A database with rows in every status, which tests read or copy, and never change."""
    execute(cluster, f"CREATE DATABASE lived_in TEMPLATE template0 OWNER {OWNER}")
    database = owned(cluster, "lived_in")
    database.rows("CREATE EXTENSION lockstep")
    live_in(database, tmp_path_factory.mktemp("lived_in"))
    database.rows("SELECT lockstep.enable_tenant_isolation()")
    yield database
    execute(cluster, "DROP DATABASE lived_in")


@pytest.fixture(scope="session")
def plain_sql(
    cluster: Cluster, roles: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Database]:
    """The same, with Lockstep installed as plain SQL."""
    execute(cluster, f"CREATE DATABASE plain_sql TEMPLATE template0 OWNER {OWNER}")
    database = owned(cluster, "plain_sql")
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        connection.execute(plain_sql_script().encode())
    live_in(database, tmp_path_factory.mktemp("plain_sql"))
    database.rows("SELECT lockstep.enable_tenant_isolation()")
    yield database
    execute(cluster, "DROP DATABASE plain_sql")


@pytest.fixture
def new_database(cluster: Cluster, roles: None) -> Iterator[Callable[..., Database]]:
    """Create databases, by default empty ones; dropped when the test ends."""
    names: list[str] = []

    def create(options: str = "TEMPLATE template0") -> Database:
        names.append(f"restored_{next(_numbers)}")
        execute(cluster, f"CREATE DATABASE {names[-1]} OWNER {OWNER} {options}")
        return owned(cluster, names[-1])

    yield create
    for name in names:
        execute(cluster, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def shelf() -> Iterator[Path]:
    """A folder that the server's user may write into."""
    folder = Path(tempfile.mkdtemp(prefix="lockstep-dump-"))
    folder.chmod(0o755)
    give_to_server(folder)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def primary(cluster: Cluster, lived_in: Database) -> Iterator[Cluster]:
    """A server with a copy of the lived-in database, which archives and publishes its WAL."""
    server = Cluster(
        cluster.bindir,
        ["wal_level=logical", "archive_mode=on", "archive_command=cp %p ../archive/%f"],
    )
    try:
        (server.folder / "archive").mkdir()
        give_to_server(server.folder / "archive")
        server.start()
        create_roles(server)
        move_in(lived_in, server)
        yield server
    finally:
        server.stop()
