"""Which database to talk to: the same rule in every command and class."""

from __future__ import annotations

import os


def resolve_dsn(dsn: str | None = None) -> str:
    """
    Return the connection string to use.

    The first of: the argument, ``LOCKSTEP_DATABASE_URL``, ``DATABASE_URL``; else an empty
    string, which leaves it to libpq and its ``PG*`` variables.
    """
    return dsn or os.environ.get("LOCKSTEP_DATABASE_URL") or os.environ.get("DATABASE_URL") or ""
