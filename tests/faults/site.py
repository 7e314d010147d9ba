"""
What is broken and repaired: a server, its disks, the network before it, and the workers.

``Site`` is the plain topology, one server behind one proxy. The injections know no more of
it than these methods; another topology overrides what differs.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from harness import Database, WorkerProcess
from servers import Cluster, server_user

from .points import POINTS
from .proxy import Proxy

HERE = Path(__file__).parent
DATABASE = "faults"
IMMUNE = "-c statement_timeout=0 -c lock_timeout=0 -c default_transaction_read_only=off"
"""Options of the harness's own connections, which no flipped setting may reach."""

_SETTINGS = (
    "fsync=on",
    "max_wal_size=128MB",
    "checkpoint_timeout=30s",
    "autovacuum_naptime=5s",
    "log_checkpoints=off",
)
"""fsync is on as in production, though it is processes that are killed: what they have
written the kernel keeps, so that loss of power is not among the faults."""


class Disk:
    """A file system of limited size, which can be made full at once: a tmpfs."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        self.folder = folder
        self._size = f"{megabytes}m"
        folder.mkdir()
        owner = server_user()
        options = f"size={self._size},mode=700"
        if owner:
            options += f",uid={owner['user']},gid={owner['group']}"
        try:
            self._mount("-t", "tmpfs", "-o", options, "lockstep-faults", str(folder))
        except PermissionError:
            folder.rmdir()
            raise

    @staticmethod
    def _mount(*arguments: str) -> None:
        done = subprocess.run(["mount", *arguments], capture_output=True, text=True)
        if done.returncode != 0:
            raise PermissionError(done.stderr.strip())

    def fill(self) -> None:
        """Leave no room: shrink it to what is in use, a little more if that grows meanwhile."""
        for slack in range(0, 4096, 64):
            usage = os.statvfs(self.folder)
            pages = usage.f_blocks - usage.f_bfree + slack
            try:
                self._mount("-o", f"remount,size={pages * usage.f_frsize}", str(self.folder))
            except PermissionError:
                continue
            return
        raise RuntimeError(f"{self.folder} grows too fast to be filled")

    def empty(self) -> None:
        """Give the room back."""
        self._mount("-o", f"remount,size={self._size}", str(self.folder))

    def remove(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True)


@dataclass
class Slot:
    """A place for a worker process, filled again when it has died."""

    number: int
    worker: WorkerProcess | None = None
    is_stopped: bool = False
    restart_at: float = 0.0


class Site:
    """One server on disks of its own, behind a proxy, with workers."""

    settings: tuple[str, ...] = _SETTINGS

    def __init__(self, folder: Path, workers: int, *, lease: float = 2.0) -> None:
        self.folder = folder
        self.lease = lease
        self.slots = [Slot(number) for number in range(workers)]
        self.started_workers = 0
        self.faults_in_worker: list[str] = []
        self._asked_to_stop: set[int] = set()
        self.without_disks: str | None = None
        self.is_open = True
        self.random = random.Random()
        self.locks = {name: asyncio.Lock() for name in ("server", "network")}
        self.points = {point: asyncio.Lock() for point in POINTS}
        self._disks: list[Disk] = []
        self.cluster = Cluster(settings=self.settings, tcp=True, initialize=False)
        self._initialize()
        self.cluster.start()
        self._create_database()
        self.proxy = Proxy(self.cluster.port)

    # building

    def _initialize(self) -> None:
        wal = self.cluster.folder / "wal"
        try:
            self._disks.append(Disk(self.cluster.data, 8192))
            self._disks.append(Disk(wal, 1024))
        except (PermissionError, FileNotFoundError) as error:
            self.without_disks = f"no file system of limited size can be mounted: {error}"
            self.cluster.initialize()
        else:
            self.cluster.initialize("--waldir", str(wal))

    @property
    def data_disk(self) -> Disk:
        return self._disks[0]

    @property
    def wal_disk(self) -> Disk:
        return self._disks[1]

    def _create_database(self) -> None:
        with psycopg.connect(self.cluster.dsn(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {DATABASE}")
        with psycopg.connect(self.direct_dsn, autocommit=True) as connection:
            connection.execute("CREATE EXTENSION lockstep")
            connection.execute((HERE / "schema.sql").read_bytes())

    # reaching it

    @property
    def direct_dsn(self) -> str:
        """Where the harness reaches the database past the proxy, immune to settings."""
        return f"{self.cluster.dsn(DATABASE)} options='{IMMUNE}' connect_timeout=5"

    @property
    def driver_dsn(self) -> str:
        """Where the driver reaches it past the proxy."""
        return f"{self.cluster.dsn(DATABASE)} connect_timeout=5".replace(
            "=postgres", "=bank_driver"
        )

    @property
    def driver_proxied_dsn(self) -> str:
        return (
            f"host=127.0.0.1 port={self.proxy.port} user=bank_driver dbname={DATABASE}"
            " connect_timeout=5"
        )

    @property
    def worker_dsn(self) -> str:
        return f"host=127.0.0.1 port={self.proxy.port} user=bank_worker dbname={DATABASE}"

    async def ask(self, query: str, *params: Any) -> list[tuple[Any, ...]]:
        """Run a statement as the harness; raises psycopg.OperationalError while it is down."""
        connection = await psycopg.AsyncConnection.connect(self.direct_dsn, autocommit=True)
        async with connection:
            cursor = await connection.execute(query, params)
            return await cursor.fetchall() if cursor.description else []

    async def insist(self, query: str, *params: Any) -> list[tuple[Any, ...]]:
        """Run a statement, again and again while the server is down."""
        while True:
            try:
                return await self.ask(query, *params)
            except psycopg.OperationalError:
                await asyncio.sleep(0.1)

    # the server

    async def start_server(self) -> None:
        """Start the server, unless it came back by itself, or still tries to in vain."""
        for _ in range(5):
            if not self.cluster.is_running:
                self.cluster.spawn()
            try:
                return await asyncio.to_thread(self.cluster.wait_until_ready)
            except AssertionError:
                if self.cluster.is_running:
                    raise
        raise RuntimeError(f"the server does not start: {self.cluster.log[-2000:]}")

    # the workers

    def start_workers(self) -> None:
        for slot in self.slots:
            self._start(slot)

    def wait_for_workers(self) -> None:
        for slot in self.live_slots:
            assert slot.worker is not None
            slot.worker.wait_until_ready()

    def _start(self, slot: Slot) -> None:
        slot.is_stopped = False
        slot.worker = WorkerProcess(
            Database(self.worker_dsn),
            "faults.app:app",
            self.folder,
            *("--lease", str(self.lease), "--grace", "1", "--concurrency", "60"),
            folder_of_apps=HERE.parent,
            environment={"FAULTS_FOLDER": str(self.folder)},
        )
        self.started_workers += 1

    @property
    def live_slots(self) -> list[Slot]:
        return [
            slot
            for slot in self.slots
            if slot.worker is not None and slot.worker.process.poll() is None
        ]

    async def supervise(self) -> None:
        """Start workers anew that died, a moment later; note those that had no reason to."""
        while self.is_open:
            now = time.monotonic()
            for slot in self.slots:
                if slot.worker is None:
                    if now >= slot.restart_at:
                        self._start(slot)
                elif (code := slot.worker.process.poll()) is not None:
                    self._note_end(slot, slot.worker, code)
                    slot.worker = None
                    slot.restart_at = now + self.random.uniform(0.0, 0.7)
            await asyncio.sleep(0.1)

    def ask_to_stop(self, worker: WorkerProcess) -> None:
        """Let a worker end in good order: it hands back what it runs."""
        self._asked_to_stop.add(worker.pid)
        with (self.folder / "stopped_worker").open("a") as stopped:
            stopped.write(f"{worker.pid}\n")
        worker.signal(signal.SIGTERM)

    def _note_end(self, slot: Slot, worker: WorkerProcess, code: int) -> None:
        if code == -signal.SIGKILL or worker.pid in self._asked_to_stop:
            return
        if "serves" in worker.log:  # it had started, and must survive whatever comes
            self.faults_in_worker.append(f"worker ended by itself ({code}): {worker.log[-1500:]}")

    def stop_workers(self) -> None:
        """End the workers in good order, so that what is left is what they leave."""
        self.is_open = False
        for slot in self.live_slots:
            assert slot.worker is not None
            slot.worker.signal(signal.SIGCONT)
            slot.worker.signal(signal.SIGTERM)
        for slot in self.slots:
            if slot.worker is not None:
                slot.worker.process.wait(30)

    def worker_logs(self) -> list[Path]:
        return sorted(self.folder.glob("worker-*.log"))

    def dump(self) -> None:
        """Write what the database has to a file that pg_restore reads."""
        program = self.cluster.bindir / "pg_dump"
        file = self.folder / "database.dump"
        subprocess.run([program, "-Fc", "-f", file, "-d", self.direct_dsn], check=True)

    def close(self) -> None:
        """Kill and remove everything."""
        self.is_open = False
        for slot in self.live_slots:
            assert slot.worker is not None
            slot.worker.kill()
        self.proxy.stop()
        self.cluster.shut_down(signal.SIGQUIT)
        for disk in self._disks:
            disk.remove()
        shutil.rmtree(self.cluster.folder, ignore_errors=True)
