"""A loop keeps what contains exits for as long as one of its workers runs."""

from __future__ import annotations

import asyncio

import lockstep
import psycopg
import pytest
from lockstep._exits import tasks_contained


async def test_worker_that_stops_takes_nothing_from_the_other() -> None:
    loop = asyncio.get_running_loop()
    with tasks_contained(loop):
        with tasks_contained(loop):
            pass
        assert loop.get_task_factory() is not None
    assert loop.get_task_factory() is None


async def test_factory_of_the_application_stays() -> None:
    loop = asyncio.get_running_loop()

    def own(loop: asyncio.AbstractEventLoop, coroutine: object, **options: object) -> object:
        raise NotImplementedError

    loop.set_task_factory(own)  # type: ignore[arg-type]
    with tasks_contained(loop):
        assert loop.get_task_factory() is own
    assert loop.get_task_factory() is own
    loop.set_task_factory(None)


async def test_worker_that_cannot_start_leaves_the_loop_as_it_was() -> None:
    app = lockstep.App()

    @app.workflow
    async def main() -> None: ...

    with pytest.raises(psycopg.OperationalError):
        await lockstep.Worker(app, dsn="host=127.0.0.1 port=1").run()
    assert asyncio.get_running_loop().get_task_factory() is None
