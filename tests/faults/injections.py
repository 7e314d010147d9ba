"""
The faults: one class for each kind, drawn from the plan's random numbers.

``inject`` does the damage and, where that is not the supervisor's task, repairs it. Faults
of one part (``part``) take turns; those of different parts overlap.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, fields
from random import Random
from typing import Any, ClassVar, TypeVar

import psycopg

from . import points
from .site import Site


class NotInjected(Exception):
    """The fault could not be injected; the report says so."""


@dataclass(frozen=True)
class Fault(ABC):
    """A fault, with its parameters; ``weight`` says how often a plan has its kind."""

    kind: ClassVar[str]
    weight: ClassVar[int]
    part: ClassVar[str | None] = None

    @classmethod
    @abstractmethod
    def draw(cls, random: Random) -> Fault:
        """Draw the parameters."""

    @abstractmethod
    async def inject(self, site: Site) -> None:
        """Do the damage; raise NotInjected if it cannot be done."""

    def __str__(self) -> str:
        given = ", ".join(f"{f.name}={getattr(self, f.name)}" for f in fields(self))
        return f"{self.kind} {given}".rstrip()


KINDS: dict[str, type[Fault]] = {}
C = TypeVar("C", bound=type[Fault])


def kind(name: str, weight: int, part: str | None = None) -> Callable[[C], C]:
    """Register a kind of fault."""

    def register(cls: C) -> C:
        cls.kind, cls.weight, cls.part = name, weight, part
        KINDS[name] = cls
        return cls

    return register


def seconds(random: Random, least: float, most: float) -> float:
    return round(random.uniform(least, most), 3)


# workers


def place(random: Random) -> float:
    return random.randrange(1000) / 1000


def _victim(site: Site, place: float) -> Any:
    """Return a live worker's slot by its place, from 0 to below 1."""
    slots = [slot for slot in site.live_slots if not slot.is_stopped]
    if not slots:
        raise NotInjected("no worker was alive")
    return slots[int(place * len(slots))]


@kind("worker killed", weight=12)
@dataclass(frozen=True)
class KillWorker(Fault):
    place: float

    @classmethod
    def draw(cls, random: Random) -> Fault:
        return cls(place(random))

    async def inject(self, site: Site) -> None:
        _victim(site, self.place).worker.kill()


_LONGEST_WAY = 10.0
"""Seconds that a worker has to come to a point."""


async def _order(site: Site, point: str, deed: str) -> int:
    """Order a deed at a point; return the process id of the worker that took the order."""
    order = points.order_file(site.folder, point, deed)
    order.touch()
    for _ in range(int(_LONGEST_WAY / 0.05)):
        await asyncio.sleep(0.05)
        if not order.exists():
            break
    else:
        with contextlib.suppress(FileNotFoundError):
            order.unlink()
            raise NotInjected("no worker came to the point")
    (taken,) = order.parent.glob(f"{order.name}.*")
    taken.unlink()
    return int(taken.suffix[1:])


@kind("worker killed at a point", weight=20)
@dataclass(frozen=True)
class KillAtPoint(Fault):
    point: str

    @classmethod
    def draw(cls, random: Random) -> Fault:
        return cls(random.choice(points.POINTS))

    async def inject(self, site: Site) -> None:
        async with site.points[self.point]:
            await _order(site, self.point, "kill")


@kind("worker stopped at a point", weight=8)
@dataclass(frozen=True)
class StopAtPoint(Fault):
    """Stopped there for longer than its lease, it goes on when others have taken over."""

    point: str
    seconds: float

    @classmethod
    def draw(cls, random: Random) -> Fault:
        return cls(random.choice(points.STOPPABLE), seconds(random, 2.5, 6.0))

    async def inject(self, site: Site) -> None:
        async with site.points[self.point]:
            pid = await _order(site, self.point, "stop")
        victims = [
            slot for slot in site.live_slots if slot.worker is not None and slot.worker.pid == pid
        ]
        for slot in victims:
            slot.is_stopped = True
        await asyncio.sleep(self.seconds)
        for slot in victims:
            slot.is_stopped = False
            if slot.worker is not None and slot.worker.pid == pid:
                slot.worker.signal(signal.SIGCONT)


@dataclass(frozen=True)
class StopWorker(Fault):
    place: float
    seconds: float

    async def inject(self, site: Site) -> None:
        slot = _victim(site, self.place)
        worker = slot.worker
        slot.is_stopped = True
        worker.signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(self.seconds)
        finally:
            worker.signal(signal.SIGCONT)
            slot.is_stopped = False


@kind("worker stopped beyond its lease", weight=5)
@dataclass(frozen=True)
class StopBeyondLease(StopWorker):
    @classmethod
    def draw(cls, random: Random) -> Fault:
        return cls(place(random), seconds(random, 2.5, 6.0))


@kind("worker stopped within its lease", weight=4)
@dataclass(frozen=True)
class StopWithinLease(StopWorker):
    @classmethod
    def draw(cls, random: Random) -> Fault:
        return cls(place(random), seconds(random, 0.2, 1.2))


@kind("worker asked to stop", weight=4)
@dataclass(frozen=True)
class TerminateWorker(Fault):
    place: float

    @classmethod
    def draw(cls, random: Random) -> Fault:
        return cls(place(random))

    async def inject(self, site: Site) -> None:
        site.ask_to_stop(_victim(site, self.place).worker)


# the server


@kind("server killed", weight=5, part="server")
@dataclass(frozen=True)
class KillServer(Fault):
    down: float

    @classmethod
    def draw(cls, random: Random) -> Fault:
        return cls(seconds(random, 0.0, 2.0))

    async def inject(self, site: Site) -> None:
        site.cluster.kill()
        await asyncio.sleep(self.down)
        await site.start_server()


@kind("server shut down at once", weight=4, part="server")
@dataclass(frozen=True)
class ShutDownServer(Fault):
    down: float

    @classmethod
    def draw(cls, random: Random) -> Fault:
        return cls(seconds(random, 0.0, 2.0))

    async def inject(self, site: Site) -> None:
        site.cluster.shut_down(signal.SIGQUIT)
        await asyncio.sleep(self.down)
        await site.start_server()


@kind("backends terminated", weight=8, part="server")
@dataclass(frozen=True)
class TerminateBackends(Fault):
    rounds: int
    share: float

    @classmethod
    def draw(cls, random: Random) -> Fault:
        return cls(random.randint(1, 6), round(random.uniform(0.3, 1.0), 2))

    async def inject(self, site: Site) -> None:
        for _ in range(self.rounds):
            await site.insist(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE usename LIKE 'bank%%' AND random() < %s",
                self.share,
            )
            await asyncio.sleep(0.15)


class _Settings(Fault):
    """A setting of the whole server is changed under running sessions, and back."""

    @contextlib.asynccontextmanager
    async def changed(self, site: Site, setting: str, value: str) -> AsyncIterator[None]:
        await site.insist(f"ALTER SYSTEM SET {setting} = '{value}'")
        await site.insist("SELECT pg_reload_conf()")
        try:
            yield
        finally:
            await site.insist(f"ALTER SYSTEM RESET {setting}")
            await site.insist("SELECT pg_reload_conf()")


@kind("statements time out", weight=4, part="server")
@dataclass(frozen=True)
class StatementTimeout(_Settings):
    milliseconds: int
    seconds: float

    @classmethod
    def draw(cls, random: Random) -> Fault:
        return cls(random.choice((1, 2, 5, 20)), seconds(random, 0.5, 2.5))

    async def inject(self, site: Site) -> None:
        async with self.changed(site, "statement_timeout", str(self.milliseconds)):
            await asyncio.sleep(self.seconds)


@kind("locks time out", weight=3, part="server")
@dataclass(frozen=True)
class LockTimeout(_Settings):
    milliseconds: int
    seconds: float

    @classmethod
    def draw(cls, random: Random) -> Fault:
        return cls(random.choice((1, 2, 5)), seconds(random, 0.5, 2.5))

    async def inject(self, site: Site) -> None:
        async with self.changed(site, "lock_timeout", str(self.milliseconds)):
            await asyncio.sleep(self.seconds)


@kind("database read-only", weight=4, part="server")
@dataclass(frozen=True)
class ReadOnly(_Settings):
    seconds: float

    @classmethod
    def draw(cls, random: Random) -> Fault:
        return cls(seconds(random, 0.3, 3.0))

    async def inject(self, site: Site) -> None:
        async with self.changed(site, "default_transaction_read_only", "on"):
            await asyncio.sleep(self.seconds)


@kind("data disk full", weight=3, part="server")
@dataclass(frozen=True)
class DataDiskFull(Fault):
    """No relation can grow; the server lives, statements fail with 53100."""

    seconds: float

    @classmethod
    def draw(cls, random: Random) -> Fault:
        return cls(seconds(random, 0.5, 3.0))

    async def inject(self, site: Site) -> None:
        if site.without_disks:
            raise NotInjected(site.without_disks)
        site.data_disk.fill()
        try:
            await asyncio.sleep(self.seconds)
        finally:
            site.data_disk.empty()
            await site.start_server()


@kind("WAL disk full", weight=2, part="server")
@dataclass(frozen=True)
class WalDiskFull(Fault):
    """The server panics when it needs a new segment, and again while it recovers."""

    seconds: float

    @classmethod
    def draw(cls, random: Random) -> Fault:
        return cls(seconds(random, 0.5, 2.0))

    async def inject(self, site: Site) -> None:
        if site.without_disks:
            raise NotInjected(site.without_disks)
        site.wal_disk.fill()
        try:
            has_panicked = await self._use_segments(site)
            await asyncio.sleep(self.seconds)
        finally:
            site.wal_disk.empty()
            await site.start_server()
        if not has_panicked:
            raise NotInjected("the segments at hand were enough")

    @staticmethod
    async def _use_segments(site: Site) -> bool:
        """Use up the segments that were created ahead of need."""
        for _ in range(40):
            try:
                await site.ask("SELECT pg_switch_wal() FROM pg_create_restore_point('faults') AS r")
            except psycopg.OperationalError:
                return True
        return False


@kind("workflow rows locked", weight=6)
@dataclass(frozen=True)
class LockRows(Fault):
    """A stranger holds rows of workflows that run or wait."""

    share: float
    seconds: float

    @classmethod
    def draw(cls, random: Random) -> Fault:
        return cls(round(random.choice((0.02, 0.2, 1.0)), 2), seconds(random, 0.5, 4.0))

    async def inject(self, site: Site) -> None:
        try:
            async with await psycopg.AsyncConnection.connect(site.direct_dsn) as connection:
                await connection.execute(
                    "SELECT FROM lockstep.workflow_status WHERE completed_at IS NULL"
                    " AND random() < %s FOR UPDATE SKIP LOCKED",
                    (self.share,),
                )
                await asyncio.sleep(self.seconds)
        except psycopg.OperationalError as error:
            raise NotInjected(f"the server was down: {error}".split("\n")[0]) from error


# the network


class _Network(Fault):
    @contextlib.asynccontextmanager
    async def disturbed(self, site: Site, order: str, *arguments: float) -> AsyncIterator[None]:
        site.proxy.order(order, *arguments)
        try:
            yield
        finally:
            site.proxy.order("forward")


@kind("network slow", weight=4, part="network")
@dataclass(frozen=True)
class Delay(_Network):
    delay: float
    seconds: float

    @classmethod
    def draw(cls, random: Random) -> Fault:
        return cls(random.choice((0.005, 0.05, 0.4)), seconds(random, 0.5, 3.0))

    async def inject(self, site: Site) -> None:
        async with self.disturbed(site, "slow_down", self.delay):
            await asyncio.sleep(self.seconds)


@kind("connections reset", weight=8, part="network")
@dataclass(frozen=True)
class Cut(_Network):
    share: float
    rounds: int

    @classmethod
    def draw(cls, random: Random) -> Fault:
        return cls(random.choice((0.3, 0.7, 1.0)), random.randint(1, 4))

    async def inject(self, site: Site) -> None:
        for _ in range(self.rounds):
            site.proxy.order("cut", self.share)
            await asyncio.sleep(0.2)


@kind("answers of commits lost", weight=10, part="network")
@dataclass(frozen=True)
class LoseAnswers(_Network):
    count: int

    @classmethod
    def draw(cls, random: Random) -> Fault:
        return cls(random.randint(1, 20))

    async def inject(self, site: Site) -> None:
        async with self.disturbed(site, "lose_answers", self.count):
            await asyncio.sleep(1.0)


@dataclass(frozen=True)
class _Silence(_Network):
    """Nothing comes through; then what was held up does, or the links are reset."""

    seconds: float
    is_reset: bool

    order: ClassVar[str]

    @classmethod
    def draw(cls, random: Random) -> Fault:
        return cls(seconds(random, 0.5, 5.0), random.random() < 0.6)

    async def inject(self, site: Site) -> None:
        async with self.disturbed(site, self.order):
            await asyncio.sleep(self.seconds)
            if self.is_reset:
                site.proxy.order("cut", 1.0)


@kind("network silent", weight=4, part="network")
@dataclass(frozen=True)
class BlackHole(_Silence):
    order = "swallow"


@kind("answers silent", weight=4, part="network")
@dataclass(frozen=True)
class HalfOpen(_Silence):
    order = "swallow_answers"


# the workload


@kind("poison workflow", weight=1)
@dataclass(frozen=True)
class Poison(Fault):
    """A workflow kills each worker that runs it, until it is in the dead letter."""

    number: int

    @classmethod
    def draw(cls, random: Random) -> Fault:
        return cls(random.randrange(10**9))

    async def inject(self, site: Site) -> None:
        await site.insist(
            "WITH expected AS (INSERT INTO bank.expected VALUES (%s, 'poison', '[]')"
            " ON CONFLICT DO NOTHING)"
            " SELECT lockstep.enqueue_workflow('poison', 'default', workflow_id => %s,"
            " max_attempts => 2)",
            *[f"poison-{self.number}"] * 2,
        )
