"""
Transactional steps: user writes and the checkpoint in one commit.

The step is recorded by ``lockstep.record_step()`` as the last statement of the user's
transaction. When the connection is lost nobody knows whether the commit arrived; the
recorded step tells. Should the commit still be under way on the server, the second
transaction waits for it at the step's primary key and then finds the step recorded.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, cast

import psycopg
from psycopg import errors
from psycopg.rows import tuple_row
from pydantic_core import from_json

from ._run import Run, RunEnded
from ._step_flow import CallStep, outcome_of

if TYPE_CHECKING:
    from ._app import TransactionFunction

_RECORD = "SELECT lockstep.record_step(%s, %s, %s, %s, %s, %s::jsonb, %s, %s)"
_RECORDED = "SELECT output::text, error::text FROM lockstep.get_step(%s, %s)"
_SET_ISOLATION = "SET TRANSACTION ISOLATION LEVEL "
_CONFLICTS = (errors.SerializationFailure, errors.DeadlockDetected)
_CONFLICT_TRIES = 20
_LONGEST_PAUSE = 2.0


def _pauses() -> Generator[float, None, None]:
    pause = 0.01
    while True:
        yield pause * random.uniform(0.5, 1.5)
        pause = min(pause * 2, _LONGEST_PAUSE)


class _Transaction:
    """What the async and the sync form share: parameters, and what an error means."""

    def __init__(self, run: Run, step: TransactionFunction[..., Any], action: CallStep) -> None:
        self.run = run
        self.step = step
        self.action = action
        self.pauses = _pauses()
        self.conflict_count = 0
        self.is_in_doubt = False

    @property
    def isolation(self) -> str | None:
        level = self.step.isolation_level
        return None if level is None else _SET_ISOLATION + level.name.replace("_", " ")

    def record_params(self, text: str, started: float) -> tuple[Any, ...]:
        if self.run.ended is not None:
            raise RunEnded
        return (
            self.run.worker.executor_id,
            self.run.workflow_id,
            self.run.attempt,
            self.action.step_id,
            self.step.name,
            None if text == "null" else text,
            self.action.attempt,
            time.perf_counter() - started,
        )

    @property
    def key(self) -> tuple[str, int]:
        return self.run.workflow_id, self.action.step_id

    def adopt(self, row: tuple[str | None, str | None]) -> Any:
        output, error = (None if text is None else from_json(text) for text in row)
        return outcome_of(self.step, output, error)

    def pause_after(self, error: psycopg.Error, is_broken: bool) -> float:
        """Return the seconds after which to try again; raise when that would not help."""
        if self.run.ended is not None:
            raise RunEnded from error
        if isinstance(error, _CONFLICTS):
            self.conflict_count += 1
            if self.conflict_count < _CONFLICT_TRIES:
                return next(self.pauses)
        elif error.sqlstate in ("WF001", "WF002"):
            self.run.loop.call_soon_threadsafe(self.run.end, "lost")
            raise RunEnded from error
        elif error.sqlstate == "WF004" or is_broken:
            self.is_in_doubt = True
            return next(self.pauses) if is_broken else 0.0
        raise error


def _is_broken(connection: Any, error: psycopg.Error) -> bool:
    """Tell a lost connection, or none to be had, from an error of the user's statements."""
    return isinstance(error, psycopg.OperationalError) and (
        connection is None or bool(connection.closed)
    )


async def run_async(
    run: Run,
    step: TransactionFunction[..., Any],
    action: CallStep,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Run an ``async def`` transactional step."""
    attempt = _Transaction(run, step, action)
    pool = await run.worker.async_pool()
    while True:
        connection = None
        started = time.perf_counter()
        try:
            async with pool.connection() as connection:
                if attempt.is_in_doubt:
                    cursor = connection.cursor(row_factory=tuple_row)
                    row = await (await cursor.execute(_RECORDED, attempt.key)).fetchone()
                    if row is not None:
                        return attempt.adopt(cast(Any, row))
                async with connection.transaction():
                    if attempt.isolation is not None:
                        await connection.execute(cast(Any, attempt.isolation))
                    value = await step.function(connection, *args, **kwargs)
                    text, value = step.returns.encode(value)
                    await connection.execute(_RECORD, attempt.record_params(text, started))
            return value
        except psycopg.Error as error:
            pause = attempt.pause_after(error, _is_broken(connection, error))
        await asyncio.sleep(pause)


def run_sync(
    run: Run,
    step: TransactionFunction[..., Any],
    action: CallStep,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Run a plain ``def`` transactional step, in the calling thread."""
    attempt = _Transaction(run, step, action)
    pool = run.worker.sync_pool()
    while True:
        connection = None
        started = time.perf_counter()
        try:
            with pool.connection() as connection:
                if attempt.is_in_doubt:
                    cursor = connection.cursor(row_factory=tuple_row)
                    row = cursor.execute(_RECORDED, attempt.key).fetchone()
                    if row is not None:
                        return attempt.adopt(cast(Any, row))
                with connection.transaction():
                    if attempt.isolation is not None:
                        connection.execute(cast(Any, attempt.isolation))
                    value = step.function(connection, *args, **kwargs)
                    text, value = step.returns.encode(value)
                    connection.execute(_RECORD, attempt.record_params(text, started))
            return value
        except psycopg.Error as error:
            pause = attempt.pause_after(error, _is_broken(connection, error))
        time.sleep(pause)
