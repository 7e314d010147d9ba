"""What the commands that manage workflows share: their options, and how they print."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Annotated, Any

import typer
from pydantic_core import to_json
from rich.console import Console
from rich.table import Table

from .._client import Client
from .._manage_calls import WorkflowFilter
from ._main import _readable_errors

_UNITS = {
    "w": timedelta(weeks=1),
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
}


def parse_time(text: str) -> datetime:
    """Read a time; one without a zone is local."""
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone()
    except ValueError as error:
        raise typer.BadParameter(f'"{text}" is no time like 2026-01-31T12:00') from error


def parse_duration(text: str) -> timedelta:
    """Read a duration such as 90s, 15m, 12h, 30d or 2w."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhdw])", text.strip())
    try:
        if match is not None:
            return float(match[1]) * _UNITS[match[2]]
    except OverflowError:
        pass
    raise typer.BadParameter(f'"{text}" is no duration like 90s, 15m, 12h, 30d or 2w')


def parse_json(text: str, what: str) -> Any:
    """Read a JSON argument."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(
            f"{what} is no JSON: {error}; a text needs quotes inside: '\"text\"'"
        ) from error


def parse_object(text: str) -> dict[str, Any]:
    """Read a JSON object."""
    value = parse_json(text, f'"{text}"')
    if not isinstance(value, dict):
        raise typer.BadParameter(f'"{text}" is no JSON object')
    return value


def parse_array(text: str) -> list[Any]:
    """Read a JSON array."""
    value = parse_json(text, f'"{text}"')
    if not isinstance(value, list):
        raise typer.BadParameter(f'"{text}" is no JSON array')
    return value


def time_option(help: str) -> Any:
    """Return an option that is a time."""
    return typer.Option(help=help, parser=parse_time, metavar="TIME")


def duration_option(help: str) -> Any:
    """Return an option that is a duration."""
    return typer.Option(help=help, parser=parse_duration, metavar="DURATION")


def object_option(help: str, *names: str) -> Any:
    """Return an option that is a JSON object."""
    return typer.Option(*names, help=help, parser=parse_object, metavar="JSON")


Status = Annotated[list[str] | None, typer.Option(help="Status; repeat for more.")]
Name = Annotated[str | None, typer.Option(help="Workflow name.")]
Queue = Annotated[str | None, typer.Option(help="Queue.")]
After = Annotated[datetime | None, time_option("Enqueued at or after this time (ISO 8601).")]
Before = Annotated[datetime | None, time_option("Enqueued before this time (ISO 8601).")]
Parent = Annotated[str | None, typer.Option(help="Id of the parent.")]
IdPrefix = Annotated[str | None, typer.Option(help="Beginning of the id.")]
ErrorText = Annotated[str | None, typer.Option(help="Text in the error's type or message.")]
Headers = Annotated[dict[str, Any] | None, object_option("JSON object that the headers contain.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Id = Annotated[str, typer.Argument(help="Workflow id.", show_default=False)]

# of workflows that are enqueued, now or by a schedule
ToQueue = Annotated[str, typer.Option("--queue", help="Queue.")]
NamedArgs = Annotated[dict[str, Any] | None, object_option("JSON object of named arguments.")]
DeduplicationId = Annotated[
    str | None, typer.Option(help="At most one unfinished workflow of the queue has it.")
]
Priority = Annotated[int, typer.Option(min=0, help="0 runs first.")]
PartitionKey = Annotated[
    str | None,
    typer.Option("--queue-partition-key", help="Whose limits of the queue count it."),
]
Timeout = Annotated[
    timedelta | None,
    duration_option("Cancel it so long after its first start: 90s, 15m, 12h, 30d."),
]
MaxAttempts = Annotated[
    int | None, typer.Option(min=1, help="Workers that may die under it; 50 if not given.")
]
AppVersion = Annotated[str | None, typer.Option(help="Ask for this version.")]
OwnHeaders = Annotated[dict[str, Any] | None, object_option("JSON object of headers.", "--headers")]
Retries = Annotated[
    dict[str, Any] | None,
    object_option(
        'How a failure is tried again, such as {"max_attempts": 5}; durations in seconds.'
    ),
]


@contextmanager
def connected(dsn: str | None) -> Iterator[Client]:
    """Yield a client; turn expected errors into one line and exit code 1."""
    with _readable_errors(), Client(dsn) as client:
        yield client


def filter_of(
    status: list[str] | None,
    name: str | None,
    queue: str | None,
    after: datetime | None,
    before: datetime | None,
    parent: str | None,
    id_prefix: str | None,
    error_text: str | None,
    headers: dict[str, Any] | None,
) -> WorkflowFilter:
    """Return the conditions that the options name."""
    return {
        "status": [value.upper() for value in status] if status else None,
        "workflow_name": name,
        "queue_name": queue,
        "created_after": after,
        "created_before": before,
        "parent_workflow_id": parent,
        "id_prefix": id_prefix,
        "error_text": error_text,
        "headers": headers,
    }


def new_table(*columns: str, numbers: Collection[str] = ()) -> Table:
    """Return a table without rows; ``numbers`` are the columns to justify right."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(
            name,
            justify="right" if name in numbers else "left",
            no_wrap=name in ("id", "status", "created"),
            overflow="fold",
        )
    return table


def console() -> Console:
    """Return where tables go: as wide as the terminal, wide where there is none."""
    width = None if sys.stdout.isatty() else 200
    return Console(highlight=False, markup=False, width=width)


def print_json(value: Any) -> None:
    """Print a value as indented JSON."""
    typer.echo(to_json(value, indent=2).decode())


def one_line(text: str, length: int = 10_000) -> str:
    """Make one line of a text of any origin, shortened, that moves no cursor."""
    line = "".join(c if c.isprintable() else " " for c in text)
    return line if len(line) <= length else line[: length - 1] + "…"


def print_line(text: str) -> None:
    """Print a text of any origin as one line."""
    typer.echo(one_line(text))


def shown_time(time: datetime | None) -> str:
    """Show a time in the local zone."""
    return "" if time is None else f"{time.astimezone():%Y-%m-%d %H:%M:%S}"


def shown_duration(duration: timedelta) -> str:
    """Show a duration as parse_duration() reads it, in the largest unit that goes into it."""
    for letter, unit in _UNITS.items():
        if not duration % unit:
            return f"{duration // unit}{letter}"
    return f"{duration.total_seconds():.6f}".rstrip("0") + "s"


def shown_json(value: Any, length: int = 60) -> str:
    """Show a JSON value on one line, shortened."""
    return "" if value is None else one_line(json.dumps(value, ensure_ascii=False), length)


def shown_error(error: dict[str, Any] | None, length: int = 60) -> str:
    """Show an error on one line, shortened."""
    return "" if error is None else one_line(f"{error.get('type')}: {error.get('message')}", length)
