"""Schedules in a database that has pg_cron: a real one, whose jobs fire."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import lockstep
import psycopg
import pytest
from harness import Database
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lockstep._cron import Cron
from servers import Cluster
from waiting import eventually


@pytest.fixture(scope="module")
def cron_database() -> Iterator[Database]:
    cluster = Cluster(
        settings=[
            "shared_preload_libraries=pg_cron",
            "cron.database_name=postgres",
            "cron.use_background_workers=on",
        ]
    )
    try:
        cluster.start()
        database = Database(cluster.dsn())
        database.rows("CREATE EXTENSION pg_cron")
        database.rows("CREATE EXTENSION lockstep")
        yield database
    finally:
        cluster.stop()


@pytest.fixture
def client(cron_database: Database) -> Iterator[lockstep.Client]:
    with lockstep.Client(cron_database.dsn) as client:
        yield client
        for info in client.list_schedules():
            client.unschedule_workflow(info.schedule_name)
        assert jobs(cron_database) == [], "no job is left behind"
        cron_database.rows("DELETE FROM lockstep.workflow_status")


def jobs(database: Database) -> list[tuple[str, str, bool]]:
    return database.rows("SELECT jobname::text, schedule, active FROM cron.job ORDER BY jobname")


def info_of(client: lockstep.Client, schedule_name: str) -> lockstep.ScheduleInfo:
    (info,) = [each for each in client.list_schedules() if each.schedule_name == schedule_name]
    return info


async def test_job_starts_the_tick_while_no_worker_is_alive(
    cron_database: Database, client: lockstep.Client
) -> None:
    app = lockstep.App()

    @app.workflow
    async def tell_time(scheduled_at: datetime) -> str:
        return scheduled_at.isoformat()

    client.schedule_workflow("minutely", "* * * * *", tell_time, on_missed="all")
    assert info_of(client, "minutely").engine == "pg_cron"
    query = "SELECT workflow_id, created_at FROM lockstep.workflow_status"
    ((workflow_id, created_at),) = await asyncio.to_thread(
        eventually, lambda: cron_database.rows(query), "a tick", 75
    )
    tick = datetime.fromisoformat(workflow_id.removeprefix("minutely:").replace("Z", "+00:00"))
    print("started after", created_at - tick)
    assert timedelta(0) <= created_at - tick < timedelta(seconds=10)
    runs = cron_database.rows("SELECT status, return_message FROM cron.job_run_details")
    assert all(status in ("succeeded", "running") for status, _ in runs), runs

    # the workers find it by its id when they are back, whatever is to be made up for
    worker = lockstep.Worker(app, dsn=cron_database.dsn)
    running = asyncio.create_task(worker.run())
    try:
        result = await asyncio.to_thread(client.result, workflow_id, timeout=timedelta(seconds=20))
        assert result == tick.isoformat()
        await asyncio.to_thread(
            eventually, lambda: info_of(client, "minutely").next_tick_at, "the next tick"
        )
    finally:
        worker.stop()
        await running
    ids = [row[0] for row in cron_database.rows(query)]
    assert len(ids) == len(set(ids)) <= 2
    assert info_of(client, "minutely").last_tick_at is not None


def test_schedule_has_a_job_for_as_long_as_it_ticks(
    cron_database: Database, client: lockstep.Client
) -> None:
    client.schedule_workflow("nightly", " 0 3 * * MON ", "w")
    job = ("lockstep: nightly", "0 3 * * MON", True)
    assert jobs(cron_database) == [job]
    client.pause_schedule("nightly")
    assert jobs(cron_database) == []
    client.unpause_schedule("nightly")
    assert jobs(cron_database) == [job]
    client.schedule_workflow("nightly", "@daily", "w")
    assert jobs(cron_database) == [("lockstep: nightly", "@daily", True)]
    client.schedule_workflow("nightly", "@daily", "w", engine="workers")
    assert jobs(cron_database) == []
    assert info_of(client, "nightly").engine == "workers"
    client.schedule_workflow("nightly", "@daily", "w", engine="pg_cron")
    client.unschedule_workflow("nightly")
    assert jobs(cron_database) == []


def test_job_that_is_as_it_should_be_is_left_alone(
    cron_database: Database, client: lockstep.Client
) -> None:
    client.schedule_workflow("nightly", "@daily", "w")
    before = cron_database.rows("SELECT xmin::text, j.* FROM cron.job AS j")
    client.schedule_workflow("nightly", "@daily", "w")
    assert cron_database.rows("SELECT xmin::text, j.* FROM cron.job AS j") == before


def test_job_of_somebody_else_is_never_removed(
    cron_database: Database, client: lockstep.Client
) -> None:
    client.schedule_workflow("nightly", "@daily", "w", engine="workers")
    job_id = cron_database.value("SELECT cron.schedule('vacuum', '@daily', 'VACUUM')")
    cron_database.rows("UPDATE lockstep.schedule SET cron_job_id = %s", job_id)
    client.unschedule_workflow("nightly")
    assert jobs(cron_database) == [("vacuum", "@daily", True)]
    cron_database.rows("SELECT cron.unschedule(%s)", job_id)


def test_job_of_another_schedule_is_never_removed(
    cron_database: Database, client: lockstep.Client
) -> None:
    for name in ("restored", "nightly"):
        client.schedule_workflow(name, "@daily", "w")
    # as after a restore without the tables of pg_cron, which gives the ids anew
    cron_database.rows(
        "UPDATE lockstep.schedule AS s SET cron_job_id = j.jobid"
        " FROM cron.job AS j WHERE j.jobname = 'lockstep: nightly'"
    )
    client.schedule_workflow("restored", "@hourly", "w")
    both = [("lockstep: nightly", "@daily", True), ("lockstep: restored", "@hourly", True)]
    assert jobs(cron_database) == both


def test_rolled_back_schedule_leaves_no_job(
    cron_database: Database, client: lockstep.Client
) -> None:
    with psycopg.connect(cron_database.dsn) as connection:
        client.schedule_workflow("nightly", "@daily", "w", conn=connection)
        connection.rollback()
    assert jobs(cron_database) == []


def test_long_names_have_jobs_of_their_own(
    cron_database: Database, client: lockstep.Client
) -> None:
    for end in ("a", "b"):
        client.schedule_workflow("\N{SNOWMAN}" * 399 + end, "@daily", "w")
    assert len(jobs(cron_database)) == 2


@pytest.mark.parametrize(
    ("cron", "time_zone", "reason"),
    [
        ("0 0 9 * * *", "UTC", "has seconds"),
        ("* * * * * *", "UTC", "has seconds"),
        ("0 9 L * *", "UTC", '"L"'),
        ("0 9 * * 1#2", "UTC", '"1#2"'),
        ("5/10 * * * *", "UTC", '"5/10"'),
        ("50-50/5 * * * *", "UTC", '"50-50/5"'),
        ("0 9 * * *", "Europe/Berlin", "Europe/Berlin"),
    ],
)
def test_what_pg_cron_cannot_start_is_left_to_the_workers(
    cron_database: Database, client: lockstep.Client, cron: str, time_zone: str, reason: str
) -> None:
    client.schedule_workflow("s", cron, "w", time_zone=time_zone)
    assert info_of(client, "s").engine == "workers"
    with pytest.raises(lockstep.InvalidArgument, match="pg_cron cannot start") as caught:
        client.schedule_workflow("s", cron, "w", time_zone=time_zone, engine="pg_cron")
    assert reason in str(caught.value)
    assert jobs(cron_database) == []


@pytest.mark.parametrize("alias", ["@Daily", "@ANNUALLY", " @midnight\t"])
def test_alias_in_any_case_has_a_job(
    cron_database: Database, client: lockstep.Client, alias: str
) -> None:
    client.schedule_workflow("s", alias, "w", engine="pg_cron")
    assert jobs(cron_database) == [("lockstep: s", alias.strip().lower(), True)]
    before = cron_database.rows("SELECT xmin::text, j.* FROM cron.job AS j")
    client.schedule_workflow("s", alias, "w", engine="pg_cron")
    assert cron_database.rows("SELECT xmin::text, j.* FROM cron.job AS j") == before


@pytest.mark.parametrize("time_zone", ["UTC", "GMT", "Etc/UTC"])
def test_pg_cron_runs_in_utc(client: lockstep.Client, time_zone: str) -> None:
    client.schedule_workflow("s", "0 9 * * *", "w", time_zone=time_zone)
    assert info_of(client, "s").engine == "pg_cron"


def test_owner_that_may_not_use_pg_cron_leaves_ticks_to_the_workers(
    cron_database: Database,
) -> None:
    with psycopg.connect(cron_database.dsn) as connection:
        connection.execute("CREATE ROLE plain")
        connection.execute("GRANT USAGE ON SCHEMA lockstep TO plain")
        connection.execute("GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA lockstep TO plain")
        connection.execute("SET LOCAL ROLE plain")
        query = "SELECT lockstep._pg_cron_refusal('@daily', 'UTC')"
        assert "may not use" in str(connection.execute(query).fetchone())
        connection.execute("RESET ROLE")
        connection.execute("GRANT USAGE ON SCHEMA cron TO plain")
        connection.execute("SET LOCAL ROLE plain")
        assert connection.execute(query).fetchone() == (None,)
        connection.rollback()


def test_schedules_outlive_pg_cron(cron_database: Database, client: lockstep.Client) -> None:
    client.schedule_workflow("s", "@daily", "w")
    with psycopg.connect(cron_database.dsn) as connection:
        connection.execute("DROP EXTENSION pg_cron")
        (info,) = client.list_schedules(conn=connection)
        assert info.engine == "workers"
        client.pause_schedule("s", conn=connection)
        client.unpause_schedule("s", conn=connection)
        (info,) = client.list_schedules(conn=connection)
        assert info.engine == "workers"
        client.unschedule_workflow("s", conn=connection)
        connection.rollback()


terms = st.one_of(
    st.sampled_from(
        ["*", "*/2", "*/99", "1", "05", "MON", "JAN", "mon-fri", "feb-nov", "0-7", "3-9/4"]
    ),
    st.builds("{}-{}/{}".format, st.integers(0, 12), st.integers(0, 31), st.integers(0, 99)),
    st.builds("{}-{}".format, st.integers(0, 12), st.integers(0, 31)),
    st.integers(0, 60).map(str),
)
fields = st.lists(terms, min_size=1, max_size=4).map(",".join)


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.filter_too_much,
    ],
)
@given(st.lists(st.lists(fields, min_size=5, max_size=5).map(" ".join), min_size=30, max_size=30))
def test_pg_cron_takes_what_it_is_given(cron_database: Database, batch: list[str]) -> None:
    good = [text for text in batch if is_taken(text)]
    with psycopg.connect(cron_database.dsn) as connection:
        connection.execute(
            "SELECT cron.schedule(e.cron, e.cron, 'SELECT') FROM unnest(%s::text[]) AS e (cron)"
            " WHERE lockstep._pg_cron_refusal(e.cron, 'UTC') IS NULL",
            (good,),
        )
        connection.rollback()


def is_taken(expression: str) -> Any:
    try:
        return Cron(expression)
    except lockstep.InvalidArgument:
        return None
