"""
A database that workflows have lived in: rows in every status and table, and what users added.

Made by the public functions and a real worker, which dies in the middle of some of them.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from harness import Database, WorkerProcess, stopped_at_end
from servers import Cluster
from waiting import eventually

APP = "lived_in_app:app"
OWNER = "landlord"
"""The role that owns the databases and installed Lockstep; no superuser."""

STATUSES = {
    "success": "SUCCESS",
    "limited": "SUCCESS",
    "error": "ERROR",
    "cancelled": "CANCELLED",
    "dead": "MAX_RECOVERY_ATTEMPTS_EXCEEDED",
    "later": "ENQUEUED",
    "delayed": "DELAYED",
    "sleeping": "DELAYED",
    "stumbling": "DELAYED",
    "held": "PENDING",
    "asking": "WAITING",
    "listening": "WAITING",
    "parent": "WAITING",
}
"""The workflows with ids of their own, and where the dump finds them."""

OUTPUTS: dict[str, Any] = {
    "success": "success",
    "limited": "limited",
    "later": "later",
    "delayed": "delayed",
    "sleeping": "sleeping after",
    "stumbling": "stumbling",
    "held": "held after",
    "asking": {"of": "asking"},
    "listening": {"of": "asking"},
    "parent": {"of": "child"},
}
"""What becomes of those that end well."""

LEDGER = {
    *("success", "limited", "later", "delayed", "stumbling", "parcel 1", "parcel 2", "order 1"),
    *("sleeping before", "sleeping after", "held before", "held after"),
    *("asking after", "child after"),
}

_SETTING = """
CREATE SEQUENCE receipt START 5;
CREATE TABLE ledger (key text, receipt bigint DEFAULT nextval('receipt'));
CREATE TABLE remarks (what text);
CREATE TABLE parcels (key text PRIMARY KEY);
CREATE TABLE orders (key text PRIMARY KEY, state text NOT NULL DEFAULT 'new');
CREATE VIEW unfinished AS
    SELECT w.workflow_id, w.status FROM lockstep.workflow_status AS w WHERE w.completed_at IS NULL;
COMMENT ON VIEW unfinished IS 'A view of a user.';
SELECT lockstep.grant_usage('lived_in_' || capability, capability)
FROM unnest(ARRAY['client', 'worker', 'viewer', 'admin']) AS capability;
SELECT lockstep.attach_workflow('parcels', 'quick', 'default');
SELECT lockstep.create_state_machine('order');
SELECT lockstep.add_transition('order', NULL, 'place', 'new');
SELECT lockstep.add_transition('order', 'new', 'pay', 'paid', 'quick');
SELECT lockstep.add_transition('order', 'paid', 'ship', 'shipped');
SELECT lockstep.attach_state_machine('orders', 'state', 'order');
SELECT lockstep.schedule_workflow('nightly', '0 3 * * *', 'quick', 'default', '{"key": "tick"}',
    time_arg => NULL);
SELECT lockstep.schedule_workflow('paused', '* * * * *', 'quick', 'default', '{"key": "never"}',
    time_arg => NULL);
SELECT lockstep.pause_schedule('paused');
SELECT lockstep.create_queue('limited', concurrency => 3, rate_limit => 50, rate_period => '1 day',
    partition_rate_limit => 20, partition_rate_period => '1 day');
SELECT lockstep.create_queue('paused', worker_concurrency => 2);
SELECT lockstep.pause_queue('paused');
"""

_WORK = """
SELECT lockstep.enqueue_workflow(w.name, w.queue, jsonb_build_array(w.id), workflow_id => w.id,
    headers => '{"source": "lived in"}',
    queue_partition_key => CASE WHEN w.queue = 'limited' THEN 'a' END)
FROM (VALUES
    ('success', 'quick', 'default'), ('limited', 'quick', 'limited'), ('held', 'held', 'default'),
    ('sleeping', 'sleeps', 'default'), ('stumbling', 'stumbles', 'default'),
    ('asking', 'asks', 'default'), ('later', 'quick', 'afterwards')
) AS w (id, name, queue);
SELECT lockstep.enqueue_workflow('fails', 'default', workflow_id => 'error');
SELECT lockstep.enqueue_workflow('listens', 'default', '["asking"]', workflow_id => 'listening');
SELECT lockstep.enqueue_workflow('parent', 'default', '["child"]', workflow_id => 'parent');
SELECT lockstep.enqueue_workflow('quick', 'default', '["delayed"]', workflow_id => 'delayed',
    delay => '1 hour', deduplication_id => 'once');
SELECT lockstep.enqueue_workflow('quick', 'paused', '["cancelled"]', workflow_id => 'cancelled');
SELECT lockstep.cancel_workflow('cancelled');
SELECT lockstep.send_message('later', '{"unread": true}', 'mail', 'key');
SELECT lockstep.watch_workflows('lockstep_' || repeat('0', 32), '[{"workflow_id": "later"}]');
INSERT INTO parcels VALUES ('parcel 1'), ('parcel 2');
INSERT INTO orders VALUES ('order 1'), ('order 2');
UPDATE orders SET state = 'paid' WHERE key = 'order 1';
"""


def create_roles(cluster: Cluster) -> None:
    with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {OWNER} LOGIN CREATEDB")
        for capability in ("client", "worker", "viewer", "admin"):
            connection.execute(f"CREATE ROLE lived_in_{capability}")


def live_in(database: Database, folder: Path) -> None:
    """Fill a database that has Lockstep and nothing else."""
    workers: list[WorkerProcess] = []

    def start(*options: str) -> WorkerProcess:
        workers.append(WorkerProcess(database, APP, folder, *options))
        return workers[-1].wait_until_ready()

    with stopped_at_end(workers), psycopg.connect(database.dsn, autocommit=True) as connection:
        connection.execute(_SETTING)
        connection.execute(
            "SELECT lockstep.enqueue_workflow('dies', 'default', workflow_id => 'dead',"
            " max_attempts => 1)"
        )
        start("--lease", "1").process.wait(30)
        connection.execute(_WORK)
        worker = start("--lease", "3600", "--queue", "default", "--queue", "limited")
        eventually(lambda: _where_they_stand(database) == STATUSES, "every status")
        eventually(
            lambda: (
                database.value(
                    "SELECT count(*) FROM ledger WHERE key LIKE 'parcel%%' OR key = 'order 1'"
                )
                == 3
            ),
            "the workflows of triggers",
        )
        worker.signal(signal.SIGKILL)
        worker.process.wait()


def move_in(lived_in: Database, server: Cluster) -> Database:
    """Copy the database to another server, which has the roles."""
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE lived_in TEMPLATE template0 OWNER {OWNER}")
    copy = Database(f"{server.dsn('lived_in')} user={OWNER}")
    dump = server.folder / "lived_in.sql"
    server.run("pg_dump", "--file", dump, lived_in.dsn)
    server.run("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", dump, copy.dsn)
    return copy


def _where_they_stand(database: Database) -> dict[str, str]:
    return dict(
        database.rows(
            "SELECT workflow_id, status FROM lockstep.workflow_status WHERE workflow_id = ANY(%s)",
            list(STATUSES),
        )
    )


_FACTS = {
    "sequences": "SELECT schemaname, sequencename, last_value FROM pg_sequences",
    "relations": """
        SELECT c.oid::regclass::text, c.relkind, c.relacl::text, obj_description(c.oid, 'pg_class')
        FROM pg_class AS c
        WHERE c.relnamespace IN ('lockstep'::regnamespace, 'public'::regnamespace)
    """,
    "columns": """
        SELECT a.attrelid::regclass::text, a.attnum, a.attname,
            format_type(a.atttypid, a.atttypmod), a.attnotnull,
            pg_get_expr(d.adbin, d.adrelid), col_description(a.attrelid, a.attnum)
        FROM pg_attribute AS a
        INNER JOIN pg_class AS c ON a.attrelid = c.oid
        LEFT JOIN pg_attrdef AS d ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
        WHERE c.relnamespace IN ('lockstep'::regnamespace, 'public'::regnamespace) AND a.attnum > 0
    """,
    "indexes": """
        SELECT schemaname, tablename, indexname, indexdef FROM pg_indexes
        WHERE schemaname IN ('lockstep', 'public')
    """,
    "functions": """
        SELECT p.oid::regprocedure::text, pg_get_functiondef(p.oid), p.proacl::text,
            obj_description(p.oid, 'pg_proc')
        FROM pg_proc AS p
        WHERE p.pronamespace IN ('lockstep'::regnamespace, 'public'::regnamespace)
    """,
    "views": """
        SELECT schemaname, viewname, definition FROM pg_views
        WHERE schemaname IN ('lockstep', 'public')
    """,
    "triggers": """
        SELECT pg_get_triggerdef(oid), tgenabled FROM pg_trigger WHERE NOT tgisinternal
    """,
    "policies": """
        SELECT c.oid::regclass::text, p.polname, p.polcmd, pg_get_expr(p.polqual, c.oid),
            pg_get_expr(p.polwithcheck, c.oid)
        FROM pg_class AS c
        LEFT JOIN pg_policy AS p ON p.polrelid = c.oid
        WHERE c.relnamespace = 'lockstep'::regnamespace AND c.relkind = 'r'
    """,
    "schema": """
        SELECT nspacl::text, obj_description(oid) FROM pg_namespace WHERE nspname = 'lockstep'
    """,
}


def rows_of(database: Database) -> dict[str, list[str]]:
    """Return every row of every table, Lockstep's and the user's."""
    tables = database.rows(
        "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r'"
        " AND relnamespace IN ('lockstep'::regnamespace, 'public'::regnamespace)"
    )
    return {
        table: sorted(
            row for (row,) in database.rows(f"SELECT to_jsonb(t)::text FROM {table} AS t")
        )
        for (table,) in tables
    }


def facts_of(database: Database) -> dict[str, list[Any]]:
    """Return what there is beside rows: definitions, grants, comments, sequences."""
    return {name: sorted(database.rows(query), key=repr) for name, query in _FACTS.items()}


def assert_same(restored: Database, original: Database) -> None:
    """Compare two databases, row by row and fact by fact."""
    for read in (rows_of, facts_of):
        expected, seen = read(original), read(restored)
        assert seen.keys() == expected.keys()
        for name in expected:
            differences = [
                pair for pair in zip(seen[name], expected[name], strict=False) if pair[0] != pair[1]
            ]
            assert seen[name] == expected[name], (name, differences[:3])


@contextmanager
def worker_of(database: Database, folder: Path, *options: str) -> Iterator[WorkerProcess]:
    """Run a worker of every queue but the paused one."""
    queues = [word for name in ("default", "limited", "afterwards") for word in ("--queue", name)]
    worker = WorkerProcess(database, APP, folder, *queues, *options)
    with stopped_at_end([worker]):
        yield worker.wait_until_ready()


def end_leases(database: Database) -> None:
    """Let the leases of a dump's executors be over, as they are some time after a restore."""
    database.rows(
        "UPDATE lockstep.executor SET expires_at = clock_timestamp() WHERE expires_at > '-infinity'"
    )


def finish(database: Database, folder: Path, *, has_live_executors: bool = True) -> None:
    """Have a worker finish what the database holds; check that each effect came once."""
    remarks_before = database.rows("SELECT what FROM remarks")
    child = database.value(
        "SELECT workflow_id FROM lockstep.workflow_status WHERE parent_workflow_id = 'parent'"
    )
    (folder / "hold.open").touch()
    if has_live_executors:
        end_leases(database)
    with worker_of(database, folder):
        assert database.value(
            "SELECT relrowsecurity = EXISTS (SELECT FROM lockstep.tenant_isolation)"
            " FROM pg_class WHERE oid = 'lockstep.workflow_status'::regclass"
        ), "tenants are isolated as before"
        for workflow_id in ("delayed", "sleeping", "stumbling"):
            database.rows("SELECT lockstep.fast_forward(%s)", workflow_id)
        for destination, key in (("asking", "asking"), (child, "child")):
            database.rows(
                "SELECT lockstep.send_message(%s, jsonb_build_object('of', %s::text), 'answer')",
                destination,
                key,
            )
        eventually(
            lambda: database.value("SELECT count(*) FROM unfinished") == 0, "the end of all", 60
        )
        _go_on_living(database)
    assert_finished(database, remarks_before)


def _go_on_living(database: Database) -> None:
    """What users made still works: triggers, state machine, schedule."""
    database.rows("INSERT INTO parcels VALUES ('parcel 3')")
    database.rows("SELECT lockstep.fire_event(o, 'pay') FROM orders AS o WHERE o.key = 'order 2'")
    database.rows("SELECT lockstep.trigger_schedule('nightly')")
    eventually(lambda: database.value("SELECT count(*) FROM unfinished") == 0, "the new ones")


def assert_finished(database: Database, remarks_before: list[tuple[str]]) -> None:
    outputs = dict(
        database.rows(
            "SELECT workflow_id, output FROM lockstep.workflow_status WHERE status = 'SUCCESS'"
        )
    )
    assert {workflow_id: outputs.get(workflow_id) for workflow_id in OUTPUTS} == OUTPUTS
    keys = [key for (key,) in database.rows("SELECT key FROM ledger")]
    assert sorted(keys) == sorted(LEDGER | {"parcel 3", "order 2", "tick"})
    receipts = [number for (number,) in database.rows("SELECT receipt FROM ledger")]
    assert len(set(receipts)) == len(receipts)
    left = dict(
        database.rows(
            "SELECT workflow_id, status FROM lockstep.workflow_status WHERE status <> 'SUCCESS'"
        )
    )
    assert left == {key: STATUSES[key] for key in ("error", "cancelled", "dead")}
    # steps that the dump holds as recorded did not run again
    repeated = {what for (what,) in remarks_before} & {
        what
        for (what,) in database.rows("SELECT what FROM remarks GROUP BY what HAVING count(*) > 1")
    }
    assert repeated == set()
    assert database.rows(
        "SELECT from_state, to_state FROM lockstep.state_history"
        " WHERE table_name = 'public.orders' ORDER BY transition_id"
    ) == [
        (None, "new"),
        (None, "new"),
        ("new", "paid"),
        ("new", "paid"),
    ]
    stream = database.rows(
        "SELECT value, is_end FROM lockstep.read_stream('asking', 'notes') ORDER BY value_offset"
    )
    assert stream == [("asked", False), ("answered", False), (None, True)]
    assert (
        database.value("SELECT count(*) FROM lockstep.notifications WHERE consumed_at IS NULL") == 1
    )
