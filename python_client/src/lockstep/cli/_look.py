"""Commands that look at workflows, and talk to them: list, get, steps, explain, result, …"""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Annotated, Literal

import typer
from rich.table import Table
from rich.text import Text

from ._main import Dsn, cli
from ._options import (
    After,
    AsJson,
    Before,
    ErrorText,
    Headers,
    Id,
    IdPrefix,
    Name,
    Parent,
    Queue,
    Status,
    connected,
    console,
    filter_of,
    new_table,
    one_line,
    parse_json,
    print_json,
    shown_error,
    shown_json,
    shown_time,
)

_COLORS = {
    "SUCCESS": "green",
    "ERROR": "red",
    "MAX_RECOVERY_ATTEMPTS_EXCEEDED": "red",
    "TIMED_OUT": "red",
    "CANCELLED": "yellow",
    "PENDING": "cyan",
}


def _status(status: str) -> Text:
    return Text(status, style=_COLORS.get(status, ""))


@cli.command(name="list")
def list_(
    status: Status = None,
    name: Name = None,
    queue: Queue = None,
    after: After = None,
    before: Before = None,
    parent: Parent = None,
    id_prefix: IdPrefix = None,
    error_text: ErrorText = None,
    headers: Headers = None,
    before_id: Annotated[
        str | None, typer.Option(help="Go on after this id, the last of the page before.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100000, help="Workflows to show.")] = 20,
    json: AsJson = False,
    dsn: Dsn = None,
) -> None:
    """List workflows, newest first."""
    conditions = filter_of(
        status, name, queue, after, before, parent, id_prefix, error_text, headers
    )
    with connected(dsn) as client:
        found = client.list(before_id=before_id, max_count=limit, **conditions)
    if json:
        print_json(found)
        return
    table = new_table("id", "name", "queue", "status", "created", "attempts", "result")
    for info in found:
        table.add_row(
            Text(one_line(info.workflow_id)),
            Text(one_line(info.workflow_name)),
            Text(one_line(info.queue_name)),
            _status(info.status),
            shown_time(info.created_at),
            str(info.attempts),
            Text(shown_error(info.error) or shown_json(info.output)),
        )
    console().print(table)


@cli.command()
def get(id: Id, json: AsJson = False, dsn: Dsn = None) -> None:
    """Show a workflow."""
    with connected(dsn) as client:
        info = client.get(id)
    if json:
        print_json(info)
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    for field in dataclasses.fields(info):
        value = getattr(info, field.name)
        if value is None or value == ():
            continue
        if field.name == "status":
            shown = _status(value)
        elif field.name.endswith("_at"):
            shown = Text(shown_time(value))
        elif field.name == "waiting_for":
            shown = Text(one_line(", ".join(value)))
        elif field.name == "error":
            shown = Text(shown_error(value, 1000))
        elif field.name in ("output", "inputs", "headers", "progress"):
            shown = Text(shown_json(value, 1000))
        else:
            shown = Text(one_line(str(value)))
        table.add_row(field.name, shown)
    console().print(table)


@cli.command()
def steps(id: Id, json: AsJson = False, dsn: Dsn = None) -> None:
    """List the recorded steps of a workflow."""
    with connected(dsn) as client:
        found = client.steps(id)
    if json:
        print_json(found)
        return
    table = new_table("step", "name", "status", "attempts", "started", "completed", "result")
    for step in found:
        table.add_row(
            str(step.step_id),
            Text(one_line(step.step_name)),
            _status(step.status),
            str(step.attempts),
            shown_time(step.started_at),
            shown_time(step.completed_at),
            Text(shown_error(step.error) or shown_json(step.output)),
        )
    console().print(table)


@cli.command()
def explain(
    id: Id,
    format: Annotated[
        Literal["text", "mermaid"], typer.Option(help="text is a tree, mermaid a flowchart.")
    ] = "text",
    dsn: Dsn = None,
) -> None:
    """Show how a workflow came to where it is."""
    with connected(dsn) as client:
        typer.echo(client.explain(id, format))


@cli.command()
def send(
    id: Id,
    message: Annotated[str, typer.Argument(help="JSON.", show_default=False)],
    topic: Annotated[str | None, typer.Option(help="Topic.")] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="At most one message of the workflow has it.")
    ] = None,
    dsn: Dsn = None,
) -> None:
    """Send a message to a workflow and print the message's id."""
    value = parse_json(message, "MESSAGE")
    with connected(dsn) as client:
        typer.echo(client.send(id, value, topic, idempotency_key=idempotency_key))


@cli.command()
def result(
    id: Id,
    timeout: Annotated[
        float | None, typer.Option(min=0, help="Seconds to wait; without it, for ever.")
    ] = None,
    dsn: Dsn = None,
) -> None:
    """Wait for a workflow to end and print its output as JSON."""
    with connected(dsn) as client:
        print_json(
            client.result(id, timeout=None if timeout is None else timedelta(seconds=timeout))
        )
