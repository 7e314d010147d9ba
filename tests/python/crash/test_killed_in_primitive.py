"""A worker is killed while a workflow is inside a primitive; another one finishes it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

import pytest
from harness import Database, Gates, WorkerProcess
from waiting import eventually

StartWorker = Callable[..., WorkerProcess]
FORMS = pytest.mark.parametrize("form", ["", "_plain"])
APP = "primitives_app:app"
NEXT = 65536


@pytest.fixture
def start(start_worker: StartWorker) -> StartWorker:
    return lambda *options: start_worker(APP, "--lease", "1", *options)


@FORMS
@pytest.mark.parametrize("seconds", [0.9, 2.0], ids=["in memory", "suspended"])
def test_sleep_ends_at_the_recorded_time(
    database: Database, start: StartWorker, form: str, seconds: float
) -> None:
    workflow_id = database.enqueue(f"sleeps{form}", positional_args=f"[{seconds}]")
    victim = start()
    status = "PENDING" if seconds < 1 else "DELAYED"
    eventually(
        lambda: (
            database.value("SELECT status FROM lockstep.workflow_status") == status
            and database.rows("SELECT available_at FROM lockstep.operation_outputs")
        ),
        "the timer",
    )
    ((due_at,),) = database.rows("SELECT available_at FROM lockstep.operation_outputs")
    victim.kill()
    start()
    ready_at = database.value("SELECT clock_timestamp()")
    assert database.result(workflow_id) == "rested"

    ((woke_at, recorded_due_at),) = database.rows(
        "SELECT w.completed_at, s.available_at"
        " FROM lockstep.operation_outputs AS s CROSS JOIN lockstep.workflow_status AS w"
    )
    assert recorded_due_at == due_at, "the timer was not set again"
    late = woke_at - due_at
    assert timedelta(0) <= late, f"woken {-late} early"
    if seconds > 1:  # else the lease of the dead worker ends later
        assert woke_at - max(due_at, ready_at) < timedelta(seconds=1)


@FORMS
def test_timeout_of_a_receive_goes_on_and_its_outcome_is_kept(
    database: Database, start: StartWorker, gates: Gates, form: str
) -> None:
    workflow_id = database.enqueue(f"receives_late{form}", positional_args="[1.5]")
    victim = start()
    database.wait_for_status(workflow_id, "WAITING")
    ((due_at,),) = database.rows("SELECT available_at FROM lockstep.operation_outputs")
    victim.kill()
    second = start()
    ready_at = database.value("SELECT clock_timestamp()")
    gates.wait_until_reached("after")
    timed_out_at = database.value("SELECT min(completed_at) FROM lockstep.operation_outputs")
    assert due_at <= timed_out_at < max(due_at, ready_at) + timedelta(seconds=1)
    database.rows("SELECT lockstep.send_message(%s, '1', 't')", workflow_id)
    second.kill()
    gates.open("after")
    start()
    assert database.result(workflow_id) == [None, "late"], "the message came too late"


@FORMS
def test_messages_events_and_streams_are_written_once(
    database: Database, start: StartWorker, gates: Gates, form: str
) -> None:
    other = database.enqueue("answers", queue_name="other")
    workflow_id = database.enqueue(f"publishes{form}", positional_args=f'["{other}"]')
    victim = start("--queue", "default")
    gates.wait_until_reached("amid")
    victim.kill()
    gates.open("amid")
    second = start("--queue", "default")
    database.wait_for_status(workflow_id, "WAITING")
    second.kill()
    start("--queue", "other", "--queue", "default")
    assert database.result(workflow_id) == "hello"

    messages = database.rows("SELECT destination_id, message FROM lockstep.notifications")
    assert messages == [(other, "hello")]
    stream = database.rows(
        'SELECT "offset", value, is_end FROM lockstep.workflow_streams ORDER BY "offset"'
    )
    assert stream == [(0, "one", False), (1, "two", False), (2, None, True)]
    assert database.value("SELECT lockstep.get_event(%s, 'state')", workflow_id) == 2


@FORMS
def test_child_is_started_once_though_its_parent_dies_before_it_asks_for_the_result(
    database: Database, start: StartWorker, gates: Gates, form: str
) -> None:
    workflow_id = database.enqueue(f"starts_child{form}")
    victim = start()
    gates.wait_until_reached("between")
    victim.kill()
    gates.open("between")
    start()
    assert database.result(workflow_id) == 10
    children = database.rows(
        "SELECT workflow_name, status FROM lockstep.workflow_status WHERE parent_workflow_id = %s",
        workflow_id,
    )
    assert children == [(f"child{form}", "SUCCESS")]


@FORMS
def test_called_child_is_awaited_by_the_next_worker(
    database: Database, start: StartWorker, gates: Gates, form: str
) -> None:
    workflow_id = database.enqueue(f"calls_child{form}")
    victim = start()
    gates.wait_until_reached("child")
    victim.kill()
    gates.open("child")
    start()
    assert database.result(workflow_id) == "child"
    assert database.value("SELECT count(*) FROM lockstep.workflow_status") == 2
    assert database.steps(workflow_id) == [(1, f"held_child{form}", "child")]
    assert database.effects() == {"held child": 2}, "its own code ran in both workers"


@FORMS
def test_fan_out_starts_each_child_once_however_often_its_workers_die(
    database: Database, start: StartWorker, form: str
) -> None:
    count = 120
    workflow_id = database.enqueue(f"fans_out{form}", positional_args=f"[{count}]")
    for done in (15, 60):
        victim = start("--concurrency", "12")
        eventually(
            lambda done=done: (
                database.value(
                    "SELECT count(*) FROM lockstep.workflow_status WHERE status = 'SUCCESS'"
                )
                >= done
            ),
            "some children",
        )
        victim.kill()
        assert database.status(workflow_id) != "SUCCESS"
    start()
    assert database.result(workflow_id) == sum(range(count)) * 10
    assert database.value("SELECT count(*) FROM lockstep.workflow_status") == count + 1
    assert len(database.effects()) == count


@pytest.mark.parametrize("name", ["branches", "maps", "maps_plain"])
def test_branches_go_on_where_each_of_them_was(
    database: Database, start: StartWorker, gates: Gates, name: str
) -> None:
    workflow_id = database.enqueue(name)
    victim = start()
    gates.wait_until_reached("hold_a")
    gates.wait_until_reached("hold_b")
    gates.open("hold_a")
    eventually(lambda: database.effects()["a2"], "the end of branch a")
    eventually(lambda: len(database.steps(workflow_id)) == 4, "its record")
    victim.kill()
    gates.open("hold_b")
    start()
    assert database.result(workflow_id) == [["a1", "a2"], ["b1", "b2"]]
    assert database.effects() == {"a1": 1, "a2": 1, "b1": 1, "b2": 1}
    assert [step_id for step_id, _, _ in database.steps(workflow_id)] == [
        anchor + place * NEXT for place in range(3) for anchor in (1, 2)
    ]


@FORMS
def test_recorded_values_stay_as_they_were(
    database: Database, start: StartWorker, gates: Gates, form: str
) -> None:
    workflow_id = database.enqueue(f"values{form}")
    victim = start()
    gates.wait_until_reached("values")
    victim.kill()
    gates.open("values")
    start()
    value = database.result(workflow_id)
    assert database.effects() == {repr(value): 1}
    assert value[3] is True


@FORMS
def test_step_with_a_timeout_is_repeated(
    database: Database, start: StartWorker, gates: Gates, form: str
) -> None:
    workflow_id = database.enqueue(f"calls_limited{form}")
    victim = start()
    gates.wait_until_reached("limited")
    victim.kill()
    gates.open("limited")
    start()
    assert database.result(workflow_id) == "limited"
    assert database.effects() == {"limited": 2}


@FORMS
@pytest.mark.parametrize("where", ["before_commit", "after_commit"])
def test_step_that_commits_itself_happens_once(
    database: Database, start: StartWorker, gates: Gates, form: str, where: str
) -> None:
    workflow_id = database.enqueue(f"calls_pays{form}", positional_args='["k"]')
    victim = start()
    if where == "after_commit":
        gates.open("before_commit")
    gates.wait_until_reached(where)
    victim.kill()
    gates.open("before_commit")
    gates.open("after_commit")
    start()
    assert database.result(workflow_id) == {"paid": "k"}
    assert database.rows("SELECT key FROM ledger") == [("k",)]
    assert gates.count("before_commit") == (2 if where == "before_commit" else 1)


@FORMS
def test_poll_goes_on_in_its_rhythm(database: Database, start: StartWorker, form: str) -> None:
    workflow_id = database.enqueue(f"polls{form}")
    victim = start()
    eventually(lambda: database.effects()["asked"] == 2, "the second question")
    database.wait_for_status(workflow_id, "DELAYED")
    due_at = database.value("SELECT available_at FROM lockstep.operation_outputs")
    victim.kill()
    start()
    eventually(lambda: database.effects()["asked"] == 3, "the third question")
    assert database.value("SELECT clock_timestamp()") >= due_at
    assert database.result(workflow_id) == "ready"
    assert database.effects() == {"asked": 4}
    assert database.steps(workflow_id) == [(1, f"poll is_ready{form}", "ready")]


@FORMS
def test_progress_is_not_set_back_by_the_replay(
    database: Database, start: StartWorker, gates: Gates, form: str
) -> None:
    workflow_id = database.enqueue(f"progresses{form}")
    progress = "SELECT value -> 'done' FROM lockstep.workflow_events"
    database.rows("CREATE TABLE seen (done jsonb)")
    database.rows(
        "CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN INSERT INTO public.seen VALUES (NEW.value -> 'done'); RETURN NULL; END $$"
    )
    database.rows(
        "CREATE TRIGGER see AFTER INSERT OR UPDATE ON lockstep.workflow_events"
        " FOR EACH ROW EXECUTE FUNCTION see()"
    )
    victim = start()
    gates.wait_until_reached("progress")
    assert database.value(progress) == 3
    victim.kill()
    gates.open("progress")
    start()
    database.wait_for_status(workflow_id, "SUCCESS")
    assert database.rows("SELECT done FROM seen") == [(1,), (2,), (3,), (4,)]


@FORMS
def test_pause_before_a_workflow_s_retry_goes_on(
    database: Database, start: StartWorker, form: str
) -> None:
    workflow_id = database.enqueue(f"fails_once{form}")
    victim = start()
    eventually(
        lambda: database.effects()["tried"] and database.status(workflow_id) == "DELAYED",
        "the pause",
    )
    due_at = database.value("SELECT available_at FROM lockstep.workflow_status")
    victim.kill()
    start()
    ready_at = database.value("SELECT clock_timestamp()")
    assert database.result(workflow_id) == "done"
    assert database.effects() == {"kept": 1, "tried": 2}
    ended_at = database.value("SELECT completed_at FROM lockstep.workflow_status")
    assert due_at <= ended_at < max(due_at, ready_at) + timedelta(seconds=1.5)
    assert database.value("SELECT failures FROM lockstep.workflow_status") == 1


@FORMS
def test_undoing_goes_on_after_the_last_undo_step_that_is_recorded(
    database: Database, start: StartWorker, gates: Gates, form: str
) -> None:
    database.enqueue(f"saga{form}")
    gates.open("undo_b")
    victim = start()
    gates.wait_until_reached("undo_a")
    victim.kill()
    gates.open("undo_a")
    start()
    eventually(
        lambda: database.rows(
            "SELECT 1 FROM lockstep.workflow_status"
            " WHERE workflow_name = 'lockstep.compensate' AND status = 'SUCCESS'"
        ),
        "the end of the compensation",
    )
    assert database.effects() == {"undo b": 1, "undo a": 2}
    assert database.value("SELECT count(*) FROM lockstep.workflow_status") == 2


def test_workflow_in_the_dead_letter_is_undone(
    database: Database, start: StartWorker, gates: Gates
) -> None:
    workflow_id = database.enqueue("saga_that_dies", max_attempts=1)
    victim = start()
    victim.process.wait(30)
    gates.open("undo_a")
    start()
    database.wait_for_status(workflow_id, "MAX_RECOVERY_ATTEMPTS_EXCEEDED")
    eventually(lambda: database.effects()["undo a"], "the undo step")
    time.sleep(0.1)
    assert database.effects() == {"undo a": 1}
