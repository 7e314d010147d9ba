"""What a command cannot take ends it with one line and the exit code 1 or 2, not a traceback."""

from __future__ import annotations

import click
import pytest
import typer
from harness import Database
from lockstep.cli._main import cli
from typer.testing import CliRunner

COMMON = ["\udcff", "a\0b", "x" * 5000]
WRONG: dict[str, list[list[str]]] = {
    "worker": [
        *([], ["nowhere:app"], ["json:app"], ["json:app", "--concurrency", "0"], [":"], ["..a"]),
        *(["json:app", "--lease", "x"], ["json:app", "--queue"], ["json:app", "--log-level", "x"]),
        *(
            ["property.hostile_python:app", "--lease", "inf"],
            ["property.hostile_python:app", "--grace", "nan"],
        ),
        *(
            ["property.hostile_python:app", "--poll-interval", "1e300"],
            ["property.hostile_python:app", "--dsn", "x"],
        ),
    ],
    "install": [["--method", "magic"], ["--dsn", "x"], ["extra"]],
    "upgrade": [["--dsn", "port=x"], ["extra"]],
    "dev": [["--data"]],
    "version": [["extra"]],
    "enqueue": [
        *([], [""], ["a", "--args", "{"], ["a", "--args", "1"], ["a", "--named-args", "[]"]),
        *(["a", "--priority", "-1"], ["a", "--priority", "99999999999"], ["a", "--delay", "1y"]),
        *(
            ["a", "--run-at", "soon"],
            ["a", "--run-at", "0001-01-01"],
            ["a", "--delay", "9" * 30 + "w"],
        ),
        *(["a", "--retries", '{"tries": 1}'], ["a", "--on-duplicate", "x"]),
        *(["a", "--args", "[" * 5000], ["a", "--args", '["\\u0000"]'], ["a", "--timeout", "0s"]),
        *(["a", "--args", "[NaN]", "--max-attempts", "0"], ["a", "--delay", "99999w"]),
    ],
    "list": [["--status", "x"], ["--headers", "1"], ["--after", "x"], ["--limit", "-1"]],
    "show": [[], ["unknown"], [""]],
    "steps": [[], ["unknown"]],
    "explain": [[], ["unknown"], ["w", "--format", "x"]],
    "cancel": [[], ["unknown"], ["--status", "x"]],
    "resume": [[], ["unknown"]],
    "restart": [[], ["unknown"], ["w"]],
    "fork": [[], ["unknown", "--from-step", "1"], ["w", "--from-step", "x"]],
    "send": [[], ["unknown", "1"], ["w", "{"]],
    "purge": [[], ["--older-than", "x"], ["--older-than", "-1d"]],
    "queue create": [[], ["q", "--concurrency", "0"], ["q", "--rate-limit", "1"], [""]],
    "queue alter": [[], ["unknown", "--concurrency", "1"]],
    "queue drop": [[], ["unknown"]],
    "queue unpause": [[], ["unknown"]],
    "schedule create": [
        *([], ["s", "x", "a"], ["s", "@daily", "a", "--time-zone", "x"], ["", "@daily", "a"]),
        ["s", "@daily", "a", "--on-missed", "x"],
    ],
    "schedule drop": [[], ["unknown"]],
    "schedule pause": [[], ["unknown"]],
    "schedule unpause": [[], ["unknown"]],
    "schedule trigger": [[], ["unknown"]],
    "schedule backfill": [[], ["s", "x", "y"], ["unknown", "2026-01-01", "2026-01-02"]],
}


def commands() -> dict[str, click.Command]:
    """Return all commands, those of groups with the name of their group before them."""
    found: dict[str, click.Command] = {}
    group = typer.main.get_command(cli)
    assert hasattr(group, "commands")
    for name, command in group.commands.items():
        inner = getattr(command, "commands", None)
        if inner is None:
            found[name] = command
        else:
            found |= {f"{name} {each}": command for each, command in inner.items()}
    return found


COMMANDS = commands()


def wrong_inputs(name: str) -> list[list[str]]:
    """Return the inputs of the table, and for each command: an unknown option, odd arguments."""
    parameters = [each for each in COMMANDS[name].params if isinstance(each, click.Argument)]
    odd = [[text] * len(parameters) for text in COMMON] if parameters and name != "dev" else []
    unknown = [] if name == "dev" else [["--unknown"]]
    return [*WRONG.get(name, []), *odd, *unknown]


@pytest.mark.parametrize("name", COMMANDS)
def test_wrong_input_ends_a_command_with_one_line(database: Database, name: str) -> None:
    database.rows("SELECT lockstep.enqueue_workflow('a', 'default', workflow_id => 'w')")
    environment = {"LOCKSTEP_DATABASE_URL": database.dsn}
    problems = []
    for arguments in wrong_inputs(name):
        done = CliRunner().invoke(cli, [*name.split(), *arguments], env=environment)
        shown = f"{[each[:40] for each in arguments]}: {done.exit_code}"
        crash = done.exception if not isinstance(done.exception, SystemExit) else None
        lines = [line for line in done.stderr.splitlines() if line.strip(" ╭╰─│╮╯")]
        if done.exit_code not in (1, 2) or crash is not None:
            problems.append(
                f"{shown} {type(crash).__name__}: {str(crash)[:200]} {done.output[:200]}"
            )
        elif done.exit_code == 1 and len(lines) != 1:
            problems.append(f"{shown}: {len(lines)} lines: {done.stderr[:300]}")
    assert not problems, "\n".join(problems)
