"""Faults of the network between workers and server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from ..site import Site
from .fault import Fault, kind, seconds


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


@kind("resets overtake requests", weight=6, part="network")
@dataclass(frozen=True)
class Overtake(_Network):
    """Workers see their connection reset, and reconnect, before the server sees their request."""

    share: float
    lateness: float
    seconds: float

    @classmethod
    def draw(cls, random: Random) -> Fault:
        share, lateness = random.choice((0.1, 0.5)), random.choice((0.05, 0.5, 2.0))
        return cls(share, lateness, seconds(random, 0.5, 3.0))

    async def inject(self, site: Site) -> None:
        async with self.disturbed(site, "overtake", self.share, self.lateness):
            await asyncio.sleep(self.seconds)


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
