"""However a database came to this version, its catalog says the same."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, cast

import psycopg
import pytest
from harness import Database
from releases import METHODS, RELEASES, VERSION, adopt, fingerprint, fingerprint_in, install, update


def difference(expected: list[str], actual: list[str]) -> str:
    return "\n".join(difflib.unified_diff(expected, actual, "fresh", "updated", lineterm="", n=0))


@pytest.fixture(scope="module")
def fresh() -> dict[str, list[str]]:
    """Fingerprints of fresh installs, by method; filled as they are needed."""
    return {}


def of_fresh(fresh: dict[str, list[str]], database: Database, method: str) -> list[str]:
    """Return the fingerprint of a fresh install, taken in this database and removed again."""
    if method not in fresh:
        install(database, method, VERSION)
        fresh[method] = fingerprint(database)
        database.rows("DROP EXTENSION IF EXISTS lockstep")
        database.rows("DROP SCHEMA lockstep CASCADE")
    return fresh[method]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("version", RELEASES)
def test_updated_release_is_what_a_fresh_install_is(
    empty: Database, fresh: dict[str, list[str]], version: str, method: str
) -> None:
    expected = of_fresh(fresh, empty, method)
    assert sum(line.startswith("table workflow_status column") for line in expected) > 20
    install(empty, method, version)
    assert difference(expected, fingerprint(empty)), "the release is this version"
    update(empty, method, version)
    assert difference(expected, fingerprint(empty)) == ""


@pytest.mark.parametrize("version", [*RELEASES, VERSION])
def test_adopted_install_is_what_the_extension_is(
    empty: Database, fresh: dict[str, list[str]], version: str
) -> None:
    expected = of_fresh(fresh, empty, "extension")
    install(empty, "sql", version)
    if version != VERSION:
        update(empty, "sql", version)
    adopt(empty)
    assert difference(expected, fingerprint(empty)) == ""


DRIFTS = [
    "ALTER TABLE lockstep.queue ALTER COLUMN is_paused SET DEFAULT true",
    "ALTER TABLE lockstep.queue ALTER COLUMN created_at DROP NOT NULL",
    "ALTER TABLE lockstep.queue DROP CONSTRAINT queue_pkey",
    "ALTER TABLE lockstep.workflow_status SET (fillfactor = 91)",
    "ALTER TABLE lockstep.workflow_status ADD COLUMN extra int",
    "DROP INDEX lockstep.workflow_status_claim_idx",
    "ALTER TABLE lockstep.pending_grant DISABLE TRIGGER pending_grant_at_commit",
    "ALTER FUNCTION lockstep.version() VOLATILE",
    "CREATE OR REPLACE FUNCTION lockstep.version() RETURNS text LANGUAGE sql IMMUTABLE"
    f" PARALLEL SAFE RETURN '{VERSION}'::text",
    "CREATE FUNCTION lockstep.version(int) RETURNS int LANGUAGE sql RETURN 1",
    "COMMENT ON COLUMN lockstep.queue.queue_name IS 'something else'",
    "COMMENT ON SCHEMA lockstep IS NULL",
    "GRANT EXECUTE ON FUNCTION lockstep.version() TO public",
    "GRANT SELECT (status) ON lockstep.workflow_status TO public",
    "ALTER EXTENSION lockstep DROP TABLE lockstep.queue",
]


def test_fingerprint_notices_whatever_differs(database: Database) -> None:
    before = fingerprint(database)
    with psycopg.connect(database.dsn) as connection:
        for drift in DRIFTS:
            connection.execute(cast(Any, drift))
            assert difference(before, fingerprint_in(connection)), drift
            connection.rollback()
        assert difference(before, fingerprint_in(connection)) == ""


SIGNATURES = """
SELECT
    p.proname::text,
    pg_get_function_identity_arguments(p.oid),
    pg_get_function_arguments(p.oid),
    pg_get_function_result(p.oid)
FROM pg_proc AS p
WHERE p.pronamespace = 'lockstep'::regnamespace
    AND (
        p.proname IN (SELECT function_name FROM lockstep._capabilities())
        OR p.proname = '_start_tick_of_job'  -- what jobs of pg_cron call
    )
ORDER BY 1, 2
"""


@pytest.mark.parametrize("version", RELEASES[-1:])
def test_functions_of_the_release_before_stay_callable(empty: Database, version: str) -> None:
    """What a role may call: the same names, types and names of arguments, defaults, result."""
    install(empty, "extension", version)
    released = empty.rows(SIGNATURES)
    assert len(released) > 80
    update(empty, "extension", version)
    now = empty.rows(SIGNATURES)
    assert [signature for signature in released if signature not in now] == []
    # a further function of the same name would make the old calls ambiguous
    names = [name for name, *_ in now]
    assert sorted(names) == sorted(set(names))


def test_released_scripts_reach_this_version(empty: Database) -> None:
    paths = dict(
        empty.rows(
            "SELECT source, path FROM pg_extension_update_paths('lockstep') WHERE target = %s",
            VERSION,
        )
    )
    assert RELEASES
    assert {source for source, path in paths.items() if path} == {*RELEASES, "unpackaged"}
    wheels = Path(__file__).parents[2] / "upgrade"
    assert (wheels / f"pg_lockstep-{RELEASES[-1]}-py3-none-any.whl").is_file()
