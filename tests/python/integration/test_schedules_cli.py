"""The commands for schedules, as a user types them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from harness import Database
from lockstep.cli._main import cli
from typer.testing import CliRunner


class Run:
    def __init__(self, database: Database) -> None:
        self._environment = {"LOCKSTEP_DATABASE_URL": database.dsn}

    def __call__(self, *args: str, exit_code: int = 0) -> str:
        done = CliRunner().invoke(cli, list(args), env=self._environment)
        assert done.exit_code == exit_code, done.output
        return done.output if exit_code else done.stdout

    def listed(self) -> dict[str, Any]:
        (info,) = json.loads(self("schedules", "--json"))
        assert isinstance(info, dict)
        return info


@pytest.fixture
def run(database: Database) -> Run:
    return Run(database)


def test_schedule_is_made_listed_paused_and_removed(run: Run) -> None:
    run(
        *("schedule", "create", "nightly", "0 3 * * *", "close_books", "--queue", "office"),
        *("--time-zone", "Europe/Berlin", "--named-args", '{"year": 2026}'),
        *("--on-missed", "latest", "--time-arg", ""),
    )
    info = run.listed()
    assert info["named_args"] == {"year": 2026}
    assert (info["on_missed"], info["time_arg"], info["engine"]) == ("latest", None, "workers")
    heading, line = run("schedules").splitlines()
    columns = ["name", "cron", "zone", "workflow", "queue", "engine", "last", "next"]
    assert heading.split() == columns
    cron = ["0", "3", "*", "*", "*"]
    values = ["nightly", *cron, "Europe/Berlin", "close_books", "office", "workers"]
    assert line.split() == values

    run("schedule", "pause", "nightly")
    assert run("schedules").split()[-1] == "paused"
    run("schedule", "unpause", "nightly")
    assert not run.listed()["is_paused"]
    run("schedule", "drop", "nightly")
    assert run("schedules", "--json").strip() == "[]"


def test_schedule_takes_all_options_of_its_workflows(run: Run) -> None:
    run(
        *("schedule", "create", "nightly", "@daily", "close_books", "--priority", "3"),
        *("--deduplication-id", "d", "--queue-partition-key", "ada", "--timeout", "15m"),
        *("--max-attempts", "7", "--app-version", "2", "--headers", '{"h": 1}'),
        *("--retries", '{"max_attempts": 5}'),
    )
    info = run.listed()
    assert {name: info[name] for name in ("priority", "deduplication_id", "timeout")} == {
        "priority": 3,
        "deduplication_id": "d",
        "timeout": "PT15M",
    }
    assert (info["queue_partition_key"], info["max_attempts"], info["app_version"]) == (
        *("ada", 7, "2"),
    )
    assert (info["headers"], info["retries"]["max_attempts"]) == ({"h": 1}, 5)


def test_ticks_are_started_by_hand(database: Database, run: Run) -> None:
    run("schedule", "create", "nightly", "@daily", "close_books")
    workflow_id = run("schedule", "trigger", "nightly").strip()
    assert workflow_id.startswith("nightly:")
    backfill_id = run(
        "schedule", "backfill", "nightly", "2026-01-01T00:00Z", "2026-01-03T00:00Z"
    ).strip()
    assert database.rows(
        "SELECT workflow_id, workflow_name, inputs->'namedArgs'->>'to_time'"
        " FROM lockstep.workflow_status ORDER BY created_at"
    )[1][:2] == (backfill_id, "lockstep.backfill")


def test_problem_of_a_schedule_is_shown(database: Database, run: Run) -> None:
    run("schedule", "create", "nightly", "@daily", "close_books")
    database.rows("UPDATE lockstep.schedule SET problem = 'no zone'")
    assert run("schedules").rstrip().endswith("no zone")


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        (
            ("schedule", "create", "s", "61 * * * *", "w"),
            'cron expression "61 * * * *" is not valid',
        ),
        (("schedule", "create", "s", "@daily", "w", "--time-zone", "Mars"), 'time zone "Mars"'),
        (("schedule", "create", "s", "@daily", "w", "--engine", "pg_cron"), "pg_cron cannot start"),
        (("schedule", "drop", "nowhere"), 'schedule "nowhere" does not exist'),
        (("schedule", "trigger", "nowhere"), 'schedule "nowhere" does not exist'),
        (("schedule", "backfill", "nowhere", "2026-01-01", "2026-01-02"), 'schedule "nowhere"'),
    ],
)
def test_refusal_is_a_line_and_an_exit_code(
    run: Run, command: tuple[str, ...], complaint: str
) -> None:
    assert complaint in run(*command, exit_code=1)


def test_arguments_that_are_no_object_are_refused(run: Run) -> None:
    arguments = ("schedule", "create", "s", "@daily", "w", "--named-args", "[]")
    assert '"[]" is no JSON object' in run(*arguments, exit_code=2)
    assert run("schedules", "--json").strip() == "[]"
