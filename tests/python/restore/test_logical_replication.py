"""Logical replication: publishing to a database without Lockstep, and being part of everything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from harness import Database
from restore.lived_in import OWNER, finish
from servers import Cluster
from waiting import eventually

COLUMNS = "workflow_id, workflow_name, queue_name, status, created_at, completed_at"


@pytest.fixture
def reports(cluster: Cluster, primary: Cluster) -> Iterator[Database]:
    """A database without Lockstep on another server, subscribed to what the primary publishes."""
    publisher = Database(f"{primary.dsn('lived_in')} user={OWNER}")
    publisher.rows(f"CREATE PUBLICATION reports FOR TABLE lockstep.workflow_status ({COLUMNS})")
    with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE reports TEMPLATE template0")
    database = Database(cluster.dsn("reports"))
    database.rows("CREATE SCHEMA lockstep")
    database.rows(
        "CREATE TABLE lockstep.workflow_status (workflow_id text PRIMARY KEY, workflow_name text,"
        " queue_name text, status text, created_at timestamptz, completed_at timestamptz)"
    )
    database.rows(
        f"CREATE SUBSCRIPTION reports CONNECTION '{primary.dsn('lived_in')}' PUBLICATION reports"
    )
    yield database
    database.rows("DROP SUBSCRIPTION reports")
    with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        connection.execute("DROP DATABASE reports WITH (FORCE)")


def test_publication_of_all_tables_hinders_nothing(primary: Cluster, tmp_path: Path) -> None:
    """Postgres refuses to update and delete rows of a published table that it cannot identify."""
    Database(primary.dsn("lived_in")).rows("CREATE PUBLICATION everything FOR ALL TABLES")
    database = Database(f"{primary.dsn('lived_in')} user={OWNER}")
    database.rows(
        "CREATE TABLE halls (hall int, key text, state text, PRIMARY KEY (hall, key))"
        " PARTITION BY LIST (hall)"
    )
    for hall in (1, 2):
        database.rows(f"CREATE TABLE hall_{hall} PARTITION OF halls FOR VALUES IN ({hall})")
    database.rows("SELECT lockstep.attach_state_machine('halls', 'state', 'order')")
    database.rows("INSERT INTO halls VALUES (1, 'box', 'new')")
    database.rows("UPDATE halls SET hall = 2")
    moves = "SELECT count(*) FROM lockstep.state_history WHERE table_name = 'public.halls'"
    assert database.value(moves) == 1, "a change of partition is no move"
    finish(database, tmp_path)
    for purge in ("purge_workflows('0 s')", "purge_state_history('0 s')"):
        assert database.value(f"SELECT lockstep.{purge}") > 0


def test_workflows_are_published_to_a_database_without_lockstep(
    primary: Cluster, reports: Database
) -> None:
    publisher = Database(f"{primary.dsn('lived_in')} user={OWNER}")
    query = f"SELECT {COLUMNS} FROM lockstep.workflow_status ORDER BY workflow_id"
    eventually(lambda: reports.rows(query) == publisher.rows(query), "the first copy")
    workflow_id = publisher.enqueue("quick", "never served")
    publisher.rows("SELECT lockstep.cancel_workflow(%s)", workflow_id)
    eventually(lambda: reports.rows(query) == publisher.rows(query), "what came after it")
    assert reports.status(workflow_id) == "CANCELLED"
