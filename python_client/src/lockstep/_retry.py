"""How often and how fast a failed step is tried again."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from datetime import timedelta

from ._checks import refuse_other_type, shown


@dataclass(frozen=True, slots=True)
class Retry:
    """
    A retry policy: exponential back-off with jitter.

    ``max_attempts`` counts the first attempt too. The pause after attempt n is
    ``delay * backoff ** (n - 1)``, at most ``max_delay``, changed at random by up to
    ``jitter`` of itself in both directions, so that steps that failed together do not
    come back together. Only exceptions of the classes in ``retry_on`` are retried.

    Both the count and the pause are durable: a crash restarts neither.

    >>> Retry(max_attempts=5, delay=timedelta(seconds=1), backoff=2.0).pause_after(3, ValueError())
    datetime.timedelta(seconds=4)
    """

    max_attempts: int = 3
    delay: timedelta = timedelta(seconds=1)
    backoff: float = 2.0
    max_delay: timedelta = timedelta(hours=1)
    jitter: float = 0.0
    retry_on: type[Exception] | tuple[type[Exception], ...] = Exception

    def __post_init__(self) -> None:
        refuse_other_type("max_attempts", self.max_attempts, int)
        if not 1 <= self.max_attempts < 2**31:
            raise ValueError(f"max_attempts must be 1 or greater, not {shown(self.max_attempts)}")
        for name in ("delay", "max_delay"):
            value = getattr(self, name)
            refuse_other_type(name, value, timedelta)
            if value < timedelta(0):
                raise ValueError("delay and max_delay must not be negative")
        refuse_other_type("backoff", self.backoff, int, float)
        if not 1 <= self.backoff < math.inf:
            raise ValueError(f"backoff must be 1 or greater, not {shown(self.backoff)}")
        refuse_other_type("jitter", self.jitter, int, float)
        if not 0 <= self.jitter <= 1:
            raise ValueError(f"jitter must be between 0 and 1, not {shown(self.jitter)}")
        classes = self.retry_on if isinstance(self.retry_on, tuple) else (self.retry_on,)
        if not all(isinstance(each, type) and issubclass(each, Exception) for each in classes):
            raise TypeError(f"retry_on must be classes of exceptions, not {shown(self.retry_on)}")

    @property
    def policy(self) -> dict[str, float]:
        """The policy as ``lockstep.enqueue_workflow(retries => ...)`` takes it, in seconds."""
        return {
            "max_attempts": self.max_attempts,
            "delay": self.delay.total_seconds(),
            "backoff": self.backoff,
            "max_delay": self.max_delay.total_seconds(),
            "jitter": self.jitter,
        }

    def pause_after(self, attempt: int, error: Exception) -> timedelta | None:
        """Return the pause after a failed attempt (counted from 1), None to give up."""
        if attempt >= self.max_attempts or not isinstance(error, self.retry_on):
            return None
        try:
            seconds = self.delay.total_seconds() * self.backoff ** (attempt - 1)
        except OverflowError:
            seconds = self.max_delay.total_seconds()
        seconds *= 1 + random.uniform(-self.jitter, self.jitter)
        return min(timedelta(seconds=min(seconds, _LONGEST)), self.max_delay)


_LONGEST = timedelta(days=365_000).total_seconds()

NO_RETRY = Retry(max_attempts=1)
