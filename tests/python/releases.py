"""The releases before this one: their install scripts, their package, and the way from there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any, cast

import psycopg
from harness import Database

ROOT = Path(__file__).parents[2]
EXTENSION = ROOT / "extension"
UPGRADE = ROOT / "tests" / "upgrade"

RELEASES = sorted(
    re.findall(r"lockstep--([\d.]+)\.sql$", (EXTENSION / "RELEASED.sha256").read_text(), re.M)
)
"""The versions whose install scripts are frozen."""

VERSION = re.findall(r"default_version = '(.*)'", (ROOT / "control/lockstep.control").read_text())[
    0
]

METHODS = ["extension", "sql"]


def run_script(database: Database, script: str) -> list[tuple[Any, ...]]:
    """Run SQL of ours, percent signs and all; return the rows of its last statement."""
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        cursor = connection.execute(cast(Any, script))
        return cursor.fetchall() if cursor.description else []


def install(database: Database, method: str, version: str) -> None:
    """Install a version, as an extension or as plain SQL."""
    if method == "extension":
        database.rows(f"CREATE EXTENSION lockstep VERSION '{version}'")
        return
    script = (EXTENSION / f"lockstep--{version}.sql").read_text()
    modules, _, _ = script.partition("-- sql/90_extension.sql\n")
    modules = re.sub(r"^\\echo .*$", "", modules, flags=re.M)
    run_script(database, f"BEGIN; CREATE SCHEMA IF NOT EXISTS lockstep;{modules}\nCOMMIT;")


def plain_update(version: str) -> str:
    """Return the script that updates a plain-SQL install of a release."""
    return (ROOT / "dist" / f"lockstep-{version}--{VERSION}.sql").read_text()


def update(database: Database, method: str, version: str) -> None:
    """Update a release to this version."""
    if method == "extension":
        database.rows("ALTER EXTENSION lockstep UPDATE")
    else:
        run_script(database, plain_update(version))


def adopt(database: Database) -> None:
    """Make a plain-SQL install the extension."""
    database.rows(
        "BEGIN; CREATE EXTENSION lockstep VERSION 'unpackaged'; ALTER EXTENSION lockstep UPDATE;"
        "COMMIT"
    )


def fingerprint(database: Database) -> list[str]:
    """Return what there is to say about Lockstep in the catalog, a fact per line."""
    with psycopg.connect(database.dsn) as connection:
        return fingerprint_in(connection)


def fingerprint_in(connection: psycopg.Connection[Any]) -> list[str]:
    """Return the same, as the transaction of a connection sees it."""
    cursor = connection.execute(cast(Any, (UPGRADE / "fingerprint.sql").read_text()))
    return [line for (line,) in cursor.fetchall()]


def released_package(version: str, folder: Path) -> dict[str, str]:
    """Unpack the Python package of a release; return the environment that has it."""
    with zipfile.ZipFile(UPGRADE / f"pg_lockstep-{version}-py3-none-any.whl") as wheel:
        wheel.extractall(folder)
    return {"PYTHONPATH": str(folder)}


def run_cli(
    database: Database, *arguments: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command line of this package, or of the one in the environment."""
    return subprocess.run(
        [sys.executable, "-m", "lockstep.cli", *arguments],
        env={**os.environ, "LOCKSTEP_DATABASE_URL": database.dsn, **(environment or {})},
        cwd="/",
        capture_output=True,
        text=True,
    )
