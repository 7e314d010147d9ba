"""Commands that change workflows: one or some by id, many by conditions."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any

import typer

from .._client import Client
from .._manage_calls import NOTHING, WorkflowFilter
from ._main import Dsn, cli, errors
from ._options import (
    After,
    AppVersion,
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
    duration_option,
    filter_of,
    parse_json,
    print_json,
    print_line,
    shown_duration,
)

Ids = Annotated[
    list[str] | None,
    typer.Argument(help="Workflow ids; without any, the options say which.", show_default=False),
]
Everything = Annotated[bool, typer.Option("--all", help="Mean all workflows, without conditions.")]
Limit = Annotated[int, typer.Option(min=1, max=100000, help="Change this many at most.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def _change(
    dsn: str | None,
    verb: str,
    ids: list[str] | None,
    conditions: WorkflowFilter,
    *,
    one: Callable[[Client, str], Any],
    many: Callable[[Client], list[str]],
    everything: bool,
    limit: int,
    yes: bool,
    json: bool,
) -> None:
    """Change workflows by id, or by conditions after asking, and print the ids of what changed."""
    has_conditions = any(value is not None for value in conditions.values())
    if ids and (has_conditions or everything):
        raise typer.BadParameter("give ids or conditions, not both")
    if not ids and not has_conditions and not everything:
        raise typer.BadParameter("give ids, conditions, or --all to mean all workflows")
    with connected(dsn) as client:
        if ids:
            changed = [id for id in ids if one(client, id) is not False]
        else:
            if not yes:
                count = len(client.list(max_count=limit, **conditions))
                typer.confirm(
                    f"{verb} those of {count}{' or more' if count == limit else ''}"
                    " workflows whose status allows it?",
                    abort=True,
                    err=True,
                )
            changed = many(client)
    if json:
        print_json(changed)
        return
    for id in changed:
        print_line(id)
    errors.print(f"{len(changed)} changed")
    if not ids and len(changed) >= limit:
        errors.print("There may be more: run it again.")


@cli.command()
def cancel(
    ids: Ids = None,
    status: Status = None,
    name: Name = None,
    queue: Queue = None,
    after: After = None,
    before: Before = None,
    parent: Parent = None,
    id_prefix: IdPrefix = None,
    error_text: ErrorText = None,
    headers: Headers = None,
    everything: Everything = False,
    limit: Limit = 1000,
    yes: Yes = False,
    json: AsJson = False,
    dsn: Dsn = None,
) -> None:
    """Cancel workflows and their children, at their next step boundary if they run."""
    where = filter_of(status, name, queue, after, before, parent, id_prefix, error_text, headers)
    _change(
        dsn,
        "Cancel",
        ids,
        where,
        one=lambda client, id: client.cancel(id),
        many=lambda client: client.cancel_many(everything=everything, max_count=limit, **where),
        everything=everything,
        limit=limit,
        yes=yes,
        json=json,
    )


@cli.command()
def resume(
    ids: Ids = None,
    status: Status = None,
    name: Name = None,
    queue: Queue = None,
    after: After = None,
    before: Before = None,
    parent: Parent = None,
    id_prefix: IdPrefix = None,
    error_text: ErrorText = None,
    headers: Headers = None,
    everything: Everything = False,
    limit: Limit = 1000,
    yes: Yes = False,
    json: AsJson = False,
    dsn: Dsn = None,
) -> None:
    """Let failed, cancelled and dead workflows go on after their recorded steps."""
    where = filter_of(status, name, queue, after, before, parent, id_prefix, error_text, headers)
    _change(
        dsn,
        "Resume",
        ids,
        where,
        one=lambda client, id: client.resume(id),
        many=lambda client: client.resume_many(everything=everything, max_count=limit, **where),
        everything=everything,
        limit=limit,
        yes=yes,
        json=json,
    )


@cli.command()
def restart(
    ids: Ids = None,
    status: Status = None,
    name: Name = None,
    queue: Queue = None,
    after: After = None,
    before: Before = None,
    parent: Parent = None,
    id_prefix: IdPrefix = None,
    error_text: ErrorText = None,
    headers: Headers = None,
    everything: Everything = False,
    limit: Limit = 1000,
    yes: Yes = False,
    json: AsJson = False,
    dsn: Dsn = None,
) -> None:
    """Run workflows that have ended again from their beginning; forgets their steps."""
    where = filter_of(status, name, queue, after, before, parent, id_prefix, error_text, headers)
    _change(
        dsn,
        "Restart",
        ids,
        where,
        one=lambda client, id: client.restart(id),
        many=lambda client: client.restart_many(everything=everything, max_count=limit, **where),
        everything=everything,
        limit=limit,
        yes=yes,
        json=json,
    )


@cli.command()
def priority(
    priority: Annotated[int, typer.Argument(min=0, help="0 runs first.", show_default=False)],
    ids: Ids = None,
    status: Status = None,
    name: Name = None,
    queue: Queue = None,
    after: After = None,
    before: Before = None,
    parent: Parent = None,
    id_prefix: IdPrefix = None,
    error_text: ErrorText = None,
    headers: Headers = None,
    everything: Everything = False,
    limit: Limit = 1000,
    yes: Yes = False,
    json: AsJson = False,
    dsn: Dsn = None,
) -> None:
    """Change the priority of workflows that wait."""
    where = filter_of(status, name, queue, after, before, parent, id_prefix, error_text, headers)
    _change(
        dsn,
        "Change the priority of",
        ids,
        where,
        one=lambda client, id: client.set_priority(id, priority),
        many=lambda client: client.set_priority_many(
            priority, everything=everything, max_count=limit, **where
        ),
        everything=everything,
        limit=limit,
        yes=yes,
        json=json,
    )


@cli.command()
def move(
    to_queue: Annotated[str, typer.Argument(help="Queue to move to.", show_default=False)],
    ids: Ids = None,
    status: Status = None,
    name: Name = None,
    queue: Queue = None,
    after: After = None,
    before: Before = None,
    parent: Parent = None,
    id_prefix: IdPrefix = None,
    error_text: ErrorText = None,
    headers: Headers = None,
    everything: Everything = False,
    limit: Limit = 1000,
    yes: Yes = False,
    json: AsJson = False,
    dsn: Dsn = None,
) -> None:
    """Move workflows that wait to another queue."""
    where = filter_of(status, name, queue, after, before, parent, id_prefix, error_text, headers)
    _change(
        dsn,
        "Move",
        ids,
        where,
        one=lambda client, id: client.move(id, to_queue),
        many=lambda client: client.move_many(
            to_queue, everything=everything, max_count=limit, **where
        ),
        everything=everything,
        limit=limit,
        yes=yes,
        json=json,
    )


@cli.command()
def fork(
    id: Id,
    from_step: Annotated[
        int, typer.Argument(help="First step that runs again; see steps.", show_default=False)
    ],
    new_id: Annotated[str | None, typer.Option(help="Id of the new workflow.")] = None,
    app_version: AppVersion = None,
    queue: Annotated[str | None, typer.Option(help="Queue; else that of the other.")] = None,
    dsn: Dsn = None,
) -> None:
    """Enqueue a new workflow that begins with the steps of another one; print its id."""
    with connected(dsn) as client:
        print_line(
            client.fork(
                id, from_step, new_workflow_id=new_id, app_version=app_version, queue_name=queue
            )
        )


@cli.command()
def fast_forward(
    id: Id,
    payload: Annotated[
        str | None, typer.Option(help="JSON to receive as the message that it waits for.")
    ] = None,
    dsn: Dsn = None,
) -> None:
    """End what a workflow waits for: a delay, a sleep, a retry's pause, a message."""
    value = NOTHING if payload is None else parse_json(payload, "--payload")
    with connected(dsn) as client:
        client.fast_forward(id, value)


@cli.command()
def purge(
    older_than: Annotated[
        timedelta, duration_option("Time since they ended: 90s, 15m, 12h, 30d, 2w.")
    ],
    batch_size: Annotated[
        int, typer.Option(min=1, max=100000, help="Workflows per transaction.")
    ] = 1000,
    yes: Yes = False,
    dsn: Dsn = None,
) -> None:
    """Delete workflows that ended longer ago, with all that they recorded."""
    if not yes:
        age = shown_duration(older_than)
        typer.confirm(f"Delete what ended more than {age} ago?", abort=True, err=True)
    with connected(dsn) as client:
        count = client.purge(older_than, batch_size=batch_size)
    typer.echo(f"{count} deleted")
