"""
The applications of the bank: they enqueue, send and cancel from SQL, in their own transactions.

``python -m faults.driver FOLDER SEED WORKFLOWS SECONDS DSN…`` runs until all is done. Some
transactions roll back, some lose the answer of their commit and are repeated with the same
ids. What was acknowledged is written to a journal, which the oracle holds against the
database: an acknowledged commit must be there, a rolled-back one must not.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import json
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import psycopg

TOO_LATE = "55000"
_ANSWER_TIMEOUT = 20.0
_CANCELLED_WITHIN = {"endless": 6.0, "hesitant": 2.0}
"""Seconds within which workflows are cancelled."""

_ENQUEUE = """
    WITH unit AS (
        SELECT * FROM jsonb_to_recordset(%s) AS u (id text, kind text, args jsonb, timeout interval)
    ),
    expected AS (
        INSERT INTO bank.expected
        SELECT u.id, u.kind, u.args FROM unit AS u
        ON CONFLICT DO NOTHING
    )
    SELECT lockstep.enqueue_workflow(
        u.kind, 'default', u.args, workflow_id => u.id, timeout => u.timeout
    )
    FROM unit AS u
"""
Statements = Sequence[tuple[str, tuple[Any, ...]]]

_SEND = "SELECT lockstep.send_message(%s, to_jsonb(%s::int), %s, %s)"


@dataclass(frozen=True)
class Workflow:
    """A workflow to enqueue; ``weight`` is how many there will be with its children."""

    kind: str
    id: str
    args: list[Any]
    timeout: str | None = None
    weight: int = 1

    def as_row(self) -> dict[str, Any]:
        return {"id": self.id, "kind": self.kind, "args": self.args, "timeout": self.timeout}


class Script:
    """What the applications do: units of workflows that are enqueued in one transaction."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._numbers = itertools.count(1)

    def units(self, count: int) -> Iterator[list[Workflow]]:
        """Yield units until there are so many workflows, every kind among the first."""
        shapes = [self.shopping, self.transfers, self.waits, self.journeys, self.endings]
        weights = [6, 5, 3, 1, 1]
        enqueued = 0
        for shape in itertools.chain(
            shapes, iter(lambda: self._random.choices(shapes, weights)[0], None)
        ):
            if enqueued >= count:
                return
            unit = shape()
            enqueued += sum(workflow.weight for workflow in unit)
            yield unit

    def _workflow(self, kind: str, *args: Any, **options: Any) -> Workflow:
        return Workflow(kind, f"{kind}-{next(self._numbers)}", list(args), **options)

    def shopping(self) -> list[Workflow]:
        """A depot, its orders, and who watches some of them."""
        count = self._random.randint(3, 12)
        depot = self._workflow("depot", count)
        orders = [
            self._workflow("order", next(self._numbers), self._amount(), depot.id, weight=2)
            for _ in range(count)
        ]
        audits = [
            self._workflow("audit", order.id) for order in orders if self._random.random() < 0.2
        ]
        return [depot, *orders, *audits]

    def transfers(self) -> list[Workflow]:
        names = ("transfer", "transfer", "transfer", "transfer_plain", "refused_transfer")
        unit = []
        for name in self._random.choices(names, k=self._random.randint(1, 20)):
            accounts = self._random.sample(range(1000), 1 if name == "refused_transfer" else 2)
            weight = 2 if name == "refused_transfer" else 1
            unit.append(self._workflow(name, *accounts, self._amount(), weight=weight))
        return unit

    def waits(self) -> list[Workflow]:
        kinds = ("sleeper", "sleeper_plain", "impatient")
        return [
            *(self._workflow(k, round(self._random.uniform(0.2, 6.0), 2)) for k in kinds),
            *(self._workflow("flaky") for _ in range(3)),
            self._workflow("fan_out", 6, weight=7),
        ]

    def journeys(self) -> list[Workflow]:
        return [self._workflow("courier", self._random.randint(5, 30))]

    def endings(self) -> list[Workflow]:
        """Workflows that go on until somebody, or their deadline, ends them."""
        return [
            self._workflow("endless", weight=2),
            *(self._workflow("hesitant", self._random.uniform(0.1, 1.5)) for _ in range(6)),
            self._workflow("restless", timeout=f"{self._random.uniform(0.5, 5):.2f} s"),
        ]

    def _amount(self) -> int:
        return self._random.randint(1, 500)


@dataclass(order=True)
class Appointment:
    at: float
    number: int
    act: Callable[[Connection], Awaitable[None]] = field(compare=False)


class Connection:
    """A connection of an application, made anew when it breaks."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: psycopg.AsyncConnection[Any] | None = None

    async def transaction(
        self, statements: Statements, *, is_kept: bool = True, commits_itself: bool = False
    ) -> None:
        """Run statements in a transaction, which commits if it is kept."""
        work = self._transaction(statements, is_kept, commits_itself)
        await asyncio.wait_for(work, _ANSWER_TIMEOUT)

    async def _transaction(
        self, statements: Statements, is_kept: bool, commits_itself: bool
    ) -> None:
        if self._connection is None or self._connection.closed:
            self._connection = await psycopg.AsyncConnection.connect(
                self._dsn, prepare_threshold=None
            )
        try:
            await self._connection.set_autocommit(commits_itself)
            for query, params in statements:
                await self._connection.execute(query, params)
            await (self._connection.commit() if is_kept else self._connection.rollback())
        except BaseException:
            await self._connection.close()
            raise


class Driver:
    """Does what the script says at its time, with several connections."""

    def __init__(self, folder: Path, seed: int, workflows: int, seconds: float) -> None:
        self._random = Random(seed)
        self._journal = (folder / "journal").open("a", buffering=1)
        self._seconds = seconds
        self._numbers = itertools.count()
        self._agenda: list[Appointment] = []
        self._acting = 0
        units = list(Script(self._random).units(workflows))
        for place, unit in enumerate(units):
            self._plan(seconds * place / len(units), self._enqueuing(unit))
            if self._random.random() < 0.1:
                undone = [Workflow(w.kind, f"undone-{w.id}", w.args) for w in unit]
                self._plan(seconds * place / len(units), self._rolling_back(undone))

    def _plan(self, at: float, act: Callable[[Connection], Awaitable[None]]) -> None:
        heapq.heappush(self._agenda, Appointment(at, next(self._numbers), act))

    def _note(self, outcome: str, *workflow_ids: str) -> None:
        self._journal.write("".join(f"{id}\t{outcome}\n" for id in workflow_ids))

    # acts

    def _enqueuing(self, unit: list[Workflow]) -> Callable[[Connection], Awaitable[None]]:
        async def act(connection: Connection) -> None:
            rows = json.dumps([workflow.as_row() for workflow in unit])
            await self._insist(connection, [(_ENQUEUE, (rows,))])
            self._note("committed", *(workflow.id for workflow in unit))
            for workflow in unit:
                if workflow.kind == "courier":
                    self._plan_message(workflow.id, 0, workflow.args[0])
                if workflow.kind in _CANCELLED_WITHIN:
                    pause = self._random.uniform(0, _CANCELLED_WITHIN[workflow.kind])
                    self._plan(self._now() + pause, self._cancelling(workflow))

        return act

    def _rolling_back(self, unit: list[Workflow]) -> Callable[[Connection], Awaitable[None]]:
        async def act(connection: Connection) -> None:
            rows = json.dumps([workflow.as_row() for workflow in unit])
            await self._insist(connection, [(_ENQUEUE, (rows,))], is_kept=False)
            self._note("rolled back", *(workflow.id for workflow in unit))

        return act

    def _plan_message(self, courier_id: str, number: int, count: int) -> None:
        if number < count:
            pause = self._random.uniform(0, min(2 * self._seconds / 30, 6.0))
            self._plan(self._now() + pause, self._sending(courier_id, number, count))

    def _sending(
        self, courier_id: str, number: int, count: int
    ) -> Callable[[Connection], Awaitable[None]]:
        async def act(connection: Connection) -> None:
            if self._random.random() < 0.1:
                undone = (courier_id, -1, "parcel", f"undone {number}")
                await self._insist(connection, [(_SEND, undone)], is_kept=False)
            together = min(self._random.choice((1, 1, 2)), count - number)
            sends = [
                (_SEND, (courier_id, n, "parcel", str(n))) for n in range(number, number + together)
            ]
            await self._insist(connection, sends)
            if self._random.random() < 0.1:  # once more: it must not come twice
                await self._insist(connection, sends)
            self._plan_message(courier_id, number + together, count)

        return act

    def _cancelling(self, workflow: Workflow) -> Callable[[Connection], Awaitable[None]]:
        async def act(connection: Connection) -> None:
            try:
                # one statement: its commit does not wait for a second message
                cancel = ("SELECT lockstep.cancel_workflow(%s)", (workflow.id,))
                await self._insist(connection, [cancel], commits_itself=True)
            except psycopg.errors.ObjectNotInPrerequisiteState:
                return  # a commit whose answer was lost has cancelled it already
            self._note("cancelled", workflow.id)

        return act

    async def _insist(
        self, connection: Connection, statements: Statements, **options: bool
    ) -> None:
        """Run a transaction, again and again while the server or the network is in trouble."""
        while True:
            try:
                return await connection.transaction(statements, **options)
            except psycopg.Error as error:
                if error.sqlstate in (TOO_LATE, "P0002", "22023", "23505"):
                    raise
            except (asyncio.TimeoutError, OSError):
                pass
            await asyncio.sleep(self._random.uniform(0.05, 0.3))

    # time

    def _now(self) -> float:
        return asyncio.get_running_loop().time() - self._began

    async def run(self, dsns: list[str]) -> None:
        """Keep the appointments, until none is left."""
        self._began = asyncio.get_running_loop().time()
        await asyncio.gather(*(self._act(Connection(dsn)) for dsn in dsns))

    async def _act(self, connection: Connection) -> None:
        while self._agenda or self._acting:
            if not self._agenda or self._agenda[0].at > self._now():
                await asyncio.sleep(0.01)
                continue
            appointment = heapq.heappop(self._agenda)
            self._acting += 1
            await appointment.act(connection)
            self._acting -= 1


def main() -> None:
    folder, seed, workflows, seconds, *dsns = sys.argv[1:]
    driver = Driver(Path(folder), int(seed), int(workflows), float(seconds))
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(driver.run(dsns))


if __name__ == "__main__":
    main()
