"""The commands that look at workflows and change them, as a user types them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import datetime, timezone
from typing import Any, Protocol

import pytest
from harness import Database
from lockstep.cli._main import cli
from typer.testing import CliRunner, Result


class Run(Protocol):
    def __call__(self, *args: str, input: str = "") -> Result: ...


@pytest.fixture
def run(database: Database) -> Run:
    """Run a command against the database; what it prints to both streams is apart."""

    def run(*args: str, input: str = "") -> Result:
        return CliRunner().invoke(
            cli, list(args), input=input, env={"LOCKSTEP_DATABASE_URL": database.dsn}
        )

    return run


def insert(database: Database, workflow_id: str, status: str = "ENQUEUED", **columns: Any) -> None:
    now = datetime.now(timezone.utc)
    values = {
        "workflow_id": workflow_id,
        "workflow_name": "greet",
        "queue_name": "q",
        "status": status,
        **({"completed_at": now} if status in ("SUCCESS", "ERROR", "CANCELLED") else {}),
        **({"error": '{"type": "E", "message": "no\\nstock"}'} if status == "ERROR" else {}),
        **columns,
    }
    names, places = ", ".join(values), ", ".join(["%s"] * len(values))
    database.rows(
        f"INSERT INTO lockstep.workflow_status ({names}) VALUES ({places})", *values.values()
    )


def statuses(database: Database) -> dict[str, str]:
    return dict(database.rows("SELECT workflow_id, status FROM lockstep.workflow_status"))


def test_list_shows_a_table(database: Database, run: Run) -> None:
    insert(database, "w1", "ERROR")
    insert(database, "w2 [red]", output=None)
    done = run("list")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["id", "name", "queue", "status", "created", "attempts", "result"]
    assert lines[1].startswith("w2 [red]  greet  q")
    assert re.search(r"ERROR +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  0 +E: no stock$", lines[2].rstrip())


def test_list_as_json_meets_conditions(database: Database, run: Run) -> None:
    for number in range(4):
        insert(database, f"w{number}", "ERROR" if number % 2 else "SUCCESS", queue_name="mail")
    insert(database, "other", headers='{"h": 1}')

    def listed(*args: str) -> list[str]:
        done = run("list", "--json", *args)
        assert done.exit_code == 0, done.output
        return [info["workflow_id"] for info in json.loads(done.stdout)]

    assert listed() == ["other", "w3", "w2", "w1", "w0"]
    assert listed("--status", "error", "--status", "ENQUEUED") == ["other", "w3", "w1"]
    assert listed("--queue", "mail", "--limit", "2") == ["w3", "w2"]
    assert listed("--queue", "mail", "--before-id", "w2") == ["w1", "w0"]
    assert listed("--id-prefix", "o", "--name", "greet") == ["other"]
    assert listed("--headers", '{"h": 1}') == ["other"]
    assert listed("--error-text", "STOCK", "--parent", "x") == []
    assert listed("--after", "2000-01-01", "--before", "2099-01-01T00:00Z", "--limit", "1") == [
        "other"
    ]


def test_get_and_steps_show_one_workflow(database: Database, run: Run) -> None:
    insert(database, "w", "ERROR", headers='{"h": 1}')
    database.rows(
        "INSERT INTO lockstep.operation_outputs"
        " (workflow_id, step_id, step_name, output, started_at, completed_at)"
        """ VALUES ('w', 1, 'charge', '{"paid": true}', now(), now())"""
    )
    shown = run("get", "w").stdout
    assert re.search(r"^status +ERROR", shown, re.MULTILINE)
    assert re.search(r"^error +E: no stock", shown, re.MULTILINE)
    assert re.search(r'^headers +{"h": 1}', shown, re.MULTILINE)
    assert "deadline_at" not in shown
    assert json.loads(run("get", "w", "--json").stdout)["error"]["message"] == "no\nstock"
    assert re.search(
        r'^1 +charge +SUCCESS .*{"paid": true}', run("steps", "w").stdout, re.MULTILINE
    )
    assert json.loads(run("steps", "w", "--json").stdout)[0]["output"] == {"paid": True}
    assert "├─" not in run("explain", "w").stdout
    assert "└─ ✓ 1 charge: 0 ms" in run("explain", "w").stdout
    assert run("explain", "w", "--format", "mermaid").stdout.startswith("flowchart TD")


def test_enqueue_send_and_result(database: Database, run: Run) -> None:
    done = run(
        *("enqueue", "greet", "--args", "[1]", "--named-args", '{"a": 2}', "--queue", "mail"),
        *("--id", "w", "--priority", "3", "--delay", "2h", "--headers", '{"h": 1}'),
    )
    assert (done.exit_code, done.stdout) == (0, "w\n")
    info = json.loads(run("get", "w", "--json").stdout)
    assert info["inputs"] == {"positionalArgs": [1], "namedArgs": {"a": 2}}
    assert (info["status"], info["priority"], info["headers"]) == ("DELAYED", 3, {"h": 1})
    assert run("send", "w", '{"x": 1}', "--topic", "t").exit_code == 0
    assert database.rows("SELECT topic, message FROM lockstep.notifications") == [("t", {"x": 1})]
    waited = run("result", "w", "--timeout", "0.05")
    assert (waited.exit_code, waited.stdout) == (1, "")
    assert len(waited.stderr.splitlines()) == 1
    insert(database, "done", "SUCCESS", output='{"total": 5}')
    assert json.loads(run("result", "done").stdout) == {"total": 5}


def test_enqueue_takes_a_debounce(database: Database, run: Run) -> None:
    options = ("--deduplication-id", "d", "--debounce", "2h", "--debounce-max-delay", "1h")
    first = run("enqueue", "greet", "--args", "[1]", *options)
    assert run("enqueue", "greet", "--args", "[2]", *options).stdout == first.stdout
    rows = database.rows(
        "SELECT inputs -> 'positionalArgs', available_at - created_at = interval '1 h'"
        " FROM lockstep.workflow_status"
    )
    assert rows == [([2], True)]


def test_enqueue_takes_all_options(database: Database, run: Run) -> None:
    run(
        *("enqueue", "greet", "--id", "w", "--deduplication-id", "d", "--on-duplicate", "return"),
        *("--priority", "3", "--queue-partition-key", "ada", "--run-at", "2099-01-01T00:00Z"),
        *("--timeout", "15m", "--max-attempts", "7", "--app-version", "2"),
        *("--headers", '{"h": 1}', "--retries", '{"max_attempts": 5}'),
    )
    assert database.rows(
        "SELECT workflow_id, deduplication_id, priority, queue_partition_key,"
        " available_at = '2099-01-01T00:00Z', timeout = interval '15 min', max_attempts,"
        " app_version, headers, retries ->> 'max_attempts' FROM lockstep.workflow_status"
    ) == [("w", "d", 3, "ada", True, True, 7, "2", {"h": 1}, "5")]
    again = ("enqueue", "greet", "--deduplication-id", "d")
    assert run(*again, "--on-duplicate", "return").stdout == "w\n"
    assert run(*again).exit_code == 1
    run("enqueue", "greet", "--id", "late", "--deadline", "2099-01-01T00:00Z")
    assert database.value(
        "SELECT deadline_at = '2099-01-01T00:00Z' FROM lockstep.workflow_status"
        " WHERE workflow_id = 'late'"
    )


def test_changes_by_id(database: Database, run: Run) -> None:
    insert(database, "w1")
    insert(database, "w2")
    assert run("priority", "4", "w1", "w2").stdout.split() == ["w1", "w2"]
    assert run("priority", "4", "w1").stdout == ""
    assert run("move", "other", "w1").stdout == "w1\n"
    assert run("cancel", "w1", "--json").stdout == '[\n  "w1"\n]\n'
    assert run("resume", "w1").stdout == "w1\n"
    assert run("cancel", "w1").exit_code == 0
    assert run("restart", "w1").stdout == "w1\n"
    assert run("fork", "w1", "1", "--new-id", "fork", "--queue", "z").stdout == "fork\n"
    assert statuses(database) == {"w1": "ENQUEUED", "w2": "ENQUEUED", "fork": "ENQUEUED"}
    insert(database, "sleeping", "DELAYED", available_at=datetime(2099, 1, 1, tzinfo=timezone.utc))
    assert run("fast-forward", "sleeping").exit_code == 0
    insert(database, "waiting", "WAITING", waiting_for=["message:go"])
    assert run("fast-forward", "waiting", "--payload", '"yes"').exit_code == 0
    assert database.rows("SELECT topic, message FROM lockstep.notifications") == [("go", "yes")]


@pytest.mark.parametrize(
    ("command", "changed"),
    [
        (("cancel",), ["w2", "w1"]),
        (("resume",), ["failed"]),
        (("restart",), ["failed"]),
        (("priority", "9"), ["w2", "w1"]),
        (("move", "other"), ["w2", "w1"]),
    ],
    ids=lambda value: value[0],
)
def test_changes_by_condition_ask_first(
    database: Database, run: Run, command: tuple[str, ...], changed: list[str]
) -> None:
    for workflow_id in ("w1", "w2"):
        insert(database, workflow_id)
    insert(database, "failed", "ERROR")
    insert(database, "elsewhere", queue_name="elsewhere")
    before = statuses(database)
    refused = run(*command, "--queue", "q", input="n\n")
    assert refused.exit_code == 1
    assert refused.stdout.split() == ["n"]  # the echo of the answer
    assert "those of 3 workflows whose status allows it?" in refused.stderr
    assert statuses(database) == before
    assert run(*command, "--queue", "q", input="y\n").stdout.split() == ["y", *changed]
    again = run(*command, "--queue", "q", "--yes")
    assert (again.exit_code, again.stdout) == (0, "")
    assert again.stderr == "0 changed\n"


def test_all_must_be_said(database: Database, run: Run) -> None:
    insert(database, "w1")
    for arguments in ((), ("w1", "--all"), ("w1", "--queue", "q")):
        refused = run("cancel", *arguments, "--yes")
        assert refused.exit_code == 2
    assert statuses(database) == {"w1": "ENQUEUED"}
    done = run("cancel", "--all", "--yes", "--limit", "1")
    assert done.stdout == "w1\n"
    assert "There may be more" in done.stderr


def test_purge_deletes_what_is_old_enough(database: Database, run: Run) -> None:
    then = datetime(2020, 1, 1, tzinfo=timezone.utc)
    insert(database, "old", "SUCCESS", completed_at=then, created_at=then)
    insert(database, "new", "SUCCESS")
    assert run("purge", "--older-than", "30d", input="n\n").exit_code == 1
    assert run("purge", "--older-than", "30d", "--yes").stdout == "1 deleted\n"
    assert set(statuses(database)) == {"new"}


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (("get", "none"), 1, 'lockstep: workflow "none" does not exist'),
        (("steps", "none"), 1, 'workflow "none" does not exist'),
        (("restart", "w [/x]"), 1, 'workflow "w [/x]" is ENQUEUED and cannot become ENQUEUED'),
        (("fast-forward", "w [/x]"), 1, "is ENQUEUED and has no wait to end"),
        (("list", "--status", "DONE"), 1, '"DONE" is no status'),
        (("list", "--after", "soon"), 2, '"soon" is no time'),
        (("list", "--headers", "x"), 2, "'--headers': \"x\" is no JSON:"),
        (("send", "w [/x]", "hello"), 2, "a text needs quotes inside"),
        (("enqueue", "greet", "--args", "{}"), 2, "'--args': \"{}\" is no JSON array"),
        (("enqueue", "greet", "--named-args", "[]"), 2, "'--named-args': \"[]\" is no JSON object"),
        (("purge", "--older-than", "soon", "--yes"), 2, '"soon" is no duration'),
        (("list", "--dsn", "host=/nowhere"), 1, "lockstep: "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_errors_are_readable(
    database: Database, run: Run, arguments: tuple[str, ...], exit_code: int, message: str
) -> None:
    insert(database, "w [/x]")
    done = run(*arguments)
    assert done.exit_code == exit_code, done.output
    assert done.stdout == ""
    shown = " ".join(done.stderr.replace("│", " ").split())
    assert message in shown
    if exit_code == 1 and "--dsn" not in arguments:
        assert len(done.stderr.splitlines()) == 1


def test_output_of_others_moves_no_cursor(database: Database, run: Run) -> None:
    insert(database, "evil\x1b[2J", "ERROR")
    for command in (("list",), ("get", "evil\x1b[2J"), ("explain", "evil\x1b[2J")):
        done = run(*command)
        assert done.exit_code == 0
        assert "\x1b" not in done.stdout, command


def test_the_command_runs_as_a_process(database: Database) -> None:
    insert(database, "w")
    done = subprocess.run(
        [sys.executable, "-m", "lockstep.cli", "list", "--json", "--dsn", database.dsn],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)[0]["workflow_id"] == "w"
