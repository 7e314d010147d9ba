"""One run: start the site, the workload and the plan; wait until all has drained; judge."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from servers import die_with_parent

from . import oracle, reader
from .injections import NotInjected
from .plan import Planned, make_plan
from .report import Report
from .site import Site

_DRAIN_PATIENCE = 150.0
"""Seconds without the end of any workflow after which the rest is taken for stuck."""


@dataclass(frozen=True)
class Options:
    """What a run is asked for."""

    seed: int
    faults: int
    workflows: int
    workers: int
    spacing: float
    kinds: Sequence[str]
    measures_reader: bool = False
    is_verbose: bool = True
    is_replicated: bool = False

    @property
    def seconds(self) -> float:
        return max(self.faults * self.spacing, 5.0)

    @property
    def command(self) -> str:
        if self.is_replicated:
            return (
                f"tests/faults/start --replicated --seed {self.seed} --faults {self.faults}"
                f" --workflows {self.workflows}"
            )
        return f"make faults SEED={self.seed} FAULTS={self.faults} WORKFLOWS={self.workflows}"


class Run:
    """A run on a site, whose database is there for questions until the site is closed."""

    def __init__(self, site: Site, options: Options) -> None:
        self._site = site
        self._options = options
        self._plan = make_plan(options.seed, options.faults, options.spacing, options.kinds)
        self._began = time.monotonic()
        self._driver: subprocess.Popen[bytes] | None = None
        self._latest_fault = "the start"
        self._is_open = True
        self.report = Report(options.seed, options.command)

    async def run(self) -> Report:
        """Do it all, and return what it was."""
        self._site.start_workers()
        await asyncio.to_thread(self._site.wait_for_workers)
        if self._options.measures_reader:
            self._say("measuring what an open snapshot costs")
            self.report.figures = await reader.measure(self._site)
        self._began = time.monotonic()
        self._driver = self._start_driver()
        background = [
            asyncio.create_task(self._site.supervise()),
            *(asyncio.create_task(companion) for companion in self._companions()),
        ]
        watch = asyncio.create_task(self._watch())
        await asyncio.gather(*(self._inject(planned) for planned in self._plan))
        faults_over = time.monotonic()
        await watch
        self.report.drained_after = time.monotonic() - faults_over
        self._is_open = False
        await asyncio.to_thread(self._site.stop_workers)
        await asyncio.gather(*background)
        await self._wait_for_leases()
        self._judge()
        self.report.duration = time.monotonic() - self._began
        return self.report

    def _start_driver(self) -> subprocess.Popen[bytes]:
        options, site = self._options, self._site
        dsns = [site.driver_dsn, site.driver_proxied_dsn] * 3
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "faults.driver", str(site.folder), str(options.seed)),
                *(str(options.workflows), str(options.seconds), *dsns),
            ],
            preexec_fn=die_with_parent,
        )

    # faults

    async def _inject(self, planned: Planned) -> None:
        fault = planned.fault
        await asyncio.sleep(self._began + planned.at - time.monotonic())
        part = self._site.locks.get(fault.part or "")
        async with part or contextlib.nullcontext():
            self._say(str(fault))
            try:
                await fault.inject(self._site)
            except NotInjected as reason:
                self.report.not_injected[f"{fault.kind}: {reason}"] += 1
            except Exception as error:
                self.report.troubles.append(f"{fault} failed: {error!r}")
            else:
                self.report.injected[fault.kind] += 1
                self._latest_fault = str(fault)

    def _companions(self) -> list[Coroutine[Any, Any, None]]:
        """Return what goes on beside the faults."""
        return [self._read_for_long()]

    async def _read_for_long(self) -> None:
        """Keep a snapshot open all the time: a reader that nothing may wait for."""
        while self._is_open:
            with contextlib.suppress(psycopg.OperationalError):
                async with await psycopg.AsyncConnection.connect(self._site.direct_dsn) as reader:
                    await reader.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
                    while self._is_open:
                        await reader.execute("SELECT count(*) FROM bank.account")
                        await asyncio.sleep(1.0)
            await asyncio.sleep(0.2)

    # progress

    async def _watch(self) -> None:
        """Watch workflows end, until none is left and the driver is done."""
        progressed_at = time.monotonic()
        seen = -1
        while True:
            await asyncio.sleep(0.5)
            try:
                ((ended, left),) = await self._site.ask(
                    "SELECT count(completed_at), count(*) - count(completed_at)"
                    " FROM lockstep.workflow_status"
                )
            except psycopg.OperationalError:
                continue
            now = time.monotonic()
            assert self._driver is not None
            code = self._driver.poll()
            if code:
                raise RuntimeError(f"the driver failed: {code}")
            if ended != seen:
                if left and code is None and seen >= 0:
                    self._note_standstill(now - progressed_at)
                seen, progressed_at = ended, now
            elif now - progressed_at > _DRAIN_PATIENCE:
                self.report.troubles.append(f"{left} workflows are stuck")
                return
            if code == 0 and left == 0:
                return

    def _note_standstill(self, seconds: float) -> None:
        if seconds > self.report.longest_standstill:
            self.report.longest_standstill = seconds
            self.report.standstill_after = f"{self._latest_fault}, in progress or just before"

    def _say(self, what: str) -> None:
        if self._options.is_verbose:
            print(f"{time.monotonic() - self._began:8.1f}  {what}", flush=True)

    # the end

    async def _wait_for_leases(self) -> None:
        """Let the leases of dead workers end, and have them noticed."""
        await asyncio.sleep(self._site.lease + 0.5)
        await self._site.insist("SELECT lockstep.recover_workflows()")

    def _judge(self) -> None:
        report, site = self.report, self._site
        with psycopg.connect(site.direct_dsn, autocommit=True) as connection:
            oracle.load_files(connection, site.folder)
            report.violations = list(oracle.judge(connection))
            report.read_database(connection)
        report.troubles += site.faults_in_worker
        report.started_workers = site.started_workers
        report.read_logs(site.worker_logs())


def folder_for(parent: Path) -> Path:
    """Make the folder of a run: orders, journal, side effects and logs."""
    parent.mkdir(parents=True, exist_ok=True)
    for file in oracle.FILES:
        (parent / file).touch()
    return parent
