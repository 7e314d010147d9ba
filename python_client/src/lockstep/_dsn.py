"""Which database to talk to: the same rule in every command and class."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ._checks import refuse_other_type

UTF8: dict[str, Any] = {"client_encoding": "UTF8"}
"""Setting of every connection of ours: a database or role may default to one that holds less."""


_PASSWORDS = (r"//[^:/@]*:(.*)@", r"password\s*=\s*('(?:[^'\\]|\\.)*'|[^\s&]+)")
_SHORTEST = 3
"""Characters of a part of a password that is worth hiding."""


def resolve_dsn(dsn: str | None = None) -> str:
    """
    Return the connection string to use.

    The first of: the argument, ``LOCKSTEP_DATABASE_URL``, ``DATABASE_URL``; else an empty
    string, which leaves it to libpq and its ``PG*`` variables.
    """
    if dsn is not None:
        refuse_other_type("dsn", dsn, str)
    return dsn or os.environ.get("LOCKSTEP_DATABASE_URL") or os.environ.get("DATABASE_URL") or ""


def writable(dsn: str) -> str:
    """
    Return the connection string to use where reading is not enough.

    libpq then connects to no standby, unless the string or PGTARGETSESSIONATTRS says
    otherwise: it takes the next host, or says that the session is read-only.
    """
    with password_masked(dsn):
        if "PGTARGETSESSIONATTRS" in os.environ or "target_session_attrs" in conninfo_to_dict(dsn):
            return dsn
        return make_conninfo(dsn, target_session_attrs="read-write")


def masked(text: str, dsn: str) -> str:
    """Return a text without the password of a connection string, nor parts of it."""
    passwords = {match.strip("'") for each in _PASSWORDS for match in re.findall(each, dsn)}
    with contextlib.suppress(psycopg.ProgrammingError):
        parameters = conninfo_to_dict(dsn)
        passwords.add(str(parameters.get("password") or ""))
        # of a URL whose password has an "@", the rest of it is read as part of the host
        passwords.add(str(parameters.get("host") or "").rpartition("@")[0])
    parts = {part for password in passwords for part in re.split(r"[@:/?#\s]", password)}
    for secret in sorted(passwords | parts, key=len, reverse=True):
        if len(secret) >= _SHORTEST:
            text = text.replace(secret, "***")
    return text


@contextlib.contextmanager
def password_masked(dsn: str) -> Iterator[None]:
    """Mask the password where libpq quotes a part of a malformed connection string."""
    try:
        yield
    except psycopg.Error as error:
        text = masked(str(error), dsn)
        if text == str(error):
            raise
        raise type(error)(text) from None
