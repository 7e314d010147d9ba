"""Attached workflows outside of one session: dumps, uninstalls, subscribers, a worker."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import lockstep
import psycopg
import pytest
from harness import Database
from servers import Cluster, die_with_parent
from waiting import eventually

EXAMPLE = Path(__file__).parents[3] / "examples" / "invoices"
_numbers = itertools.count()

SCHEMA = """
CREATE SCHEMA "Shop é";
CREATE TABLE "Shop é".orders (id int PRIMARY KEY, state text) PARTITION BY RANGE (id);
CREATE TABLE "Shop é".low PARTITION OF "Shop é".orders FOR VALUES FROM (0) TO (10);
SET search_path = "Shop é", public;
CREATE FUNCTION label(int) RETURNS text LANGUAGE sql AS $$SELECT 'order ' || $1$$;
SELECT lockstep.attach_workflow(
    'orders', 'fulfil', 'orders', '{INSERT,UPDATE}', '{state}', condition => 'new.state <> ''\\ö''',
    workflow_id => 'label(new.id)'
);
INSERT INTO orders VALUES (1, 'new'), (2, '\\ö');
"""
WORKFLOWS = "SELECT workflow_id FROM lockstep.workflow_status ORDER BY workflow_id"
ATTACHMENTS = "SELECT to_jsonb(a) FROM lockstep.attachments AS a ORDER BY a.table_name::text"


@pytest.fixture
def without(cluster: Cluster) -> Iterator[Database]:
    """A database without Lockstep."""
    name = f"without_{next(_numbers)}"
    with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        yield Database(cluster.dsn(name))
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def install(database: Database, method: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "lockstep.cli", "install", "--method", method],
        env={**os.environ, "LOCKSTEP_DATABASE_URL": database.dsn},
        check=True,
        capture_output=True,
    )


@pytest.mark.parametrize("method", ["extension", "sql"])
def test_dump_and_restore_keep_attachments(
    cluster: Cluster, database: Database, without: Database, method: str
) -> None:
    database.rows("DROP EXTENSION lockstep")
    database.rows("DROP SCHEMA lockstep")
    install(database, method)
    database.rows(SCHEMA)
    assert database.rows(WORKFLOWS) == [("order 1",)]

    dump = cluster.folder / f"dump-{method}"
    subprocess.run([cluster.bindir / "pg_dump", "-Fc", "-f", dump, database.dsn], check=True)
    restore = [cluster.bindir / "pg_restore", "--exit-on-error", "-j", "2", "-d", without.dsn, dump]
    subprocess.run(restore, check=True)

    assert without.rows(WORKFLOWS) == [("order 1",)], "loading the rows enqueued nothing"
    assert without.rows(ATTACHMENTS) == database.rows(ATTACHMENTS)
    without.rows("INSERT INTO \"Shop é\".orders VALUES (3, 'new'), (4, '\\ö')")
    without.rows("UPDATE \"Shop é\".low SET state = 'paid' WHERE id = 2")
    assert without.rows(WORKFLOWS) == [("order 1",), ("order 2",), ("order 3",)]


@pytest.mark.direct("changes a setting of its session")
def test_attachments_are_dropped_with_the_extension_if_it_is_told_so(database: Database) -> None:
    database.rows(SCHEMA)
    with pytest.raises(psycopg.errors.DependentObjectsStillExist) as refusal:
        database.rows("DROP EXTENSION lockstep")
    assert 'trigger lockstep_insert_fulfil on table "Shop é".orders' in str(refusal.value)

    database.rows("DROP EXTENSION lockstep CASCADE")
    database.rows("INSERT INTO \"Shop é\".orders VALUES (3, 'new')")
    assert database.value("SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal") == 0


def test_attachments_are_dropped_with_the_schema(without: Database) -> None:
    install(without, "sql")
    without.rows(SCHEMA)
    without.rows("DROP SCHEMA lockstep CASCADE")
    without.rows("INSERT INTO \"Shop é\".orders VALUES (3, 'new')")


async def test_worker_runs_what_a_transaction_of_the_application_enqueued(
    database: Database, run_worker: Any, client: lockstep.AsyncClient
) -> None:
    database.rows(
        "CREATE TABLE orders (id int PRIMARY KEY, amount numeric);"
        "SELECT lockstep.attach_workflow('orders', 'fulfil', 'default',"
        " workflow_id => '''order-'' || new.id', named_args => 'to_jsonb(new)')"
    )
    app = lockstep.App()

    @app.workflow
    async def fulfil(id: int, amount: float) -> str:
        return f"{id}: {amount}"

    async with run_worker(app):
        with psycopg.connect(database.dsn) as connection:
            connection.execute("INSERT INTO orders VALUES (1, 9.5)")
            connection.rollback()
            connection.execute("INSERT INTO orders VALUES (2, 9.5), (3, 10)")
            connection.commit()
            with connection.cursor().copy("COPY orders FROM STDIN") as copy:
                copy.write_row((4, 1))
            connection.commit()
        assert [await client.result(f"order-{n}") for n in (2, 3, 4)] == [
            "2: 9.5",
            "3: 10.0",
            "4: 1.0",
        ]
    assert database.value("SELECT count(*) FROM lockstep.workflow_status") == 3


@pytest.mark.direct("changes a setting of its session")
def test_replica_role_fires_what_is_enabled_for_it(database: Database) -> None:
    database.rows(
        "CREATE TABLE orders (id int PRIMARY KEY);"
        "SELECT lockstep.attach_workflow('orders', 'fulfil', 'q', workflow_id => 'new.id::text')"
    )
    insert = "SET session_replication_role = replica; INSERT INTO orders VALUES"
    database.rows(f"{insert} (1)")
    database.rows("ALTER TABLE orders ENABLE ALWAYS TRIGGER lockstep_insert_fulfil")
    database.rows(f"{insert} (2)")
    assert database.rows(WORKFLOWS) == [("2",)]
    database.rows("ALTER TABLE orders ENABLE REPLICA TRIGGER lockstep_insert_fulfil")
    database.rows("INSERT INTO orders VALUES (3)")
    assert database.rows(WORKFLOWS) == [("2",)]
    assert database.rows("SELECT is_enabled FROM lockstep.attachments") == [(False,)]


ROW_TRIGGER = """
CREATE FUNCTION enqueue_order() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
    PERFORM lockstep.enqueue_workflow('fulfil', 'by row', workflow_id => 'row ' || new.id);
    RETURN NULL;
END$$;
CREATE TRIGGER enqueue_order AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION enqueue_order();
ALTER TABLE orders ENABLE ALWAYS TRIGGER enqueue_order;
"""


def test_subscriber_starts_workflows_by_row_level_triggers_only(own_cluster: Cluster) -> None:
    Database(own_cluster.dsn()).rows("ALTER SYSTEM SET wal_level = logical")
    own_cluster.kill()
    own_cluster.start()
    for name in ("publisher", "subscriber"):
        Database(own_cluster.dsn()).rows(f"CREATE DATABASE {name}")
    publisher = Database(own_cluster.dsn("publisher"))
    subscriber = Database(own_cluster.dsn("subscriber"))
    for database in (publisher, subscriber):
        database.rows(
            "CREATE TABLE orders (id int PRIMARY KEY);"
            "SELECT lockstep.attach_workflow('orders', 'fulfil', 'q',"
            " workflow_id => 'new.id::text')"
        )
    subscriber.rows("ALTER TABLE orders ENABLE ALWAYS TRIGGER lockstep_insert_fulfil")
    subscriber.rows(ROW_TRIGGER)

    publisher.rows("INSERT INTO orders VALUES (1)")
    publisher.rows("CREATE PUBLICATION shop FOR TABLE orders")
    publisher.rows("SELECT pg_create_logical_replication_slot('shop', 'pgoutput')")
    subscriber.rows(
        f"CREATE SUBSCRIPTION shop CONNECTION '{own_cluster.dsn('publisher')}' PUBLICATION shop"
        " WITH (create_slot = false, slot_name = shop)"
    )
    eventually(lambda: subscriber.rows("SELECT id FROM orders") == [(1,)], "the initial copy")
    eventually(
        lambda: subscriber.value("SELECT srsubstate FROM pg_subscription_rel") == "r", "the start"
    )
    publisher.rows("INSERT INTO orders VALUES (2)")
    eventually(lambda: subscriber.value("SELECT count(*) FROM orders") == 2, "replication")

    assert publisher.rows(WORKFLOWS) == [("1",), ("2",)]
    assert subscriber.rows(WORKFLOWS) == [("1",), ("row 1",), ("row 2",)]
    subscriber.rows("DROP SUBSCRIPTION shop")


def test_invoices_of_the_example_are_sent_and_receipted_once_though_a_worker_dies(
    cluster: Cluster, database: Database, tmp_path: Path
) -> None:
    name = database.value("SELECT current_database()")
    url = f"postgresql://postgres@/{name}?host={quote(str(cluster.folder))}&port=5432"
    environment = {**os.environ, "DATABASE_URL": url, "PYTHONDONTWRITEBYTECODE": "1"}
    psql = [cluster.bindir / "psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-d", url]
    subprocess.run([*psql, "-f", EXAMPLE / "schema.sql"], check=True, capture_output=True)

    def start(*command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, *command],
            cwd=EXAMPLE,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=(tmp_path / "log").open("a"),
            text=True,
            preexec_fn=die_with_parent,
        )

    worker = ("-m", "lockstep.cli", "worker", "billing:app", "--queue", "billing", "--lease", "2")
    running = [start(*worker), start("month_end.py")]
    try:
        sent = "SELECT count(*) > 100 FROM invoices WHERE state = 'sent'"
        eventually(lambda: database.value(sent), "the first invoices")
        running[0].kill()
        running.append(start(*worker))
        printed, _ = running[1].communicate(timeout=60)
    finally:
        for process in running:
            process.kill()
            process.wait()
    assert running[1].returncode == 0, (tmp_path / "log").read_text()
    assert printed.splitlines() == [
        "loaded 1000 invoices",
        "sent 1000 invoices",
        "booked 50 payments",
        "wrote 50 receipts",
    ]
    assert database.value("SELECT count(*) FROM receipts") == 50
    assert database.rows(
        "SELECT workflow_name, status, count(*) FROM lockstep.workflow_status"
        " GROUP BY 1, 2 ORDER BY 1"
    ) == [("send_invoice", "SUCCESS", 1000), ("write_receipt", "SUCCESS", 50)]
