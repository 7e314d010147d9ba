"""Commands about schedules: list, create, drop, pause them, and start ticks by hand."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import typer
from rich.text import Text

from .._options import SCHEDULED_AT
from ._main import Dsn, cli
from ._options import (
    AppVersion,
    AsJson,
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
    console,
    new_table,
    one_line,
    parse_time,
    print_json,
    shown_time,
)

schedule = typer.Typer(
    help="Create, drop, pause and unpause a schedule, start its ticks by hand.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
cli.add_typer(schedule, name="schedule")

Name = Annotated[str, typer.Argument(help="Name of the schedule.", show_default=False)]


@cli.command()
def schedules(json: AsJson = False, dsn: Dsn = None) -> None:
    """List schedules."""
    with connected(dsn) as client:
        found = client.list_schedules()
    if json:
        print_json(found)
        return
    table = new_table("name", "cron", "zone", "workflow", "queue", "engine", "last", "next")
    for info in found:
        next_tick = "paused" if info.is_paused else info.problem or shown_time(info.next_tick_at)
        table.add_row(
            *(Text(one_line(name)) for name in (info.schedule_name, info.cron, info.time_zone)),
            *(Text(one_line(name)) for name in (info.workflow_name, info.queue_name)),
            info.engine,
            shown_time(info.last_tick_at),
            Text(one_line(next_tick, 60), style="red" if info.problem else ""),
        )
    console().print(table)


@schedule.command()
def create(
    name: Name,
    cron: Annotated[
        str,
        typer.Argument(help="Five fields, six with seconds first, or @daily …", show_default=False),
    ],
    workflow: Annotated[str, typer.Argument(help="Workflow name.", show_default=False)],
    queue: ToQueue = "default",
    named_args: NamedArgs = None,
    time_zone: Annotated[str, typer.Option(help="Time zone of the expression.")] = "UTC",
    time_arg: Annotated[
        str, typer.Option(help="Argument that receives the scheduled time; empty for none.")
    ] = SCHEDULED_AT,
    on_missed: Annotated[
        Literal["skip", "latest", "all"], typer.Option(help="Which missed ticks start late.")
    ] = "skip",
    engine: Annotated[
        Literal["pg_cron", "workers"] | None, typer.Option(help="Who starts the ticks.")
    ] = None,
    deduplication_id: DeduplicationId = None,
    priority: Priority = 0,
    queue_partition_key: PartitionKey = None,
    timeout: Timeout = None,
    max_attempts: MaxAttempts = None,
    app_version: AppVersion = None,
    headers: OwnHeaders = None,
    retries: Retries = None,
    dsn: Dsn = None,
) -> None:
    """Create a schedule, or replace the one of this name."""
    with connected(dsn) as client:
        client.schedule_workflow(
            name,
            cron,
            workflow,
            queue_name=queue,
            named_args=named_args,
            time_zone=time_zone,
            time_arg=time_arg or None,
            on_missed=on_missed,
            engine=engine,
            deduplication_id=deduplication_id,
            priority=priority,
            queue_partition_key=queue_partition_key,
            timeout=timeout,
            max_attempts=max_attempts,
            app_version=app_version,
            headers=headers,
            retries=retries,
        )


@schedule.command()
def drop(name: Name, dsn: Dsn = None) -> None:
    """Remove a schedule; its workflows go on."""
    with connected(dsn) as client:
        client.unschedule_workflow(name)


@schedule.command()
def pause(name: Name, dsn: Dsn = None) -> None:
    """Leave out the ticks of a schedule until it is unpaused."""
    with connected(dsn) as client:
        client.pause_schedule(name)


@schedule.command()
def unpause(name: Name, dsn: Dsn = None) -> None:
    """Let a schedule go on with its next tick."""
    with connected(dsn) as client:
        client.unpause_schedule(name)


@schedule.command()
def trigger(name: Name, dsn: Dsn = None) -> None:
    """Start a schedule's workflow now and print its id."""
    with connected(dsn) as client:
        typer.echo(client.trigger_schedule(name))


@schedule.command()
def backfill(
    name: Name,
    from_time: Annotated[
        datetime,
        typer.Argument(metavar="FROM", help="Moment of the first tick.", parser=parse_time),
    ],
    to_time: Annotated[
        datetime,
        typer.Argument(metavar="TO", help="Moment after the last tick.", parser=parse_time),
    ],
    dsn: Dsn = None,
) -> None:
    """Start the workflows of past ticks; print the id of the workflow that does it."""
    with connected(dsn) as client:
        typer.echo(client.backfill_schedule(name, from_time, to_time))
