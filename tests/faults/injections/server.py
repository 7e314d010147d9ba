"""Faults of the server."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from abc import abstractmethod
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar

import psycopg

from ..site import Site
from .fault import Fault, NotInjected, kind, seconds


@dataclass(frozen=True)
class _Outage(Fault):
    """The server ends, and is started again."""

    down: float

    @classmethod
    def draw(cls, random: Random) -> Fault:
        return cls(seconds(random, 0.0, 2.0))

    @abstractmethod
    def end(self, site: Site) -> None:
        """End the server."""

    async def inject(self, site: Site) -> None:
        self.end(site)
        await asyncio.sleep(self.down)
        await site.start_server()


@kind("server killed", weight=5, part="server")
class KillServer(_Outage):
    def end(self, site: Site) -> None:
        site.cluster.kill()


@kind("server shut down at once", weight=4, part="server")
class ShutDownServer(_Outage):
    def end(self, site: Site) -> None:
        site.cluster.shut_down(signal.SIGQUIT)


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


@dataclass(frozen=True)
class _Timeout(_Settings):
    milliseconds: int
    seconds: float

    setting: ClassVar[str]
    choices: ClassVar[Sequence[int]]

    @classmethod
    def draw(cls, random: Random) -> Fault:
        return cls(random.choice(cls.choices), seconds(random, 0.5, 2.5))

    async def inject(self, site: Site) -> None:
        async with self.changed(site, self.setting, str(self.milliseconds)):
            await asyncio.sleep(self.seconds)


@kind("statements time out", weight=4, part="server")
class StatementTimeout(_Timeout):
    setting = "statement_timeout"
    choices = (1, 2, 5, 20)


@kind("locks time out", weight=3, part="server")
class LockTimeout(_Timeout):
    setting = "lock_timeout"
    choices = (1, 2, 5)


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
