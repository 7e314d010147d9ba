"""Decides when to claim and how many: keeps the wanted number of workflows in flight."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

if TYPE_CHECKING:
    from ._worker import Worker

_QUICK_POLLS = (0.01, 0.04, 0.16, 0.64)
"""Growing pauses, in seconds, before a worker that found nothing trusts the doorbell."""

_POLLS_BEFORE_RING = 1
"""Polls that count as made in vain when the doorbell rings: two more follow a vain look."""

_PORTION_PAUSE = 0.05
"""Seconds that few free slots wait for more of them, so that claims are worth their commit."""

_HEAD_INTERVAL = 2.0
"""Seconds for which claims may leave out the head of the queues."""


class LowWater:
    """
    Where claims got to in each queue, while there is a backlog or the head is slow.

    What was claimed stays in the claim index until vacuum takes it away, which a snapshot
    somewhere may hold back for long, and a claim from the head walks over it. Work that
    commits far behind the mark waits for the next look from the head.
    """

    def __init__(self) -> None:
        self._places: dict[str, tuple[int, str]] = {}
        self._is_head_slow = False
        self._is_backlog = False
        self._head_at = 0.0

    def start(self) -> str | None:
        """Return where the next claim begins, as JSON; None for the head, and no word of places."""
        if not (self._is_head_slow or self._is_backlog):
            self._places.clear()
            return None
        if time.monotonic() >= self._head_at:
            self._places.clear()
        return to_json(
            [
                {"queue_name": queue_name, "priority": priority, "available_at": available_at}
                for queue_name, (priority, available_at) in self._places.items()
            ]
        ).decode()

    def note(self, asked: int, claimed: Sequence[dict[str, Any]], seconds: float) -> None:
        """Take note of what a claim brought and how long it took."""
        self._is_backlog = len(claimed) == asked
        if not self._places:  # it began at the head
            self._is_head_slow = seconds > 0.002 + 25e-6 * len(claimed)
            self._head_at = time.monotonic() + _HEAD_INTERVAL
        if self._is_head_slow or self._is_backlog:
            for row in claimed:
                if row["available_at"] is not None:
                    self._places[row["queue_name"]] = row["priority"], row["available_at"]


class Claimer:
    """Whether there may be work to claim, and when to look again."""

    def __init__(self, worker: Worker, concurrency: int) -> None:
        self._worker = worker
        self._concurrency = concurrency
        self._poll: asyncio.TimerHandle | None = None
        self._polls_in_vain = 0
        self._claimed_at = 0.0
        self.low_water = LowWater()
        self._is_hungry = True
        self._full_since: float | None = None
        self._at_most = worker.portion

    @property
    def is_idle(self) -> bool:
        """Whether the queues look drained; a short burst does not count as busy."""
        return self._full_since is None or time.monotonic() - self._full_since < 1.0

    def wanted(self, finishing: int, suspending: int) -> int:
        """
        Return how many workflows to claim in a flush that finishes and suspends some.

        Such a flush always claims: it may free a place in a queue whose limit kept the
        last claim from taking more, and the claim comes at little cost with it.
        """
        is_hungry = self._is_hungry or finishing > 0 or suspending > 0
        if not is_hungry or self._worker.is_stopping:
            return 0
        staying = len(self._worker.runs) - finishing
        free = self._concurrency - staying
        if free <= 0:
            return 0
        if self._is_hungry and staying and free < self._concurrency // 4:
            early = self._claimed_at + _PORTION_PAUSE - time.monotonic()
            if early > 0:
                self._look_again_in(early)
                return 0
        self._is_hungry = False
        return min(free, self._at_most)

    def was_too_much(self, asked: int) -> None:
        """Ask for fewer: together they are too large for an answer, or for our memory."""
        self._at_most = max(1, asked // 4)
        self.ring()

    def came_back(self, asked: int, got: int, again_in: float | None = None) -> None:
        """
        Take note of a claim's yield: after a full one look again at once.

        ``again_in`` seconds later a limit that kept something back will let it pass.
        """
        self._claimed_at = time.monotonic()
        if got:
            self._at_most = min(2 * self._at_most, self._worker.portion)
        if got == asked:
            self._full_since = self._full_since or self._claimed_at
            self._polls_in_vain = 0
            self.ring()
            return
        self._full_since = None
        self._polls_in_vain = 0 if got else self._polls_in_vain + 1
        pauses = [] if again_in is None else [again_in]
        if self._polls_in_vain < len(_QUICK_POLLS):
            pauses.append(_QUICK_POLLS[self._polls_in_vain])
        elif not self._worker.listener.is_connected:
            pauses.append(self._worker.poll_interval)
        if pauses:
            self._look_again_in(min(pauses))
        self._worker.pulse.wake()

    def ring(self) -> None:
        """Look for work now, and once more if in vain: what rang may be locked just now."""
        self._polls_in_vain = min(self._polls_in_vain, _POLLS_BEFORE_RING)
        self._look()

    def _look(self) -> None:
        self._is_hungry = True
        if self._poll is not None:
            self._poll.cancel()
            self._poll = None
        self._worker.writer.wake()

    def _look_again_in(self, seconds: float) -> None:
        if self._poll is not None:
            self._poll.cancel()
        self._poll = self._worker.loop.call_later(seconds, self._look)
