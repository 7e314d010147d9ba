"""
Show orders moving through a workflow, kill the worker in the middle, prove nothing lost.

Run it with ``make demo``. It starts a Postgres of its own, from a PyPI wheel, and leaves
nothing behind. Every number that it prints comes from the database or the clock.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import shop
from lockstep._embedded import EmbeddedServer
from psycopg.rows import class_row, scalar_row
from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

HERE = Path(__file__).parent
STEPS = [step.name for step in (shop.reserve_stock, shop.charge, shop.mark_paid, shop.ship)]

BULK_ORDERS = 400
NEW_CUSTOMERS = 20
ORDERS_PER_CUSTOMER = 5
ORDER_COUNT = BULK_ORDERS + NEW_CUSTOMERS * ORDERS_PER_CUSTOMER
DOUBTFUL_CUSTOMER = "mallory"

CONCURRENCY = 20
LEASE = 2.0
PAUSE_WITHOUT_WORKER = 1.0
GIVE_UP_AFTER = 50.0

Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How things are at one moment: a row of snapshot.sql."""

    placed: int
    ended: int
    steps: dict[str, int]
    retries: int
    executors: list[dict[str, Any]]
    connections: int

    def checkpoints(self) -> int:
        """Count the steps recorded so far."""
        return sum(self.steps.values())

    def has_executor(self, worker: Worker) -> bool:
        """Tell whether a worker is registered, and not yet declared dead."""
        return any(executor["pid"] == worker.pid for executor in self.executors)

    def who_executes(self) -> list[str]:
        """Say who has how many orders in hand, and for how long they are theirs."""
        return [
            f"worker {x['pid']}: orders in hand {x['running']}, lease ends in {x['lease']:.1f} s"
            for x in self.executors
        ]

    def progress(self) -> list[tuple[str, int]]:
        """Return how many orders passed each step, and the last."""
        return [*((name, self.steps.get(name, 0)) for name in STEPS), ("finished", self.ended)]

    def as_bars(self) -> Group:
        """Return the snapshot as one bar per step, and who executes."""
        bars = Table.grid(padding=(0, 2))
        for name, count in self.progress():
            bar = ProgressBar(max(self.placed, 1), count, width=40)
            bars.add_row(name, bar, f"{count} of {self.placed}")
        return Group("", bars, "", *self.who_executes())


class Worker:
    """A worker in a process of its own, started as anybody would start it."""

    def __init__(self, dsn: str) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - as long-lived as the worker
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "lockstep.cli", "worker", "shop:app", "--queue=orders"),
                *(f"--concurrency={CONCURRENCY}", f"--lease={LEASE}"),
            ],
            cwd=HERE,
            env={**os.environ, "LOCKSTEP_DATABASE_URL": dsn},
            stdout=self._log,
            stderr=self._log,
        )
        self.pid = self._process.pid

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        """Kill the process with SIGKILL, which leaves it no time for a last word."""
        self._process.kill()
        self._process.wait()

    def has_ended(self) -> bool:
        """Tell whether the process is gone."""
        return self._process.poll() is not None

    def log(self) -> str:
        """Return what the worker said so far."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")


class Stage:
    """Shows what happens: as moving bars on a terminal, as plain lines elsewhere."""

    def __init__(self, live: Live, connection: Connection, began: float) -> None:
        self._live = live
        self._connection = connection
        self._began = began
        self._next_line_at = 0.0

    def elapsed(self) -> float:
        """Return the seconds since the demo began."""
        return time.monotonic() - self._began

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self._live.console.print(f"[dim]{self.elapsed():5.1f} s[/]  {text}", soft_wrap=True)

    def look(self) -> Snapshot:
        """Ask the database how things are, and show it."""
        with self._connection.cursor(row_factory=class_row(Snapshot)) as cursor:
            (snapshot,) = cursor.execute((HERE / "snapshot.sql").read_bytes()).fetchall()
        if self._live.console.is_interactive:
            self._live.update(snapshot.as_bars(), refresh=True)
        elif snapshot.placed and self.elapsed() >= self._next_line_at:
            self._next_line_at = self.elapsed() + 1.0
            progress = ", ".join(f"{name} {count}" for name, count in snapshot.progress())
            for line in (progress, *snapshot.who_executes()):
                self.say(line)
        return snapshot

    def watch(self, until: Callable[[Snapshot], bool], worker: Worker | None = None) -> Snapshot:
        """Show what happens until something is true, as long as its worker can get there."""
        while not until(snapshot := self.look()):
            if worker is not None and (worker.has_ended() or self.elapsed() > GIVE_UP_AFTER):
                raise SystemExit(f"worker {worker.pid} did not do its work:\n{worker.log()}")
            time.sleep(0.1)
        return snapshot


@dataclass(frozen=True, slots=True)
class Crash:
    """When the worker was killed, what it had in hand, and what went on without it."""

    at: float
    interrupted: list[str]
    steps_without_worker: int


@dataclass(frozen=True, slots=True)
class Check:
    """A fact as it is, and as it must be if nothing was lost or done twice."""

    fact: str
    found: int
    expected: int

    def holds(self) -> bool:
        """Tell whether the fact is as it must be."""
        return self.found == self.expected


def place_orders(connection: Connection, customer: str, count: int) -> None:
    """Write a customer and their orders; the trigger enqueues in the same transaction."""
    connection.execute("INSERT INTO customers (name) VALUES (%s)", (customer,))
    connection.execute(
        "INSERT INTO orders (customer, amount_cents) "
        "SELECT %s, 100 + (random() * 9900)::int FROM generate_series(1, %s)",
        (customer, count),
    )


def place_all_orders(stage: Stage, connection: Connection) -> None:
    """Place orders in bulk, customer by customer, and some that are taken back."""
    place_orders(connection, "wholesale", BULK_ORDERS)
    stage.say(f"placed {BULK_ORDERS} orders with one INSERT")
    for number in range(NEW_CUSTOMERS):
        with connection.transaction():
            place_orders(connection, f"customer {number}", ORDERS_PER_CUSTOMER)
    stage.say(f"placed {ORDERS_PER_CUSTOMER} orders in each of {NEW_CUSTOMERS} transactions")
    with connection.transaction(force_rollback=True):
        place_orders(connection, DOUBTFUL_CUSTOMER, ORDERS_PER_CUSTOMER)
    stage.say(f"placed {ORDERS_PER_CUSTOMER} orders and rolled back")


def kill_worker(stage: Stage, connection: Connection, worker: Worker) -> Crash:
    """Kill the worker, and look whether anything goes on without one."""
    killed_at = stage.elapsed()
    worker.kill()
    before = stage.watch(lambda now: now.connections == 0)
    with connection.cursor(row_factory=scalar_row) as cursor:
        cursor.execute("SELECT workflow_id FROM lockstep.workflow_status WHERE status = 'PENDING'")
        interrupted = cursor.fetchall()
    stage.say(
        f"[bold]killed worker {worker.pid}[/] with SIGKILL: {before.ended} orders are finished, "
        f"{len(interrupted)} were in its hands"
    )
    after = stage.watch(lambda _: stage.elapsed() > killed_at + PAUSE_WITHOUT_WORKER)
    idle_steps = after.checkpoints() - before.checkpoints()
    stage.say(f"no worker runs: {idle_steps} steps were recorded since")
    return Crash(killed_at, interrupted, idle_steps)


def play(stage: Stage, connection: Connection, dsn: str) -> Crash:
    """Fulfil all orders, with the worker killed on the way and another one taking over."""
    with Worker(dsn) as first:
        stage.watch(lambda now: now.has_executor(first), first)
        stage.say(f"started worker {first.pid}: {CONCURRENCY} orders at a time, lease {LEASE} s")
        place_all_orders(stage, connection)
        stage.watch(lambda now: now.ended >= ORDER_COUNT / 3, first)
        crash = kill_worker(stage, connection, first)
    with Worker(dsn) as second:
        stage.say(f"started worker {second.pid}")
        stage.watch(lambda now: not now.has_executor(first), second)
        delay = f"{stage.elapsed() - crash.at:.1f} s after the kill"
        stage.say(f"worker {second.pid} took over from worker {first.pid}, {delay}")
        end = stage.watch(lambda now: now.ended == ORDER_COUNT, second)
        stage.say(f"all orders are finished; {end.retries} failed calls were tried again")
    return crash


def prove(connection: Connection, crash: Crash) -> list[Check]:
    """Ask the database whether each order went through exactly once."""
    question = (HERE / "proof.sql").read_bytes()
    known = {
        "order_count": ORDER_COUNT,
        "doubtful_customer": DOUBTFUL_CUSTOMER,
        "interrupted": crash.interrupted,
    }
    with connection.cursor(row_factory=class_row(Check)) as cursor:
        checks = cursor.execute(question, known).fetchall()
    return [*checks, Check("steps recorded while no worker ran", crash.steps_without_worker, 0)]


def as_table(checks: list[Check]) -> Table:
    """Return the proof as a table."""
    table = Table("fact", box=box.SIMPLE)
    for heading in ("expected", "found", ""):
        table.add_column(heading, justify="right")
    for check in checks:
        verdict = "[green]holds" if check.holds() else "[bold red]BROKEN"
        table.add_row(check.fact, f"{check.expected:,}", f"{check.found:,}", verdict)
    return table


def main() -> int:
    """Run the demo and return its exit code."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    console = Console(highlight=False)
    began = time.monotonic()
    with (
        EmbeddedServer() as server,
        psycopg.connect(server.dsn, autocommit=True) as connection,
        Live(console=console, auto_refresh=False, transient=not console.is_interactive) as live,
    ):
        stage = Stage(live, connection, began)
        connection.execute("CREATE EXTENSION lockstep")
        connection.execute((HERE / "schema.sql").read_bytes())
        version = connection.info.parameter_status("server_version")
        stage.say(f"started Postgres {version} with the extension and the tables of the shop")
        checks = prove(connection, play(stage, connection, server.dsn))
    holds = all(check.holds() for check in checks)
    console.print(as_table(checks))
    verdict = "Nothing was lost, nothing was paid twice" if holds else "[bold red]The proof failed"
    console.print(f"{verdict} ({time.monotonic() - began:.1f} s).")
    return 0 if holds else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
