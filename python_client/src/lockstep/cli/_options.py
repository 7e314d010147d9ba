"""What the commands that manage workflows share: their options, and how they print."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Annotated, Any

import typer
from pydantic_core import to_json
from rich.console import Console

from .._client import Client
from .._manage_calls import WorkflowFilter
from ._main import _readable_errors

Status = Annotated[list[str] | None, typer.Option(help="Status; repeat for more.")]
Name = Annotated[str | None, typer.Option(help="Workflow name.")]
Queue = Annotated[str | None, typer.Option(help="Queue.")]
After = Annotated[str | None, typer.Option(help="Enqueued at or after this time (ISO 8601).")]
Before = Annotated[str | None, typer.Option(help="Enqueued before this time (ISO 8601).")]
Parent = Annotated[str | None, typer.Option(help="Id of the parent.")]
IdPrefix = Annotated[str | None, typer.Option(help="Beginning of the id.")]
ErrorText = Annotated[str | None, typer.Option(help="Text in the error's type or message.")]
Headers = Annotated[str | None, typer.Option(help="JSON object that the headers contain.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Id = Annotated[str, typer.Argument(help="Workflow id.", show_default=False)]

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@contextmanager
def connected(dsn: str | None) -> Iterator[Client]:
    """Yield a client; turn expected errors into one line and exit code 1."""
    with _readable_errors(), Client(dsn) as client:
        yield client


def filter_of(
    status: list[str] | None,
    name: str | None,
    queue: str | None,
    after: str | None,
    before: str | None,
    parent: str | None,
    id_prefix: str | None,
    error_text: str | None,
    headers: str | None,
) -> WorkflowFilter:
    """Return the conditions that the options name."""
    return {
        "status": [value.upper() for value in status] if status else None,
        "workflow_name": name,
        "queue_name": queue,
        "created_after": None if after is None else parse_time(after),
        "created_before": None if before is None else parse_time(before),
        "parent_workflow_id": parent,
        "id_prefix": id_prefix,
        "error_text": error_text,
        "headers": None if headers is None else parse_json(headers, "--headers"),
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
            return timedelta(**{_UNITS[match[2]]: float(match[1])})
    except OverflowError:
        pass
    raise typer.BadParameter(f'"{text}" is no duration like 90s, 15m, 12h, 30d or 2w')


def parse_json(text: str, what: str) -> Any:
    """Read a JSON argument."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(
            f"{what} is no JSON: {error}; a text needs quotes inside: '\"text\"'"
        ) from error


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


def shown_json(value: Any, length: int = 60) -> str:
    """Show a JSON value on one line, shortened."""
    return "" if value is None else one_line(json.dumps(value, ensure_ascii=False), length)


def shown_error(error: dict[str, Any] | None, length: int = 60) -> str:
    """Show an error on one line, shortened."""
    return "" if error is None else one_line(f"{error.get('type')}: {error.get('message')}", length)
