"""Which database to talk to: the same rule in every command and class."""

from __future__ import annotations

import os
from typing import Any

from psycopg.conninfo import conninfo_to_dict, make_conninfo

UTF8: dict[str, Any] = {"client_encoding": "UTF8"}
"""Setting of every connection of ours: a database or role may default to one that holds less."""


def resolve_dsn(dsn: str | None = None) -> str:
    """
    Return the connection string to use.

    The first of: the argument, ``LOCKSTEP_DATABASE_URL``, ``DATABASE_URL``; else an empty
    string, which leaves it to libpq and its ``PG*`` variables.
    """
    return dsn or os.environ.get("LOCKSTEP_DATABASE_URL") or os.environ.get("DATABASE_URL") or ""


def writable(dsn: str) -> str:
    """
    Return the connection string to use where reading is not enough.

    libpq then connects to no standby, unless the string or PGTARGETSESSIONATTRS says
    otherwise: it takes the next host, or says that the session is read-only.
    """
    if "PGTARGETSESSIONATTRS" in os.environ or "target_session_attrs" in conninfo_to_dict(dsn):
        return dsn
    return make_conninfo(dsn, target_session_attrs="read-write")
