"""The command that enqueues, with the options that Client.enqueue() has."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any

import typer

from .._options import OnDuplicate
from ._main import Dsn, cli
from ._options import (
    AppVersion,
    DeduplicationId,
    MaxAttempts,
    NamedArgs,
    OwnHeaders,
    PartitionKey,
    Priority,
    Retries,
    Timeout,
    ToQueue,
    connected,
    duration_option,
    parse_array,
    time_option,
)


@cli.command()
def enqueue(
    name: Annotated[str, typer.Argument(help="Workflow name.", show_default=False)],
    args: Annotated[
        Any,
        typer.Option(
            help="JSON array of positional arguments.", parser=parse_array, metavar="JSON"
        ),
    ] = None,
    named_args: NamedArgs = None,
    queue: ToQueue = "default",
    id: Annotated[str | None, typer.Option(help="Id; a second call returns it.")] = None,
    deduplication_id: DeduplicationId = None,
    on_duplicate: Annotated[
        OnDuplicate,
        typer.Option(help="If another has the deduplication id: fail, or print the other's id."),
    ] = "raise",
    priority: Priority = 0,
    queue_partition_key: PartitionKey = None,
    delay: Annotated[timedelta | None, duration_option("Start later: 90s, 15m, 12h, 30d.")] = None,
    run_at: Annotated[datetime | None, time_option("Start at this time (ISO 8601).")] = None,
    timeout: Timeout = None,
    deadline: Annotated[datetime | None, time_option("Cancel it at this time (ISO 8601).")] = None,
    max_attempts: MaxAttempts = None,
    app_version: AppVersion = None,
    headers: OwnHeaders = None,
    retries: Retries = None,
    debounce: Annotated[
        timedelta | None, duration_option("Start when calls have paused for so long: 90s, 15m.")
    ] = None,
    debounce_max_delay: Annotated[
        timedelta | None, duration_option("Start so long after the first call at the latest.")
    ] = None,
    dsn: Dsn = None,
) -> None:
    """Enqueue a workflow and print its id."""
    with connected(dsn) as client:
        workflow_id = client.enqueue(
            name,
            *(args or ()),
            named_args=named_args,
            queue_name=queue,
            workflow_id=id,
            deduplication_id=deduplication_id,
            on_duplicate=on_duplicate,
            priority=priority,
            queue_partition_key=queue_partition_key,
            delay=delay,
            run_at=run_at,
            timeout=timeout,
            deadline=deadline,
            max_attempts=max_attempts,
            app_version=app_version,
            headers=headers,
            retries=retries,
            debounce=debounce,
            debounce_max_delay=debounce_max_delay,
        )
    typer.echo(workflow_id)
