"""The pulse of a worker: heartbeats, work that falls due, executors that died."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import psycopg

from ._session import Failure, classify, pause_after

if TYPE_CHECKING:
    from ._worker import Worker

_HEARTBEAT = "SELECT lockstep.heartbeat(%s, %s)"
_PROMOTE = "SELECT * FROM lockstep.promote_due_workflows()"
_RECOVER = "SELECT * FROM lockstep.recover_workflows()"


class Pulse:
    """Does each of its chores at the moment it falls due, and none of them in between."""

    def __init__(self, worker: Worker, lease: float) -> None:
        self._worker = worker
        self._heartbeat_interval = lease / 3
        self._wakeup = asyncio.Event()
        self._heartbeat_at = 0.0
        self._due_at = 0.0
        self._expiry_at = 0.0
        self._said_idle = False
        self._reported: set[str] = set()
        self.reconcile_again = False

    def wake(self) -> None:
        """Make the pulse look at what there is to do now."""
        self._wakeup.set()

    def expect_due(self, moment: float) -> None:
        """Note that a workflow falls due at a moment (monotonic)."""
        if moment < self._due_at:
            self._due_at = moment
            self.wake()

    def check_due(self) -> None:
        """Ask the database what falls due next: something new may have been scheduled."""
        self.expect_due(time.monotonic())

    async def run(self) -> None:
        """Do the chores until cancelled."""
        attempt = 0
        while True:
            executor_id = self._worker.executor_id
            try:
                await self._beat(time.monotonic())
                attempt = 0
                timeout = min(self._heartbeat_at, self._due_at, self._expiry_at) - time.monotonic()
            except psycopg.Error as error:
                if classify(error) is Failure.LEASE_LOST:
                    await self._worker.start_over(executor_id)
                else:
                    self._worker.log_trouble(error)
                timeout = pause_after(attempt)
                attempt += 1
            # not asyncio.wait_for(), which may swallow a cancellation before Python 3.12
            alarm = self._worker.loop.call_later(max(timeout, 0.0), self._wakeup.set)
            try:
                await self._wakeup.wait()
            finally:
                alarm.cancel()
            self._wakeup.clear()

    async def _beat(self, now: float) -> None:
        is_idle = self._worker.listener.is_connected and self._worker.claimer.is_idle
        if now >= self._heartbeat_at or is_idle != self._said_idle:
            await self._heartbeat(now, is_idle)
        if now >= self._expiry_at:
            await self._recover(now)
        if now >= self._due_at:
            await self._promote(now)

    async def _heartbeat(self, now: float, is_idle: bool) -> None:
        names = await self._worker.session.call(_HEARTBEAT, self._worker.executor_id, is_idle)
        self._heartbeat_at = now + self._heartbeat_interval
        if is_idle and not self._said_idle:
            self._worker.claimer.ring()  # what came before we said so did not ring
        self._said_idle = is_idle
        if self.reconcile_again:
            self.reconcile_again = False
            self._worker.writer.doubts_claims = True
            self._worker.writer.wake()
        for (name,) in names:
            if name not in self._reported:
                self._reported.add(name)
                self._worker.log.warning(
                    'workflow "%s" waits in a queue of this worker, and no live worker knows it',
                    name,
                )

    async def _promote(self, now: float) -> None:
        ((promoted, next_due_in),) = await self._worker.session.call(_PROMOTE)
        latest = now + (
            self._heartbeat_interval
            if self._worker.listener.is_connected
            else self._worker.poll_interval
        )
        self._due_at = latest if next_due_in is None else min(now + next_due_in, latest)
        if promoted:
            self._worker.claimer.ring()

    async def _recover(self, now: float) -> None:
        ((recovered, next_expiry_in),) = await self._worker.session.call(_RECOVER)
        latest = now + self._heartbeat_interval
        self._expiry_at = min(latest, now + max(next_expiry_in or 0.0, 0.05))
        if recovered:
            self._worker.log.info("took over %s workflows of dead workers", recovered)
            self._worker.claimer.ring()
