"""What code on a thread must not do, and how it is told."""

from __future__ import annotations

import asyncio

from ._errors import BlockingCall


def refuse_on_event_loop(what: str, instead: str) -> None:
    """Raise BlockingCall if the calling thread runs an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise BlockingCall(f"{what} would block the event loop here; write {instead}")
