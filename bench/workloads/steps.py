"""Drain async workflows of three steps, each committed before the next one starts."""

from __future__ import annotations

from ..drain import Contender, drain_all
from ..peers.absurd import Absurd
from ..peers.bare import Bare
from ..peers.dbos import Dbos
from ..peers.lockstep import Lockstep
from ..session import Session


def run(session: Session) -> None:
    """Measure every system that has steps, with one worker, and Lockstep also with two."""
    own = Lockstep()
    peers = (own, Bare(), Dbos(), Absurd())
    contenders = [Contender(peer) for peer in peers]
    contenders.insert(1, Contender(own, workers=2))
    drain_all(session, "steps", contenders, "steps")
