"""What Lockstep promises, as statements about two successive states of a database.

They know nothing of how the functions work, and hold whatever was called in between.
"""

from __future__ import annotations

from typing import TypeVar

from model.rows import UNFINISHED, Executor, Ledger, Message, Row, Rows, Step, Workflow, earliest

R = TypeVar("R", bound=Row)

FOLLOWS = {
    "ENQUEUED": {"PENDING", "CANCELLED", "DELAYED"},  # DELAYED if it is debounced
    "DELAYED": {"ENQUEUED", "CANCELLED"},
    "PENDING": {
        *("DELAYED", "WAITING", "ENQUEUED"),
        *("SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"),
    },
    # PENDING at once if one advance_workflows() sends the message and claims the workflow
    "WAITING": {"ENQUEUED", "CANCELLED", "PENDING"},
    "SUCCESS": set(),
    "ERROR": {"ENQUEUED"},
    "CANCELLED": {"ENQUEUED"},
    "MAX_RECOVERY_ATTEMPTS_EXCEEDED": {"ENQUEUED"},
}
# By how much attempts may change; where nothing is said, not at all.
COUNTED = {
    ("ENQUEUED", "PENDING"): {1},
    ("WAITING", "PENDING"): {1},
    ("PENDING", "WAITING"): {-1, -2},  # suspended; a suspect, which is forgiven a death
    ("PENDING", "DELAYED"): {-1, -2, 0},  # as above; backs off after its executor died
    ("PENDING", "ENQUEUED"): {-1, 0},  # handed back; recovered
}


def rows_of(kind: type[R], rows: Rows) -> list[R]:
    return [row for key, row in rows.items() if key[0] is kind]


def pairs_of(kind: type[R], before: Rows, after: Rows) -> list[tuple[R, R | None]]:
    return [(row, after.get(row.key)) for row in rows_of(kind, before)]


def a_committed_workflow_stays(before: Rows, after: Rows) -> None:
    for old, new in pairs_of(Workflow, before, after):
        assert new is not None, f"{old} has gone"


def a_status_changes_only_along_the_graph(before: Rows, after: Rows) -> None:
    for old, new in pairs_of(Workflow, before, after):
        assert new is None or new.status == old.status or new.status in FOLLOWS[old.status], (
            f"{old.workflow_id} went from {old.status} to {new.status}"
        )


def what_has_ended_stays_as_it_is_until_resumed(before: Rows, after: Rows) -> None:
    for old, new in pairs_of(Workflow, before, after):
        assert old.is_unfinished or new == old or (new is not None and new.status == "ENQUEUED"), (
            f"{old} became {new}"
        )


def attempts_count_executions_begun(before: Rows, after: Rows) -> None:
    for old, new in pairs_of(Workflow, before, after):
        if new is not None:
            allowed = COUNTED.get((old.status, new.status), {0})
            assert new.attempts - old.attempts in allowed, f"{old} became {new}"


def one_executor_holds_a_workflow_until_it_gives_it_up(before: Rows, after: Rows) -> None:
    for old, new in pairs_of(Workflow, before, after):
        if new is not None and old.status == new.status == "PENDING":
            assert new.executor_id == old.executor_id, f"{old} became {new}"
    for workflow in rows_of(Workflow, after):
        if workflow.status == "PENDING":
            assert (Executor, workflow.executor_id) in after, f"nobody would recover {workflow}"


def one_unfinished_workflow_has_a_deduplication_id(before: Rows, after: Rows) -> None:
    taken = [
        (workflow.queue_name, workflow.deduplication_id)
        for workflow in rows_of(Workflow, after)
        if workflow.deduplication_id is not None and workflow.status in UNFINISHED
    ]
    assert len(taken) == len(set(taken)), f"two of one kind: {taken}"


def only_who_has_not_started_is_delayed_before_it_runs(before: Rows, after: Rows) -> None:
    for old, new in pairs_of(Workflow, before, after):
        if old.status == "ENQUEUED" and new is not None and new.status == "DELAYED":
            assert not old.has_started, f"{old} became {new}"


def an_outcome_is_recorded_once_and_never_changes(before: Rows, after: Rows) -> None:
    for old, new in pairs_of(Step, before, after):
        if old.is_finished and new != old:
            assert new is None, f"{old} became {new}"
            was_resumed_to_repeat_it = (
                before[Workflow, old.workflow_id].status == "ERROR"
                and after[Workflow, old.workflow_id].status != "ERROR"
                and old.error is not None
            )
            assert was_resumed_to_repeat_it, f"{old} has gone"


def a_timer_goes_on_until_the_next_attempt(before: Rows, after: Rows) -> None:
    for old, new in pairs_of(Step, before, after):
        if not old.is_finished:
            assert new is not None, f"{old} has gone"
            assert new.available_at == old.available_at or new.attempts > old.attempts, (
                f"{old} became {new}"
            )


def a_transactional_step_and_its_checkpoint_are_one(before: Rows, after: Rows) -> None:
    for written in rows_of(Ledger, after):
        step = after.get((Step, written.workflow_id, written.step_id))
        assert step is not None, f"{written} has no checkpoint"
        assert written.entries == (step.output,), f"{written} is not what {step} says"
    for step in rows_of(Step, after):
        if step.step_name == "transaction" and step.is_finished and step.error is None:
            assert (Ledger, step.workflow_id, step.step_id) in after, f"{step} wrote nothing"


def a_message_is_neither_lost_nor_received_twice(before: Rows, after: Rows) -> None:
    for old, new in pairs_of(Message, before, after):
        assert new is not None, f"{old} has gone"
        assert old.consumed_by_step in (None, new.consumed_by_step), f"{old} became {new}"
    consumed = {
        (message.destination_id, message.consumed_by_step): message.message
        for message in rows_of(Message, after)
        if message.consumed_by_step is not None
    }
    received = {
        (step.workflow_id, step.step_id): step.output
        for step in rows_of(Step, after)
        if step.step_name == "receive" and step.is_finished and step.attempts > 0
    }
    assert received == consumed


def messages_are_received_in_the_order_in_which_they_were_sent(before: Rows, after: Rows) -> None:
    unread = [message for message in rows_of(Message, before) if message.consumed_by_step is None]
    for message in unread:
        if after[message.key].consumed_by_step is None:
            continue
        for earlier in unread:
            if (earlier.destination_id, earlier.topic) == (message.destination_id, message.topic):
                assert (
                    earliest(earlier.sent_at) >= earliest(message.sent_at)
                    or after[earlier.key].consumed_by_step is not None
                ), f"{message} was received before {earlier}"


def none_waits_for_a_message_that_is_there(before: Rows, after: Rows) -> None:
    for message in rows_of(Message, after):
        workflow = after[Workflow, message.destination_id]
        assert message.consumed_by_step is not None or f"message:{message.topic}" not in (
            workflow.waiting_for or ()
        ), f"{workflow} sleeps over {message}"


PROMISES = (
    a_committed_workflow_stays,
    a_status_changes_only_along_the_graph,
    what_has_ended_stays_as_it_is_until_resumed,
    attempts_count_executions_begun,
    one_executor_holds_a_workflow_until_it_gives_it_up,
    one_unfinished_workflow_has_a_deduplication_id,
    only_who_has_not_started_is_delayed_before_it_runs,
    an_outcome_is_recorded_once_and_never_changes,
    a_timer_goes_on_until_the_next_attempt,
    a_transactional_step_and_its_checkpoint_are_one,
    a_message_is_neither_lost_nor_received_twice,
    messages_are_received_in_the_order_in_which_they_were_sent,
    none_waits_for_a_message_that_is_there,
)
