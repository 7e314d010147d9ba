"""Puts Lockstep into a database, as an extension or as plain SQL."""

from __future__ import annotations

import enum
from importlib.resources import files
from typing import Any, cast

import psycopg

from ._dsn import resolve_dsn
from ._errors import NotInstalled


class Method(str, enum.Enum):
    """How to install: as an extension, from plain SQL, or whichever the server allows."""

    AUTO = "auto"
    EXTENSION = "extension"
    SQL = "sql"


def plain_sql() -> str:
    """Return the plain-SQL installer that this package carries."""
    path = files("lockstep") / "_data" / "lockstep.sql"
    if not path.is_file():
        raise NotInstalled('this package was built without its SQL: run "make" in the source tree')
    return path.read_text()


def install_lockstep(dsn: str | None = None, method: Method = Method.AUTO) -> str:
    """
    Install Lockstep into a database and return what was done, as a sentence.

    Does nothing if it is there. ``method`` AUTO takes the extension where the server has
    its files and plain SQL elsewhere, as on most managed services.
    """
    with psycopg.connect(resolve_dsn(dsn), autocommit=True) as connection:
        installed = _installed_version(connection)
        if installed is not None:
            return f"lockstep {installed} is installed already"
        if method is Method.AUTO:
            is_available = connection.execute(
                "SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'lockstep')"
            ).fetchone()
            method = Method.EXTENSION if cast(Any, is_available)[0] else Method.SQL
        script = "CREATE EXTENSION lockstep" if method is Method.EXTENSION else plain_sql()
        try:
            connection.execute(cast(Any, script))
        except psycopg.Error:
            connection.rollback()
            installed = _installed_version(connection)
            if installed is None:
                raise
            return f"lockstep {installed} is installed already"  # by a rival, just now
        kind = "extension" if method is Method.EXTENSION else "plain SQL"
        return f"installed lockstep {_installed_version(connection)} ({kind})"


def _installed_version(connection: psycopg.Connection[Any]) -> str | None:
    row = connection.execute("SELECT to_regprocedure('lockstep.version()') IS NOT NULL").fetchone()
    if row is None or not row[0]:
        return None
    version = connection.execute("SELECT lockstep.version()").fetchone()
    return None if version is None else str(version[0])
