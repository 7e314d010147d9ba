"""A read replica: what reads works there, what writes says so, and nothing hangs."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import lockstep
import pytest
from harness import APPS, Database, WorkerProcess, stopped_at_end
from restore.lived_in import APP, OUTPUTS, OWNER, STATUSES, end_leases
from servers import Cluster
from waiting import eventually

READS = {
    "check_watches": """('[{"workflow_id": "success"}, {"workflow_id": "held"}]')""",
    "due_schedules": "()",
    "explain_workflow": "('parent')",
    "get_event": "('asking', 'question')",
    "get_step": "('success', 1)",
    "get_workflow": "('held')",
    "list_queues": "()",
    "list_schedules": "()",
    "list_steps": "('held')",
    "list_transitions": "('order', 'new')",
    "list_workflows": "()",
    "newest_machine_version": "('order')",
    "read_stream": "('asking', 'notes')",
    "state_machine_diagram": "('order')",
    "state_machine_triggers": "('orders', 'state', 'order')",
    "version": "()",
}
"""A call of every function that only reads."""

SEARCHES = [
    "(ARRAY['PENDING', 'WAITING'])",
    "(id_prefix => 's')",
    "(error_text => 'told')",
    "(parent_workflow_id => 'parent')",
    "(headers => '{\"source\": \"lived in\"}', before_id => 'held', max_count => 3)",
]


def standby_of(primary: Cluster) -> Cluster:
    """Start a hot standby that streams from a server."""
    standby = Cluster(primary.bindir, primary.settings, initialize=False)
    try:
        primary.run(
            *("pg_basebackup", "-D", standby.data, "-R", "-X", "stream", "-c", "fast"),
            *("-d", primary.dsn()),
        )
        standby.start()
    except BaseException:
        standby.stop()
        raise
    return standby


def catch_up(primary: Cluster, standby: Cluster) -> None:
    """Wait until the standby shows what the primary has committed by now."""
    written = Database(primary.dsn()).value("SELECT pg_current_wal_lsn()::text")
    replica = Database(standby.dsn())
    eventually(
        lambda: replica.value("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", written),
        "replay on the standby",
    )


@pytest.fixture(scope="module")
def replica(primary: Cluster) -> Iterator[Cluster]:
    standby = standby_of(primary)
    yield standby
    standby.stop()


def on(server: Cluster) -> Database:
    return Database(f"{server.dsn('lived_in')} user={OWNER}")


def command(database: Database, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lockstep.cli", *arguments],
        env={**os.environ, "LOCKSTEP_DATABASE_URL": database.dsn, "GATES": "/nowhere"},
        cwd=APPS,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_every_function_that_reads_does_so_on_a_replica(primary: Cluster, replica: Cluster) -> None:
    catch_up(primary, replica)
    original, copy = on(primary), on(replica)
    assert copy.value("SELECT pg_is_in_recovery()")
    unlisted = original.rows(
        "SELECT p.proname FROM lockstep._capabilities() AS c"
        " INNER JOIN pg_proc AS p ON p.proname = c.function_name"
        " WHERE p.pronamespace = 'lockstep'::regnamespace AND p.provolatile <> 'v'"
        " AND p.proname NOT LIKE '\\_%%' AND p.proname <> ALL (%s)",
        list(READS),
    )
    assert unlisted == [], "each function that says that it only reads has a call here"
    calls = [f"lockstep.{name}{arguments}" for name, arguments in READS.items()]
    calls += [f"lockstep.list_workflows{arguments}" for arguments in SEARCHES]
    calls += ["lockstep.explain_workflow('parent', 'mermaid')"]
    calls += [
        f"lockstep.{name}"
        for (name,) in original.rows("SELECT viewname FROM pg_views WHERE schemaname = 'lockstep'")
    ]
    for call in calls:
        columns = "t.schedule_name" if "due_schedules" in call else "to_jsonb(t)"
        query = f"SELECT {columns} FROM {call} AS t"
        rows = copy.rows(query)
        assert rows == original.rows(query), call
        assert rows or "due_schedules" in call, call


def test_commands_and_clients_read_from_a_replica(primary: Cluster, replica: Cluster) -> None:
    catch_up(primary, replica)
    copy = on(replica)
    listed = command(copy, "list", "--limit", "100", "--json")
    assert listed.returncode == 0, listed.stderr
    statuses = {row["workflow_id"]: row["status"] for row in json.loads(listed.stdout)}
    assert {key: statuses[key] for key in STATUSES} == STATUSES
    assert "PENDING" in command(copy, "get", "held").stdout
    assert "asks" in command(copy, "explain", "parent").stdout
    assert json.loads(command(copy, "result", "success", "--timeout", "5").stdout) == "success"
    refused = command(copy, "cancel", "held")
    assert refused.returncode == 1
    assert "read-only transaction" in refused.stderr
    with lockstep.Client(copy.dsn) as client:
        assert client.get_event("asking", "question") == "what of asking?"
        with pytest.raises(lockstep.ResultTimeout):
            client.result("held", timeout=timedelta(seconds=0.3))


async def test_client_waits_on_a_replica_for_what_happens_on_the_primary(
    primary: Cluster, replica: Cluster
) -> None:
    original = on(primary)
    workflow_id = original.enqueue("quick", "never served")
    catch_up(primary, replica)
    async with lockstep.AsyncClient(on(replica).dsn) as client:
        waiting = asyncio.create_task(client.result(workflow_id, timeout=timedelta(seconds=30)))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        original.rows("SELECT lockstep.cancel_workflow(%s)", workflow_id)
        with pytest.raises(lockstep.WorkflowCancelled):
            await waiting


async def test_client_that_may_only_read_waits_too(primary: Cluster) -> None:
    original = on(primary)
    workflow_id = original.enqueue("quick", "never served")
    read_only = f"{original.dsn} options='-c default_transaction_read_only=on'"
    async with lockstep.AsyncClient(read_only) as client:
        waiting = asyncio.create_task(client.result(workflow_id, timeout=timedelta(seconds=30)))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        original.rows("SELECT lockstep.cancel_workflow(%s)", workflow_id)
        with pytest.raises(lockstep.WorkflowCancelled):
            await waiting


def test_worker_refuses_to_start_on_a_replica(replica: Cluster) -> None:
    refused = command(on(replica), "worker", APP)
    assert refused.returncode == 1
    assert "session is read-only" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_worker_waits_for_the_promotion_of_a_standby(
    primary: Cluster, replica: Cluster, tmp_path: Path
) -> None:
    """
    Its only server becomes a standby, as behind a name that moved too early.

    The last test here: it promotes the replica.
    """
    catch_up(primary, replica)
    alone = on(replica)
    replica.run("pg_ctl", "promote", "-w", "-D", replica.data)
    alone.rows(
        "UPDATE lockstep.workflow_status SET queue_name = 'unserved' WHERE status <> 'PENDING'"
    )
    end_leases(alone)
    worker = WorkerProcess(alone, APP, tmp_path)
    with stopped_at_end([worker]):
        worker.wait_until_ready()
        alone.wait_for_status("held", "PENDING")
        replica.shut_down()
        (replica.data / "standby.signal").touch()
        (tmp_path / "hold.open").touch()  # its next step is a transaction
        replica.start()
        eventually(lambda: "session is read-only" in worker.log, "a word on the standby")
        assert worker.process.poll() is None
        assert alone.status("held") == "PENDING"
        replica.run("pg_ctl", "promote", "-w", "-D", replica.data)
        alone.wait_for_status("held", "SUCCESS")
        with lockstep.Client(alone.dsn) as client:
            assert client.result("held") == OUTPUTS["held"]
        assert alone.value("SELECT count(*) FROM ledger WHERE key LIKE 'held%%'") == 2
