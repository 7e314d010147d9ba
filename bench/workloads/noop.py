"""Drain workflows that do nothing: what claiming and finishing one costs."""

from __future__ import annotations

from ..drain import Contender, drain_all
from ..peers.absurd import Absurd
from ..peers.bare import Bare
from ..peers.dbos import Dbos
from ..peers.lockstep import Lockstep
from ..peers.pgqueuer import PgQueuer
from ..peers.procrastinate import Procrastinate
from ..session import Session


def run(session: Session) -> None:
    """Measure every system, with one worker, and Lockstep also with two."""
    own = Lockstep()
    peers = (own, Bare(), Dbos(), Absurd(), Procrastinate(), PgQueuer())
    contenders = [Contender(peer) for peer in peers]
    contenders.insert(1, Contender(own, workers=2))
    drain_all(session, "noop", contenders, "noop")
