"""Worker processes: started, watched, and ended whatever happens."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from .counters import cpu_of

_READY = "READY"
_START_TIMEOUT = 60.0
_END_TIMEOUT = 5.0
_ROOT = Path(__file__).parent.parent


class WorkerProcess:
    """A process that runs ``bench.worker``; it ends when its stdin does, hence with us."""

    def __init__(self, peer: str, options: dict[str, Any]) -> None:
        self.lines: list[str] = []
        """What it wrote to stdout after READY."""
        self._ready = threading.Event()
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - as long-lived as the worker
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.worker", peer, json.dumps(options)],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._cpu_at_ready = 0.0
        self.pid = self._process.pid

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.rstrip() == _READY:
                self._ready.set()
            else:
                self.lines.append(line.rstrip())

    def wait_until_ready(self) -> None:
        """Wait for the worker's READY; raises with its last words if it ends before."""
        deadline = time.monotonic() + _START_TIMEOUT
        while not self._ready.wait(0.02):
            self.check()
            if time.monotonic() > deadline:
                raise TimeoutError(f"worker not ready in time: {self.last_words()}")
        self._cpu_at_ready = cpu_of(psutil.Process(self.pid))

    def check(self) -> None:
        """Raise with the worker's last words if it has ended."""
        if self._process.poll() is not None:
            code = self._process.returncode
            raise RuntimeError(f"worker ended with {code}: {self.last_words()}")

    def last_words(self) -> str:
        """Return the end of what the worker wrote to stderr."""
        self._stderr.seek(0)
        return self._stderr.read().decode(errors="replace").strip()[-800:]

    def cpu_seconds(self) -> float:
        """Return the CPU seconds that the worker used since it was ready."""
        return cpu_of(psutil.Process(self.pid)) - self._cpu_at_ready

    def rss_bytes(self) -> int:
        """Return the worker's resident memory."""
        return int(psutil.Process(self.pid).memory_info().rss)

    def end(self, *, kill: bool = False) -> None:
        """End it with SIGTERM, and with SIGKILL if that takes too long or on request."""
        if self._process.poll() is None:
            if not kill:
                self._process.terminate()
                try:
                    self._process.wait(_END_TIMEOUT)
                except subprocess.TimeoutExpired:
                    kill = True
            if kill:
                self._process.kill()
        self._process.wait()
        self._reader.join(_END_TIMEOUT)
        for stream in (self._process.stdin, self._process.stdout, self._stderr):
            if stream is not None:
                stream.close()


class Workers(Sequence[WorkerProcess]):
    """Some worker processes that are ready; they end with the ``with`` block."""

    def __init__(self, peer: str, options: dict[str, Any], count: int = 1) -> None:
        self._workers: list[WorkerProcess] = []
        self.is_to_be_killed = False
        """Whether to end them at once, for workers that have much in flight."""
        try:
            for _ in range(count):
                self._workers.append(WorkerProcess(peer, options))
            for worker in self._workers:
                worker.wait_until_ready()
        except BaseException:
            self._end()
            raise

    def __getitem__(self, index: Any) -> Any:
        return self._workers[index]

    def __len__(self) -> int:
        return len(self._workers)

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end()

    def check(self) -> None:
        """Raise if one of them has ended."""
        for worker in self._workers:
            worker.check()

    def cpu_seconds(self) -> float:
        """Return the CPU seconds of all of them since they were ready."""
        return sum(worker.cpu_seconds() for worker in self._workers)

    def lines(self) -> list[str]:
        """Return what all of them wrote to stdout."""
        return [line for worker in self._workers for line in worker.lines]

    def _end(self) -> None:
        for worker in self._workers:
            worker.end(kill=self.is_to_be_killed)
