"""One run of the benchmark: what it measured so far, and what failed."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg

from .cluster import PgbenchResult, yardstick
from .scale import Scale

Sample = dict[str, Any]
"""A measurement: workload, system, variant, repetition and its numbers, units in the names."""


@dataclass
class Session:
    """Collects samples and failures, and tells on stderr how far it got."""

    scale: Scale
    samples: list[Sample] = field(default_factory=list)
    failures: list[dict[str, str]] = field(default_factory=list)
    _started: float = field(default_factory=time.monotonic)

    def tell(self, text: str) -> None:
        """Write a line of progress."""
        print(f"{time.monotonic() - self._started:7.1f} s  {text}", file=sys.stderr, flush=True)

    def yardstick(self, clients: int = 4) -> PgbenchResult:
        """Measure the yardstick right now."""
        return yardstick(clients, self.scale.yardstick_seconds, self.scale.yardstick_transactions)

    def add(
        self,
        workload: str,
        system: str,
        *,
        variant: str = "",
        repetition: int = 1,
        **numbers: Any,
    ) -> None:
        """Add a sample."""
        self.samples.append(
            {
                "workload": workload,
                "system": system,
                "variant": variant,
                "repetition": repetition,
                "at": time.time(),
                **numbers,
            }
        )
        shown = ", ".join(
            f"{key} {value:,.4g}"
            for key, value in numbers.items()
            if isinstance(value, (int, float))
        )
        self.tell(f"{workload}: {system} {variant} #{repetition}: {shown}")

    @contextmanager
    def attempt(self, workload: str, system: str) -> Iterator[None]:
        """Note a failure inside the block, and let everything else go on."""
        try:
            yield
        except (psycopg.Error, OSError, RuntimeError, AssertionError, ValueError) as error:
            text = f"{type(error).__name__}: {' '.join(str(error).split())}"
            self.failures.append({"workload": workload, "system": system, "error": text[:500]})
            self.tell(f"{workload}: {system} FAILED: {text}")
