"""Rows that follow a state machine: in steps, in dumps, in the example, and without Lockstep."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import lockstep
import psycopg
import pytest
from harness import Database
from psycopg import AsyncConnection
from servers import Cluster, die_with_parent

INVOICES = Path(__file__).parents[3] / "examples" / "dunning"
HISTORY = "SELECT from_state, event, to_state FROM lockstep.state_history ORDER BY transition_id"

app = lockstep.App()


class Crash(Exception):
    """What the first attempt of a step fails with."""


@app.transaction(retries=lockstep.Retry(max_attempts=2))
async def fire(conn: AsyncConnection, id: int, event: str) -> str:
    cursor = await conn.execute(
        "SELECT lockstep.fire_event(o, %s) FROM orders AS o WHERE id = %s", (event, id)
    )
    row = await cursor.fetchone()
    assert row is not None
    if len(attempts) < 1:
        attempts.append(event)
        raise Crash
    return str(row[0])


attempts: list[str] = []


@app.workflow
async def fulfil(id: int) -> str:
    return await fire(id, "ship")


@app.workflow
async def misuse(id: int) -> str:
    return await fire(id, "pay")


@pytest.fixture
def orders(database: Database) -> Database:
    """A database whose table orders follows a machine; a payment starts a workflow."""
    attempts.clear()
    database.rows("CREATE TABLE orders (id int PRIMARY KEY, state text NOT NULL DEFAULT 'new')")
    database.rows("SELECT lockstep.create_state_machine('order')")
    for transition in (
        (None, "place", "new", None),
        ("new", "pay", "paid", "fulfil"),
        ("paid", "ship", "shipped", None),
    ):
        database.rows("SELECT lockstep.add_transition('order', %s, %s, %s, %s)", *transition)
    database.rows("SELECT lockstep.attach_state_machine('orders', 'state', 'order')")
    return database


async def test_event_in_a_transactional_step_commits_with_its_checkpoint(
    orders: Database, run_worker: Any, client: lockstep.AsyncClient
) -> None:
    orders.rows("INSERT INTO orders VALUES (7)")
    async with run_worker(app):
        orders.rows("UPDATE orders SET state = 'paid'")
        workflow_id = orders.value(
            "SELECT workflow_id FROM lockstep.state_history WHERE event = 'pay'"
        )
        assert await client.result(workflow_id) == "shipped"

    assert attempts == ["ship"]
    assert orders.rows(HISTORY) == [
        (None, "place", "new"),
        ("new", "pay", "paid"),
        ("paid", "ship", "shipped"),
    ]
    assert orders.value(
        "SELECT o.xmin = s.xmin AND o.xmin = h.xmin"
        " FROM lockstep.operation_outputs AS o, orders AS s, lockstep.state_history AS h"
        " WHERE h.event = 'ship'"
    ), "the state, the history and the checkpoint are of one transaction"


async def test_workflow_reads_what_was_refused(
    orders: Database, run_worker: Any, client: lockstep.AsyncClient
) -> None:
    attempts.append("none fails")
    orders.rows("INSERT INTO orders VALUES (7)")
    orders.rows("UPDATE orders SET state = 'paid'")
    async with run_worker(app):
        workflow_id = await client.enqueue(misuse, 7)
        with pytest.raises(lockstep.WorkflowFailed, match=r'event "pay" .* not from "shipped"'):
            await client.result(workflow_id)


def test_dump_and_restore_keep_machines_and_their_tables(
    orders: Database, cluster: Cluster, tmp_path: Path
) -> None:
    orders.rows("INSERT INTO orders VALUES (7), (8)")
    orders.rows("UPDATE orders SET state = 'paid' WHERE id = 7")
    history = orders.rows("SELECT * FROM lockstep.state_history ORDER BY transition_id")
    # other objects, so that oids differ in the copy
    orders.rows("CREATE TABLE copies (id int PRIMARY KEY, state text) PARTITION BY HASH (id)")
    orders.rows(
        "CREATE TABLE copies_0 PARTITION OF copies FOR VALUES WITH (MODULUS 1, REMAINDER 0)"
    )
    orders.rows("SELECT lockstep.attach_state_machine('copies', 'state', 'order')")

    with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE restored TEMPLATE template0")
    dump = subprocess.run(
        [cluster.bindir / "pg_dump", "-Fc", "-f", tmp_path / "dump", cluster.dsn(orders.name)],
        capture_output=True,
        text=True,
    )
    assert dump.returncode == 0, dump.stderr
    restored = Database(cluster.dsn("restored"))
    try:
        restore = subprocess.run(
            [
                *(cluster.bindir / "pg_restore", "--exit-on-error", "-j", "2"),
                *("-d", restored.dsn, tmp_path / "dump"),
            ],
            capture_output=True,
            text=True,
        )
        assert restore.returncode == 0, restore.stderr
        attached = "SELECT table_name::text FROM lockstep.attached_state_machines ORDER BY 1"
        assert restored.rows(attached) == [("copies",), ("orders",)]
        assert history == restored.rows(
            "SELECT * FROM lockstep.state_history ORDER BY transition_id"
        )
        with pytest.raises(psycopg.errors.CheckViolation):
            restored.rows("UPDATE orders SET state = 'shipped' WHERE id = 8")
        fire = "SELECT lockstep.fire_event(o, 'ship') FROM orders AS o WHERE id = 7"
        assert restored.rows(fire) == [("shipped",)]
        with pytest.raises(psycopg.errors.CheckViolation):
            restored.rows("INSERT INTO copies_0 VALUES (1, 'paid')")
        restored.rows("INSERT INTO copies VALUES (1, 'new')")
        with pytest.raises(psycopg.errors.DependentObjectsStillExist):
            restored.rows("DROP EXTENSION lockstep")
    finally:
        with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
            connection.execute("DROP DATABASE restored WITH (FORCE)")


def test_extension_is_not_dropped_from_under_a_table(orders: Database) -> None:
    with pytest.raises(psycopg.errors.DependentObjectsStillExist):
        orders.rows("DROP EXTENSION lockstep")
    orders.rows("DROP EXTENSION lockstep CASCADE")
    orders.rows("INSERT INTO orders VALUES (7, 'anything')")


def test_update_of_ten_thousand_rows_starts_a_workflow_for_each(orders: Database) -> None:
    orders.rows("INSERT INTO orders SELECT g FROM generate_series(1, 10000) AS g")
    orders.rows("UPDATE orders SET state = 'paid'")
    assert (
        orders.value(
            "SELECT count(DISTINCT inputs -> 'namedArgs' -> 'id') FROM lockstep.workflow_status"
        )
        == 10000
    )


def test_invoices_are_collected_or_fall_due(
    cluster: Cluster, database: Database, tmp_path: Path
) -> None:
    name = database.value("SELECT current_database()")
    environment = {
        **os.environ,
        "DATABASE_URL": f"postgresql://postgres@/{name}?host={quote(str(cluster.folder))}&port=5432",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    subprocess.run(
        [
            cluster.bindir / "psql",
            "-Xqd",
            database.dsn,
            "-v",
            "ON_ERROR_STOP=1",
            "-f",
            "schema.sql",
        ],
        cwd=INVOICES,
        check=True,
        capture_output=True,
    )
    with (tmp_path / "log").open("w") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "lockstep.cli", "worker", "billing:app"],
            cwd=INVOICES,
            env=environment,
            stdout=log,
            stderr=log,
            preexec_fn=die_with_parent,
        )
    try:
        billing = subprocess.run(
            [sys.executable, "bill.py"],
            cwd=INVOICES,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
    finally:
        worker.kill()
        worker.wait()
    assert billing.returncode == 0, billing.stderr + (tmp_path / "log").read_text()
    assert billing.stdout.splitlines() == [
        'event "pay" of state machine "invoice" leads from "overdue" to "paid"'
        ' and from "sent" to "paid", not from "draft"',
        "invoice 1 is paid",
        "mail about invoice 2: you forgot to pay",
        "mail about invoice 1: thank you",
        "1 Ada paid",
        "2 Bob overdue",
        "3 Eve draft",
    ]
