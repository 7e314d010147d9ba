"""Faults that a workflow is itself."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from ..site import Site
from .fault import Fault, kind


@kind("poison workflow", weight=1)
@dataclass(frozen=True)
class Poison(Fault):
    """A workflow kills each worker that runs it, until it is in the dead letter."""

    number: int

    @classmethod
    def draw(cls, random: Random) -> Fault:
        return cls(random.randrange(10**9))

    async def inject(self, site: Site) -> None:
        await site.insist(
            "WITH expected AS (INSERT INTO bank.expected VALUES (%s, 'poison', '[]')"
            " ON CONFLICT DO NOTHING)"
            " SELECT lockstep.enqueue_workflow('poison', 'default', workflow_id => %s,"
            " max_attempts => 2)",
            *[f"poison-{self.number}"] * 2,
        )
