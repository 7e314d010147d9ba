"""Drain workflows of one step that updates a row and is recorded in the same transaction."""

from __future__ import annotations

from ..drain import Contender, drain_all
from ..peers.dbos import Dbos
from ..peers.lockstep import Lockstep
from ..session import Session


def run(session: Session) -> None:
    """Measure the systems that have transactional steps, with one worker."""
    peers = (Lockstep(), Dbos())
    drain_all(session, "transactional", [Contender(peer) for peer in peers], "transactional")
