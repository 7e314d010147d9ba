"""
Transactional steps: user writes and the checkpoint in one commit.

The step is recorded by ``lockstep.record_step()`` as the last statement of the user's
transaction, sent in one message with the COMMIT: a round trip is what a short transaction
costs most. When the connection is lost nobody knows whether the commit arrived; the
recorded step tells. Should the commit still be under way on the server, the second
transaction waits for it at the step's primary key and then finds the step recorded.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Generator
from itertools import count
from typing import TYPE_CHECKING, Any, cast

import psycopg
from psycopg import (
    AsyncClientCursor,
    AsyncConnection,
    AsyncCursor,
    ClientCursor,
    Connection,
    Cursor,
    errors,
)
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row
from typing_extensions import Self

from ._branches import RunEnded
from ._run import Run
from ._session import pause_after
from ._step_flow import CallStep, outcome_of
from ._timeout import within

if TYPE_CHECKING:
    from ._functions import TransactionFunction

_CLEAN = (
    "RESET SESSION AUTHORIZATION; RESET ROLE; RESET ALL; CLOSE ALL; UNLISTEN *;"
    " SELECT pg_catalog.pg_advisory_unlock_all(); DISCARD TEMP"
)
"""Takes back what a step did to its session, so that it does not reach another step."""

_RECORD_AND_COMMIT = (
    "SELECT lockstep.record_step(%s, %s, %s, %s, %s, %s::jsonb, %s, %s); COMMIT; " + _CLEAN
)
_RECORDED = "SELECT output::text, error::text FROM lockstep.get_step(%s, %s)"
_CONFLICTS = (errors.SerializationFailure, errors.DeadlockDetected)
_CONFLICT_TRIES = 20
_LONGEST_PAUSE = 2.0
_CONNECT_PATIENCE = 30.0
"""
Seconds for which an attempt to connect is repeated. The pool then repeats it as well, but
each of its pauses is twice the one before: after an outage a step would wait for a
connection for as long again.
"""


class _CommitGuard:
    """Keeps a step from ending its transaction, which would part its writes from its record."""

    is_in_step = False
    is_dirty = False

    def refuse_in_step(self, what: str) -> None:
        if self.is_in_step:
            raise psycopg.ProgrammingError(
                f"{what}() inside a transactional step: it commits when it returns and rolls back"
                " when it raises; a block of connection.transaction() is a savepoint in it"
            )


class AsyncStepConnection(_CommitGuard, AsyncConnection[Any]):
    """The connection of an ``async def`` transactional step."""

    @classmethod
    async def connect(cls, *args: Any, **kwargs: Any) -> Self:
        give_up_at = time.monotonic() + _CONNECT_PATIENCE
        for attempt in count():
            try:
                return await super().connect(*args, **kwargs)
            except psycopg.OperationalError:
                if time.monotonic() >= give_up_at:
                    raise
            await asyncio.sleep(pause_after(attempt))
        raise AssertionError("unreachable")

    async def commit(self) -> None:
        self.refuse_in_step("commit")
        await super().commit()

    async def rollback(self) -> None:
        self.refuse_in_step("rollback")
        await super().rollback()

    async def close(self) -> None:
        self.refuse_in_step("close")
        await super().close()


class StepConnection(_CommitGuard, Connection[Any]):
    """The connection of a plain transactional step."""

    @classmethod
    def connect(cls, *args: Any, **kwargs: Any) -> Self:
        give_up_at = time.monotonic() + _CONNECT_PATIENCE
        for attempt in count():
            try:
                return super().connect(*args, **kwargs)
            except psycopg.OperationalError:
                if time.monotonic() >= give_up_at:
                    raise
            time.sleep(pause_after(attempt))
        raise AssertionError("unreachable")

    def commit(self) -> None:
        self.refuse_in_step("commit")
        super().commit()

    def rollback(self) -> None:
        self.refuse_in_step("rollback")
        super().rollback()

    def close(self) -> None:
        self.refuse_in_step("close")
        super().close()


async def clean_async(connection: AsyncStepConnection) -> None:
    """Clean a connection that goes back to the pool, unless that was done with its commit."""
    connection.row_factory = tuple_row
    connection.cursor_factory = AsyncCursor
    if connection.is_dirty:
        await AsyncClientCursor(connection).execute(_CLEAN)
        connection.is_dirty = False


def clean(connection: StepConnection) -> None:
    """Clean a connection that goes back to the pool, unless that was done with its commit."""
    connection.row_factory = tuple_row
    connection.cursor_factory = Cursor
    if connection.is_dirty:
        ClientCursor(connection).execute(_CLEAN)
        connection.is_dirty = False


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
        self.failure: Exception | None = None

    @property
    def begin(self) -> Any:
        level = self.step.isolation_level
        return "BEGIN" if level is None else f"BEGIN ISOLATION LEVEL {level.name.replace('_', ' ')}"

    def record_params(
        self, connection: AsyncConnection[Any] | Connection[Any], text: str, started: float
    ) -> tuple[Any, ...]:
        if self.run.ended is not None:
            raise RunEnded
        if connection.info.transaction_status is TransactionStatus.IDLE:
            raise psycopg.ProgrammingError(
                f'transactional step "{self.step.name}" ended its transaction itself'
            )
        return (
            self.run.worker.executor_id,
            self.run.workflow_id,
            self.run.attempt,
            self.action.step_id,
            self.step.name,
            None if text == "null" else self.run.payloads.seal(text),
            self.action.attempt,
            time.perf_counter() - started,
        )

    @property
    def key(self) -> tuple[str, int]:
        return self.run.workflow_id, self.action.step_id

    def pause_after(self, error: Exception, is_broken: bool) -> float:
        """
        Return the seconds after which to go on; raise a failure that stands.

        A failure stands when a look at the recorded step found none. Before that it may
        come from another transaction's commit of this very step.
        """
        state = getattr(error, "sqlstate", None)
        if self.run.ended is not None:
            raise RunEnded from error
        if error is self.failure:
            raise error
        if isinstance(error, _CONFLICTS) and self.conflict_count < _CONFLICT_TRIES:
            self.conflict_count += 1
            return next(self.pauses)
        if state in ("WF001", "WF002"):
            self.run.loop.call_soon_threadsafe(self.run.end, "lost")
            raise RunEnded from error
        self.is_in_doubt = True
        if is_broken:
            return next(self.pauses)
        if state != "WF004":
            self.failure = error
        return 0.0

    def raise_failure(self) -> None:
        """Raise the failure that made us look for a recorded step: there is none."""
        if self.failure is not None:
            raise self.failure


def _is_broken(connection: Any, error: Exception) -> bool:
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
    pool = await run.worker.step_pools.for_async()
    while True:
        connection = None
        started = time.perf_counter()
        try:
            async with pool.connection() as connection:
                connection.prepare_threshold = run.worker.session.prepare_threshold
                recorded = None
                if attempt.is_in_doubt:
                    cursor = connection.cursor(row_factory=tuple_row)
                    recorded = await (await cursor.execute(_RECORDED, attempt.key)).fetchone()
                if recorded is None:
                    attempt.raise_failure()
                    await connection.execute(attempt.begin)
                    connection.is_in_step = connection.is_dirty = True
                    try:
                        value = await within(step, step.function(connection, *args, **kwargs))
                    finally:
                        connection.is_in_step = False
                    text, value = step.returns.encode(value)
                    params = attempt.record_params(connection, text, started)
                    await AsyncClientCursor(connection).execute(_RECORD_AND_COMMIT, params)
                    connection.is_dirty = False
                    return value
        except Exception as error:
            pause = attempt.pause_after(error, _is_broken(connection, error))
        else:
            return outcome_of(run, step, *cast(Any, recorded))
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
    pool = run.worker.step_pools.for_plain()
    while True:
        connection = None
        started = time.perf_counter()
        try:
            with pool.connection() as connection:
                connection.prepare_threshold = run.worker.session.prepare_threshold
                recorded = None
                if attempt.is_in_doubt:
                    cursor = connection.cursor(row_factory=tuple_row)
                    recorded = cursor.execute(_RECORDED, attempt.key).fetchone()
                if recorded is None:
                    attempt.raise_failure()
                    connection.execute(attempt.begin)
                    connection.is_in_step = connection.is_dirty = True
                    try:
                        value = step.function(connection, *args, **kwargs)
                    finally:
                        connection.is_in_step = False
                    text, value = step.returns.encode(value)
                    params = attempt.record_params(connection, text, started)
                    ClientCursor(connection).execute(_RECORD_AND_COMMIT, params)
                    connection.is_dirty = False
                    return value
        except Exception as error:
            pause = attempt.pause_after(error, _is_broken(connection, error))
        else:
            return outcome_of(run, step, *cast(Any, recorded))
        time.sleep(pause)
