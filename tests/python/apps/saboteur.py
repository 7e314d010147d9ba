"""
Run a worker whose first commit of a step goes wrong: saboteur.py DEED TOKEN PROGRAM ARGUMENT…

The deeds: "fail" and "kill" before the commit, when the rows of the step and its checkpoint
are written; "lose" the answer of the commit; "twice" calls each such step two times. The
token is a file, which is removed when the deed is done.
"""

from __future__ import annotations

import functools
import inspect
import os
import runpy
import signal
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import lockstep
import psycopg
from lockstep._functions import SelfCommittingStep

RECORDED = "SELECT count(*) FROM lockstep.operation_outputs WHERE step_name = 'book_payment'"


def sabotage_commits(deed: str, token: Path) -> None:
    """Do the deed at the first commit that has the checkpoint of a step in it."""

    one_at_a_time = threading.Lock()  # or a neighbour commits between the token's end and the kill

    def before(recorded: int) -> bool:
        with one_at_a_time:
            if not recorded or not token.exists():
                return False
            token.unlink()
            if deed == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
        if deed == "fail":
            raise psycopg.OperationalError("failed before the commit")
        return True

    commit, commit_async = psycopg.Connection.commit, psycopg.AsyncConnection.commit

    def sabotaged(connection: psycopg.Connection[Any]) -> None:
        row = psycopg.ClientCursor(connection).execute(RECORDED).fetchone()
        is_lost = before(row[0])
        commit(connection)
        if is_lost:
            connection.close()
            raise psycopg.OperationalError("the answer was lost")

    async def sabotaged_async(connection: psycopg.AsyncConnection[Any]) -> None:
        cursor = psycopg.AsyncClientCursor(connection)
        row = await (await cursor.execute(RECORDED)).fetchone()
        is_lost = before(row[0])
        await commit_async(connection)
        if is_lost:
            await connection.close()
            raise psycopg.OperationalError("the answer was lost")

    psycopg.Connection.commit = sabotaged
    psycopg.AsyncConnection.commit = sabotaged_async


def forget(token: Path) -> None:
    token.unlink(missing_ok=True)


def call_steps_twice(token: Path) -> None:
    """Call each function of a step that commits itself two times."""
    make = SelfCommittingStep.__init__

    def make_sabotaged(step: Any, function: Callable[..., Any], *args: Any, **options: Any) -> None:
        make(step, function, *args, **options)

        @functools.wraps(function)
        def twice(*args: Any) -> Any:
            function(*args)
            forget(token)
            return function(*args)

        @functools.wraps(function)
        async def twice_async(*args: Any) -> Any:
            await function(*args)
            forget(token)
            return await function(*args)

        step.function = twice_async if inspect.iscoroutinefunction(function) else twice

    SelfCommittingStep.__init__ = make_sabotaged


def main() -> None:
    deed, token, program, *arguments = sys.argv[1:]
    sys.argv = [program, *arguments]
    sys.path.insert(0, "")
    defaults = lockstep.Worker.__init__.__kwdefaults__
    defaults["lease"] = timedelta(seconds=2)
    if deed == "twice":
        call_steps_twice(Path(token))
    else:
        sabotage_commits(deed, Path(token))
    if program.endswith(".py"):
        runpy.run_path(program, run_name="__main__")
    else:
        runpy.run_module(program, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
