"""Short workflows that tell when and where they ran, for the tests of limits."""

from __future__ import annotations

import asyncio
import os
import random
import time

import lockstep

app = lockstep.App()


@app.workflow
async def stay(seconds: float = 0.02) -> dict[str, float]:
    """Run for about that time; on one machine all processes share the monotonic clock."""
    began_at = time.monotonic()
    await asyncio.sleep(seconds * random.uniform(0.2, 1.8))
    return {"pid": os.getpid(), "began_at": began_at, "ended_at": time.monotonic()}
