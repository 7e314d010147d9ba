"""A worker is killed before a limit of time, or gives way to another release."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

import pytest
from harness import Database, Gates, WorkerProcess
from waiting import eventually

FORMS = pytest.mark.parametrize("form", ["", "_plain"])
Start = Callable[..., WorkerProcess]


@pytest.fixture
def start(start_worker: Start, monkeypatch: pytest.MonkeyPatch) -> Start:
    def start(*options: str, release: int = 1) -> WorkerProcess:
        monkeypatch.setenv("RELEASE", str(release))
        return start_worker("release_app:app", "--lease", "1", *options)

    return start


@FORMS
def test_patch_is_not_taken_by_what_the_old_release_had_passed(
    database: Database, start: Start, gates: Gates, form: str
) -> None:
    old = database.enqueue(f"ships{form}")
    gates.open("taken")
    gates.open("packed")
    victim = start()
    gates.wait_until_reached("shipped")
    victim.kill()
    second = start(release=2)
    gates.wait_until_reached("shipped", times=2)
    second.kill()
    gates.open("shipped")
    start(release=2)
    assert database.result(old) == ["taken", "shipped by 2"]
    assert [number for number, _, _ in database.steps(old)] == [1, 2, 3]

    new = database.enqueue(f"ships{form}")
    assert database.result(new) == ["taken", "insured", "shipped by 2"]


@FORMS
def test_pinned_workflow_waits_for_a_worker_of_its_release(
    database: Database, start: Start, gates: Gates, form: str
) -> None:
    pinned = "--pin-version"
    old = database.enqueue(f"ships{form}")
    victim = start("--app-version", "1", pinned)
    gates.wait_until_reached("taken")
    victim.kill()
    for name in ("taken", "packed", "shipped"):
        gates.open(name)
    start("--app-version", "2", pinned, release=2)
    database.wait_for_status(old, "ENQUEUED")

    new = database.enqueue(f"ships{form}")
    assert database.result(new) == ["taken", "insured", "shipped by 2"]
    assert database.status(old) == "ENQUEUED"
    start("--app-version", "1", pinned)
    assert database.result(old) == ["taken", "shipped by 1"]


@FORMS
def test_sleep_until_ends_at_its_moment(database: Database, start: Start, form: str) -> None:
    workflow_id = database.enqueue(f"sleeps_until{form}", positional_args="[2.5]")
    victim = start()
    database.wait_for_status(workflow_id, "DELAYED")
    due_at = database.value("SELECT available_at FROM lockstep.workflow_status")
    victim.kill()
    start()
    assert database.result(workflow_id) == "rested"
    ended_at = database.value("SELECT completed_at FROM lockstep.workflow_status")
    assert timedelta(0) <= ended_at - due_at < timedelta(seconds=5)
    assert [name for _, name, _ in database.steps(workflow_id)] == ["now", "sleep"]


@FORMS
@pytest.mark.parametrize("who", ["the next worker", "nobody"])
def test_deadline_is_kept_though_the_worker_dies(
    database: Database, start: Start, gates: Gates, form: str, who: str
) -> None:
    workflow_id = database.enqueue(f"is_held{form}", timeout=timedelta(seconds=4))
    victim = start()
    gates.wait_until_reached("held")
    deadline_at = database.value("SELECT deadline_at FROM lockstep.workflow_status")
    victim.kill()
    if who == "the next worker":
        start()
        gates.wait_until_reached("held", times=2)
        assert database.value("SELECT deadline_at FROM lockstep.workflow_status") == deadline_at
    else:
        eventually(
            lambda: database.value("SELECT clock_timestamp() > %s", deadline_at), "the deadline"
        )
        start()
    database.wait_for_status(workflow_id, "CANCELLED")
    assert database.value("SELECT completed_at >= deadline_at FROM lockstep.workflow_status")
    gates.open("held")
    time.sleep(0.2)
    assert database.status(workflow_id) == "CANCELLED"
    assert gates.count("held") == (2 if who == "the next worker" else 1)


def test_transaction_with_a_timeout_happens_once(
    database: Database, start: Start, gates: Gates
) -> None:
    workflow_id = database.enqueue("pays_in_time", positional_args='["k"]')
    victim = start()
    gates.wait_until_reached("paying")
    victim.kill()
    gates.open("paying")
    start()
    assert database.result(workflow_id) == "paid"
    assert database.rows("SELECT key FROM ledger") == [("k",)]
    assert database.effects() == {"tried": 2}
