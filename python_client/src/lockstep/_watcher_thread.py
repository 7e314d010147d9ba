"""Waits for workflows on behalf of a client that is used by threads."""

from __future__ import annotations

import asyncio
import threading

from ._calls import Finding, Watch
from ._watcher import AsyncWatcher


class Watcher:
    """Waits in any number of threads, on an event loop in a thread of its own."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watcher: AsyncWatcher | None = None

    @property
    def is_connected(self) -> bool:
        watcher = self._watcher
        return watcher is not None and watcher.is_connected

    def wait(self, watch: Watch, seconds: float | None = None) -> Finding | None:
        """See AsyncWatcher.wait()."""
        with self._starting:
            loop, watcher = self._started()
            future = asyncio.run_coroutine_threadsafe(watcher.wait(watch, seconds), loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def _started(self) -> tuple[asyncio.AbstractEventLoop, AsyncWatcher]:
        if self._loop is None or self._watcher is None:
            self._loop = asyncio.new_event_loop()
            self._watcher = AsyncWatcher(self._dsn)
            self._thread = threading.Thread(
                target=self._loop.run_forever, name="lockstep client", daemon=True
            )
            self._thread.start()
        return self._loop, self._watcher

    def close(self) -> None:
        """End the connection and the thread; those who still wait get psycopg.OperationalError."""
        with self._starting:
            loop, thread, watcher = self._loop, self._thread, self._watcher
            self._loop = self._thread = self._watcher = None
        if loop is None or thread is None or watcher is None:
            return
        asyncio.run_coroutine_threadsafe(_finish(watcher), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _finish(watcher: AsyncWatcher) -> None:
    """Close a watcher, and let those who waited go before the loop ends."""
    await watcher.close()
    for _ in range(2):
        waiting = asyncio.all_tasks() - {asyncio.current_task()}
        if waiting:
            await asyncio.wait(waiting, timeout=1.0)
        for task in waiting:
            task.cancel()
