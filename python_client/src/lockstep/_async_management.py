"""The part of the client that manages workflows: list, restart, fork, move, purge and so on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

from psycopg import AsyncConnection
from typing_extensions import Unpack

from . import _manage_calls
from ._async_caller import AsyncCaller, Rows
from ._calls import WorkflowInfo
from ._manage_calls import (
    NOTHING,
    ExplainFormat,
    StepInfo,
    WorkflowFilter,
)


class AsyncManagement(AsyncCaller):
    """Methods of AsyncClient that look at workflows and change their course."""

    async def list(
        self,
        *,
        before_id: str | None = None,
        max_count: int = 100,
        conn: AsyncConnection[Any] | None = None,
        **filter: Unpack[WorkflowFilter],
    ) -> Rows[WorkflowInfo]:
        """
        Return workflows that meet all given conditions, newest first.

        ``filter`` takes the keys of WorkflowFilter: ``status``, ``workflow_name``,
        ``queue_name``, ``created_after``, ``created_before``, ``parent_workflow_id``,
        ``id_prefix``, ``error_text`` and ``headers``. ``before_id`` is the last id of the page
        before. Raises InvalidArgument; WorkflowNotFound if there is no ``before_id``.

        >>> await client.list(status="ERROR", queue_name="orders")    # doctest: +SKIP
        """
        return await self._fetch(
            _manage_calls.list_workflows(filter, before_id, max_count, self._payloads), conn
        )

    async def iterate(
        self,
        *,
        page_size: int = 1000,
        conn: AsyncConnection[Any] | None = None,
        **filter: Unpack[WorkflowFilter],
    ) -> AsyncIterator[WorkflowInfo]:
        """
        Iterate over all workflows that meet the conditions of list(), newest first.

        Reads a page at a time, each as the database is at that moment.

        >>> async for info in client.iterate(status="ERROR"):    # doctest: +SKIP
        ...     print(info.workflow_id, info.error)
        """
        before_id = None
        while True:
            page = await self.list(before_id=before_id, max_count=page_size, conn=conn, **filter)
            for info in page:
                yield info
            if len(page) < page_size:
                return
            before_id = page[-1].workflow_id

    async def steps(
        self, workflow_id: str, *, conn: AsyncConnection[Any] | None = None
    ) -> Rows[StepInfo]:
        """Return a workflow's recorded steps in the order of its code; raise WorkflowNotFound."""
        return await self._fetch(_manage_calls.list_steps(workflow_id, self._payloads), conn)

    async def explain(
        self,
        workflow_id: str,
        format: ExplainFormat = "text",
        *,
        conn: AsyncConnection[Any] | None = None,
    ) -> str:
        """
        Return how a workflow came to where it is: a tree, or a Mermaid flowchart ("mermaid").

        Raises WorkflowNotFound.
        """
        return await self._execute(_manage_calls.explain_workflow(workflow_id, format), conn)

    async def cancel(self, workflow_id: str, *, conn: AsyncConnection[Any] | None = None) -> bool:
        """
        Cancel a workflow, at its next step boundary if it runs.

        Returns False if it was cancelled already; raises WrongState if it has ended
        otherwise, WorkflowNotFound.
        """
        return await self._execute(_manage_calls.cancel_workflow(workflow_id), conn)

    async def resume(self, workflow_id: str, *, conn: AsyncConnection[Any] | None = None) -> bool:
        """
        Enqueue a workflow again that failed, was cancelled or is in the dead letter.

        It goes on after its recorded steps. Returns False if it has not ended; raises
        WrongState if it succeeded, WorkflowNotFound.
        """
        return await self._execute(_manage_calls.resume_workflow(workflow_id), conn)

    async def restart(self, workflow_id: str, *, conn: AsyncConnection[Any] | None = None) -> None:
        """
        Enqueue a workflow that has ended again, to run from its beginning.

        What it recorded is deleted, the messages that it received are unread again. Raises
        WrongState if it has not ended, DuplicateWorkflow if its deduplication id is taken,
        WorkflowNotFound.
        """
        await self._execute(_manage_calls.restart_workflow(workflow_id), conn)

    async def fork(
        self,
        workflow_id: str,
        from_step: int,
        *,
        new_workflow_id: str | None = None,
        app_version: str | None = None,
        queue_name: str | None = None,
        conn: AsyncConnection[Any] | None = None,
    ) -> str:
        """
        Enqueue a new workflow that goes on where another one was before a step; return its id.

        The new one begins with the recorded steps before ``from_step``, whatever the status
        of the other, which stays as it is. Raises DuplicateWorkflow if another workflow has
        ``new_workflow_id``, WrongState if steps before ``from_step`` were undone,
        InvalidArgument, WorkflowNotFound.

        >>> await client.fork("order-42", 3, app_version="2.1")    # doctest: +SKIP
        """
        call = _manage_calls.fork_workflow(
            workflow_id, from_step, new_workflow_id, app_version, queue_name
        )
        return await self._execute(call, conn)

    async def set_priority(
        self, workflow_id: str, priority: int, *, conn: AsyncConnection[Any] | None = None
    ) -> bool:
        """
        Change the priority of a workflow that waits: 0 runs first.

        Returns False if it has that priority already; raises WrongState if it runs or has
        ended, InvalidArgument, WorkflowNotFound.
        """
        return await self._execute(_manage_calls.set_priority(workflow_id, priority), conn)

    async def move(
        self, workflow_id: str, queue_name: str, *, conn: AsyncConnection[Any] | None = None
    ) -> bool:
        """
        Move a workflow that waits to another queue.

        Returns False if it is there already; raises WrongState if it runs or has ended,
        DuplicateWorkflow if its deduplication id is taken there, InvalidArgument,
        WorkflowNotFound.
        """
        return await self._execute(_manage_calls.move_workflow(workflow_id, queue_name), conn)

    async def fast_forward(
        self,
        workflow_id: str,
        payload: Any = NOTHING,
        *,
        conn: AsyncConnection[Any] | None = None,
    ) -> None:
        """
        End what a workflow waits for: a delay, a sleep, a retry's pause, or a wait.

        With a ``payload`` a workflow that waits for a message receives that; without one the
        wait times out. Raises WrongState if it waits for nothing, or for no message,
        InvalidArgument if it waits for messages of several topics, WorkflowNotFound.

        >>> await client.fast_forward("order-42", {"approved": True})    # doctest: +SKIP
        """
        await self._execute(_manage_calls.fast_forward(workflow_id, payload, self._payloads), conn)

    async def purge(
        self,
        older_than: timedelta,
        *,
        batch_size: int = 1000,
        conn: AsyncConnection[Any] | None = None,
    ) -> int:
        """
        Delete workflows that ended longer ago, with all that they recorded; return how many.

        Works in batches, each of which commits by itself unless ``conn`` is in a transaction.
        """
        purged_count = 0
        while True:
            count = await self._execute(_manage_calls.purge_workflows(older_than, batch_size), conn)
            purged_count += count
            if count < batch_size:
                return purged_count

    async def cancel_many(
        self,
        *,
        everything: bool = False,
        max_count: int = 1000,
        conn: AsyncConnection[Any] | None = None,
        **filter: Unpack[WorkflowFilter],
    ) -> Rows[str]:
        """
        Cancel workflows that meet the conditions of list(), with their children.

        Returns the ids of all that were cancelled. Without a condition ``everything`` must
        be true. What somebody changes at this moment is passed over, here and in the other
        methods for many: call it again until it returns nothing.

        >>> await client.cancel_many(queue_name="mail", status="ENQUEUED")    # doctest: +SKIP
        """
        call = _manage_calls.change_workflows("cancel_workflows", filter, everything, max_count)
        return await self._fetch(call, conn)

    async def resume_many(
        self,
        *,
        everything: bool = False,
        max_count: int = 1000,
        conn: AsyncConnection[Any] | None = None,
        **filter: Unpack[WorkflowFilter],
    ) -> Rows[str]:
        """Resume workflows that meet the conditions of list() and can be; return their ids."""
        call = _manage_calls.change_workflows("resume_workflows", filter, everything, max_count)
        return await self._fetch(call, conn)

    async def restart_many(
        self,
        *,
        everything: bool = False,
        max_count: int = 1000,
        conn: AsyncConnection[Any] | None = None,
        **filter: Unpack[WorkflowFilter],
    ) -> Rows[str]:
        """Restart workflows that meet the conditions of list() and have ended; return their ids."""
        call = _manage_calls.change_workflows("restart_workflows", filter, everything, max_count)
        return await self._fetch(call, conn)

    async def set_priority_many(
        self,
        priority: int,
        *,
        everything: bool = False,
        max_count: int = 1000,
        conn: AsyncConnection[Any] | None = None,
        **filter: Unpack[WorkflowFilter],
    ) -> Rows[str]:
        """Change the priority of waiting workflows that meet the conditions; return their ids."""
        call = _manage_calls.change_workflows(
            "set_priorities", filter, everything, max_count, priority
        )
        return await self._fetch(call, conn)

    async def move_many(
        self,
        to_queue: str,
        *,
        everything: bool = False,
        max_count: int = 1000,
        conn: AsyncConnection[Any] | None = None,
        **filter: Unpack[WorkflowFilter],
    ) -> Rows[str]:
        """Move waiting workflows that meet the conditions to a queue; return their ids."""
        call = _manage_calls.change_workflows(
            "move_workflows", filter, everything, max_count, to_queue
        )
        return await self._fetch(call, conn)
