"""Workflows that kill their worker each time they run, and others that do no harm."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal

import lockstep

app = lockstep.App()


@app.step
async def work(seconds: float) -> None:
    await asyncio.sleep(seconds)


@app.workflow
async def innocent(seconds: float) -> str:
    await work(seconds)
    await work(seconds)
    return "done"


@app.workflow
async def poison(how: str) -> None:
    await work(0.05)
    if how == "exit":
        os._exit(1)
    elif how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    else:
        ctypes.string_at(0)
