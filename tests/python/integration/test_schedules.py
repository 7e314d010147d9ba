"""Schedules in a real database: ticks that workers start, and what changes them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import lockstep
import psycopg
import pytest
from harness import Database
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from lockstep._cron import Cron
from waiting import until

RunWorker = Callable[..., contextlib.AbstractAsyncContextManager[lockstep.Worker]]
UTC = timezone.utc


def make_app() -> lockstep.App:
    app = lockstep.App()

    @app.workflow
    async def tell_time(scheduled_at: datetime) -> str:
        return scheduled_at.isoformat()

    @app.workflow
    async def greet(name: str = "nobody") -> str:
        return f"hello {name}"

    return app


def started(database: Database, schedule_name: str) -> list[str]:
    """Return the ids of the workflows that a schedule started, in order."""
    rows = database.rows(
        "SELECT workflow_id FROM lockstep.workflow_status"
        " WHERE headers->>'schedule_name' = %s ORDER BY workflow_id COLLATE \"C\"",
        schedule_name,
    )
    return [workflow_id for (workflow_id,) in rows]


def idle_workers(database: Database) -> int:
    value = database.value("SELECT count(*) FROM lockstep.executor WHERE is_idle")
    assert isinstance(value, int)
    return value


def has_next_tick(database: Database) -> bool:
    (row,) = database.rows("SELECT bool_and(isfinite(next_tick_at)) FROM lockstep.schedule")
    return row == (True,)


def miss(database: Database, schedule_name: str, since: datetime) -> None:
    """Make a schedule as it is when nobody looked at it since a moment."""
    database.rows(
        "UPDATE lockstep.schedule SET handled_until = %s, next_tick_at = '-infinity'"
        " WHERE schedule_name = %s",
        since,
        schedule_name,
    )


# what an expression is

terms = st.one_of(
    st.sampled_from(["*", "L", "LW", "5L", "1#2", "MON", "mon-fri", "JAN-MAR", "7", "0", "08"]),
    st.integers(0, 62).map(str),
    st.builds("{}-{}".format, st.integers(0, 60), st.integers(0, 60)),
    st.builds("*/{}".format, st.integers(0, 70)),
    st.builds("{}/{}".format, st.integers(0, 31), st.integers(0, 40)),
    st.builds("{}-{}/{}".format, st.integers(0, 12), st.integers(0, 31), st.integers(0, 9)),
    st.builds("{}#{}".format, st.integers(0, 8), st.integers(0, 6)),
    st.builds("{}L".format, st.integers(0, 9)),
    st.text("0123456789*/,-#LWMONSUFEB@ ", max_size=5),
)
cron_fields = st.lists(terms, min_size=1, max_size=3).map(",".join)
good_terms = st.one_of(
    st.sampled_from(["*", "*/1", "*/9", "3", "07", "1,2", "2-5", "1-5/2", "2-5,1", "5/3", "6-6/2"]),
    st.builds("{}-{}".format, st.integers(1, 4), st.integers(4, 7)),
)
good_fields = st.lists(good_terms, min_size=1, max_size=2).map(",".join)
days_of_month = st.sampled_from(["29", "30", "31", "30,31", "30/1", "*/31", "31-31", "L", "1,31"])
months = st.sampled_from(["2", "FEB", "4", "2,4,6", "2-4", "*/2", "11/1", "JAN", "*", "4/7"])
days_of_week = st.sampled_from(["*", "*/2", "*,1", "MON", "7"])
expressions = st.one_of(
    st.lists(cron_fields, min_size=4, max_size=7).map(" ".join),
    st.lists(st.sampled_from(["*", "1", "*/5"]), min_size=1, max_size=7).map("\t ".join),
    st.builds("{} {} {} {} {}".format, terms, terms, terms, terms, terms),
    st.lists(good_fields, min_size=5, max_size=6).map(" ".join),
    st.builds(
        "{} {} {}".format, *[good_fields] * 2, st.lists(terms, min_size=3, max_size=3).map(" ".join)
    ),
    st.builds("0 0 {} {} {}".format, days_of_month, months, days_of_week),
    st.sampled_from(["@daily", "@Yearly ", "@reboot", "@", "", " ", "@hourly *"]),
    st.text(max_size=20),
)


def is_taken(expression: str) -> bool:
    try:
        Cron(expression)
    except lockstep.InvalidArgument:
        return False
    return True


def differences(connection: psycopg.Connection[Any], texts: list[str]) -> dict[str, str]:
    """Return the expressions of which only one thinks that they are good."""
    cursor = connection.execute(
        "SELECT e.cron, lockstep._cron_problem(e.cron) IS NULL FROM unnest(%s::text[]) AS e (cron)",
        (texts,),
    )
    return {
        text: "the database takes it" if taken else "the library takes it"
        for text, taken in cursor
        if taken != is_taken(text)
    }


# shrinking takes longer than the test may: the difference is told as it is
@settings(
    max_examples=200,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(batch=st.lists(expressions.filter(lambda text: "\0" not in text), min_size=20, max_size=20))
def test_database_and_library_take_the_same_expressions(
    connection: psycopg.Connection[Any], batch: list[str]
) -> None:
    encodable = [text for text in batch if text.encode("utf-8", "ignore").decode() == text]
    assert differences(connection, encodable) == {}


def test_database_and_library_take_the_same_terms_in_each_field(
    connection: psycopg.Connection[Any],
) -> None:
    numbers = ["0", "1", "5", "6", "7", "8", "12", "13", "23", "24", "31", "32", "59", "60", "007"]
    steps = [
        "*/0",
        "*/1",
        "*/99",
        "*/00",
        "*/",
        "*/*",
        "1/0",
        "1/2",
        "3-5/2",
        "3-5/0",
        "/2",
        "1/2/3",
    ]
    ranges = ["1-3", "3-1", "3-3", "0-7", "*-3", "1-", "-3", "1-2-3", "1-60", "mon-FRI", "FRI-MON"]
    days = ["L", "LW", "LL", "WL", "L/2", "LW/0", "L-3", "5L", "7L", "8L", "05L", "5L/2", "MONL"]
    nth = [
        "1#1",
        "1#0",
        "1#5",
        "1#6",
        "8#1",
        "7#05",
        "MON#2",
        "mon#2/2",
        "#2",
        "1#",
        "1-3#2",
        "1#2#3",
    ]
    names = ["MON", "sun", "JAN", "dec", "MOON", "MO", "MON/2", "JAN-MAR/2", "MAR-JAN", "1-MAR"]
    others = [
        "**",
        "?",
        "$",
        "1.5",
        "+1",
        "1 2",
        "~",
        ",",
        "1,",
        ",1",
        "*,*",
        "1,2-4,*/5",
        "\u00b2",
    ]
    expressions = [
        " ".join([*["*"] * place, term, *["*"] * (count - place - 1)])
        for term in (*numbers, *steps, *ranges, *days, *nth, *names, *others)
        for count in (5, 6)
        for place in range(count)
    ]
    assert 200 < sum(map(is_taken, expressions)) < len(expressions) / 2
    assert differences(connection, expressions) == {}


def test_database_and_library_know_the_same_days_of_months(
    connection: psycopg.Connection[Any],
) -> None:
    days = ["28", "29", "30", "31", "30,31", "30/1", "*/31", "L", "LW", "31,L"]
    months = [*map(str, range(1, 13)), "2,4", "2-4", "FEB,nov", "*/2", "11/1", "6-11/5"]
    all_of_them = [
        f"0 0 {day} {month} {day_of_week}"
        for day in days
        for month in months
        for day_of_week in ("*", "*/2", "*,MON", "MON", "MON,*")
    ]
    assert 20 < sum(not is_taken(text) for text in all_of_them) < len(all_of_them) / 2
    assert differences(connection, all_of_them) == {}


@pytest.fixture
def connection(database: Database) -> Any:
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        yield connection


# ticks


async def test_tick_starts_a_workflow_that_receives_its_time(
    database: Database, run_worker: RunWorker, client: lockstep.AsyncClient
) -> None:
    app = make_app()
    async with run_worker(app):
        await client.schedule_workflow("clock", "* * * * * *", app.workflows["tell_time"])
        (first, *_) = await until(lambda: started(database, "clock"), "a tick", 5)
        tick = datetime.fromisoformat(first.removeprefix("clock:").replace("Z", "+00:00"))
        assert await client.result(first) == tick.isoformat()
        info = await client.get(first)
    assert info.headers == {"schedule_name": "clock", "scheduled_at": f"{tick:%Y-%m-%dT%H:%M:%SZ}"}
    assert timedelta(0) < info.created_at - tick < timedelta(seconds=0.5)


@pytest.mark.direct("hears a notification")
async def test_idle_worker_starts_ticks_within_50_ms_of_their_moment(
    database: Database, run_worker: RunWorker, client: lockstep.AsyncClient
) -> None:
    app = make_app()
    async with run_worker(app):
        await until(lambda: idle_workers(database), "idleness")
        await client.schedule_workflow("clock", "* * * * * *", app.workflows["tell_time"])
        await until(lambda: len(started(database, "clock")) >= 7, "seven ticks", 15)
    lateness = [
        delay
        for (delay,) in database.rows(
            "SELECT extract(epoch FROM w.started_at"
            " - (w.headers->>'scheduled_at')::timestamptz)::float"
            " FROM lockstep.workflow_status AS w WHERE w.started_at IS NOT NULL"
            " ORDER BY w.workflow_id"
        )
    ]
    print("started after", lateness)
    # two of them, not their mean: the machine of the tests may stand still at times
    assert sorted(lateness)[1] < 0.05, lateness
    assert min(lateness) >= 0


@pytest.mark.direct("hears a notification")
async def test_new_schedule_is_noticed_at_once(
    database: Database, run_worker: RunWorker, client: lockstep.AsyncClient
) -> None:
    app = make_app()
    async with run_worker(app, poll_interval=timedelta(seconds=60)):
        await until(lambda: idle_workers(database), "idleness")
        await client.schedule_workflow("yearly", "@yearly", "greet")

        async def next_tick() -> Any:
            ((info,),) = [await client.list_schedules()]
            return info.next_tick_at

        began = asyncio.get_running_loop().time()
        while await next_tick() is None:
            await asyncio.sleep(0.005)
            assert asyncio.get_running_loop().time() - began < 1.0
        year = datetime.now(UTC).year + 1
        assert await next_tick() == datetime(year, 1, 1, tzinfo=UTC)


async def test_many_workers_start_each_tick_once(
    database: Database, run_worker: RunWorker, client: lockstep.AsyncClient
) -> None:
    app = make_app()
    async with contextlib.AsyncExitStack() as workers:
        for _ in range(6):
            await workers.enter_async_context(run_worker(app))
        await client.schedule_workflow("clock", "* * * * * *", "greet")
        await client.schedule_workflow("clock2", "*/2 * * * * *", "greet")
        await until(lambda: len(started(database, "clock")) >= 5, "five ticks", 15)
    for name, step in (("clock", 1), ("clock2", 2)):
        times = [
            datetime.fromisoformat(workflow_id.removeprefix(f"{name}:").replace("Z", "+00:00"))
            for workflow_id in started(database, name)
        ]
        first = times[0]
        assert times == [first + n * timedelta(seconds=step) for n in range(len(times))]
    ((revision, count),) = database.rows(
        "SELECT revision, (SELECT count(*) FROM lockstep.workflow_status AS w"
        " WHERE w.headers->>'schedule_name' = 'clock')"
        " FROM lockstep.schedule WHERE schedule_name = 'clock'"
    )
    assert revision <= count + 2, "one worker wrote for each tick"


async def test_schedule_that_somebody_holds_stops_no_other(
    database: Database,
    run_worker: RunWorker,
    client: lockstep.AsyncClient,
    connection: psycopg.Connection[Any],
) -> None:
    app = make_app()
    await client.schedule_workflow("held", "* * * * * *", "greet")
    await client.schedule_workflow("free", "* * * * * *", "greet")
    async with run_worker(app) as worker:
        looks = 0

        async def count_looks(query: str, *params: Any) -> Any:
            nonlocal looks
            looks += "due_schedules" in query
            return await lockstep._session.Session.call(worker.session, query, *params)

        with connection.transaction():
            connection.execute(
                "SELECT FROM lockstep.schedule WHERE schedule_name = 'held' FOR UPDATE"
            )
            held = len(started(database, "held"))
            await until(lambda: worker.executor_id, "the start")
            worker.session.call = count_looks  # type: ignore[method-assign]
            await until(lambda: len(started(database, "free")) >= 3, "three ticks", 10)
            assert len(started(database, "held")) == held
            assert looks <= 40, "it is looked at now and then"
        await until(lambda: len(started(database, "held")) >= 3, "its ticks, late", 10)


async def test_worker_needs_no_more_than_its_capability(
    database: Database, client: lockstep.AsyncClient
) -> None:
    app = make_app()
    app.scheduled("* * * * * *", name="clock")(app.workflows["tell_time"])
    database.rows("CREATE ROLE plain_worker LOGIN")
    database.rows("SELECT lockstep.grant_usage('plain_worker', 'worker')")
    dsn = f"{database.dsn} user=plain_worker"
    worker = lockstep.Worker(app, dsn=dsn)
    running = asyncio.create_task(worker.run())
    try:
        await until(lambda: started(database, "clock"), "a tick", 5)
        async with lockstep.AsyncClient(dsn) as plain:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await plain.pause_schedule("clock")
    finally:
        worker.stop()
        await running
        database.rows("DROP OWNED BY plain_worker")
        database.rows("DROP ROLE plain_worker")
    (info,) = await client.list_schedules()
    assert info.created_by == "plain_worker"


async def test_purged_tick_does_not_start_again(
    database: Database, run_worker: RunWorker, client: lockstep.AsyncClient
) -> None:
    app = make_app()
    async with run_worker(app):
        await client.schedule_workflow(
            "clock", "* * * * * *", app.workflows["greet"], on_missed="all"
        )
        (first, *_) = await until(lambda: started(database, "clock"), "a tick", 5)
        await client.result(first)
        await client.purge(timedelta(0))
        count = len(started(database, "clock"))
        await until(lambda: len(started(database, "clock")) > count, "another tick", 5)
        assert first not in started(database, "clock")


@pytest.mark.parametrize(("on_missed", "count"), [("skip", 0), ("latest", 1), ("all", 24)])
async def test_missed_ticks_are_started_when_a_worker_is_back(
    database: Database,
    run_worker: RunWorker,
    client: lockstep.AsyncClient,
    on_missed: Any,
    count: int,
) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    # an hourly tick that is neither now nor soon
    minute = (now.minute + 30) % 60
    await client.schedule_workflow("hourly", f"{minute} * * * *", "greet", on_missed=on_missed)
    miss(database, "hourly", now - timedelta(days=1))
    async with run_worker(make_app()):
        await until(lambda: has_next_tick(database), "the next tick")
    ids = started(database, "hourly")
    assert len(ids) == count
    if on_missed == "latest":
        latest = Cron(f"{minute} * * * *").latest_tick(now - timedelta(days=1), now)
        assert ids == [f"hourly:{latest:%Y-%m-%dT%H:%M:%SZ}"]
    created = database.rows(
        "SELECT workflow_id FROM lockstep.workflow_status ORDER BY created_at, workflow_id"
    )
    assert [workflow_id for (workflow_id,) in created] == ids, "the oldest first"


async def test_long_gap_of_missed_ticks_takes_small_transactions(
    database: Database, run_worker: RunWorker, client: lockstep.AsyncClient
) -> None:
    now = datetime.now(UTC)
    await client.schedule_workflow("minutely", "* * * * *", "greet", on_missed="all")
    miss(database, "minutely", now - timedelta(minutes=750))
    async with run_worker(make_app()):
        await until(lambda: len(started(database, "minutely")) >= 750, "all missed ticks")
    assert (
        database.value(
            "SELECT max(c) FROM (SELECT count(*) AS c FROM lockstep.workflow_status"
            " GROUP BY xmin::text) AS x"
        )
        <= 200
    ), "start and finish are batches"
    assert database.value("SELECT revision FROM lockstep.schedule") >= 8


async def test_ticks_of_a_pause_are_not_missed(
    database: Database, run_worker: RunWorker, client: lockstep.AsyncClient
) -> None:
    async with run_worker(make_app()):
        await client.schedule_workflow("clock", "* * * * * *", "greet", on_missed="all")
        await until(lambda: started(database, "clock"), "a tick", 5)
        await client.pause_schedule("clock")
        await client.pause_schedule("clock")
        count = len(started(database, "clock"))
        (info,) = await client.list_schedules()
        assert (info.is_paused, info.next_tick_at) == (True, None)
        await asyncio.sleep(2.2)
        assert len(started(database, "clock")) == count
        miss(database, "clock", datetime.now(UTC) - timedelta(hours=1))
        await client.unpause_schedule("clock")
        await until(lambda: len(started(database, "clock")) > count, "another tick", 5)
    assert len(started(database, "clock")) <= count + 3


async def test_expression_that_never_comes_is_taken_and_never_ticks(
    database: Database, run_worker: RunWorker, client: lockstep.AsyncClient
) -> None:
    async with run_worker(make_app()):
        await client.schedule_workflow("never", "0 0 */3 2 5#5", "greet")
        await until(
            lambda: database.value("SELECT next_tick_at = 'infinity' FROM lockstep.schedule"),
            "the computation",
        )
        (info,) = await client.list_schedules()
    assert (info.next_tick_at, info.problem) == (None, None)


async def test_schedule_that_cannot_tick_says_so_and_stops_no_other(
    database: Database, run_worker: RunWorker, client: lockstep.AsyncClient
) -> None:
    await client.schedule_workflow("far", "* * * * * *", "greet")
    await client.schedule_workflow("barred", "* * * * * *", "greet", queue_name="barred")
    await client.schedule_workflow("free", "* * * * * *", "greet")
    database.rows("UPDATE lockstep.schedule SET time_zone = 'Mars' WHERE schedule_name = 'far'")
    database.rows(
        "ALTER TABLE lockstep.workflow_status ADD CONSTRAINT barred CHECK (queue_name <> 'barred')"
    )
    await client.schedule_workflow("denied", "* * * * * *", "greet", queue_name="denied")
    database.rows(
        "CREATE FUNCTION deny() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " RAISE EXCEPTION 'denied' USING ERRCODE = 'insufficient_privilege'; END $$"
    )
    database.rows(
        "CREATE TRIGGER deny BEFORE INSERT ON lockstep.workflow_status FOR EACH ROW"
        " WHEN (NEW.queue_name = 'denied') EXECUTE FUNCTION deny()"
    )
    async with run_worker(make_app()):
        await until(lambda: len(started(database, "free")) >= 2, "ticks", 10)
        infos = {info.schedule_name: info for info in await client.list_schedules()}
    assert "Mars" in str(infos["far"].problem)
    assert "barred" in str(infos["barred"].problem)
    assert infos["denied"].problem == "denied"
    assert infos["free"].problem is None


async def test_problem_that_lasts_is_logged_once(
    database: Database,
    run_worker: RunWorker,
    client: lockstep.AsyncClient,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await client.schedule_workflow("barred", "* * * * * *", "greet", queue_name="barred")
    database.rows(
        "ALTER TABLE lockstep.workflow_status ADD CONSTRAINT barred CHECK (queue_name <> 'barred')"
    )
    revision = "SELECT revision FROM lockstep.schedule WHERE problem IS NOT NULL"
    async with run_worker(make_app()):
        for _ in range(3):
            ((last,),) = await until(lambda: database.rows(revision), "the problem")
            # a minute later
            database.rows("UPDATE lockstep.schedule SET next_tick_at = now()")
            database.rows("SELECT lockstep._ring_for_schedules()")
            await until(lambda last=last: database.value(revision) > last, "another look")
    assert caplog.text.count("starts no ticks") == 1


# declarations


async def test_worker_creates_what_its_code_declares(
    database: Database, run_worker: RunWorker, client: lockstep.AsyncClient
) -> None:
    app = make_app()
    app.scheduled("* * * * * *", name="clock", timeout=timedelta(minutes=5))(
        app.workflows["tell_time"]
    )
    app.scheduled(
        "@yearly",
        name="new year",
        time_zone="Europe/Berlin",
        named_args={"name": "year"},
        retries=lockstep.Retry(max_attempts=3),
        headers={"team": "ops"},
    )(app.workflows["greet"])
    async with run_worker(app):
        await until(lambda: started(database, "clock"), "a tick", 5)
        clock, new_year = await client.list_schedules()
        assert clock.timeout == timedelta(minutes=5)
        assert (new_year.time_arg, new_year.named_args) == (None, {"name": "year"})
        assert new_year.retries is not None
        assert await client.result(await client.trigger_schedule("new year")) == "hello year"


async def test_declaring_again_changes_nothing_and_keeps_a_pause(
    database: Database, run_worker: RunWorker, client: lockstep.AsyncClient
) -> None:
    app = make_app()
    app.scheduled("@yearly", name="new year")(app.workflows["greet"])
    async with run_worker(app):
        await until(lambda: has_next_tick(database), "the next tick")
    await client.pause_schedule("new year")
    query = "SELECT xmin::text, revision, handled_until, is_paused FROM lockstep.schedule"
    before = database.rows(query)
    async with run_worker(app) as worker:
        await until(lambda: worker.executor_id, "the start")
    assert database.rows(query) == before

    app = make_app()
    app.scheduled("@monthly", name="new year")(app.workflows["greet"])
    async with run_worker(app) as worker:
        await until(lambda: worker.executor_id, "the start")
    (info,) = await client.list_schedules()
    assert (info.cron, info.is_paused) == ("@monthly", True)


async def test_schedule_that_is_declared_no_longer_stays(
    database: Database, run_worker: RunWorker, client: lockstep.AsyncClient
) -> None:
    await client.schedule_workflow("clock", "* * * * * *", "greet")
    async with run_worker(make_app()):
        await until(lambda: started(database, "clock"), "a tick", 5)


async def test_worker_does_not_start_with_a_schedule_that_the_database_refuses(
    database: Database, run_worker: RunWorker
) -> None:
    app = make_app()
    app.scheduled("@yearly", name="x" * 401)(app.workflows["greet"])
    with pytest.raises(lockstep.InvalidArgument, match="1 to 400"):
        async with run_worker(app) as worker:
            await until(lambda: worker.executor_id, "the start", 2)


# by hand


async def test_trigger_starts_one_more_also_while_paused(
    run_worker: RunWorker, client: lockstep.AsyncClient
) -> None:
    app = make_app()
    await client.schedule_workflow("yearly", "@yearly", app.workflows["tell_time"])
    await client.pause_schedule("yearly")
    async with run_worker(app):
        first = await client.trigger_schedule("yearly")
        second = await client.trigger_schedule("yearly")
        assert first != second
        age = datetime.now(UTC) - datetime.fromisoformat(await client.result(second))
    assert timedelta(0) <= age < timedelta(seconds=10)


async def test_trigger_is_refused_while_a_run_has_the_deduplication_id(
    client: lockstep.AsyncClient,
) -> None:
    await client.schedule_workflow("yearly", "@yearly", "greet", deduplication_id="one at a time")
    first = await client.trigger_schedule("yearly")
    with pytest.raises(lockstep.DuplicateWorkflow, match=first):
        await client.trigger_schedule("yearly")


async def test_tick_is_left_out_while_a_run_has_the_deduplication_id(
    database: Database, run_worker: RunWorker, client: lockstep.AsyncClient
) -> None:
    async with run_worker(make_app()):
        await client.schedule_workflow(
            "clock", "* * * * * *", "greet", queue_name="nobody", deduplication_id="one"
        )
        revision = "SELECT revision FROM lockstep.schedule"
        await until(lambda: database.value(revision) >= 5, "some ticks", 10)
    assert len(started(database, "clock")) == 1


async def test_backfill_starts_past_ticks_once(
    database: Database, run_worker: RunWorker, client: lockstep.AsyncClient
) -> None:
    app = make_app()
    await client.schedule_workflow(
        "daily", "30 2 * * *", app.workflows["tell_time"], time_zone="Europe/Berlin"
    )
    start = datetime(2026, 3, 28, tzinfo=UTC)
    async with run_worker(app):
        backfill = await client.backfill_schedule("daily", start, start + timedelta(days=3))
        assert await client.result(backfill) == 3
        # 02:30 did not exist on the 29th; see test_daily_schedule_ticks_once_a_day_…
        expected = ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]
        ids = [f"daily:{tick}" for tick in expected]
        assert [i for i in started(database, "daily") if i != backfill] == ids
        assert await client.result(ids[1]) == "2026-03-29T01:00:00+00:00"
        again = await client.backfill_schedule("daily", start, start + timedelta(days=4))
        assert await client.result(again) == 1


async def test_backfill_begins_with_its_first_moment_and_ends_before_its_last(
    database: Database, run_worker: RunWorker, client: lockstep.AsyncClient
) -> None:
    await client.schedule_workflow("hourly", "@hourly", "greet")
    start = datetime(2026, 3, 28, 12, tzinfo=UTC)
    async with run_worker(make_app()):
        backfill = await client.backfill_schedule("hourly", start, start + timedelta(hours=250))
        assert await client.result(backfill) == 250
    ids = [i for i in started(database, "hourly") if i != backfill]
    assert ids[0] == "hourly:2026-03-28T12:00:00Z"
    assert ids[-1] == "hourly:2026-04-07T21:00:00Z"
    assert [name for _, name, _ in database.steps(backfill)] == ["backfill"] * 3


async def test_backfill_between_naive_moments_is_refused(client: lockstep.AsyncClient) -> None:
    moment = datetime(2026, 3, 28)
    with pytest.raises(lockstep.InvalidArgument, match="aware"):
        await client.backfill_schedule("hourly", moment, moment.replace(tzinfo=UTC))


async def test_backfill_of_a_removed_schedule_fails(
    run_worker: RunWorker, client: lockstep.AsyncClient
) -> None:
    await client.schedule_workflow("hourly", "@hourly", "greet")
    start = datetime(2026, 3, 28, 12, tzinfo=UTC)
    backfill = await client.backfill_schedule("hourly", start, start + timedelta(hours=5))
    await client.unschedule_workflow("hourly")
    async with run_worker(make_app()):
        with pytest.raises(lockstep.WorkflowFailed, match="ScheduleNotFound"):
            await client.result(backfill, timeout=timedelta(seconds=20))


# clients


async def test_unknown_schedule_is_not_found(client: lockstep.AsyncClient) -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    for call in (
        client.unschedule_workflow("nowhere"),
        client.pause_schedule("nowhere"),
        client.unpause_schedule("nowhere"),
        client.trigger_schedule("nowhere"),
        client.backfill_schedule("nowhere", moment, moment),
    ):
        with pytest.raises(lockstep.ScheduleNotFound, match="nowhere"):
            await call


async def test_bad_schedule_is_refused_before_the_database_is_asked() -> None:
    client = lockstep.AsyncClient("host=/nowhere")
    with pytest.raises(lockstep.InvalidArgument, match="61"):
        await client.schedule_workflow("s", "61 * * * *", "greet")
    with pytest.raises(lockstep.InvalidArgument, match="Mars"):
        await client.schedule_workflow("s", "@daily", "greet", time_zone="Mars")


def test_schedule_made_in_the_callers_transaction_vanishes_with_it(database: Database) -> None:
    with (
        lockstep.Client(database.dsn) as client,
        psycopg.connect(database.dsn) as connection,
    ):
        client.schedule_workflow("s", "@daily", "greet", conn=connection)
        assert [info.schedule_name for info in client.list_schedules(conn=connection)] == ["s"]
        connection.rollback()
        assert client.list_schedules() == []
        client.using(connection).schedule_workflow("s", "@daily", "greet", engine="workers")
        connection.commit()
        (info,) = client.list_schedules()
    assert (info.engine, info.created_by, info.time_arg) == ("workers", "postgres", "scheduled_at")
