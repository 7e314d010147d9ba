"""Another topology: a primary and a standby that commits wait for, and failovers between them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from random import Random

from harness import Database
from servers import Cluster

from .injections import Fault, NotInjected, kind, seconds
from .site import DATABASE, IMMUNE, Site

_WAIT_FOR = "ALTER SYSTEM SET synchronous_standby_names = 'standby'"
_WAIT_FOR_NOBODY = "ALTER SYSTEM RESET synchronous_standby_names"


class ReplicatedSite(Site):
    """Two servers, reached past the proxy, by a connection string that names both."""

    standby: Cluster

    def __init__(self, folder: Path, workers: int, *, lease: float = 2.0) -> None:
        super().__init__(folder, workers, lease=lease)
        self.failovers = 0
        self.standby = self.cluster.standby()
        self._servers = (self.cluster, self.standby)
        self._wait_for_standby()

    def _initialize(self) -> None:
        self.without_disks = "these servers have no disks of their own"
        self.cluster.initialize()

    def _both(self, user: str, more: str = "") -> str:
        ports = ",".join(str(server.port) for server in self._servers)
        return (
            f"host=127.0.0.1,127.0.0.1 port={ports} user={user} dbname={DATABASE}"
            f" target_session_attrs=read-write connect_timeout=5{more}"
        )

    @property
    def direct_dsn(self) -> str:
        if not hasattr(self, "standby"):
            return super().direct_dsn
        return self._both("postgres", f" options='{IMMUNE}'")

    @property
    def driver_dsn(self) -> str:
        return self._both("bank_driver")

    @property
    def driver_proxied_dsn(self) -> str:
        return self.driver_dsn

    @property
    def worker_dsn(self) -> str:
        return self._both("bank_worker")

    async def fail_over(self, down: float) -> None:
        """Kill the primary, promote the standby, and make the old primary its standby."""
        self.cluster.kill()
        await asyncio.sleep(down)
        await asyncio.to_thread(self._promote)
        self.failovers += 1
        await asyncio.to_thread(self._rebuild_standby)

    def _promote(self) -> None:
        self.standby.promote()
        self.cluster, self.standby = self.standby, self.cluster
        self._set(_WAIT_FOR_NOBODY)

    def _rebuild_standby(self) -> None:
        self.standby.follow(self.cluster)
        self._wait_for_standby()

    def _wait_for_standby(self) -> None:
        self.standby.start()
        self._set(_WAIT_FOR)
        self.cluster.wait_for_standby("sync")

    def _set(self, statement: str) -> None:
        primary = Database(f"{self.cluster.dsn()} options='{IMMUNE}'")
        primary.rows(statement)
        primary.rows("SELECT pg_reload_conf()")

    def close(self) -> None:
        super().close()
        if hasattr(self, "standby"):
            self.standby.stop()


@kind("failover", weight=3, part="server")
@dataclass(frozen=True)
class FailOver(Fault):
    down: float

    @classmethod
    def draw(cls, random: Random) -> Fault:
        return cls(seconds(random, 0.0, 1.0))

    async def inject(self, site: Site) -> None:
        if not isinstance(site, ReplicatedSite):
            raise NotInjected("there is one server")
        await site.fail_over(self.down)
