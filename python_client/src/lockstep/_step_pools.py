"""The connections that transactional steps run on."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from psycopg_pool import AsyncConnectionPool, ConnectionPool

from ._session import PATIENCE
from ._transaction import AsyncStepConnection, StepConnection, clean, clean_async


class StepPools:
    """Two pools of connections, each opened by the first step that asks for it."""

    def __init__(self, dsn: str, max_connections: int) -> None:
        self._dsn = dsn
        self._options: dict[str, Any] = {
            "min_size": 0,
            "max_size": max_connections,
            "kwargs": {
                # every transaction begins where the code says so, also after a look at a step
                "autocommit": True,
                "application_name": "lockstep transaction",
                **PATIENCE,
            },
        }
        self._async_pool: AsyncConnectionPool[AsyncStepConnection] | None = None
        self._async_lock = asyncio.Lock()
        self._plain_pool: ConnectionPool[StepConnection] | None = None
        self._plain_lock = threading.Lock()

    async def for_async(self) -> AsyncConnectionPool[AsyncStepConnection]:
        """Return the pool for ``async def`` steps."""
        async with self._async_lock:
            if self._async_pool is None:
                self._async_pool = AsyncConnectionPool(
                    self._dsn,
                    connection_class=AsyncStepConnection,
                    open=False,
                    reset=clean_async,
                    **self._options,
                )
                await self._async_pool.open()
            return self._async_pool

    def for_plain(self) -> ConnectionPool[StepConnection]:
        """Return the pool for plain steps, which run on threads."""
        with self._plain_lock:
            if self._plain_pool is None:
                self._plain_pool = ConnectionPool(
                    self._dsn,
                    connection_class=StepConnection,
                    open=True,
                    reset=clean,
                    **self._options,
                )
            return self._plain_pool

    async def close(self) -> None:
        """Close what was opened."""
        if self._async_pool is not None:
            await self._async_pool.close()
        if self._plain_pool is not None:
            await asyncio.to_thread(self._plain_pool.close)
