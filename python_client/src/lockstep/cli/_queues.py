"""Commands about queues: look at them, give them limits, pause them."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer
from rich.text import Text

from .._queue_calls import QueueInfo
from ._main import Dsn, cli
from ._options import (
    AsJson,
    connected,
    console,
    duration_option,
    new_table,
    one_line,
    print_json,
    shown_duration,
)

queue = typer.Typer(
    help="Create, alter, drop, pause and unpause a queue.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
cli.add_typer(queue, name="queue")

Name = Annotated[str, typer.Argument(help="Queue.", show_default=False)]
Concurrency = Annotated[
    int | None, typer.Option(help="Workflows that run at once, over all workers.")
]
WorkerConcurrency = Annotated[int | None, typer.Option(help="The same in one worker process.")]
RateLimit = Annotated[int | None, typer.Option(help="Executions that begin in a rate period.")]
RatePeriod = Annotated[timedelta | None, duration_option("Any time so long: 1s, 15m, 12h, 30d.")]
PartitionConcurrency = Annotated[
    int | None, typer.Option(help="Workflows of one partition key that run at once.")
]
PartitionRateLimit = Annotated[
    int | None, typer.Option(help="Executions of one partition key that begin in its period.")
]
PartitionRatePeriod = Annotated[timedelta | None, duration_option("Any time so long.")]


@cli.command()
def queues(json: AsJson = False, dsn: Dsn = None) -> None:
    """List the queues that have limits, workers or unfinished workflows."""
    with connected(dsn) as client:
        found = client.list_queues()
    if json:
        print_json(found)
        return
    counts = ("enqueued", "delayed", "waiting", "running", "workers")
    table = new_table("queue", *counts, "limits", numbers=counts)
    for info in found:
        table.add_row(
            Text(one_line(info.queue_name)),
            str(info.enqueued_count),
            str(info.delayed_count),
            str(info.waiting_count),
            str(info.pending_count),
            str(info.worker_count),
            Text(_shown_limits(info), style="yellow" if info.is_paused else ""),
        )
    console().print(table)


def _shown_limits(info: QueueInfo) -> str:
    said = [
        "paused" if info.is_paused else None,
        _shown(info.concurrency, "at once"),
        _shown(info.worker_concurrency, "per worker"),
        _shown(info.rate_limit, _period(info.rate_period)),
        _shown(info.partition_concurrency, "per partition"),
        _shown(info.partition_rate_limit, f"per partition {_period(info.partition_rate_period)}"),
    ]
    return ", ".join(each for each in said if each is not None)


def _period(period: timedelta | None) -> str:
    return "" if period is None else f"in {shown_duration(period)}"


def _shown(limit: int | None, meaning: str) -> str | None:
    return None if limit is None else f"{limit} {meaning}"


@queue.command()
def create(
    name: Name,
    concurrency: Concurrency = None,
    worker_concurrency: WorkerConcurrency = None,
    rate_limit: RateLimit = None,
    rate_period: RatePeriod = None,
    partition_concurrency: PartitionConcurrency = None,
    partition_rate_limit: PartitionRateLimit = None,
    partition_rate_period: PartitionRatePeriod = None,
    dsn: Dsn = None,
) -> None:
    """Create a queue with limits, or replace all limits of one that exists."""
    with connected(dsn) as client:
        client.create_queue(
            name,
            concurrency=concurrency,
            worker_concurrency=worker_concurrency,
            rate_limit=rate_limit,
            rate_period=rate_period,
            partition_concurrency=partition_concurrency,
            partition_rate_limit=partition_rate_limit,
            partition_rate_period=partition_rate_period,
        )


@queue.command()
def alter(
    name: Name,
    concurrency: Concurrency = None,
    worker_concurrency: WorkerConcurrency = None,
    rate_limit: RateLimit = None,
    rate_period: RatePeriod = None,
    partition_concurrency: PartitionConcurrency = None,
    partition_rate_limit: PartitionRateLimit = None,
    partition_rate_period: PartitionRatePeriod = None,
    reset: Annotated[
        list[str] | None, typer.Option(help="Limit to remove, such as rate-limit; repeat for more.")
    ] = None,
    dsn: Dsn = None,
) -> None:
    """Change the given limits of a queue, and leave the others."""
    with connected(dsn) as client:
        client.alter_queue(
            name,
            concurrency=concurrency,
            worker_concurrency=worker_concurrency,
            rate_limit=rate_limit,
            rate_period=rate_period,
            partition_concurrency=partition_concurrency,
            partition_rate_limit=partition_rate_limit,
            partition_rate_period=partition_rate_period,
            reset=[each.replace("-", "_") for each in reset or ()],
        )


@queue.command()
def drop(
    name: Name,
    force: Annotated[
        bool,
        typer.Option("--force", help="Also if workflows are in it: they go on without limits."),
    ] = False,
    dsn: Dsn = None,
) -> None:
    """Remove the limits of a queue that has no unfinished workflows."""
    with connected(dsn) as client:
        client.drop_queue(name, force=force)


@queue.command()
def pause(name: Name, dsn: Dsn = None) -> None:
    """Start nothing more from a queue; what runs goes on."""
    with connected(dsn) as client:
        client.pause_queue(name)


@queue.command()
def unpause(name: Name, dsn: Dsn = None) -> None:
    """Start workflows from a paused queue again."""
    with connected(dsn) as client:
        client.unpause_queue(name)
