"""
Points at which a worker can be told to die or to stop.

A file ``POINT.kill`` or ``POINT.stop`` in the folder of the run is the order: the first
worker that comes by takes it, by adding its process id to the name, and sends itself the
signal. So exactly one dies, or stops, at exactly that point.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import psycopg
from lockstep import _session, _transaction, _writer

FOLDER = Path(os.environ.get("FAULTS_FOLDER", "/nonexistent"))

CHANGES = {
    "record": '"steps":',
    "receive": '"receives":',
    "children": '"children":',
    "timer": '"timers":',
    "suspend": '"suspensions":',
    "finish": '"outcomes":',
}
POINTS = (
    *(f"{when} {what}" for what in ("claim", *CHANGES, "step") for when in ("before", "after")),
    "before commit",
    "commit sent",
    "commit acknowledged",
)


STOPPABLE = tuple(point for point in POINTS if point != "commit sent")
"""Points from which a worker can go on."""


def order_file(folder: Path, point: str, deed: str) -> Path:
    """Return the file that orders a worker to "kill" or to "stop" itself at a point."""
    return folder / f"{point.replace(' ', '_')}.{deed}"


_FILES = {
    (point, deed): str(order_file(FOLDER, point, deed))
    for point in POINTS
    for deed in ("kill", "stop")
}


def is_ordered(point: str, deed: str) -> bool:
    """Say whether this worker is to do the deed here; the order is then taken."""
    file = _FILES[point, deed]
    try:
        os.rename(file, f"{file}.{os.getpid()}")
    except FileNotFoundError:
        return False
    return True


def die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("SIGKILL was survived")


def reach(point: str) -> None:
    """Die or stop here, if that was ordered."""
    if is_ordered(point, "kill"):
        die()
    if is_ordered(point, "stop"):
        os.kill(os.getpid(), signal.SIGSTOP)


class _Session(_session.Session):
    """The worker's connection, with points around the calls that change workflows."""

    async def _execute(
        self, connection: Any, query: str, params: Sequence[Any]
    ) -> list[tuple[Any, ...]]:
        if query != _writer._ADVANCE:
            return await super()._execute(connection, query, params)
        _, changes, claim_count, _ = params
        parts = [part for part, key in CHANGES.items() if key in changes]
        if claim_count:
            parts.append("claim")
        for part in parts:
            reach(f"before {part}")
        rows = await super()._execute(connection, query, params)
        if claim_count and '"claimed" : null' in rows[0][0]:
            parts.remove("claim")
        for part in parts:
            reach(f"after {part}")
        return rows


def _die_with_commit_sent(cursor: Any, query: Any, params: Any) -> None:
    if is_ordered("commit sent", "kill"):
        pgconn = cursor.connection.pgconn
        pgconn.send_query(cursor.mogrify(query, params).encode())
        while pgconn.flush():
            pass
        die()


class _AsyncCommitCursor(psycopg.AsyncClientCursor[Any]):
    async def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        reach("before commit")
        _die_with_commit_sent(self, query, params)
        done = await super().execute(query, params, **options)
        reach("commit acknowledged")
        return done


class _CommitCursor(psycopg.ClientCursor[Any]):
    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        reach("before commit")
        _die_with_commit_sent(self, query, params)
        done = super().execute(query, params, **options)
        reach("commit acknowledged")
        return done


def arm() -> None:
    """Put the points into the worker that this process is going to run."""
    from lockstep import _worker

    _worker.Session = _Session  # type: ignore[misc]
    _transaction.AsyncClientCursor = _AsyncCommitCursor  # type: ignore[misc]
    _transaction.ClientCursor = _CommitCursor  # type: ignore[misc]
