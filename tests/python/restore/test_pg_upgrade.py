"""pg_upgrade takes a database that workflows have lived in to Postgres 18, by copy and by link."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Database
from restore.lived_in import OWNER, create_roles, facts_of, finish, move_in, rows_of
from servers import Cluster

SERVERS = Path(__file__).parents[2] / "postgres.py"


def binaries(major: int) -> Path:
    done = subprocess.run(
        [sys.executable, SERVERS, str(major)], check=True, capture_output=True, text=True
    )
    return Path(done.stdout.strip())


def major_of(cluster: Cluster) -> int:
    return int((cluster.data / "PG_VERSION").read_text())


@pytest.fixture
def old(cluster: Cluster, lived_in: Database) -> Iterator[Cluster]:
    """A server of an older major than 18: that of the other tests, if it is."""
    bindir = cluster.bindir if major_of(cluster) < 18 else binaries(16)
    server = Cluster(bindir)
    try:
        server.start()
        create_roles(server)
        yield server
    finally:
        server.stop()


def upgrade(old: Cluster, how: str) -> Cluster:
    """Return a server of Postgres 18 with what the old one, which is stopped, holds."""
    new = Cluster(binaries(18), initialize=False)
    try:
        new.run(
            *("initdb", "-D", new.data, "-U", "postgres", "-A", "trust", "-E", "UTF8"),
            *("--locale=C", "--no-sync", "--no-data-checksums"),
        )
        new.run(
            *("pg_upgrade", "-b", old.bindir, "-B", new.bindir, "-d", old.data, "-D", new.data),
            *("-U", "postgres", "-s", new.folder, "--no-sync", how),
        )
        new.start()
    except BaseException:
        new.stop()
        raise
    return new


def test_pg_upgrade_to_18_keeps_everything_and_a_worker_goes_on(
    old: Cluster, lived_in: Database, tmp_path: Path
) -> None:
    original = move_in(lived_in, old)
    rows, facts = rows_of(original), facts_of(original)
    old.shut_down()
    for how in ("--copy", "--link"):
        new = upgrade(old, how)
        try:
            upgraded = Database(f"{new.dsn('lived_in')} user={OWNER}")
            assert rows_of(upgraded) == rows
            # majors print the other facts in different ways
            for name in ("sequences", "indexes", "triggers"):
                assert facts_of(upgraded)[name] == facts[name], name
            extension = (
                "SELECT extname, extconfig <> '{}' FROM pg_extension WHERE extname = 'lockstep'"
            )
            assert upgraded.rows(extension) == [("lockstep", True)]
            if how == "--link":
                finish(upgraded, tmp_path)
        finally:
            new.stop()
