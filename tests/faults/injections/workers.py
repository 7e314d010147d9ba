"""Faults of workers."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from dataclasses import dataclass
from random import Random
from typing import Any

from .. import points
from ..site import Site
from .fault import Fault, NotInjected, kind, seconds


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
