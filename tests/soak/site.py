"""The plain topology, with the server's default settings and a worker that lives all the time."""

from __future__ import annotations

import signal
from pathlib import Path

import psycopg
from faults.site import HERE, Site
from harness import Database, WorkerProcess

_SCHEMA = Path(__file__).parent / "schema.sql"


class SoakSite(Site):
    """
    One server behind a proxy, with workers that die, and one that no fault of workers reaches.

    The veteran is the one whose memory is looked at; the server and the network fail it too.
    Autovacuum is set as it comes.
    """

    settings = ("fsync=on", "max_wal_size=512MB", "log_checkpoints=off")

    def __init__(self, folder: Path, workers: int) -> None:
        super().__init__(folder, workers)
        with psycopg.connect(self.direct_dsn, autocommit=True) as connection:
            connection.execute(_SCHEMA.read_bytes())
        self.veteran: WorkerProcess | None = None

    def start_workers(self) -> None:
        super().start_workers()
        # orders to die come to a folder; its own has none, but side effects go where all do
        folder = self.folder / "veteran"
        folder.mkdir()
        (folder / "effect").symlink_to(self.folder / "effect")
        self.veteran = WorkerProcess(
            Database(self.worker_dsn),
            "faults.app:app",
            folder,
            *("--lease", str(self.lease), "--grace", "1", "--concurrency", "60"),
            folder_of_apps=HERE.parent,
            environment={"FAULTS_FOLDER": str(folder)},
        )

    def wait_for_workers(self) -> None:
        super().wait_for_workers()
        assert self.veteran is not None
        self.veteran.wait_until_ready()

    def stop_workers(self) -> None:
        assert self.veteran is not None
        if (code := self.veteran.process.poll()) is not None:
            self.faults_in_worker.append(
                f"the veteran ended by itself ({code}): {self.veteran.log[-1500:]}"
            )
        else:
            self.veteran.signal(signal.SIGTERM)
        super().stop_workers()
        self.veteran.process.wait(30)

    def worker_logs(self) -> list[Path]:
        return [*super().worker_logs(), *(self.folder / "veteran").glob("worker-*.log")]

    def close(self) -> None:
        if self.veteran is not None and self.veteran.process.poll() is None:
            self.veteran.kill()
        super().close()
