"""A dump of the release before this one, and a database whose texts are compared otherwise."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import Database
from releases import RELEASES, VERSION, released_package
from restore.lived_in import assert_same, finish, live_in, rows_of
from servers import Cluster

NewDatabase = Callable[..., Database]

PREVIOUS = RELEASES[-1]


def dump_and_restore(
    cluster: Cluster, source: Database, target: Database, shelf: Path, *options: str | Path
) -> None:
    cluster.run("pg_dump", "--format=custom", "--file", shelf / "dump", source.dsn)
    cluster.run("pg_restore", "--exit-on-error", *options, "--dbname", target.dsn, shelf / "dump")


def assert_rows_are_in(restored: Database, source: Database) -> None:
    """Compare every row, but for columns that the restored version has in addition."""
    expected, seen = rows_of(source), rows_of(restored)
    for table, rows in expected.items():
        documents = [json.loads(row) for row in rows]
        columns = set().union(*documents)
        found = [
            {name: value for name, value in json.loads(row).items() if name in columns}
            for row in seen[table]
        ]
        assert sorted(map(str, found)) == sorted(map(str, documents)), table


def test_dump_of_the_release_before_comes_back(
    cluster: Cluster,
    new_database: NewDatabase,
    shelf: Path,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Into this release at once, or into that release, which is then updated."""
    source = new_database()
    source.rows(f"CREATE EXTENSION lockstep VERSION '{PREVIOUS}'")
    with monkeypatch.context() as environment:
        package = released_package(PREVIOUS, tmp_path_factory.mktemp("package"))
        for name, value in package.items():
            environment.setenv(name, value)
        live_in(source, tmp_path_factory.mktemp("previous"))

    restored = new_database()
    dump_and_restore(cluster, source, restored, shelf, "--jobs=4")
    assert restored.value("SELECT lockstep.version()") == VERSION
    assert_rows_are_in(restored, source)
    finish(restored, tmp_path)

    updated = new_database()
    updated.rows(f"CREATE EXTENSION lockstep VERSION '{PREVIOUS}'")
    contents = cluster.run("pg_restore", "--list", shelf / "dump").splitlines()
    (shelf / "list").write_text(
        "\n".join(line for line in contents if " SCHEMA - lockstep " not in line)
    )
    dump_and_restore(cluster, source, updated, shelf, "--use-list", shelf / "list")
    assert_same(updated, source)
    updated.rows("ALTER EXTENSION lockstep UPDATE")
    assert updated.value("SELECT lockstep.version()") == VERSION
    assert_rows_are_in(updated, source)


@pytest.fixture
def other_collation(cluster: Cluster) -> str:
    """The options of a database whose texts are not compared byte by byte."""
    has_icu = Database(cluster.dsn()).value(
        "SELECT current_setting('server_version_num')::int >= 150000"
        " AND EXISTS (SELECT FROM pg_collation WHERE collprovider = 'i')"
    )
    if has_icu:
        return "TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US'"
    return "TEMPLATE template0 LC_COLLATE 'C.UTF-8' LC_CTYPE 'C.UTF-8'"


PREFIX_INDEX = "workflow_status_prefix_idx"


def index_names(database: Database) -> set[str]:
    return {name for (name,) in database.rows("SELECT indexname FROM pg_indexes")}


def found_by_prefix(database: Database, prefix: str) -> set[str]:
    rows = database.rows("SELECT workflow_id FROM lockstep.list_workflows(id_prefix => %s)", prefix)
    return {workflow_id for (workflow_id,) in rows}


def test_extension_makes_its_indexes_for_the_collation_that_it_is_restored_into(
    cluster: Cluster,
    lived_in: Database,
    new_database: NewDatabase,
    other_collation: str,
    shelf: Path,
    tmp_path: Path,
) -> None:
    assert PREFIX_INDEX not in index_names(lived_in)
    restored = new_database(other_collation)
    dump_and_restore(cluster, lived_in, restored, shelf)
    assert rows_of(restored) == rows_of(lived_in)
    assert PREFIX_INDEX in index_names(restored)
    assert found_by_prefix(restored, "s") == {"success", "sleeping", "stumbling"}
    again = new_database()
    dump_and_restore(cluster, restored, again, shelf)
    assert_same(again, lived_in)
    finish(restored, tmp_path)


def test_plain_sql_install_keeps_the_indexes_of_the_collation_that_it_came_from(
    cluster: Cluster,
    plain_sql: Database,
    new_database: NewDatabase,
    other_collation: str,
    shelf: Path,
) -> None:
    """Searches by prefix find the same, through another index; the page on operations has this."""
    restored = new_database(other_collation)
    dump_and_restore(cluster, plain_sql, restored, shelf)
    assert_same(restored, plain_sql)
    assert PREFIX_INDEX not in index_names(restored)
    assert found_by_prefix(restored, "s") == {"success", "sleeping", "stumbling"}
