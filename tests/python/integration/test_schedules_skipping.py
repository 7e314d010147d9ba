"""Schedules in an environment that skips time: they do not tick, and can be started."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import lockstep
from lockstep.testing import AsyncWorkflowEnvironment, create_database
from servers import Cluster

UTC = timezone.utc


async def test_schedules_stand_still_while_time_is_skipped(cluster: Cluster) -> None:
    app = lockstep.App()

    @app.scheduled("* * * * * *", name="clock", on_missed="all")
    @app.workflow
    async def tell_time(scheduled_at: datetime) -> str:
        await lockstep.sleep(timedelta(days=30))
        return scheduled_at.isoformat()

    with create_database(cluster.dsn()) as dsn:
        async with AsyncWorkflowEnvironment(app, dsn) as env:
            ((before,),) = [await env.client.list_schedules()]
            triggered = await env.client.trigger_schedule("clock")
            await env.result(triggered)
            assert env.time_skipped >= timedelta(days=29)
            moment = datetime(2026, 1, 1, tzinfo=UTC)
            backfill = await env.client.backfill_schedule(
                "clock", moment, moment + timedelta(seconds=2)
            )
            assert await env.result(backfill) == 2
            assert await env.result("clock:2026-01-01T00:00:01Z") == "2026-01-01T00:00:01+00:00"
            assert [before] == await env.client.list_schedules()
            infos = await env.client.list(workflow_name="tell_time")
    assert sorted(info.workflow_id for info in infos) == sorted(
        [triggered, "clock:2026-01-01T00:00:00Z", "clock:2026-01-01T00:00:01Z"]
    )
