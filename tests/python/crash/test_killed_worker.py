"""A worker is killed at the worst moment; another one finishes what it held."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

from harness import Database, Gates, WorkerProcess
from waiting import eventually

StartWorker = Callable[..., WorkerProcess]


def step_names(database: Database, workflow_id: str) -> list[str]:
    return [name for _, name, _ in database.steps(workflow_id)]


def test_worker_killed_in_a_step_loses_only_that_step(
    database: Database, start_worker: StartWorker, gates: Gates
) -> None:
    workflow_id = database.enqueue("held_in_step")
    victim = start_worker()
    gates.wait_until_reached("in_step")
    victim.kill()
    gates.open("in_step")
    start_worker()
    database.wait_for_status(workflow_id, "SUCCESS")

    assert step_names(database, workflow_id) == ["first", "second", "third"]
    assert database.effects() == {"first": 1, "second": 2, "third": 1}
    assert database.value("SELECT attempts FROM lockstep.workflow_status") == 2


def test_worker_killed_between_steps_repeats_none(
    database: Database, start_worker: StartWorker, gates: Gates
) -> None:
    workflow_id = database.enqueue("held_between_steps")
    victim = start_worker()
    gates.wait_until_reached("between_steps")
    victim.kill()
    gates.open("between_steps")
    start_worker()
    database.wait_for_status(workflow_id, "SUCCESS")

    assert database.effects() == {"first": 1, "third": 1}
    assert step_names(database, workflow_id) == ["first", "third"]


def test_dead_worker_is_noticed_within_its_lease_and_a_second(
    database: Database, start_worker: StartWorker, gates: Gates
) -> None:
    database.enqueue("held_in_step")
    victim = start_worker("crash_app:app", "--lease", "3")
    gates.wait_until_reached("in_step")
    start_worker()
    victim.kill()
    killed_at = time.monotonic()
    gates.wait_until_reached("in_step", times=2)
    assert time.monotonic() - killed_at < 3 + 1.5
    gates.open("in_step")


def test_worker_killed_before_its_commit_leaves_no_trace_of_the_transaction(
    database: Database, start_worker: StartWorker, gates: Gates
) -> None:
    workflow_id = database.enqueue("held_in_transaction", positional_args='["k"]')
    victim = start_worker()
    gates.wait_until_reached("in_transaction")
    victim.kill()
    gates.open("in_transaction")
    start_worker()
    database.wait_for_status(workflow_id, "SUCCESS")

    assert database.rows("SELECT key FROM ledger") == [("k",)]
    assert step_names(database, workflow_id) == ["first", "transfer", "third"]


def test_worker_killed_after_its_commit_reached_the_server_has_done_the_step(
    database: Database, start_worker: StartWorker
) -> None:
    database.rows(
        "CREATE FUNCTION slow_commit() RETURNS trigger LANGUAGE plpgsql"
        " AS 'BEGIN PERFORM pg_sleep(1.5); RETURN NULL; END'"
    )
    database.rows(
        "CREATE CONSTRAINT TRIGGER slow_commit AFTER INSERT ON ledger"
        " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slow_commit()"
    )
    workflow_id = database.enqueue("transfers", positional_args='["k"]')
    victim = start_worker()
    eventually(
        lambda: database.value(
            "SELECT count(*) FROM pg_stat_activity WHERE position('; COMMIT;' IN query) > 0"
            " AND wait_event = 'PgSleep' AND datname = current_database()"
        ),
        "a COMMIT under way",
    )
    victim.kill()
    eventually(lambda: database.value("SELECT count(*) FROM ledger"), "the commit")
    attempts = database.value("SELECT attempts FROM lockstep.workflow_status")
    assert attempts == 1, "the step was committed by the killed worker"

    start_worker()
    database.wait_for_status(workflow_id, "SUCCESS")
    assert database.rows("SELECT key FROM ledger") == [("k",)]
    assert database.effects() == {"first": 1, "third": 1}


def test_suspended_workflow_does_not_notice_that_its_worker_died(
    database: Database, start_worker: StartWorker
) -> None:
    workflow_id = database.enqueue("waits_for_message")
    victim = start_worker()
    database.wait_for_status(workflow_id, "WAITING")
    victim.kill()
    database.rows("SELECT lockstep.send_message(%s, '\"now\"', 'go')", workflow_id)
    assert database.status(workflow_id) == "ENQUEUED"
    start_worker()
    database.wait_for_status(workflow_id, "SUCCESS")

    rows = database.rows("SELECT output, attempts FROM lockstep.workflow_status")
    assert rows == [("now", 1)]


def test_crash_between_attempts_restarts_neither_count_nor_delay(
    database: Database, start_worker: StartWorker
) -> None:
    workflow_id = database.enqueue("retries")
    victim = start_worker()
    eventually(
        lambda: database.rows("SELECT 1 FROM lockstep.operation_outputs WHERE attempts = 1"),
        "a recorded attempt",
    )
    (due_at,) = database.rows("SELECT available_at FROM lockstep.operation_outputs")[0]
    victim.kill()
    start_worker()
    database.wait_for_status(workflow_id, "SUCCESS")

    assert database.effects() == {"attempt": 3}
    assert database.steps(workflow_id) == [(1, "fails_twice", "attempt 3")]
    assert due_at < database.value("SELECT available_at FROM lockstep.operation_outputs")
    assert database.value("SELECT attempts FROM lockstep.operation_outputs") == 3


def test_stopped_worker_that_wakes_beside_its_successor_writes_nothing(
    database: Database, start_worker: StartWorker, gates: Gates
) -> None:
    workflow_id = database.enqueue("held_in_step")
    sleeper = start_worker()
    gates.wait_until_reached("in_step")
    sleeper.signal(signal.SIGSTOP)
    successor = start_worker()
    gates.wait_until_reached("in_step", times=2)
    gates.open("in_step")
    database.wait_for_status(workflow_id, "SUCCESS")
    before = database.rows("SELECT * FROM lockstep.operation_outputs ORDER BY step_id")
    sleeper.signal(signal.SIGCONT)
    eventually(lambda: "lease lost" in sleeper.log, "the sleeper's discovery")

    assert database.effects() == {"first": 1, "second": 2, "third": 1}
    assert database.rows("SELECT * FROM lockstep.operation_outputs ORDER BY step_id") == before
    assert sleeper.process.poll() is None, "it goes on as a new executor"
    assert successor.terminate() == 0


def test_stopped_worker_that_wakes_in_a_transaction_rolls_back(
    database: Database, start_worker: StartWorker, gates: Gates
) -> None:
    workflow_id = database.enqueue("held_in_transaction", positional_args='["k"]')
    sleeper = start_worker()
    gates.wait_until_reached("in_transaction")
    sleeper.signal(signal.SIGSTOP)
    start_worker()
    gates.wait_until_reached("in_transaction", times=2)
    gates.open("in_transaction")
    database.wait_for_status(workflow_id, "SUCCESS")
    sleeper.signal(signal.SIGCONT)
    eventually(lambda: "lease lost" in sleeper.log, "the sleeper's discovery")
    eventually(
        lambda: (
            not database.value(
                "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%%'"
                " AND datname = current_database()"
            )
        ),
        "the rollback",
    )

    assert database.rows("SELECT key FROM ledger") == [("k",)]
    assert step_names(database, workflow_id) == ["first", "transfer", "third"]


def test_workflow_that_kills_its_worker_ends_in_the_dead_letter(
    database: Database, start_worker: StartWorker
) -> None:
    workflow_id = database.enqueue("dies", positional_args='["k"]', max_attempts=2)
    for _ in range(2):
        victim = start_worker("crash_app:app", "--lease", "1")
        victim.process.wait(30)
    survivor = start_worker()
    database.wait_for_status(workflow_id, "MAX_RECOVERY_ATTEMPTS_EXCEEDED")

    assert survivor.process.poll() is None
    error = database.value("SELECT error FROM lockstep.workflow_status")
    assert error["type"] == "MaxRecoveryAttemptsExceeded"


def test_terminated_worker_hands_its_workflows_back_at_once(
    database: Database, start_worker: StartWorker, gates: Gates
) -> None:
    workflow_id = database.enqueue("held_in_step")
    worker = start_worker("crash_app:app", "--grace", "0.2", "--lease", "60")
    gates.wait_until_reached("in_step")
    assert worker.terminate() == 0
    assert database.status(workflow_id) == "ENQUEUED"
    assert database.value("SELECT attempts FROM lockstep.workflow_status") == 0
    assert database.rows("SELECT * FROM lockstep.executor") == []

    gates.open("in_step")
    start_worker()
    database.wait_for_status(workflow_id, "SUCCESS")


def test_terminated_worker_lets_running_workflows_end(
    database: Database, start_worker: StartWorker, gates: Gates
) -> None:
    workflow_id = database.enqueue("held_in_step")
    worker = start_worker("crash_app:app", "--grace", "20")
    gates.wait_until_reached("in_step")
    worker.signal(signal.SIGTERM)
    eventually(lambda: "stopping" in worker.log, "the stop")
    late_id = database.enqueue("held_in_step")
    gates.open("in_step")
    assert worker.process.wait(30) == 0
    assert database.status(workflow_id) == "SUCCESS"
    assert database.status(late_id) == "ENQUEUED"


def test_worker_with_a_stuck_thread_ends_when_told_to(
    database: Database, start_worker: StartWorker, gates: Gates
) -> None:
    workflow_id = database.enqueue("stuck_in_thread")
    worker = start_worker("crash_app:app", "--grace", "0.2")
    gates.wait_until_reached("in_thread")
    assert worker.terminate(timeout=15) == 0
    assert database.status(workflow_id) == "ENQUEUED"
