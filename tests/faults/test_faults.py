"""A short run of the fault harness with a fixed seed, and the proof that its oracle can fail."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from faults import oracle
from faults.injections import KINDS
from faults.plan import make_plan
from faults.report import Report
from faults.run import Options, Run, folder_for
from faults.site import Site

pytestmark = pytest.mark.timeout(300)
OPTIONS = Options(
    seed=20260101, faults=26, workflows=1500, workers=2, spacing=0.8, kinds=list(KINDS)
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(folder_for(tmp_path_factory.mktemp("faults")), OPTIONS.workers)
    yield site
    site.close()


@pytest.fixture(scope="module")
def report(site: Site) -> Report:
    return asyncio.run(Run(site, OPTIONS).run())


@pytest.fixture
def finished(site: Site, report: Report) -> Iterator[psycopg.Connection[Any]]:
    """A transaction on the finished database, whose changes are undone."""
    with psycopg.connect(site.direct_dsn) as connection:
        yield connection
        connection.rollback()


def test_every_promise_holds_under_every_kind_of_fault(report: Report) -> None:
    print(report)
    assert not report.troubles, report
    assert not report.violations, report
    assert report.counts["workflows"] > OPTIONS.workflows * 0.95


def test_every_kind_of_fault_was_injected_or_is_named(report: Report) -> None:
    named = {what.partition(":")[0] for what in report.not_injected}
    assert set(report.injected) | named == set(KINDS), report


def test_database_is_kept_for_whoever_looks_into_a_violation(site: Site, report: Report) -> None:
    site.dump()
    listing = [site.cluster.bindir / "pg_restore", "--list", site.folder / "database.dump"]
    listed = subprocess.run(listing, check=True, capture_output=True, text=True).stdout
    assert "TABLE DATA lockstep workflow_status" in listed
    assert "TABLE DATA bank journal" in listed


def test_same_seed_makes_the_same_plan() -> None:
    plans = [make_plan(seed, 200, 1.0, list(KINDS)) for seed in (1, 1, 2)]
    assert plans[0] == plans[1]
    assert plans[0] != plans[2]


SOME = "(SELECT min(workflow_id) FROM lockstep.workflow_status WHERE workflow_name = '{}')"


def some(kind: str) -> str:
    return SOME.format(kind)


def ledger(kind: str, change: str) -> str:
    """Change one entry of a kind."""
    return f"{change} entry_id = (SELECT min(entry_id) FROM bank.entry WHERE kind = '{kind}')"


STATUS = "UPDATE lockstep.workflow_status SET {} WHERE workflow_id = {}"
STEP = "UPDATE lockstep.operation_outputs SET {} WHERE workflow_id = {}"
CHARGED = (
    "(SELECT min(workflow_id) FROM bank.effect WHERE (kind, outcome) = ('charge', 'done')"
    " AND pid NOT IN (SELECT pid FROM bank.stopped_worker))"
)
REPEAT = (
    "INSERT INTO bank.entry (workflow_id, kind, account_id, amount, position)"
    " SELECT workflow_id, kind, account_id, amount, position FROM bank.entry WHERE"
)
CRIMES: list[tuple[str, str]] = [
    (
        "acknowledged enqueue is there",
        f"DELETE FROM lockstep.workflow_status WHERE workflow_id = {some('order')}",
    ),
    (
        "rolled-back enqueue is not there",
        f"INSERT INTO bank.journal VALUES ({some('order')}, 'rolled back')",
    ),
    (
        "enqueue and application commit together",
        f"DELETE FROM bank.expected WHERE workflow_id = {some('transfer')}",
    ),
    (
        "nothing is left over",
        STATUS.format(
            "status = 'ENQUEUED', completed_at = NULL, output = NULL, executor_id = NULL",
            some("transfer"),
        ),
    ),
    ("expected end", STATUS.format("status = 'CANCELLED', output = NULL", some("transfer"))),
    ("expected end", STATUS.format("status = 'SUCCESS', error = NULL", some("endless"))),
    (
        "expected end",
        STATUS.format(
            "status = 'MAX_RECOVERY_ATTEMPTS_EXCEEDED', output = NULL, error = '{}'", some("order")
        ),
    ),
    (
        "cancelled stays cancelled",
        STATUS.format("status = 'SUCCESS', error = NULL", some("endless")),
    ),
    (
        "deadline is kept",
        "UPDATE lockstep.workflow_status SET completed_at = started_at"
        " WHERE workflow_id = (SELECT min(workflow_id) FROM lockstep.workflow_status"
        " WHERE timeout IS NOT NULL)",
    ),
    ("expected output", STATUS.format("output = '7'", some("fan_out"))),
    ("expected output", STATUS.format("output = '[\"charged\", 7]'", some("audit"))),
    ("money is conserved", "UPDATE bank.account SET balance = balance + 1 WHERE account_id = 7"),
    ("transactional effect exactly once", ledger("ship", REPEAT)),
    ("transactional effect exactly once", ledger("deposit", "DELETE FROM bank.entry WHERE")),
    ("transactional effect exactly once", ledger("withdraw", REPEAT)),
    ("effect and checkpoint commit together", ledger("woke", REPEAT)),
    (
        "effect and checkpoint commit together",
        f"DELETE FROM lockstep.operation_outputs WHERE workflow_id = {some('transfer')}",
    ),
    ("withdrawal of a failed transfer is undone once", ledger("refund", REPEAT)),
    (
        "withdrawal of a failed transfer is undone once",
        f"DELETE FROM lockstep.workflow_status WHERE workflow_id = {some('lockstep.compensate')}",
    ),
    (
        "nothing is written after the end",
        f"INSERT INTO bank.entry (workflow_id, kind) VALUES ({some('endless')}, 'tick')",
    ),
    (
        "side effect at least once",
        f"DELETE FROM bank.effect WHERE workflow_id = {some('order')}",
    ),
    (
        "side effect once in an execution",
        f"INSERT INTO bank.effect SELECT * FROM bank.effect WHERE workflow_id = {CHARGED}",
    ),
    (
        "recorded outcome is the one used",
        STEP.format("output = '7'", some("order")) + " AND step_name = 'charge'",
    ),
    ("retries are counted", STEP.format("attempts = 99", some("order"))),
    ("failures are counted", STATUS.format("failures = 99", some("flaky"))),
    ("sequence without gap, repeat or disorder", ledger("parcel", REPEAT)),
    (
        "sequence without gap, repeat or disorder",
        ledger("parcel", "DELETE FROM bank.entry WHERE"),
    ),
    (
        "sequence without gap, repeat or disorder",
        ledger("parcel", "UPDATE bank.entry SET amount = amount + 1 WHERE"),
    ),
    ("message of a workflow exactly once", ledger("shipped", REPEAT)),
    ("message of a workflow exactly once", ledger("shipped", "DELETE FROM bank.entry WHERE")),
    (
        "no message is left over",
        "UPDATE lockstep.notifications SET consumed_at = NULL, consumed_by_step = NULL"
        " WHERE message_id = (SELECT min(message_id) FROM lockstep.notifications)",
    ),
    (
        "event holds the last value",
        "UPDATE lockstep.workflow_events SET value = '\"charged\"'"
        f" WHERE workflow_id = {some('order')}",
    ),
    (
        "child once, its result in its parent",
        "UPDATE lockstep.operation_outputs SET output = '7'"
        f" WHERE child_workflow_id IS NOT NULL AND workflow_id = {some('order')}",
    ),
    (
        "child once, its result in its parent",
        "INSERT INTO lockstep.workflow_status (workflow_name, queue_name, parent_workflow_id)"
        f" VALUES ('pack', 'default', {some('order')})",
    ),
    (
        "child belongs to a step",
        "UPDATE lockstep.workflow_status SET parent_workflow_id = 'transfer-0'"
        f" WHERE workflow_id = {some('pack')}",
    ),
    (
        "sleep not shorter than asked",
        ledger("woke", "UPDATE bank.entry SET at = at - interval '10 s' WHERE"),
    ),
    (
        "timer as long as asked",
        STEP.format("available_at = available_at + interval '1 s'", some("sleeper")),
    ),
    ("nothing forbidden was written", STEP.format("attempts = attempts", some("transfer"))),
    ("nothing forbidden was written", STATUS.format("priority = priority", some("transfer"))),
    (
        "nothing forbidden was written",
        "UPDATE lockstep.notifications SET topic = topic"
        " WHERE message_id = (SELECT min(message_id) FROM lockstep.notifications)",
    ),
    (
        "no step after the end",
        STEP.format("completed_at = completed_at + interval '1 hour'", some("transfer")),
    ),
    (
        "no ghost among the executors",
        "INSERT INTO lockstep.executor (queues, workflow_names, lease_duration, expires_at)"
        " VALUES ('{a}', '{}', '1 s', '-infinity')",
    ),
    (
        "no row without a workflow",
        "INSERT INTO lockstep.notifications (destination_id, message) VALUES ('nobody', '1')",
    ),
    ("nobody waits any more", "INSERT INTO lockstep.waiter VALUES ('a', '', false, 'b')"),
    (
        "steps without a gap",
        "DELETE FROM lockstep.operation_outputs WHERE step_id = 1"
        f" AND workflow_id = {some('order')}",
    ),
]


@pytest.mark.parametrize(
    ("name", "crime"), CRIMES, ids=[f"{n}-{name}" for n, (name, _) in enumerate(CRIMES)]
)
def test_oracle_sees_a_planted_violation(
    finished: psycopg.Connection[Any], name: str, crime: str
) -> None:
    (check,) = (check for check in oracle.CHECKS if check.name == name)
    assert not list(oracle.judge(finished, [check])), "the check sees what is not there"
    assert finished.execute(crime).rowcount > 0, "nothing was planted"
    assert list(oracle.judge(finished, [check])), "the check does not see what was planted"


def test_each_check_has_a_planted_violation() -> None:
    assert {check.name for check in oracle.CHECKS} == {name for name, _ in CRIMES}
