"""The plan of a run: which fault at which moment, from a seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from .injections import KINDS, Fault


@dataclass(frozen=True)
class Planned:
    """A fault and its moment, in seconds from the start of the run."""

    at: float
    fault: Fault


def make_plan(seed: int, count: int, spacing: float, kinds: Sequence[str]) -> list[Planned]:
    """
    Draw a plan; the same seed, count, spacing and kinds give the same one.

    Every kind comes once before one comes again, then each as often as its weight says.
    """
    random = Random(seed)
    drawn = _draw_kinds(random, kinds)
    at = 1.0
    plan = []
    for _ in range(count):
        plan.append(Planned(round(at, 3), KINDS[next(drawn)].draw(random)))
        at += random.uniform(0.0, 2 * spacing)
    return plan


def _draw_kinds(random: Random, kinds: Sequence[str]) -> Iterator[str]:
    each = sorted(kinds)
    random.shuffle(each)
    yield from each
    while True:
        deck = [name for name in sorted(kinds) for _ in range(KINDS[name].weight)]
        random.shuffle(deck)
        yield from deck
