"""Databases and workers for the tests: real processes, started, killed and cleaned up here."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import lockstep
import psycopg
from psycopg.conninfo import conninfo_to_dict
from servers import die_with_parent
from waiting import eventually

APPS = Path(__file__).parent / "apps"


async def until_status(client: lockstep.AsyncClient, workflow_id: str, *statuses: str) -> None:
    """Wait until a workflow has one of the statuses; show its error if it does not."""
    give_up_at = time.monotonic() + 20.0
    while (info := await client.get(workflow_id)).status not in statuses:
        if time.monotonic() > give_up_at:
            raise AssertionError(f"{workflow_id} is {info.status}, not {statuses}: {info.error}")
        await asyncio.sleep(0.01)


class Database:
    """A database with Lockstep in it, and the questions that tests ask of it."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn

    @property
    def name(self) -> str:
        return str(conninfo_to_dict(self.dsn)["dbname"])

    def rows(self, query: str, *params: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            cursor = connection.execute(query, params)
            return cursor.fetchall() if cursor.description else []

    def value(self, query: str, *params: Any) -> Any:
        return self.rows(query, *params)[0][0]

    def enqueue(self, workflow_name: str, queue_name: str = "default", **options: Any) -> str:
        names = "".join(f", {name} => %s" for name in options)
        value = self.value(
            f"SELECT lockstep.enqueue_workflow(%s, %s{names})",
            workflow_name,
            queue_name,
            *options.values(),
        )
        assert isinstance(value, str)
        return value

    def status(self, workflow_id: str) -> str:
        value = self.value(
            "SELECT status FROM lockstep.workflow_status WHERE workflow_id = %s", workflow_id
        )
        assert isinstance(value, str)
        return value

    def wait_for_status(self, workflow_id: str, *statuses: str, timeout: float = 30.0) -> str:
        """Wait until a workflow has one of the statuses; show its row if it does not."""
        try:
            eventually(lambda: self.status(workflow_id) in statuses, str(statuses), timeout)
        except AssertionError as error:
            row = self.rows(
                "SELECT row_to_json(w) FROM lockstep.workflow_status AS w WHERE workflow_id = %s",
                workflow_id,
            )
            raise AssertionError(f"{error}; the workflow is {row}") from None
        return self.status(workflow_id)

    def result(self, workflow_id: str) -> Any:
        """Wait for the success of a workflow and return its output."""
        self.wait_for_status(workflow_id, "SUCCESS")
        return self.value(
            "SELECT output FROM lockstep.workflow_status WHERE workflow_id = %s", workflow_id
        )

    def effects(self) -> Counter[str]:
        """Return how often each side effect happened that a test's app noted."""
        return Counter(effect for (effect,) in self.rows("SELECT effect FROM effects"))

    def steps(self, workflow_id: str) -> list[tuple[int, str, Any]]:
        """Return the finished steps of a workflow: id, name and output."""
        return self.rows(
            "SELECT step_id, step_name, output FROM lockstep.operation_outputs"
            " WHERE workflow_id = %s AND completed_at IS NOT NULL ORDER BY step_id",
            workflow_id,
        )


class WorkerProcess:
    """A worker started from the command line, as a user would."""

    def __init__(
        self,
        database: Database,
        app: str,
        folder: Path,
        *options: str,
        folder_of_apps: Path = APPS,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.folder = folder
        self._log_path = folder / f"worker-{time.monotonic_ns()}.log"
        with self._log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "lockstep.cli", "worker", app),
                    *("--lease", "2", "--poll-interval", "0.5", *options),
                ],
                cwd=folder_of_apps,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,
                env={
                    **os.environ,
                    "LOCKSTEP_DATABASE_URL": database.dsn,
                    "GATES": str(folder),
                    **environment,
                },
            )

    @property
    def log(self) -> str:
        return self._log_path.read_text()

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait_until_ready(self) -> WorkerProcess:
        eventually(lambda: "serves" in self.log or self.process.poll() is not None, "ready")
        assert "serves" in self.log, self.log
        return self

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def terminate(self, timeout: float = 30.0) -> int:
        self.process.terminate()
        return self.process.wait(timeout)


class Gates:
    """Files by which a test holds a step of a worker process at a named point."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def wait_until_reached(self, name: str, times: int = 1) -> None:
        eventually(lambda: self.count(name) >= times, f"gate {name} was reached {times} times")

    def count(self, name: str) -> int:
        return len(list(self._folder.glob(f"{name}.reached.*")))

    def open(self, name: str) -> None:
        (self._folder / f"{name}.open").touch()


@contextlib.contextmanager
def stopped_at_end(workers: list[WorkerProcess]) -> Iterator[None]:
    """Kill whatever workers are left, and show their logs if the test failed."""
    try:
        yield
    except BaseException:
        for worker in workers:
            print(f"--- log of worker {worker.pid}\n{worker.log}")
        raise
    finally:
        for worker in workers:
            if worker.process.poll() is None:
                worker.signal(signal.SIGCONT)
                worker.kill()
