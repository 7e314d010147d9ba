"""
The practical limit: a worker without any feature, on two minimal tables.

One connection sends whatever waits, all steps and outcomes and the next claim, as one
call and one commit; 200 workflows are in flight. It has no leases, retries, errors,
queues or replay. What Lockstep does beyond that is the distance to this one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from ..cluster import dsn, run_sql
from .base import Peer

IN_FLIGHT = 200
ADVANCE = (
    "SELECT * FROM advance(%b::bigint[], %b::int[], %b::text[], %b::bigint[], %b::text[], %b::int)"
)

Step = tuple[int, int, str, Callable[[], None]]
"""Workflow, step, output, and what tells the workflow that they are committed."""


class Bare(Peer):
    """Not a system, but what a worker on Postgres can reach at most."""

    name: ClassVar[str] = "bare"
    module: ClassVar[str] = "bare"
    lacks: ClassVar[dict[str, str]] = {"transactional": "not measured"}
    expected: ClassVar[dict[str, float]] = {"noop": 2.0, "steps": 0.8, "steps_threads": 0.5}
    STARTED: ClassVar[str] = "SELECT min(claimed_at) FROM workflow"
    FINISHED: ClassVar[str] = "SELECT completed_at FROM workflow WHERE completed_at IS NOT NULL"
    UNFINISHED: ClassVar[str] = """
        SELECT WHERE
            EXISTS (SELECT FROM workflow WHERE is_waiting)
            OR EXISTS (SELECT FROM workflow WHERE completed_at IS NULL)"""

    def install_schema(self) -> None:
        run_sql(self.database, Path(__file__).with_suffix(".sql").read_text())

    def reset(self) -> None:
        run_sql(self.database, "TRUNCATE workflow, step")

    def enqueue(self, workflow: str, n: int) -> None:
        run_sql(
            self.database,
            """INSERT INTO workflow (input)
            SELECT json_build_object('n', g) FROM generate_series(1, %s) AS g""",
            n,
        )


class Batch:
    """What the next call records; safe to fill from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._steps: list[Step] = []
        self._outcomes: list[tuple[int, str]] = []

    def add_step(self, step: Step) -> None:
        with self._lock:
            self._steps.append(step)

    def add_outcome(self, workflow: int, output: str) -> None:
        with self._lock:
            self._outcomes.append((workflow, output))

    def take(self, in_flight: int) -> tuple[list[Step], int, list[Any]]:
        """Return the steps, how many workflows finish, and the call's parameters."""
        with self._lock:
            steps, outcomes = self._steps, self._outcomes
            self._steps, self._outcomes = [], []
        ids, numbers, outputs = ([step[i] for step in steps] for i in range(3))
        workflows, results = ([outcome[i] for outcome in outcomes] for i in range(2))
        free = IN_FLIGHT - in_flight + len(outcomes)
        # few free places wait until a claim is worth its while
        wanted = free if free >= IN_FLIGHT // 4 or not (steps or outcomes) else 0
        return steps, len(outcomes), [ids, numbers, outputs, workflows, results, wanted]


def work(options: dict[str, Any]) -> None:
    """Run a worker, on asyncio or on threads."""
    count = 0 if options["workflow"] == "noop" else 3
    if options["workflow"] == "steps_threads":
        _work_on_threads(options["database"], count)
    else:
        asyncio.run(_work_on_loop(options["database"], count))


async def _work_on_loop(database: str, step_count: int) -> None:
    import psycopg

    from ..worker import ready

    loop = asyncio.get_running_loop()
    batch, in_flight, tasks = Batch(), 0, set()

    async def run(workflow: int, text: str) -> None:
        n = json.loads(text)["n"]
        for number in range(step_count):
            n += 1
            committed = loop.create_future()
            batch.add_step(
                (workflow, number, json.dumps(n), lambda: committed.set_result(None))  # noqa: B023
            )
            await committed
        batch.add_outcome(workflow, json.dumps(n))

    connection = await psycopg.AsyncConnection.connect(
        dsn(database), autocommit=True, prepare_threshold=0
    )
    ready()
    while True:
        steps, finished, parameters = batch.take(in_flight)
        cursor = await connection.execute(ADVANCE, parameters)
        rows = await cursor.fetchall()
        in_flight += len(rows) - finished
        for step in steps:
            step[3]()
        for workflow, text in rows:
            task = asyncio.ensure_future(run(workflow, text))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.sleep(0 if steps or rows or finished else 0.01)


def _work_on_threads(database: str, step_count: int) -> None:
    import psycopg

    from ..worker import ready

    batch, in_flight = Batch(), 0
    waiting: queue.SimpleQueue[tuple[int, str]] = queue.SimpleQueue()
    news = threading.Event()

    def run() -> None:
        committed = threading.Lock()
        committed.acquire()
        while True:
            workflow, text = waiting.get()
            n = json.loads(text)["n"]
            for number in range(step_count):
                n += 1
                batch.add_step((workflow, number, json.dumps(n), committed.release))
                news.set()
                committed.acquire()
            batch.add_outcome(workflow, json.dumps(n))
            news.set()

    for _ in range(IN_FLIGHT):
        threading.Thread(target=run, daemon=True).start()
    with contextlib.closing(
        psycopg.connect(dsn(database), autocommit=True, prepare_threshold=0)
    ) as connection:
        ready()
        while True:
            news.clear()
            steps, finished, parameters = batch.take(in_flight)
            rows = connection.execute(ADVANCE, parameters).fetchall()
            in_flight += len(rows) - finished
            for step in steps:
                step[3]()
            for row in rows:
                waiting.put(row)
            if not (steps or rows or finished):
                news.wait(0.01)
