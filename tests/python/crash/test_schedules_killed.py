"""A worker is killed while it starts ticks; others start the same ones, each once."""

from __future__ import annotations

import signal
from collections.abc import Callable
from datetime import datetime, timedelta

from harness import Database, Gates, WorkerProcess
from waiting import eventually

StartWorker = Callable[..., WorkerProcess]


def ticks(database: Database) -> list[datetime]:
    rows = database.rows(
        "SELECT (w.headers->>'scheduled_at')::timestamptz FROM lockstep.workflow_status AS w"
        " WHERE w.workflow_name = 'tell_time' ORDER BY 1"
    )
    return [tick for (tick,) in rows]


def assert_without_gaps(found: list[datetime], step: timedelta) -> None:
    assert found == [found[0] + n * step for n in range(len(found))]


def schedule(database: Database, cron: str) -> None:
    database.rows("SELECT lockstep.schedule_workflow('s', %s, 'tell_time', 'default')", cron)


def test_worker_killed_between_computing_and_starting_ticks_loses_none(
    database: Database, start_worker: StartWorker, gates: Gates
) -> None:
    schedule(database, "* * * * * *")
    victim = start_worker("schedule_app:app")
    gates.wait_until_reached("computed")
    due = database.value(
        "SELECT date_trunc('second', handled_until) + interval '1 s' FROM lockstep.schedule"
    )
    assert ticks(database) == []
    victim.kill()
    start_worker("schedule_app:app")
    eventually(lambda: len(ticks(database)) >= 4, "four ticks")
    found = ticks(database)
    assert found[0] == due
    assert_without_gaps(found, timedelta(seconds=1))


def test_worker_that_hangs_before_it_starts_ticks_stops_no_other(
    database: Database, start_worker: StartWorker, gates: Gates
) -> None:
    schedule(database, "* * * * * *")
    hanging = start_worker("schedule_app:app")
    gates.wait_until_reached("computed")
    hanging.signal(signal.SIGSTOP)
    start_worker("schedule_app:app")
    eventually(lambda: len(ticks(database)) >= 3, "three ticks")
    assert_without_gaps(ticks(database), timedelta(seconds=1))


def test_backfill_goes_on_where_its_worker_was_killed_and_counts_what_that_started(
    database: Database, start_worker: StartWorker, gates: Gates
) -> None:
    schedule(database, "@hourly")
    backfill = database.value(
        "SELECT lockstep.backfill_schedule('s', '2026-01-01 00:00+00', '2026-01-11 10:00+00')"
    )
    victim = start_worker("schedule_app:app")
    gates.wait_until_reached("second_batch")
    victim.kill()
    start_worker("schedule_app:app")
    database.wait_for_status(backfill, "SUCCESS")
    query = "SELECT output FROM lockstep.workflow_status WHERE workflow_id = %s"
    assert database.value(query, backfill) == 250
    found = ticks(database)
    assert len(found) == 250
    assert_without_gaps(found, timedelta(hours=1))
    assert [name for _, name, _ in database.steps(backfill)] == ["backfill"] * 3
