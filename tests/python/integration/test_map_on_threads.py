"""Threads of a plain workflow: one that waits must not interrupt one that works."""

from __future__ import annotations

import time
from datetime import timedelta

import lockstep
from lockstep import sync


async def test_workflow_is_not_suspended_while_one_of_its_threads_is_in_a_step(
    client: lockstep.AsyncClient, run_worker
) -> None:
    app = lockstep.App()
    packed: list[int] = []

    @app.step
    def pack(parcel: int) -> int:
        packed.append(parcel)
        time.sleep(0.3)
        return parcel

    def pack_or_wait(parcel: int) -> int:
        if parcel == 0:
            sync.sleep(timedelta(seconds=1.2))
            return parcel
        return pack(parcel)

    @app.workflow
    def pack_all() -> list[int]:
        return sync.map(pack_or_wait, range(4), limit=2)

    async with run_worker(app):
        workflow_id = await client.enqueue(pack_all)
        assert await client.result(workflow_id, timeout=timedelta(seconds=20)) == [0, 1, 2, 3]
    assert sorted(packed) == [1, 2, 3]
