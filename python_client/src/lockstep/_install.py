"""Puts Lockstep into a database, as an extension or as plain SQL, and updates it there."""

from __future__ import annotations

import enum
import time
from importlib.resources import files
from typing import Any, cast

import psycopg

from ._dsn import password_masked, resolve_dsn
from ._errors import NotInstalled
from ._version import __version__, numbers_of

_LOCK_TIMEOUT = "500ms"
"""
How long an update waits for a lock: whatever comes after it waits with it. Less than the
deadlock_timeout of most servers, so that in a deadlock no transaction but the update fails.
"""

_TRIES = 20
"""How often an update asks for its locks."""

_PAUSE = 1.0
"""Seconds between two tries, in which workers go on."""


class Method(str, enum.Enum):
    """How to install: as an extension, from plain SQL, or whichever the server allows."""

    AUTO = "auto"
    EXTENSION = "extension"
    SQL = "sql"


def plain_sql() -> str:
    """Return the plain-SQL installer that this package carries."""
    return _script("lockstep.sql")


def _script(name: str) -> str:
    folder = files("lockstep") / "_data"
    if not folder.is_dir():
        raise NotInstalled('this package was built without its SQL: run "make" in the source tree')
    if not (folder / name).is_file():
        raise NotInstalled(f'this package has no script "{name}"')
    return (folder / name).read_text()


def install_lockstep(dsn: str | None = None, method: Method = Method.AUTO) -> str:
    """
    Install Lockstep into a database and return what was done, as a sentence.

    Does nothing if it is there. ``method`` AUTO takes the extension where the server has
    its files and plain SQL elsewhere, as on most managed services.
    """
    dsn = resolve_dsn(dsn)
    with password_masked(dsn), psycopg.connect(dsn, autocommit=True) as connection:
        installed = _installed_version(connection)
        if installed is not None:
            if numbers_of(installed) < numbers_of(__version__):
                return (
                    f"lockstep {installed} is installed already;"
                    f' "lockstep upgrade" updates it to {__version__}'
                )
            return f"lockstep {installed} is installed already"
        if method is Method.AUTO:
            is_available = connection.execute(
                "SELECT EXISTS ("
                " SELECT FROM pg_catalog.pg_available_extensions AS e WHERE e.name = 'lockstep')"
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


def upgrade_lockstep(dsn: str | None = None) -> str:
    """
    Update Lockstep in a database to the version of this package, and say so in a sentence.

    All of it or nothing happens. Workers and clients of the release before go on meanwhile.
    Raises psycopg.errors.LockNotAvailable if a transaction stays open that uses a table
    which the update has to alter.
    """
    dsn = resolve_dsn(dsn)
    with password_masked(dsn), psycopg.connect(dsn, autocommit=True) as connection:
        installed = _installed_version(connection)
        if installed is None:
            raise NotInstalled('the database has no lockstep: run "lockstep install"')
        if numbers_of(installed) >= numbers_of(__version__):
            return f"lockstep {installed} is installed already"
        # in one message with the script: another session may get ours back from a pooler
        patience = f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}';\n"
        script = patience + _update_script(connection, installed)
        for tries_left in reversed(range(_TRIES)):
            try:
                connection.execute(cast(Any, script))
            except psycopg.Error as error:
                connection.rollback()
                if _installed_version(connection) == __version__:
                    return f"lockstep {__version__} is installed already"  # by a rival, just now
                if not isinstance(error, psycopg.errors.LockNotAvailable) or tries_left == 0:
                    raise
                time.sleep(_PAUSE)
            else:
                break
        return f"upgraded lockstep {installed} to {__version__}"


def _update_script(connection: psycopg.Connection[Any], installed: str) -> str:
    """Return what updates this database, which has Lockstep as an extension or as plain SQL."""
    is_extension = connection.execute(
        "SELECT FROM pg_catalog.pg_extension WHERE extname = 'lockstep'"
    )
    if is_extension.fetchone() is None:
        return _script(f"lockstep--{installed}--{__version__}.sql")
    path = connection.execute(
        "SELECT FROM pg_catalog.pg_extension_update_paths('lockstep')"
        " WHERE source = %s AND target = %s AND path IS NOT NULL",
        [installed, __version__],
    )
    if path.fetchone() is None:
        raise NotInstalled(
            f"the server has no files to update lockstep {installed} to {__version__}: "
            'place them there, with "make install"'
        )
    return f"ALTER EXTENSION lockstep UPDATE TO '{__version__}'"


def _installed_version(connection: psycopg.Connection[Any]) -> str | None:
    row = connection.execute(
        "SELECT pg_catalog.to_regprocedure('lockstep.version()') IS NOT NULL"
    ).fetchone()
    if row is None or not row[0]:
        return None
    version = connection.execute("SELECT lockstep.version()").fetchone()
    return None if version is None else str(version[0])
