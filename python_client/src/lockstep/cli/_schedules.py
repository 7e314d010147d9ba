"""Commands for schedules: list, make, remove, pause, and start ticks by hand."""

from __future__ import annotations

from typing import Annotated, Literal

import typer
from rich.text import Text

from .._schedule_calls import SCHEDULED_AT
from ._look import _table
from ._main import Dsn, cli
from ._options import (
    AsJson,
    connected,
    console,
    one_line,
    parse_json,
    parse_time,
    print_json,
    shown_time,
)

Schedule = Annotated[str, typer.Argument(help="Name of the schedule.", show_default=False)]


@cli.command()
def schedules(json: AsJson = False, dsn: Dsn = None) -> None:
    """List schedules."""
    with connected(dsn) as client:
        found = client.list_schedules()
    if json:
        print_json(found)
        return
    table = _table("name", "cron", "zone", "workflow", "queue", "engine", "last", "next")
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


@cli.command()
def schedule(
    name: Schedule,
    cron: Annotated[
        str,
        typer.Argument(help="Five fields, six with seconds first, or @daily …", show_default=False),
    ],
    workflow: Annotated[str, typer.Argument(help="Workflow name.", show_default=False)],
    queue: Annotated[str, typer.Option(help="Queue.")] = "default",
    named_args: Annotated[str, typer.Option(help="JSON object of named arguments.")] = "{}",
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
    dsn: Dsn = None,
) -> None:
    """Create a schedule, or replace it."""
    with connected(dsn) as client:
        client.schedule_workflow(
            name,
            cron,
            workflow,
            queue_name=queue,
            named_args=parse_json(named_args, "--named-args"),
            time_zone=time_zone,
            time_arg=time_arg or None,
            on_missed=on_missed,
            engine=engine,
        )


@cli.command()
def unschedule(name: Schedule, dsn: Dsn = None) -> None:
    """Remove a schedule; its workflows go on."""
    with connected(dsn) as client:
        client.unschedule_workflow(name)


@cli.command()
def pause_schedule(name: Schedule, dsn: Dsn = None) -> None:
    """Leave out the ticks of a schedule until it is unpaused."""
    with connected(dsn) as client:
        client.pause_schedule(name)


@cli.command()
def unpause_schedule(name: Schedule, dsn: Dsn = None) -> None:
    """Let a schedule go on with its next tick."""
    with connected(dsn) as client:
        client.unpause_schedule(name)


@cli.command()
def trigger(name: Schedule, dsn: Dsn = None) -> None:
    """Start a schedule's workflow now and print its id."""
    with connected(dsn) as client:
        typer.echo(client.trigger_schedule(name))


@cli.command()
def backfill(
    name: Schedule,
    from_time: Annotated[
        str, typer.Argument(metavar="FROM", help="Moment of the first tick (ISO 8601).")
    ],
    to_time: Annotated[
        str, typer.Argument(metavar="TO", help="Moment after the last tick (ISO 8601).")
    ],
    dsn: Dsn = None,
) -> None:
    """Start the workflows of past ticks; print the id of the workflow that does it."""
    first, end = parse_time(from_time), parse_time(to_time)
    with connected(dsn) as client:
        typer.echo(client.backfill_schedule(name, first, end))
