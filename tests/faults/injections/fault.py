"""What a kind of fault is made of, and the registry of all kinds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from random import Random
from typing import ClassVar, TypeVar

from ..site import Site


class NotInjected(Exception):
    """The fault could not be injected; the report says so."""


@dataclass(frozen=True)
class Fault(ABC):
    """A fault, with its parameters; ``weight`` says how often a plan has its kind."""

    kind: ClassVar[str]
    weight: ClassVar[int]
    part: ClassVar[str | None] = None

    @classmethod
    @abstractmethod
    def draw(cls, random: Random) -> Fault:
        """Draw the parameters."""

    @abstractmethod
    async def inject(self, site: Site) -> None:
        """Do the damage; raise NotInjected if it cannot be done."""

    def __str__(self) -> str:
        given = ", ".join(f"{f.name}={getattr(self, f.name)}" for f in fields(self))
        return f"{self.kind} {given}".rstrip()


KINDS: dict[str, type[Fault]] = {}
C = TypeVar("C", bound=type[Fault])


def kind(name: str, weight: int, part: str | None = None) -> Callable[[C], C]:
    """Register a kind of fault."""

    def register(cls: C) -> C:
        cls.kind, cls.weight, cls.part = name, weight, part
        KINDS[name] = cls
        return cls

    return register


def seconds(random: Random, least: float, most: float) -> float:
    return round(random.uniform(least, most), 3)
