"""Random histories of applications and workers, each call made twice: on the server and on a model.

Three worker processes and two applications call the SQL functions in any order. Executors lose
their leases and go on writing, calls are rolled back or stay in open transactions while others
go on, and time passes. After every call the server must have answered as the model does and
hold the same rows, and every promise must be kept (promises.py).

A new function needs a method in protocol.py and a rule here; a new table or column a field in
rows.py and in the SNAPSHOT of server.py.

LOCKSTEP_MODEL_EXAMPLES=5000 runs so many random histories instead of the few fixed ones.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum
from typing import Any, NamedTuple, TypeVar

import hypothesis.strategies as st
import psycopg
import pytest
from harness import Database
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from model.promises import PROMISES
from model.protocol import PARTS, Lock, Refused, Transaction
from model.rows import (
    UNFINISHED,
    Event,
    Executor,
    Key,
    Rows,
    Step,
    Window,
    Workflow,
    differences,
    learn_moments,
)
from model.server import Server
from servers import Cluster

T = TypeVar("T")

EXAMPLES = os.environ.get("LOCKSTEP_MODEL_EXAMPLES")

WORKERS = ("alice", "bob", "carol")
APPLICATIONS = ("shop", "office")
QUEUES = ("mail", "print")
WORKFLOW_NAME = "order"
RESUMABLE = ("ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")

# A workflow's steps by number; as in a real one, a number is always the same call.
PLAIN_STEPS = (1, 2, 3)
TRANSACTIONS = (4, 5)
SLEEPS = (6, 7)
RECEIVES = {8: "approval", 9: "approval", 10: None}
EVENTS = (11, 12)
SENDS = (13, 14)

# Time passes in units that leave ten minutes between any moment and the next: the speed of
# the machine never decides what is due.
DELAYS = (600, 4200)
PASSES = (1200, 7200)
LEASE = "1 day"  # so long that no executor runs dry for a suspect


class Manner(Enum):
    """How the transaction ends in which a function is called."""

    COMMITS = "commits"
    ROLLS_BACK = "rolls back"
    COMMITS_LATER = "commits later"
    ROLLS_BACK_LATER = "rolls back later"
    # not called yet: the worker keeps the change for its next advance_workflows()
    JOINS_BATCH = "joins the batch"


class Named:
    """Shown by its name in the history of a failure."""

    def _repr_pretty_(self, printer: Any, _: bool) -> None:
        printer.text(str(self))


@dataclass(frozen=True)
class Identity(Named):
    """An executor as its process knows it, alive or not."""

    process: str
    number: int
    executor_id: str

    def __str__(self) -> str:
        return f"<{self.process}'s executor {self.number}>"


@dataclass(frozen=True)
class Claim(Named):
    """What an executor was told to run, whether or not it still holds it."""

    owner: Identity
    workflow_id: str
    attempt: int

    def __str__(self) -> str:
        return f"<{self.owner}, attempt {self.attempt} of {self.workflow_id}>"


@dataclass
class OpenTransaction:
    model: Transaction
    has_begun: bool
    commits: bool


# -- what rules draw ------------------------------------------------------------------------

Choose = Callable[["ProtocolMachine"], Sequence[T]]


def weighted(*choices: Choose[T]) -> st.SearchStrategy[T]:
    """Draw from one of several lists that is not empty; each is as likely as the others."""

    def draw(machine: ProtocolMachine) -> st.SearchStrategy[T]:
        lists = [choose(machine) for choose in choices]
        return st.one_of(*(st.sampled_from(values) for values in lists if values))

    return st.runner().flatmap(draw)


def new(kind: str) -> st.SearchStrategy[str]:
    """Make a value that no other call writes, so that it shows who wrote it."""
    return st.runner().map(lambda machine: machine.new_value(kind))


class Order(NamedTuple):
    name: str
    values: dict[str, Any]


def order(name: str, **fields: Any) -> st.SearchStrategy[Order]:
    """Draw a name with values; what is no strategy is the same each time."""
    values = {
        field: value if isinstance(value, st.SearchStrategy) else st.just(value)
        for field, value in fields.items()
    }
    return st.builds(Order, st.just(name), st.fixed_dictionaries(values))


manners = st.sampled_from(
    [*[Manner.COMMITS] * 7, Manner.ROLLS_BACK, Manner.COMMITS_LATER, Manner.ROLLS_BACK_LATER]
)
worker_manners = manners | st.sampled_from([Manner.COMMITS, Manner.JOINS_BATCH])
applications = weighted(lambda m: m.free_applications())
workers = weighted(lambda m: m.free_workers())
executors = weighted(
    *[lambda m: m.executors_alive()] * 3,
    lambda m: m.executors_dead(),
)
# what an executor writes for: mostly for what it holds, sometimes for what it has lost, or
# (None) for what it claims first
claims = weighted(
    *[lambda m: m.claims_held()] * 4,
    lambda m: m.claims_outlived(),
    lambda m: [*m.claims_lost(), None],
)
workflow_ids = weighted(
    *[lambda m: m.workflow_ids("PENDING", "WAITING")] * 3,
    lambda m: m.workflow_ids(),
)
resumable_ids = weighted(
    *[lambda m: m.workflow_ids(*RESUMABLE)] * 3,
    lambda m: m.workflow_ids(),
)
topics = st.sampled_from([*RECEIVES.values()])
idempotency_keys = st.sampled_from([None, None, "key"])
event_keys = st.sampled_from(["state", "state", "progress"])
spans = st.sampled_from(DELAYS)
intervals = spans.map(lambda seconds: timedelta(seconds=seconds))
enqueue_options = st.fixed_dictionaries(
    {"queue_name": st.sampled_from(QUEUES), "priority": st.integers(0, 1)},
    optional={
        "workflow_id": st.sampled_from(["a", "b"]),
        "deduplication_id": st.just("once"),
        "on_duplicate": st.sampled_from(["raise", "return"]),
        "delay": intervals,
        "timeout": intervals,
        "max_attempts": st.integers(1, 3),
    },
)
errors = st.fixed_dictionaries({"type": new("Error"), "message": st.just("it failed")})

steps = st.one_of(
    order(
        "steps",
        step_id=st.sampled_from(PLAIN_STEPS),
        step_name="plain",
        attempts=1,
        output=new("output"),
    ),
    order(
        "steps", step_id=st.sampled_from(PLAIN_STEPS), step_name="plain", attempts=2, error=errors
    ),
    order(
        "steps",
        step_id=st.sampled_from(TRANSACTIONS),
        step_name="transaction",
        attempts=1,
        error=errors,
    ),
    order("steps", step_id=st.sampled_from(SLEEPS), step_name="sleep", attempts=0, output=None),
)
waits = st.one_of(
    order(
        "receives",
        step_id=st.just(8) | st.just(9),
        topic="approval",
        timeout=st.sampled_from([None, None, 0, *DELAYS]),
    ),
    order("receives", step_id=10, topic=None, timeout=st.none() | spans),
    order("receives", step_id=10, topic=None, timeout=spans),
    order(
        "timers",
        step_id=st.sampled_from(SLEEPS),
        step_name="sleep",
        delay=spans,
        attempts=0,
        error=None,
    ),
    order(
        "timers",
        step_id=st.sampled_from(PLAIN_STEPS),
        step_name="plain",
        delay=spans,
        attempts=st.integers(1, 3),
        error=errors,
    ),
    order(
        "timers",
        step_id=st.sampled_from(TRANSACTIONS),
        step_name="transaction",
        delay=spans,
        attempts=st.integers(1, 3),
        error=errors,
    ),
)
publications = st.one_of(
    order("events", step_id=st.sampled_from(EVENTS), key=event_keys, value=new("value")),
    order(
        "messages",
        step_id=st.sampled_from(SENDS),
        topic=topics,
        message=new("message"),
        destination_id=workflow_ids | st.just("nobody"),
        idempotency_key=idempotency_keys,
    ),
)
outcomes = order("outcomes", output=new("output")) | order("outcomes", error=errors)

needs_an_application = precondition(lambda m: m.free_applications())
# few workflows at a time, so that what is called meets what was called before
needs_room = precondition(lambda m: m.free_applications() and len(m.workflow_ids(*UNFINISHED)) < 5)
needs_a_workflow = precondition(lambda m: m.free_applications() and m.workflow_ids())
needs_a_worker = precondition(lambda m: m.free_workers())


class ProtocolMachine(RuleBasedStateMachine):
    def __init__(self, server: Server) -> None:
        super().__init__()
        self.server = server
        self.rows: Rows = {}
        self.history: list[Rows] = [{}]
        self.open: dict[str, OpenTransaction] = {}
        self.executors: list[Identity] = []
        self.claims: list[Claim] = []
        self.batches: dict[Identity, dict[str, list[Any]]] = {}
        self.last_calls: dict[Identity, tuple[str, dict[str, Any]]] = {}
        self.time_passed = 0
        self.value_count = 0

    def teardown(self) -> None:
        for session in [*self.open, *self.server.sessions]:
            self.server.sessions[session].roll_back()
        self.server.empty()

    @initialize(first=enqueue_options, second=enqueue_options, third=enqueue_options)
    def two_workers_have_work(self, **workflows: Any) -> None:
        for options in workflows.values():
            self.an_application_enqueues("shop", options, Manner.COMMITS)
        for worker in WORKERS[:2]:
            self.a_worker_claims(worker, QUEUES, 1, Manner.COMMITS)

    # -- applications -----------------------------------------------------------------------

    @needs_room
    @rule(application=applications, options=enqueue_options, manner=manners)
    def an_application_enqueues(
        self, application: str, options: dict[str, Any], manner: Manner
    ) -> None:
        self.call(
            application,
            "enqueue_workflow",
            manner,
            workflow_name=WORKFLOW_NAME,
            **options,
        )

    @needs_room
    @rule(
        application=applications,
        options=st.fixed_dictionaries(
            {
                "queue_name": st.sampled_from(QUEUES),
                "deduplication_id": st.sampled_from(["once", "twice"]),
                "priority": st.integers(0, 1),
                "debounce": intervals,
            },
            optional={"timeout": intervals, "max_attempts": st.integers(1, 3)},
        ),
        manner=manners,
    )
    def an_application_debounces(
        self, application: str, options: dict[str, Any], manner: Manner
    ) -> None:
        self.call(
            application,
            "enqueue_workflow",
            manner,
            workflow_name=WORKFLOW_NAME,
            **options,
        )

    @needs_room
    @rule(
        application=applications,
        queue_name=st.sampled_from(QUEUES),
        deduplication_ids=st.lists(
            st.sampled_from([None, "once", "twice"]), min_size=1, max_size=3
        ),
        on_duplicate=st.sampled_from(["raise", "return"]),
        priority=st.integers(0, 1),
        manner=manners,
    )
    def an_application_enqueues_many(
        self,
        application: str,
        deduplication_ids: list[str | None],
        manner: Manner,
        **options: Any,
    ) -> None:
        self.call(
            application,
            "enqueue_workflows",
            manner,
            workflow_name=WORKFLOW_NAME,
            named_args=[{}] * len(deduplication_ids),
            deduplication_ids=deduplication_ids,
            **options,
        )

    @needs_a_workflow
    @rule(
        application=applications,
        destination_id=workflow_ids,
        topic=topics,
        message=new("message"),
        idempotency_key=idempotency_keys,
        manner=manners,
    )
    def an_application_sends_a_message(
        self, application: str, manner: Manner, **arguments: Any
    ) -> None:
        self.call(application, "send_message", manner, **arguments)

    @precondition(lambda m: m.free_applications() and m.has_published())
    @rule(application=applications, workflow_id=workflow_ids, key=event_keys)
    def an_application_reads_an_event(self, application: str, **arguments: Any) -> None:
        self.call(application, "get_event", Manner.COMMITS, **arguments)

    @needs_a_workflow
    @rule(application=applications, workflow_id=workflow_ids, manner=manners)
    def an_application_cancels(self, application: str, workflow_id: str, manner: Manner) -> None:
        self.call(application, "cancel_workflow", manner, workflow_id=workflow_id)

    @precondition(lambda m: m.free_applications() and m.workflow_ids(*RESUMABLE))
    @rule(
        application=applications,
        workflow_id=resumable_ids,
        is_taken_up=st.booleans(),
        manner=manners,
    )
    def an_application_resumes(
        self, application: str, workflow_id: str, is_taken_up: bool, manner: Manner
    ) -> None:
        self.call(application, "resume_workflow", manner, workflow_id=workflow_id)
        last = [claim for claim in self.claims_at_hand() if claim.workflow_id == workflow_id]
        if is_taken_up and last:
            self.a_worker_claims(last[-1].owner.process, QUEUES, 3, Manner.COMMITS)

    @needs_an_application
    @rule(
        application=applications,
        order=st.one_of(
            order("create_queue", concurrency=st.sampled_from([1, 2, None])),
            order("unpause_queue"),
            order("pause_queue"),
        ),
        queue_name=st.sampled_from(QUEUES),
        manner=manners,
    )
    def an_application_changes_a_queue(
        self, application: str, order: Order, queue_name: str, manner: Manner
    ) -> None:
        function, arguments = order
        self.call(application, function, manner, queue_name=queue_name, **arguments)

    # -- workers ----------------------------------------------------------------------------

    @needs_a_worker
    @rule(
        worker=workers,
        queues=st.sampled_from([QUEUES, QUEUES[:1]]),
        max_count=st.integers(1, 3),
        manner=manners,
    )
    def a_worker_claims(
        self, worker: str, queues: tuple[str, ...], max_count: int, manner: Manner
    ) -> None:
        if not any(executor.process == worker for executor in self.executors_alive()):
            self.register(worker, queues)
        self.call_as(self.executors_of(worker)[-1], "claim_workflows", manner, max_count=max_count)

    def claim_something(self) -> Claim | None:
        """Let a worker that is free claim, from a queue that is not empty."""
        worker = self.free_workers()[self.value_count % len(self.free_workers())]
        if not self.workflow_ids("ENQUEUED"):
            options = {"queue_name": QUEUES[0], "max_attempts": 3}
            self.an_application_enqueues(worker, options, Manner.COMMITS)
        self.a_worker_claims(worker, QUEUES, 1, Manner.COMMITS)
        return next((claim for claim in self.claims_held() if claim.owner.process == worker), None)

    def register(self, worker: str, queues: tuple[str, ...]) -> None:
        answer = self.call(
            worker,
            "register_executor",
            Manner.COMMITS,
            queues=list(queues),
            workflow_names=[WORKFLOW_NAME],
            lease_duration=LEASE,
        )
        number = len(self.executors_of(worker)) + 1
        self.executors.append(Identity(worker, number, answer[0][0]))

    @needs_a_worker
    @rule(executor=executors, claim_count=st.integers(0, 3), manner=manners)
    def an_executor_sends_its_batch(
        self, executor: Identity, claim_count: int, manner: Manner
    ) -> None:
        changes = self.batches.pop(executor, {})
        self.call_as(
            executor, "advance_workflows", manner, changes=changes, claim_count=claim_count
        )

    @precondition(lambda m: m.executors_with_last_call())
    @rule(executor=weighted(lambda m: m.executors_with_last_call()), manner=manners)
    def an_executor_sends_its_last_call_again(self, executor: Identity, manner: Manner) -> None:
        function, arguments = self.last_calls[executor]
        self.call_as(executor, function, manner, **arguments)

    @needs_a_worker
    @rule(
        executor=executors,
        order=st.one_of(
            order("heartbeat"),
            order("pulse"),
            order("release_workflows", keep_ids=weighted(lambda m: [[], m.workflow_ids()[::2]])),
            order("unregister_executor"),
        ),
        manner=manners,
    )
    def an_executor_says_how_it_is(self, executor: Identity, order: Order, manner: Manner) -> None:
        function, arguments = order
        self.call_as(executor, function, manner, **arguments)

    @needs_a_worker
    @rule(
        worker=workers,
        function=st.sampled_from(["recover_workflows", "promote_due_workflows"]),
        manner=manners,
    )
    def a_worker_looks_after_all(self, worker: str, function: str, manner: Manner) -> None:
        self.call(worker, function, manner)

    # -- what an executor writes, also for a workflow that it has lost ----------------------

    @needs_a_worker
    @rule(claim=claims, step=steps, manner=worker_manners)
    def an_executor_records_a_step(self, claim: Claim | None, step: Order, manner: Manner) -> None:
        self.write(claim or self.claim_something(), *step, manner)

    @needs_a_worker
    @rule(claim=claims, step_id=st.sampled_from(TRANSACTIONS), entry=new("entry"), manner=manners)
    def an_executor_records_a_transactional_step(
        self, claim: Claim | None, step_id: int, entry: str, manner: Manner
    ) -> None:
        claim = claim or self.claim_something()
        if claim is None:
            return
        self.call_as(
            claim.owner,
            "record_step",
            manner,
            user_write=(claim.workflow_id, step_id, entry),
            workflow_id=claim.workflow_id,
            attempt=claim.attempt,
            step_id=step_id,
            step_name="transaction",
            output=entry,
        )

    @needs_a_worker
    @rule(claim=claims, wait=waits, then_suspends=st.booleans(), manner=worker_manners)
    def an_executor_begins_to_wait(
        self, claim: Claim | None, wait: Order, then_suspends: bool, manner: Manner
    ) -> None:
        claim = claim or self.claim_something()
        self.write(claim, *wait, manner)
        if then_suspends and claim in self.claims_held():
            timers = {step.step_id for step in self.timers_of(claim.workflow_id)}
            self.an_executor_suspends(
                claim,
                {wait.values["step_id"], *timers},
                manner if manner is Manner.JOINS_BATCH else Manner.COMMITS,
            )

    @needs_a_worker
    @rule(
        claim=claims,
        step_ids=st.sets(st.sampled_from([*RECEIVES, *SLEEPS]), min_size=1, max_size=3),
        manner=worker_manners,
    )
    def an_executor_suspends(self, claim: Claim | None, step_ids: set[int], manner: Manner) -> None:
        awaited = {RECEIVES[step_id] or "" for step_id in step_ids if step_id in RECEIVES}
        values = {"step_ids": sorted(step_ids), "topics": sorted(awaited)}
        self.write(claim or self.claim_something(), "suspensions", values, manner)

    @needs_a_worker
    @rule(claim=claims, value=publications, manner=worker_manners)
    def an_executor_publishes(self, claim: Claim | None, value: Order, manner: Manner) -> None:
        self.write(claim or self.claim_something(), *value, manner)

    @needs_a_worker
    @rule(claim=claims, outcome=outcomes, manner=worker_manners)
    def an_executor_finishes(self, claim: Claim | None, outcome: Order, manner: Manner) -> None:
        self.write(claim or self.claim_something(), *outcome, manner)

    def write(self, claim: Claim | None, part: str, values: dict[str, Any], manner: Manner) -> None:
        if claim is None:
            return
        change = {**values, "workflow_id": claim.workflow_id, "attempt": claim.attempt}
        if manner is not Manner.JOINS_BATCH:
            self.call_as(claim.owner, PARTS[part], manner, **{part: [change]})
            return
        batch = self.batches.setdefault(claim.owner, {}).setdefault(part, [])
        place = (claim.workflow_id, change.get("step_id"))
        if all((other["workflow_id"], other.get("step_id")) != place for other in batch):
            batch.append(change)

    # -- transactions, leases and time ------------------------------------------------------

    @precondition(lambda m: m.open)
    @rule(session=weighted(lambda m: list(m.open)))
    def an_open_transaction_ends(self, session: str) -> None:
        self.end(session)

    @precondition(lambda m: m.leases_to_end())
    @rule(executor=weighted(lambda m: m.leases_to_end()), is_noticed=st.booleans())
    def a_lease_ends(self, executor: Identity, is_noticed: bool) -> None:
        self.server.end_lease(executor.executor_id)
        row = self.rows[Executor, executor.executor_id]
        self.remember({row.key: replace(row, lease="ended")})
        if is_noticed and self.free_workers():
            self.call(self.free_workers()[-1], "recover_workflows", Manner.COMMITS)

    @rule(times=st.integers(2, 5))
    def executors_die_one_after_the_other(self, times: int) -> None:
        self.end_all()
        for death in range(times):
            worker = WORKERS[death % len(WORKERS)]
            self.a_worker_claims(worker, QUEUES, 1, Manner.COMMITS)
            self.a_lease_ends(self.executors_of(worker)[-1], is_noticed=True)

    @rule(seconds=st.sampled_from(PASSES), is_noticed=st.booleans())
    def time_passes(self, seconds: int, is_noticed: bool) -> None:
        self.end_all()
        self.server.let_time_pass(seconds)
        self.time_passed += seconds * 1_000_000
        if is_noticed:
            self.call(WORKERS[0], "promote_due_workflows", Manner.COMMITS)

    def end_all(self) -> None:
        for session in [*self.open]:
            self.end(session)

    # -- one call, on the server and on the model -------------------------------------------

    def call_as(self, executor: Identity, function: str, manner: Manner, **arguments: Any) -> Any:
        arguments["executor_id"] = executor.executor_id
        if function != "record_step":
            self.last_calls[executor] = (function, arguments)
        answer = self.call(executor.process, function, manner, **arguments)
        if function == "claim_workflows":
            self.believe(executor, answer)
        elif function == "advance_workflows" and not isinstance(answer, Refused):
            self.believe(executor, answer["claimed"])

    def call(
        self,
        session: str,
        function: str,
        manner: Manner,
        user_write: tuple[Any, ...] | None = None,
        **arguments: Any,
    ) -> Any:
        connection = self.server.sessions[session]
        has_begun = manner is not Manner.COMMITS or user_write is not None

        def call_server() -> Any:
            if has_begun:
                connection.execute("BEGIN")
            if user_write is not None:
                connection.execute("INSERT INTO ledger VALUES (%s, %s, %s)", *user_write)
            return connection.call(function, arguments)

        began_at = self.now()
        waiting = None
        attempt = self.begin(session, Window(began_at, began_at))
        while (blocked := attempt.wait_of(function, arguments)) is not None:
            waiting = waiting or self.server.start(connection, call_server)
            self.end(blocked.session)
            attempt = self.begin(session, Window(began_at, began_at), attempt)
        answer = waiting.result(10) if waiting else call_server()

        transaction = self.begin(session, Window(began_at, self.now()), attempt, answer)
        try:
            expected = getattr(transaction, function)(**arguments)
        except Refused as refusal:
            expected = refusal
        assert in_order(answer) == in_order(expected), (
            f"{function}({arguments})\nshould answer {expected}\nand answers {answer}"
        )
        commits = manner in (Manner.COMMITS, Manner.COMMITS_LATER)
        self.open[session] = OpenTransaction(
            transaction, has_begun, commits and not isinstance(answer, Refused)
        )
        if manner in (Manner.COMMITS, Manner.ROLLS_BACK) or isinstance(answer, Refused):
            self.end(session)
        return answer

    def begin(
        self, session: str, now: Window, attempt: Transaction | None = None, told: Any = None
    ) -> Transaction:
        others = [transaction.model for transaction in self.open.values()]
        told = None if isinstance(told, Refused) else told
        return Transaction(session, self.rows, others, now, attempt, told)

    def end(self, session: str) -> None:
        transaction = self.open.pop(session)
        if transaction.has_begun:
            self.server.sessions[session].execute("COMMIT" if transaction.commits else "ROLLBACK")
        if transaction.commits:
            self.remember(transaction.model.changes)

    def remember(self, changes: Rows) -> None:
        rows = {**self.rows, **changes}
        self.rows = {key: row for key, row in rows.items() if row is not None}
        self.history.append(self.rows)

    def believe(self, executor: Identity, claimed: Any) -> None:
        if not isinstance(claimed, Refused):
            self.claims += [Claim(executor, row[0], row[1]) for row in claimed]

    @invariant()
    def every_promise_is_kept(self) -> None:
        real = self.server.read(self.time_passed)
        self.history = [learn_moments(rows, real) for rows in self.history]
        self.rows = self.history[-1]
        assert self.rows == real, differences(self.rows, real)
        for before, after in zip(self.history, self.history[1:], strict=False):
            for promise in PROMISES:
                promise(before, after)
        self.history = [self.rows]

    # -- what there is to choose from -------------------------------------------------------

    def now(self) -> int:
        return time.time_ns() // 1000 + self.time_passed

    def new_value(self, kind: str) -> str:
        self.value_count += 1
        return f"{kind} {self.value_count}"

    def free_applications(self) -> list[str]:
        return [name for name in APPLICATIONS if name not in self.open]

    def free_workers(self) -> list[str]:
        return [name for name in WORKERS if name not in self.open]

    def workflow_ids(self, *statuses: str) -> list[str]:
        return [
            row.workflow_id
            for row in self.rows.values()
            if isinstance(row, Workflow) and (row.status in statuses or not statuses)
        ]

    def timers_of(self, workflow_id: str) -> list[Step]:
        return [
            row
            for row in self.rows.values()
            if isinstance(row, Step) and row.workflow_id == workflow_id and not row.is_finished
        ]

    def has_published(self) -> bool:
        return any(isinstance(row, Event) for row in self.rows.values())

    def executors_of(self, *workers: str) -> list[Identity]:
        return [executor for executor in self.executors if executor.process in workers]

    def executors_alive(self) -> list[Identity]:
        return [one for one in self.executors_of(*self.free_workers()) if self.is_alive(one)]

    def executors_dead(self) -> list[Identity]:
        return [one for one in self.executors_of(*self.free_workers()) if not self.is_alive(one)]

    def executors_with_last_call(self) -> list[Identity]:
        return [one for one in self.executors_of(*self.free_workers()) if one in self.last_calls]

    def is_alive(self, identity: Identity) -> bool:
        executor = self.rows.get((Executor, identity.executor_id))
        return executor is not None and executor.lease != "declared dead"

    def claims_held(self) -> list[Claim]:
        return [claim for claim in self.claims_at_hand() if self.is_held(claim)]

    def claims_lost(self) -> list[Claim]:
        return [claim for claim in self.claims_at_hand() if not self.is_held(claim)][-4:]

    def claims_outlived(self) -> list[Claim]:
        """List the claims whose workflow is run by a later one."""
        running = self.workflow_ids("PENDING")
        return [claim for claim in self.claims_lost() if claim.workflow_id in running]

    def claims_at_hand(self) -> list[Claim]:
        """List what free processes were told, and by a transaction that has committed."""
        return [
            claim
            for claim in dict.fromkeys(self.claims)
            if claim.owner.process not in self.open and (Workflow, claim.workflow_id) in self.rows
        ]

    def is_held(self, claim: Claim) -> bool:
        workflow = self.rows[Workflow, claim.workflow_id]
        return (workflow.status, workflow.executor_id, workflow.attempts) == (
            "PENDING",
            claim.owner.executor_id,
            claim.attempt,
        )

    def leases_to_end(self) -> list[Identity]:
        def can_end(key: Key) -> bool:
            return (
                key in self.rows
                and self.rows[key].lease == "runs"
                and all(
                    transaction.model.locks.get(key, Lock.KEY_SHARE) == Lock.KEY_SHARE
                    for transaction in self.open.values()
                )
            )

        return [
            identity for identity in self.executors if can_end((Executor, identity.executor_id))
        ]


def in_order(answer: Any) -> Any:
    """Sort the rows of an answer: their order says nothing."""
    if isinstance(answer, dict):
        return {part: in_order(rows) for part, rows in answer.items()}
    if isinstance(answer, Refused):
        return answer
    if not isinstance(answer, list):
        return [(answer,)]
    return sorted(answer, key=lambda row: str(row[:2]))


@pytest.fixture(scope="module")
def server(cluster: Cluster) -> Iterator[Server]:
    with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE model")
    server = Server(Database(cluster.dsn("model")), [*WORKERS, *APPLICATIONS])
    yield server
    server.close()


# Ten at a time, because Hypothesis draws the first ten afresh, and then varies them.
@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", range(int(EXAMPLES or 160) // 10))
def test_every_history_is_as_the_model_foretells(server: Server, number: int) -> None:
    def machine() -> ProtocolMachine:
        return ProtocolMachine(server)

    run_state_machine_as_test(
        machine if EXAMPLES else seed(number)(machine),
        settings=settings(
            max_examples=10,
            stateful_step_count=50,
            derandomize=EXAMPLES is None,
            deadline=None,
            report_multiple_bugs=False,
            phases=[Phase.generate],  # to shrink a history against a server takes hours
            suppress_health_check=list(HealthCheck),
        ),
    )
