"""Watches the event loop from a thread: says what blocks it, and keeps the lease meanwhile."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from types import FrameType
from typing import TYPE_CHECKING

import psycopg

from ._functions import StepFunction
from ._run import Run
from ._session import PATIENCE, Failure, classify

if TYPE_CHECKING:
    from ._worker import Worker

_HEARTBEAT = "SELECT lockstep.heartbeat(%s, false, false)"

_PATIENCE = 1.0
"""Seconds without an answer of the loop after which it counts as blocked."""

_LONGEST_BLOCK = 10
"""Leases for which a blocked worker keeps what it runs; then others take over."""


class Watchdog:
    """
    Notices that user code blocks the event loop, which stops all workflows of the worker.

    While it lasts the worker's own heartbeat stands still, too; other workers would take over
    everything that runs here, the culprit included. So this thread keeps the lease, for a
    while. Code that holds Python's global lock stops this thread as well.
    """

    def __init__(self, worker: Worker, dsn: str, lease: float) -> None:
        self._worker = worker
        self._dsn = dsn
        self._lease = lease
        self._patience = min(_PATIENCE, lease / 8)
        self._stopped = threading.Event()
        self._answered = threading.Event()
        self._loop_thread = threading.get_ident()

    def start(self) -> None:
        """Watch the loop of the calling thread."""
        threading.Thread(target=self._watch, name="lockstep watchdog", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.wait(self._patience):
            if self._worker.runs:
                asked_at = time.monotonic()
                self._answered.clear()
                try:
                    self._worker.loop.call_soon_threadsafe(self._answered.set)
                except RuntimeError:  # the loop was closed just now
                    return
                if not self._answered.wait(self._patience) and not self._stopped.is_set():
                    self._on_block(asked_at)

    def _on_block(self, asked_at: float) -> None:
        frame = sys._current_frames().get(self._loop_thread)
        culprit = _culprit_in(frame)
        stack = "".join(traceback.format_stack(frame)) if frame is not None else ""
        self._worker.log.warning(
            "%s blocks the event loop and with it all workflows of this worker:"
            " call what blocks on a thread\n%s",
            culprit,
            stack,
        )
        gives_up_at = asked_at + _LONGEST_BLOCK * self._lease
        is_held = True
        pause = 0.0
        while not self._answered.wait(pause) and not self._stopped.is_set():
            pause = self._lease / 3
            if is_held and time.monotonic() > gives_up_at:
                is_held = False
                self._worker.log.error("%s still blocks the event loop: lease given up", culprit)
            if is_held:
                is_held = self._keep_lease()
        self._worker.log.warning(
            "the event loop was blocked for %.1f s by %s", time.monotonic() - asked_at, culprit
        )

    def _keep_lease(self) -> bool:
        """Extend the worker's lease; return whether that may be tried again."""
        try:
            with psycopg.connect(
                self._dsn, autocommit=True, application_name="lockstep watchdog", **PATIENCE
            ) as connection:
                connection.execute(_HEARTBEAT, [self._worker.executor_id])
        except psycopg.Error as error:
            if classify(error) is Failure.LEASE_LOST:
                return False
            self._worker.log_trouble(error)
        return True


def _culprit_in(frame: FrameType | None) -> str:
    """Name the step and workflow in whose call a frame of the loop's thread is."""
    step = run = None
    while frame is not None:
        owner = frame.f_locals.get("self")
        if isinstance(owner, StepFunction) and step is None:
            step = owner
            run = frame.f_locals.get("run", run)
        elif isinstance(owner, Run) and run is None:
            run = owner
        frame = frame.f_back
    if not isinstance(run, Run):
        return "something"
    workflow = f'workflow "{run.workflow_id}" ({run.workflow_name})'
    return workflow if step is None else f'step "{step.name}" of {workflow}'
