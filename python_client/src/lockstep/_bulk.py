# Generated from _async_bulk.py by tools/generate_sync.py. Do not edit.
"""The part of the client that enqueues and sends many at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from psycopg import Connection
from typing_extensions import Unpack

from . import _bulk_calls
from ._bulk_calls import EnqueueOptions
from ._caller import Caller, Rows
from ._functions import WorkflowFunction
from ._options import ConfiguredWorkflow


class Bulk(Caller):
    """Methods of Client that do for many what others do for one."""

    def enqueue_many(
        self,
        workflow: WorkflowFunction[..., Any] | ConfiguredWorkflow[..., Any] | str,
        inputs: Iterable[Sequence[Any] | Mapping[str, Any]],
        *,
        workflow_ids: Sequence[str | None] | None = None,
        deduplication_ids: Sequence[str | None] | None = None,
        queue_partition_keys: Sequence[str | None] | None = None,
        conn: Connection[Any] | None = None,
        **options: Unpack[EnqueueOptions],
    ) -> Rows[str]:
        """
        Enqueue a workflow once for each of many inputs; return the ids in their order.

        An input is a tuple or list of positional arguments, or a mapping of named ones. The
        three arrays have one element for each input, None where there is nothing to say;
        ``options``, and those of ``workflow.options()``, hold for all of them.

        All or none are enqueued, with one statement for each 10,000. Raises as enqueue()
        does.

        >>> client.enqueue_many(fulfil_order, [(42,), (43,)])     # doctest: +SKIP
        ['01981b5e-…', '01981b5e-…']
        """
        arrays = {
            "workflow_ids": workflow_ids,
            "deduplication_ids": deduplication_ids,
            "queue_partition_keys": queue_partition_keys,
        }
        calls = _bulk_calls.enqueue_workflows(workflow, inputs, arrays, options, self._payloads)
        return self._fetch_together(calls, conn)

    def send_many(
        self,
        destination_ids: Sequence[str],
        messages: Sequence[Any],
        topic: str | None = None,
        *,
        idempotency_keys: Sequence[str | None] | None = None,
        conn: Connection[Any] | None = None,
    ) -> Rows[str]:
        """
        Send a message to each of many workflows; return the messages' ids in their order.

        The arrays have one element for each message. Messages for the same workflow are
        received in that order. All or none are sent, with one statement for each 10,000.
        Raises as send() does.

        >>> client.send_many(ids, ["go"] * len(ids), "approval")    # doctest: +SKIP
        """
        calls = _bulk_calls.send_messages(
            destination_ids, messages, topic, idempotency_keys, self._payloads
        )
        return self._fetch_together(calls, conn)
