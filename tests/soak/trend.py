"""Whether a series goes up, told by a slope that outliers do not bend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from scipy.stats import theilslopes


@dataclass(frozen=True)
class Trend:
    """
    How a series moved once it was warm.

    Growth is per hour, as a share of the series' median; ``at_least`` and ``at_most`` bound
    it with 95 % confidence. What surely grows by more than ``limit`` goes upwards.
    """

    name: str
    median: float
    growth: float
    at_least: float
    at_most: float
    limit: float

    @property
    def is_upwards(self) -> bool:
        return self.at_least > self.limit

    def __str__(self) -> str:
        return (
            f"{self.name:20} median {self.median:10.1f}  {self.growth:+8.1%} per hour"
            f" ({self.at_least:+.1%} to {self.at_most:+.1%}; limit {self.limit:.0%})"
        )


def trend(name: str, series: Sequence[tuple[float, float | None]], limit: float) -> Trend:
    """Return the trend of values at their seconds, by the estimator of Theil and Sen."""
    seconds, values = zip(*((at, value) for at, value in series if value is not None), strict=True)
    middle = median(values)
    slope, _, low, high = theilslopes(values, seconds)
    per_hour = 3600 / middle if middle else 0.0
    return Trend(name, middle, slope * per_hour, low * per_hour, high * per_hour, limit)
