"""What a workflow does to its worker: it fails or is reported, and the worker goes on."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable

import pytest
from harness import Database, WorkerProcess
from waiting import eventually

StartWorker = Callable[..., WorkerProcess]

APP = "hostile_app:app"

UNSERIALIZABLE = "Unserializable"
ENDS = {
    "returns 200 MB": UNSERIALIZABLE,
    "returns no JSON": UNSERIALIZABLE,
    "returns numbers that are none": None,
    "returns a NUL": UNSERIALIZABLE,
    "returns half a surrogate pair": UNSERIALIZABLE,
    "returns a deep list": UNSERIALIZABLE,
    "recurses": "RecursionError",
    "raises what has no words": "hostile_app.Mute",
    "raises 100 MB": "ValueError",
    "raises a NUL": "ValueError",
    "raises half a surrogate pair": "ValueError",
    "raises a deep group": "ExceptionGroup",
    "exits": "SystemExit",
    "interrupts": "KeyboardInterrupt",
    "ends a generator": "GeneratorExit",
    "ends an iterator": "RuntimeError",
    "cancels": "asyncio.exceptions.CancelledError",
}


if sys.version_info < (3, 11):
    del ENDS["raises a deep group"]  # there are none


def enqueue(database: Database, workflow_name: str, *args: object) -> str:
    return database.enqueue(workflow_name, positional_args=json.dumps(args), max_attempts=2)


def outcomes(database: Database, ids: dict[str, str]) -> dict[str, str | None]:
    """Wait until the workflows have ended; return the error types, None for success."""
    unfinished = (
        "SELECT count(*) FROM lockstep.workflow_status"
        " WHERE workflow_id = ANY (%s) AND completed_at IS NULL"
    )
    eventually(
        lambda: not database.value(unfinished, list(ids.values())), "the end of workflows", 60
    )
    rows = dict(
        database.rows(
            "SELECT workflow_id, coalesce(error ->> 'type', nullif(status, 'SUCCESS'))"
            " FROM lockstep.workflow_status WHERE workflow_id = ANY (%s)",
            list(ids.values()),
        )
    )
    return {name: rows[workflow_id] for name, workflow_id in ids.items()}


@pytest.mark.parametrize("where", ["workflow_that", "workflow_whose_step", "workflow_whose_task"])
def test_whatever_a_workflow_returns_or_raises_only_it_fails(
    database: Database, start_worker: StartWorker, where: str
) -> None:
    ids = {deed: enqueue(database, where, deed) for deed in ENDS}
    ids |= {f"bystander {number}": enqueue(database, "gets", "x") for number in range(20)}
    worker = start_worker(APP, "--lease", "20")
    expected: dict[str, str | None] = {name: ENDS.get(name) for name in ids}
    if where != "workflow_that":
        exits = ("exits", "interrupts", "ends a generator")[: 3 if "step" in where else 2]
        expected |= dict.fromkeys(exits, "StepFailed")

    assert outcomes(database, ids) == expected
    assert worker.process.poll() is None
    assert database.value("SELECT max(attempts) FROM lockstep.workflow_status") == 1
    assert database.value("SELECT max(length(error::text)) FROM lockstep.workflow_status") < 100_000


def test_plain_step_that_exits_or_recurses_only_fails(
    database: Database, start_worker: StartWorker
) -> None:
    ends = {"exits": "StepFailed", "recurses": "RecursionError", "ends an iterator": "RuntimeError"}
    ids = {deed: enqueue(database, "workflow_whose_plain_step", deed) for deed in ends}
    worker = start_worker(APP)
    assert outcomes(database, ids) == ends
    assert worker.process.poll() is None


def test_stop_iteration_of_a_thread_keeps_nobody_waiting(
    database: Database, start_worker: StartWorker
) -> None:
    whose = ("plain_workflow_that", "workflow_whose_thread", "workflow_whose_poll")
    ids = {name: enqueue(database, f"{name}_stops") for name in whose}
    start_worker(APP)
    assert outcomes(database, ids) == dict.fromkeys(ids, "RuntimeError")


def test_large_arguments_of_some_do_not_keep_others_from_running(
    database: Database, start_worker: StartWorker
) -> None:
    size = 15 * 2**20
    database.rows(
        "SELECT lockstep.enqueue_workflow('gets', 'default', jsonb_build_array(repeat('x', %s)))"
        " FROM generate_series(1, 4)",
        size,
    )
    bystander = enqueue(database, "gets", "x")
    start_worker(APP, "--lease", "20")
    database.wait_for_status(bystander, "SUCCESS", timeout=60)
    eventually(
        lambda: (
            sorted(
                database.rows(
                    "SELECT output, count(*) FROM lockstep.workflow_status"
                    " WHERE status = 'SUCCESS' GROUP BY 1"
                )
            )
            == [(1, 1), (size, 4)]
        ),
        "the end of all",
        60,
    )


def test_leaks_forks_and_deafness_do_not_keep_a_worker_from_its_end(
    database: Database, start_worker: StartWorker
) -> None:
    worker = start_worker(APP)
    deaf = enqueue(database, "is_deaf")
    ids = {name: enqueue(database, name) for name in ("leaks", "workflow_that_forks")}
    assert outcomes(database, ids) == {"leaks": None, "workflow_that_forks": None}
    database.wait_for_status(deaf, "WAITING")
    assert outcomes(database, {"next": enqueue(database, "gets", "x")}) == {"next": None}
    assert worker.terminate() == 0


@pytest.mark.direct("compares the state of its session")
@pytest.mark.parametrize("deed", ["changes", "locks and fails"])
def test_what_a_step_does_to_its_session_ends_with_it(
    database: Database, start_worker: StartWorker, deed: str
) -> None:
    workflow_id = enqueue(database, "workflow_of_sessions", deed)
    start_worker(APP, "--max-connections", "1")
    database.wait_for_status(workflow_id, "SUCCESS")
    before, after = database.value("SELECT output FROM lockstep.workflow_status")
    assert after == before
    assert before[1:] == ['"$user", public', "0", None, [], 0, 0, True]


def test_step_that_closes_its_connection_fails(
    database: Database, start_worker: StartWorker
) -> None:
    ids = {
        name: enqueue(database, name)
        for name in ("workflow_that_closes", "workflow_that_closes_plainly")
    }
    start_worker(APP)
    assert outcomes(database, ids) == dict.fromkeys(ids, "psycopg.ProgrammingError")


@pytest.mark.parametrize("blocker", ["workflow_that_blocks", "workflow_that_computes"])
def test_blocked_event_loop_is_reported_and_keeps_its_lease(
    database: Database, start_worker: StartWorker, blocker: str
) -> None:
    worker = start_worker(APP, "--lease", "2")
    bystander = enqueue(database, "workflow_that_rests", 4)
    database.wait_for_status(bystander, "PENDING")
    other = start_worker(APP, "--lease", "2", "--concurrency", "1")
    other.signal(signal.SIGSTOP)
    blocked = enqueue(database, blocker, 5)
    database.wait_for_status(blocked, "PENDING")
    other.signal(signal.SIGCONT)
    assert outcomes(database, {"a": bystander, "b": blocked}) == {"a": None, "b": None}

    assert database.value("SELECT max(attempts) FROM lockstep.workflow_status") == 1
    culprit = f'workflow "{blocked}" ({blocker})'
    if blocker == "workflow_that_blocks":
        culprit = f'step "blocks_the_loop" of {culprit}'
    logs = worker.log + other.log
    assert f"{culprit} blocks the event loop" in logs
    assert "the event loop was blocked for" in logs
    assert "hostile_app.py" in logs
    assert "lease lost" not in logs
