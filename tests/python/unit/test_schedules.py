"""What a schedule is, and which ticks are started when: without a database."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from itertools import islice, pairwise, takewhile
from zoneinfo import ZoneInfo

import lockstep
import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st
from lockstep._cron import Cron
from lockstep._schedule_calls import declaration
from lockstep._scheduler import GRACE, DueSchedule

UTC = timezone.utc
DAY = timedelta(days=1)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def due(
    cron: str, handled_until: datetime, asked_at: datetime, on_missed: str, time_zone: str = "UTC"
) -> DueSchedule:
    return DueSchedule("s", 1, cron, time_zone, on_missed, handled_until, asked_at)


# expressions


@pytest.mark.parametrize(
    "expression",
    [
        *("", "* * * *", "60 * * * *", "* * * * MOM", "@reboot", "0 0 31 2 *", "5-1 * * * *"),
        *("\N{FULLWIDTH DIGIT TWO} * * * *", "* * * * \N{LATIN SMALL LETTER LONG S}un"),
        *("* * * *\n*", "0" * 513 + " * * * *"),
    ],
)
def test_bad_expression_is_refused_at_once(expression: str) -> None:
    with pytest.raises(lockstep.InvalidArgument, match="is not valid"):
        Cron(expression)


@pytest.mark.parametrize("time_zone", ["Mars/Olympus", "", "../../etc/passwd", "europe/berlim"])
def test_unknown_time_zone_is_refused_at_once(time_zone: str) -> None:
    with pytest.raises(lockstep.InvalidArgument, match="is not known"):
        Cron("@daily", time_zone)


@pytest.mark.parametrize(
    ("alias", "ticks"),
    [
        ("@yearly", ["2027-01-01 00:00", "2028-01-01 00:00"]),
        ("@Annually", ["2027-01-01 00:00", "2028-01-01 00:00"]),
        ("@monthly", ["2026-12-01 00:00", "2027-01-01 00:00"]),
        (" @weekly", ["2026-11-22 00:00", "2026-11-29 00:00"]),
        ("@daily", ["2026-11-22 00:00", "2026-11-23 00:00"]),
        ("@midnight", ["2026-11-22 00:00", "2026-11-23 00:00"]),
        ("@hourly\t", ["2026-11-21 19:00", "2026-11-21 20:00"]),
        ("0 9 * * mon", ["2026-11-23 09:00", "2026-11-30 09:00"]),
        ("*/20 30 18 * * *", ["2026-11-21 18:30:00", "2026-11-21 18:30:20"]),
        ("0 0 L * *", ["2026-11-30 00:00", "2026-12-31 00:00"]),
        ("0 0 * * 5L", ["2026-11-27 00:00", "2026-12-25 00:00"]),
    ],
)
def test_ticks_come_when_the_expression_says(alias: str, ticks: list[str]) -> None:
    found = islice(Cron(alias).ticks_after(at("2026-11-21 18:20:15.5")), len(ticks))
    assert list(found) == [at(tick) for tick in ticks]


def test_expression_that_never_comes_has_no_ticks() -> None:
    # the fifth Friday of a February needs a 29th, which */3 leaves out
    assert list(Cron("0 0 */3 2 5#5").ticks_after(at("2026-01-01"))) == []


# daylight saving

# zone, the day before a change, and the ticks that daily schedules have over three days
CHANGES = [
    # 02:00 becomes 03:00: what was meant for the gap comes at its end
    ("Europe/Berlin", "2026-03-27 23:00", "30 2 * * *", ["28 01:30", "29 01:00", "30 00:30"]),
    ("Europe/Berlin", "2026-03-27 23:00", "30 3 * * *", ["28 02:30", "29 01:30", "30 01:30"]),
    # 03:00 becomes 02:00: what comes twice on the clock is started the first time
    ("Europe/Berlin", "2026-10-23 22:00", "30 2 * * *", ["24 00:30", "25 00:30", "26 01:30"]),
    ("America/New_York", "2026-03-07 05:00", "15 2 * * *", ["07 07:15", "08 07:00", "09 06:15"]),
    ("America/New_York", "2026-10-31 04:00", "15 1 * * *", ["31 05:15", "01 05:15", "02 06:15"]),
    # half an hour: 02:00 becomes 02:30, and 02:00 becomes 01:30
    ("Australia/Lord_Howe", "2026-10-02 13:30", "15 2 * * *", ["02 15:45", "03 15:30", "04 15:15"]),
    ("Australia/Lord_Howe", "2026-04-03 13:00", "45 1 * * *", ["03 14:45", "04 14:45", "05 15:15"]),
]


@pytest.mark.parametrize(("zone", "start", "expression", "ticks"), CHANGES)
def test_daily_schedule_ticks_once_a_day_over_a_change_of_the_clock(
    zone: str, start: str, expression: str, ticks: list[str]
) -> None:
    found = takewhile(
        lambda tick: tick < at(start) + 3 * DAY, Cron(expression, zone).ticks_after(at(start))
    )
    assert [f"{tick:%d %H:%M}" for tick in found] == ticks


def test_hourly_schedule_ticks_every_hour_over_a_change_of_the_clock() -> None:
    for start in ("2026-03-28 12:00", "2026-10-24 12:00"):
        ticks = list(islice(Cron("0 * * * *", "Europe/Berlin").ticks_after(at(start)), 24))
        assert {later - tick for tick, later in pairwise(ticks)} == {timedelta(hours=1)}


fields = st.one_of(
    st.just("*"), st.sampled_from(["*/7", "*/15", "*/30", "0", "15", "59", "0,30", "5-10"])
)
hours = st.sampled_from(["*", "*/2", "0-5", "1", "2", "3", "1,2,3", "1-3"])
transitions = st.sampled_from(
    [
        ("Europe/Berlin", at("2026-03-28")),
        ("Europe/Berlin", at("2026-10-24")),
        ("America/New_York", at("2026-03-07")),
        ("America/New_York", at("2026-10-31")),
        ("Australia/Lord_Howe", at("2026-04-03")),
        ("Australia/Lord_Howe", at("2026-10-02")),
    ]
)


def started(
    expression: str, zone: str, start: datetime, step: timedelta, on_missed: str
) -> Iterator[datetime]:
    """Play a worker that looks every so often: what it starts, over three days."""
    handled_until, now = start, start
    while now < start + 3 * DAY:
        change = due(expression, handled_until, now, on_missed, zone).change()
        yield from change["ticks"]
        handled_until = change["handled_until"]
        assert change["next_tick_at"] > now or len(change["ticks"]) == 100
        if change["next_tick_at"] > now:
            now = max(change["next_tick_at"], now + step)


@settings(deadline=None)
@given(fields, hours, transitions, st.sampled_from(["skip", "latest", "all"]))
def test_workers_start_each_tick_of_the_library_once(
    minutes: str, hour: str, transition: tuple[str, datetime], on_missed: str
) -> None:
    zone, start = transition
    expression = f"{minutes} {hour} * * *"
    library = [
        tick.astimezone(UTC)
        for tick in takewhile(
            lambda tick: tick < start + 3 * DAY,
            CronSim(expression, start.astimezone(ZoneInfo(zone))),
        )
    ]
    assert list(started(expression, zone, start, timedelta(0), on_missed)) == library


@settings(deadline=None)
@given(fields, hours, transitions, st.integers(0, 3 * 86400))
def test_ticks_come_after_the_moment_and_in_order(
    minutes: str, hour: str, transition: tuple[str, datetime], seconds: int
) -> None:
    zone, start = transition
    moment = start + timedelta(seconds=seconds)
    ticks = list(islice(Cron(f"{minutes} {hour} * * *", zone).ticks_after(moment), 5))
    assert all(earlier < later for earlier, later in pairwise([moment, *ticks]))


def test_tick_that_has_passed_in_the_hour_that_comes_twice_does_not_come_again() -> None:
    moment = at("2026-10-25 01:10")  # 02:10 for the second time
    assert next(Cron("30 2 * * *", "Europe/Berlin").ticks_after(moment)) == at("2026-10-26 01:30")


# missed ticks

NOON = at("2026-11-21 12:00:10")


@pytest.mark.parametrize(
    ("on_missed", "ticks"),
    [
        ("skip", []),
        ("latest", ["2026-11-21 11:50"]),
        ("all", [f"2026-11-21 {hour}:50" for hour in ("08", "09", "10", "11")]),
    ],
)
def test_missed_ticks_are_started_as_the_policy_says(on_missed: str, ticks: list[str]) -> None:
    change = due("50 * * * *", at("2026-11-21 07:50"), NOON, on_missed).change()
    assert change["ticks"] == [at(tick) for tick in ticks]
    assert change["next_tick_at"] == at("2026-11-21 12:50")


@pytest.mark.parametrize("on_missed", ["skip", "latest"])
def test_tick_on_time_is_started_and_those_before_it_are_not(on_missed: str) -> None:
    change = due("0 * * * *", at("2026-11-21 07:00"), NOON, on_missed).change()
    assert change["ticks"] == [at("2026-11-21 12:00")]
    assert change["handled_until"] == at("2026-11-21 12:00")


@pytest.mark.parametrize("on_missed", ["skip", "latest", "all"])
def test_tick_within_the_grace_is_not_missed(on_missed: str) -> None:
    asked_at = at("2026-11-21 12:00") + GRACE - timedelta(milliseconds=1)
    change = due("0 12 * * *", at("2026-11-20 12:00"), asked_at, on_missed).change()
    assert change["ticks"] == [at("2026-11-21 12:00")]


@pytest.mark.parametrize("asked_at", ["2026-03-29 01:00:10", "2026-10-25 01:00:10"])
@pytest.mark.parametrize("on_missed", ["skip", "latest", "all"])
def test_changes_of_the_databases_own_clock_do_not_matter(asked_at: str, on_missed: str) -> None:
    def as_the_database_says(moment: datetime) -> datetime:
        return moment.astimezone(ZoneInfo("Europe/Berlin"))

    for since in (timedelta(minutes=2), timedelta(hours=5)):
        now = at(asked_at)
        local = due(
            "* * * * *", as_the_database_says(now - since), as_the_database_says(now), on_missed
        )
        assert local.change() == due("* * * * *", now - since, now, on_missed).change()


def test_year_of_missed_minutes_comes_in_batches() -> None:
    change = due("* * * * *", NOON - timedelta(days=365), NOON, "all").change()
    assert len(change["ticks"]) == 100
    assert change["handled_until"] == change["ticks"][-1]
    assert change["next_tick_at"] == change["ticks"][-1] + timedelta(minutes=1)


@pytest.mark.parametrize(
    ("expression", "latest"),
    [
        ("* * * * * *", NOON - GRACE),
        ("30 * * * *", at("2026-11-21 11:30")),
        ("30 13 * * *", at("2026-11-20 13:30")),
        ("0 0 1 * *", at("2026-11-01")),
        ("0 0 1 2 *", at("2026-02-01")),
        ("0 0 29 2 *", at("2024-02-29")),
    ],
)
def test_latest_missed_tick_is_found_however_rare(expression: str, latest: datetime) -> None:
    assert Cron(expression).latest_tick(at("2020-06-01"), NOON - GRACE) == latest
    assert Cron(expression).latest_tick(latest, NOON - GRACE) is None


@settings(deadline=None)
@given(fields, hours, transitions, st.integers(0, 2 * 86400), st.integers(0, 3 * 86400))
def test_latest_missed_tick_is_the_last_that_comes(
    minutes: str, hour: str, transition: tuple[str, datetime], begin: int, span: int
) -> None:
    zone, start = transition
    after = start + timedelta(seconds=begin)
    until = after + timedelta(seconds=span)
    cron = Cron(f"{minutes} {hour} * * *", zone)
    ticks = [after, *takewhile(lambda tick: tick <= until, cron.ticks_after(after))]
    assert (cron.latest_tick(after, until) or after) == ticks[-1]


def test_latest_of_a_million_missed_ticks_is_found_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    count = 0

    class Counting(CronSim):
        def __next__(self) -> datetime:
            nonlocal count
            count += 1
            return super().__next__()

    monkeypatch.setattr("lockstep._cron.CronSim", Counting)
    sunday = at("2026-11-22 12:00")
    cron = Cron("* * 9-17 * * MON-FRI")
    assert cron.latest_tick(sunday - timedelta(days=60), sunday) == at("2026-11-20 17:59:59")
    assert count < 1000


def test_tick_that_was_handled_never_comes_again_when_the_clock_goes_back() -> None:
    change = due("* * * * *", NOON, NOON - timedelta(hours=1), "all").change()
    assert change["ticks"] == []
    assert change["next_tick_at"] == at("2026-11-21 12:01")


def test_zone_that_this_worker_does_not_know_is_a_problem_and_no_crash() -> None:
    change = due("* * * * *", NOON, NOON, "all", "Mars/Olympus").change()
    assert change["ticks"] == []
    assert "Mars/Olympus" in change["problem"]


# declarations


def test_decorator_declares_and_returns_the_workflow() -> None:
    app = lockstep.App()

    @app.scheduled("0 9 * * MON", time_zone="Europe/Berlin", on_missed="latest", priority=3)
    @app.workflow(queue_name="reports")
    async def weekly(scheduled_at: datetime) -> None: ...

    assert app.workflows == {"weekly": weekly}
    assert app.schedules == {
        "weekly": {
            "schedule_name": "weekly",
            "cron": "0 9 * * MON",
            "workflow_name": "weekly",
            "queue_name": "reports",
            "named_args": {},
            "time_zone": "Europe/Berlin",
            "time_arg": "scheduled_at",
            "on_missed": "latest",
            "priority": 3,
        }
    }


def test_several_schedules_of_a_workflow_need_names() -> None:
    app = lockstep.App()

    @app.scheduled("0 9 * * *", name="morning", named_args={"greeting": "good morning"})
    @app.scheduled("0 18 * * *", name="evening", named_args={"greeting": "good evening"})
    @app.workflow
    async def greet(greeting: str) -> None: ...

    assert sorted(app.schedules) == ["evening", "morning"]
    assert app.schedules["morning"]["time_arg"] is None, "greet() takes no time"
    with pytest.raises(lockstep.InvalidArgument, match="declared already"):
        app.scheduled("@daily", name="morning", named_args={"greeting": "hello"})(greet)


def test_decorator_refuses_what_is_no_workflow_of_the_app() -> None:
    app, other = lockstep.App(), lockstep.App()

    @other.workflow
    async def elsewhere() -> None: ...

    for wrong in (elsewhere, lambda: None):
        with pytest.raises(lockstep.InvalidArgument, match=r"above @app\.workflow"):
            app.scheduled("@daily")(wrong)  # type: ignore[type-var]
    assert app.schedules == {}


def test_arguments_that_the_function_does_not_take_are_refused() -> None:
    app = lockstep.App()

    @app.workflow
    async def weekly(report: str) -> None: ...

    for options in (
        {},
        {"named_args": {"rapport": "x"}},
        {"named_args": {"report": "x"}, "time_arg": "when"},
    ):
        with pytest.raises(lockstep.InvalidArgument, match="cannot be called"):
            app.scheduled("@daily", **options)(weekly)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="on_mist"):
        app.scheduled("@daily", named_args={"report": "x"}, on_mist="all")(weekly)  # type: ignore[call-arg]


def test_time_argument_may_have_another_name() -> None:
    app = lockstep.App()

    @app.workflow
    async def weekly(week: datetime) -> None: ...

    declared = declaration("s", "@weekly", weekly, None, None, "UTC", "week", {})
    assert declared["time_arg"] == "week"


def test_a_declaration_without_parentheses_is_refused() -> None:
    app = lockstep.App()

    @app.workflow
    async def report() -> None: ...

    with pytest.raises(lockstep.InvalidArgument, match="takes an expression"):
        app.scheduled(report)  # type: ignore[arg-type]
