"""Commands of ``lockstep``: worker, install, upgrade, dev, version."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Coroutine, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import psycopg
import typer
from rich.console import Console

from .._app import App
from .._embedded import EmbeddedServer
from .._errors import LockstepError
from .._install import Method, install_lockstep, upgrade_lockstep
from .._version import __version__
from .._worker import Worker

cli = typer.Typer(
    name="lockstep",
    help="Durable workflows in Postgres.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
errors = Console(stderr=True, highlight=False, markup=False)

Dsn = Annotated[
    str | None,
    typer.Option(
        help="Database to use; else LOCKSTEP_DATABASE_URL, DATABASE_URL or libpq's PG* variables."
    ),
]


def load_app(path: str) -> App:
    """Return the App that ``module:attribute`` names; the attribute defaults to ``app``."""
    module_name, _, attribute = path.partition(":")
    if not module_name or module_name.startswith("."):
        raise typer.BadParameter(f'"{path}" does not begin with the name of a module')
    sys.path.insert(0, "")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name != module_name.partition(".")[0] and error.name != module_name:
            raise
        raise typer.BadParameter(f'there is no module "{module_name}" here') from error
    app = getattr(module, attribute or "app", None)
    if not isinstance(app, App):
        raise typer.BadParameter(f'"{attribute or "app"}" in {module_name} is not a lockstep.App')
    return app


@cli.command()
def worker(
    app: Annotated[str, typer.Argument(help="Where the App is: module:attribute.")],
    queue: Annotated[list[str], typer.Option(help="Queue to serve; repeat for more.")] = [  # noqa: B006 - typer reads the default
        "default"
    ],
    concurrency: Annotated[int, typer.Option(min=1, help="Workflows in flight.")] = 200,
    lease: Annotated[
        float, typer.Option(min=1, help="Seconds after which others take over if this dies.")
    ] = 30.0,
    grace: Annotated[
        float, typer.Option(min=0, help="Seconds that running workflows get to end at a stop.")
    ] = 30.0,
    poll_interval: Annotated[
        float, typer.Option(min=0.01, help="Seconds between polls without notifications.")
    ] = 1.0,
    app_version: Annotated[
        str | None, typer.Option(help="Also take workflows that ask for this version.")
    ] = None,
    pin_version: Annotated[
        bool,
        typer.Option(
            "--pin-version", help="Leave workflows that start here to workers of this version."
        ),
    ] = False,
    max_connections: Annotated[
        int, typer.Option(min=1, help="Connections for transactional steps, async and plain each.")
    ] = 10,
    dsn: Dsn = None,
    log_level: Annotated[str, typer.Option(help="Python log level.")] = "INFO",
) -> None:
    """Run workflows until SIGTERM or SIGINT."""
    logging.basicConfig(
        level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    loaded = load_app(app)
    with _readable_errors():
        _run_on_event_loop(
            _run_and_exit(
                Worker(
                    loaded,
                    queues=queue,
                    dsn=dsn,
                    concurrency=concurrency,
                    lease=_seconds("--lease", lease),
                    grace=_seconds("--grace", grace),
                    poll_interval=_seconds("--poll-interval", poll_interval),
                    app_version=app_version,
                    pin_version=pin_version,
                    max_connections=max_connections,
                )
            )
        )


def _seconds(option: str, number: float) -> timedelta:
    try:
        return timedelta(seconds=number)
    except (OverflowError, ValueError) as error:
        raise typer.BadParameter(f"{option} is no number of seconds: {error}") from error


def _run_on_event_loop(main: Coroutine[Any, Any, None]) -> None:
    """Run it on uvloop where that is installed: a sixth less CPU for the same work."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(main)
    else:
        uvloop.run(main)


async def _run_and_exit(worker: Worker) -> None:
    """
    Run a worker and end the process with it.

    Not by returning: that would wait for threads that are stuck in user code, whose
    workflows were handed back.
    """
    status = 0
    try:
        await worker.run()
    except (LockstepError, psycopg.Error):
        raise
    except BaseException:
        logging.getLogger("lockstep.worker").exception("the worker failed")
        status = 1
    logging.shutdown()
    sys.stdout.flush()
    os._exit(status)


@cli.command()
def install(
    dsn: Dsn = None,
    method: Annotated[
        Method,
        typer.Option(help="auto takes CREATE EXTENSION where the server has the files, else SQL."),
    ] = Method.AUTO,
) -> None:
    """Install Lockstep into a database; does nothing if it is there already."""
    with _readable_errors():
        typer.echo(install_lockstep(dsn, method))


@cli.command()
def upgrade(dsn: Dsn = None) -> None:
    """Update Lockstep in a database to the version of this package, while workers run."""
    with _readable_errors():
        typer.echo(upgrade_lockstep(dsn))


@cli.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def dev(
    context: typer.Context,
    data: Annotated[
        Path, typer.Option(help="Folder of the server's data; made if missing.")
    ] = Path(".lockstep"),
) -> None:
    """
    Run an embedded Postgres with Lockstep installed.

    Runs until interrupted.

    With a command after --, runs the command with LOCKSTEP_DATABASE_URL set, until it ends.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # end as Ctrl-C does, server included
    with _readable_errors(), EmbeddedServer(data) as server:
        install_lockstep(server.dsn)
        upgrade_lockstep(server.dsn)
        command = context.args[1:] if context.args[:1] == ["--"] else context.args
        if command:
            environment = {**os.environ, "LOCKSTEP_DATABASE_URL": server.dsn}
            try:
                raise typer.Exit(subprocess.call(command, env=environment))
            except OSError as error:
                errors.print(f"lockstep: cannot run {command[0]}: {error.strerror}", style="red")
                raise typer.Exit(127) from error
        typer.echo(f"export LOCKSTEP_DATABASE_URL='{server.dsn}'")
        errors.print("Postgres with Lockstep is running; stop it with Ctrl-C.")
        server.wait()


@cli.command()
def version() -> None:
    """Print the version of this package."""
    typer.echo(__version__)


@contextlib.contextmanager
def _readable_errors() -> Iterator[None]:
    """Turn expected errors into one line and exit code 1."""
    try:
        yield
    except (LockstepError, psycopg.Error) as error:
        errors.print(f"lockstep: {str(error).strip()}", style="red", soft_wrap=True)
        raise typer.Exit(1) from error


def main() -> None:
    """Run the command line."""
    cli()
