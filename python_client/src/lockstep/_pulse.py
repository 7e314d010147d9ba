"""The pulse of a worker: heartbeats, work that falls due, executors that died."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import psycopg

from ._session import Failure, classify, pause_after

if TYPE_CHECKING:
    from ._worker import Worker

_PULSE = "SELECT * FROM lockstep.pulse(%s, %s, %s)"

_SAFETY_INTERVAL = 5.0
"""Seconds between looks at the queues that make up for a notification that was missed."""


class Pulse:
    """Calls ``lockstep.pulse()`` when one of its chores falls due, and otherwise seldom."""

    def __init__(self, worker: Worker, lease: float) -> None:
        self._worker = worker
        self._lease = lease
        self._wakeup = asyncio.Event()
        self._beat_at = 0.0
        self._said_idle = False
        self._reported: set[str] = set()

    def wake(self) -> None:
        """Make the pulse look at what there is to do now."""
        self._wakeup.set()

    def expect_due(self, moment: float) -> None:
        """Note that a workflow falls due at a moment (monotonic)."""
        if moment < self._beat_at:
            self._beat_at = moment
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
                now = time.monotonic()
                if now >= self._beat_at or self._is_idle != self._said_idle:
                    await self._beat(now)
                attempt = 0
                timeout = self._beat_at - time.monotonic()
            except psycopg.Error as error:
                if classify(error) is Failure.LEASE_LOST:
                    await self._worker.start_over(executor_id)
                else:
                    self._worker.log_trouble(error)
                self._beat_at = 0.0
                timeout = pause_after(attempt)
                attempt += 1
            # not asyncio.wait_for(), which may swallow a cancellation before Python 3.12
            alarm = self._worker.loop.call_later(max(timeout, 0.0), self._wakeup.set)
            try:
                await self._wakeup.wait()
            finally:
                alarm.cancel()
            self._wakeup.clear()

    @property
    def _is_idle(self) -> bool:
        return self._worker.listener.is_connected and self._worker.claimer.is_idle

    async def _beat(self, now: float) -> None:
        is_idle = self._is_idle
        is_busy = not self._worker.claimer.is_idle
        interval = _SAFETY_INTERVAL if is_idle else self._worker.poll_interval
        self._beat_at = now + min(self._lease / 3, interval)
        (
            (names, recovered, next_expiry_in, promoted, next_due_in, has_ready, next_tick_in),
        ) = await self._worker.session.call(_PULSE, self._worker.executor_id, is_idle, is_busy)
        if next_expiry_in is not None:
            self.expect_due(now + max(next_expiry_in, 0.05))
        if next_due_in is not None:
            self.expect_due(now + next_due_in)
        if next_tick_in is not None:
            self._worker.scheduler.expect(time.monotonic() + next_tick_in)
        if recovered:
            self._worker.log.info("took over %s workflows of dead workers", recovered)
        # what came before we said that we are idle did not ring
        if recovered or promoted or has_ready or (is_idle and not self._said_idle):
            self._worker.claimer.ring()
        self._said_idle = is_idle
        for name in names:
            if name not in self._reported:
                self._reported.add(name)
                self._worker.log.warning(
                    'workflow "%s" waits in a queue of this worker, and no live worker knows it',
                    name,
                )
