# Generated from _async_queues.py by tools/generate_sync.py. Do not edit.
"""The part of the client that gives queues limits, pauses and lists them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg import Connection
from typing_extensions import Unpack

from . import _queue_calls
from ._caller import Caller, Rows
from ._queue_calls import QueueInfo, QueueLimits


class Queues(Caller):
    """Methods of Client that are about queues."""

    def create_queue(
        self,
        queue_name: str,
        *,
        conn: Connection[Any] | None = None,
        **limits: Unpack[QueueLimits],
    ) -> None:
        """
        Create a queue with limits, or replace the limits of one that exists.

        A queue needs no creation to be used: without it, it has no limits. ``limits`` takes
        the keys of QueueLimits; what is left out is no limit. Raises InvalidArgument.

        >>> client.create_queue("mail", concurrency=10)    # doctest: +SKIP
        """
        return self._execute(_queue_calls.create_queue(queue_name, limits), conn)

    def alter_queue(
        self,
        queue_name: str,
        *,
        reset: str | Sequence[str] = (),
        conn: Connection[Any] | None = None,
        **limits: Unpack[QueueLimits],
    ) -> None:
        """
        Change limits of a queue, remove the one or those that ``reset`` names, leave the others.

        Running workers heed it within a second. Raises InvalidArgument, QueueNotFound.

        >>> client.alter_queue("mail", concurrency=20, reset=["rate_limit"])  # doctest: +SKIP
        """
        return self._execute(_queue_calls.alter_queue(queue_name, limits, reset), conn)

    def drop_queue(
        self, queue_name: str, *, force: bool = False, conn: Connection[Any] | None = None
    ) -> None:
        """
        Remove the limits of a queue.

        Raises WrongState while it has unfinished workflows, which would go on without limits;
        with ``force`` they do. Raises QueueNotFound.
        """
        return self._execute(_queue_calls.drop_queue(queue_name, force), conn)

    def pause_queue(self, queue_name: str, *, conn: Connection[Any] | None = None) -> None:
        """Start nothing more from a queue; what runs goes on, what is enqueued waits."""
        return self._execute(_queue_calls.pause_queue(queue_name), conn)

    def unpause_queue(self, queue_name: str, *, conn: Connection[Any] | None = None) -> None:
        """Start workflows from a paused queue again; raise QueueNotFound."""
        return self._execute(_queue_calls.unpause_queue(queue_name), conn)

    def list_queues(self, *, conn: Connection[Any] | None = None) -> Rows[QueueInfo]:
        """
        Return the queues that have limits, workers or unfinished workflows, by name.

        Counts every unfinished workflow, which takes a while when millions wait.

        >>> [info.enqueued_count for info in client.list_queues()]    # doctest: +SKIP
        [12, 0]
        """
        return self._fetch(_queue_calls.list_queues(), conn)
