"""What every measured system can do for the benchmark."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from ..cluster import create_database, run_sql
from ..processes import Workers


@dataclass(frozen=True)
class Drained:
    """How a drain went: workflows per second, and how many finished in how many seconds."""

    per_second: float
    finished: int
    seconds: float


class Peer(ABC):
    """
    A system that runs workflows, in a database of its own.

    The workflows, each with one integer argument, are ``noop``, which returns it,
    ``steps``, three steps that add one, ``steps_threads``, the same in plain functions on
    threads, ``transactional``, one step that updates a row together with its checkpoint,
    and ``stamp``, which tells when it began.
    """

    name: ClassVar[str]
    module: ClassVar[str]
    """Module of ``bench.peers`` whose ``work`` function is a worker."""
    package: ClassVar[str | None] = None
    """Package whose version is part of the result."""
    lacks: ClassVar[dict[str, str]] = {}
    """Why workflows that it cannot run are missing from its results."""
    expected: ClassVar[dict[str, float]] = {}
    """Rates to expect per yardstick insert: they only size the first run."""
    processes: ClassVar[int] = 1
    """Worker processes that make up one worker."""
    enqueue_call: ClassVar[str | None] = None
    """SQL that enqueues one no-op, for pgbench."""

    STARTED: ClassVar[str]
    """Query for the moment, a timestamptz, at which the first workflow was claimed."""
    FINISHED: ClassVar[str]
    """Query for the moment, a timestamptz, at which each workflow finished."""
    UNFINISHED: ClassVar[str]
    """Query that returns a row while a workflow is unfinished."""

    def __init__(self, database: str | None = None) -> None:
        self.database = database or self.module
        self._is_installed = False

    def install(self) -> None:
        """Create the database and everything in it, once."""
        if not self._is_installed:
            create_database(self.database)
            self.install_schema()
            self._is_installed = True

    @abstractmethod
    def install_schema(self) -> None:
        """Create the system's tables in its empty database."""

    @abstractmethod
    def reset(self) -> None:
        """Empty the system's tables."""

    @abstractmethod
    def enqueue(self, workflow: str, n: int) -> None:
        """Enqueue ``n`` workflows, the fastest way."""

    def options(self, workflow: str) -> dict[str, Any]:
        """Return what a worker of this system is told for a workflow."""
        return {"database": self.database, "workflow": workflow}

    def start(self, workflow: str, workers: int = 1, **options: Any) -> Workers:
        """Start workers; ready when they begin to look for work."""
        return self.start_processes(workflow, workers * self.processes, **options)

    def start_processes(self, workflow: str, count: int, **options: Any) -> Workers:
        """Start so many processes, however many make up a worker."""
        return Workers(self.module, {**self.options(workflow), **options}, count)

    def analyze(self) -> None:
        """Give the planner statistics of what was just enqueued."""
        run_sql(self.database, "ANALYZE")

    def finished(self) -> Drained:
        """
        Read from the recorded moments how fast the workflows finished.

        The time is that from the first claim to the last finish. So the start of the
        process is left out, and nothing else: a system that works in waves has finished
        nothing for a long time after it began.
        """
        ((count, seconds),) = run_sql(
            self.database,
            f"""
            SELECT count(*), extract(epoch FROM max(f.t) - ({self.STARTED}))::float
            FROM ({self.FINISHED}) AS f (t)
            """,
        )
        return Drained(count / seconds if seconds else 0.0, count, seconds or 0.0)
