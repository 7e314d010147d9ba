"""Drain plain ``def`` workflows of three steps, which run on threads."""

from __future__ import annotations

from ..drain import Contender, drain_all
from ..peers.bare import Bare
from ..peers.dbos import Dbos
from ..peers.lockstep import Lockstep
from ..session import Session


def run(session: Session) -> None:
    """Measure every system with durable steps on threads, with one worker."""
    peers = (Lockstep(), Bare(), Dbos())
    drain_all(session, "steps_threads", [Contender(peer) for peer in peers], "steps_threads")
