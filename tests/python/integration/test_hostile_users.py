"""Roles that share a database with Lockstep and mean no good."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import lockstep
import psycopg
import pytest
from harness import Database
from lockstep._install import Method, install_lockstep
from servers import Cluster

SOON = timedelta(seconds=60)
app = lockstep.App()


@app.workflow
async def ship(order: int) -> str:
    return f"shipped {order}"


@app.workflow
async def fulfil(order: int) -> str:
    await lockstep.set_event("state", "waiting")
    await lockstep.receive("go", timeout=SOON)
    return await ship(order)


@pytest.fixture
def roles(database: Database) -> Iterator[dict[str, Database]]:
    """Tenants red, with a batch job of its own, and blue; a stranger; the worker's role."""
    names = ("red", "red_batch", "blue", "stranger", "hand")
    for name in names:
        database.rows(f"CREATE ROLE {name} LOGIN")
    database.rows("GRANT red TO red_batch")
    for name in ("red", "red_batch", "blue"):
        database.rows("SELECT lockstep.grant_usage(%s, 'client')", name)
    database.rows("SELECT lockstep.grant_usage('hand', 'worker')")
    yield {name: Database(database.dsn.replace("user=postgres", f"user={name}")) for name in names}
    for name in reversed(names):
        database.rows(f"DROP OWNED BY {name}")
        database.rows(f"DROP ROLE {name}")


@contextlib.asynccontextmanager
async def working(database: Database) -> AsyncIterator[lockstep.Worker]:
    worker = lockstep.Worker(app, dsn=database.dsn)
    task = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        if not task.done():
            worker.stop()
            worker.stop()
        await task


async def test_tenants_see_their_own_workflows_and_no_others(
    database: Database, roles: dict[str, Database]
) -> None:
    database.rows("SELECT lockstep.enable_tenant_isolation()")
    async with (
        working(roles["hand"]),
        lockstep.AsyncClient(roles["red"].dsn) as red,
        lockstep.AsyncClient(roles["red_batch"].dsn) as batch,
        lockstep.AsyncClient(roles["blue"].dsn) as blue,
    ):
        workflow_id = await red.enqueue(fulfil, 1)
        assert await batch.get_event(workflow_id, "state", timeout=SOON) == "waiting"
        for refused in (
            blue.get(workflow_id),
            blue.result(workflow_id, timeout=SOON),
            blue.send(workflow_id, "go", topic="go"),
            blue.get_event(workflow_id, "state", timeout=SOON),
            blue.enqueue(fulfil, 2, workflow_id=workflow_id),
        ):
            with pytest.raises((lockstep.WorkflowNotFound, lockstep.DuplicateWorkflow)):
                await refused

        waiting = asyncio.create_task(batch.result(workflow_id, timeout=SOON))
        await batch.send(workflow_id, "go", topic="go")
        assert await waiting == "shipped 1"
        assert await red.result(workflow_id, timeout=SOON) == "shipped 1"
        child = database.value(
            "SELECT workflow_id FROM lockstep.workflow_status WHERE parent_workflow_id = %s",
            workflow_id,
        )
        assert await red.result(child, timeout=SOON) == "shipped 1"
        with pytest.raises(lockstep.WorkflowNotFound):
            await blue.result(child, timeout=SOON)


def test_role_that_a_session_takes_on_is_its_tenant(
    database: Database, roles: dict[str, Database]
) -> None:
    database.rows("SELECT lockstep.enable_tenant_isolation()")
    database.rows("ALTER ROLE red_batch SET role = 'red'")
    workflow_id = roles["red_batch"].enqueue("w")
    assert roles["red"].value("SELECT status FROM lockstep.get_workflow(%s)", workflow_id)

    # whoever is logged in as blue stays blue inside a function of red's
    database.rows("GRANT CREATE ON SCHEMA public TO red")
    roles["red"].rows(
        "CREATE FUNCTION public.status_of(text) RETURNS text LANGUAGE sql SECURITY DEFINER"
        " AS 'SELECT status FROM lockstep.get_workflow($1)'"
    )
    assert roles["red"].value("SELECT public.status_of(%s)", workflow_id) == "ENQUEUED"
    with pytest.raises(psycopg.errors.NoDataFound):
        roles["blue"].rows("SELECT public.status_of(%s)", workflow_id)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        roles["blue"].rows("SET ROLE red")


@pytest.mark.parametrize("method", [Method.EXTENSION, Method.SQL])
def test_isolation_survives_a_dump(
    method: Method, cluster: Cluster, empty: Database, tmp_path: Path
) -> None:
    install_lockstep(empty.dsn, method)
    empty.rows("CREATE ROLE red LOGIN")
    empty.rows("CREATE ROLE blue LOGIN")
    try:
        empty.rows(
            "SELECT lockstep.grant_usage(r, 'client') FROM unnest('{red,blue}'::name[]) AS r"
        )
        empty.rows("GRANT SELECT ON lockstep.workflow_status TO blue")
        empty.rows("SELECT lockstep.enable_tenant_isolation()")
        red = Database(empty.dsn.replace("user=postgres", "user=red"))
        workflow_id = red.enqueue("w")
        name = empty.value("SELECT current_database()")
        with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}_copy TEMPLATE template0")
        copy = cluster.dsn(f"{name}_copy")
        try:
            dump = cluster.folder / f"{name}.dump"
            cluster.run("pg_dump", "-Fc", "-f", dump, "-d", empty.dsn)
            cluster.run("pg_restore", "--exit-on-error", "-d", copy, dump)
            as_red, as_blue = (
                Database(copy.replace("user=postgres", f"user={role}")) for role in ("red", "blue")
            )
            seen = "SELECT status FROM lockstep.get_workflow(%s)"
            assert as_red.value(seen, workflow_id) == "ENQUEUED"
            with pytest.raises(psycopg.errors.NoDataFound):
                as_blue.rows(seen, workflow_id)
            Database(copy).rows("SELECT lockstep.register_executor('{q}', '{w}', '1 min')")
            assert as_blue.rows("SELECT workflow_id FROM lockstep.workflow_status") == []
        finally:
            with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
                connection.execute(f"DROP DATABASE {name}_copy WITH (FORCE)")
    finally:
        empty.rows("DROP OWNED BY red, blue")
        empty.rows("DROP ROLE red, blue")


async def test_flood_of_forged_notifications_stops_nobody(
    database: Database, roles: dict[str, Database]
) -> None:
    garbage = ["", "due", "x" * 7999, "{", "\u202e𝄞", "'; DROP TABLE lockstep.workflow_status"]

    async def flood() -> None:
        dsn = roles["stranger"].dsn
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            while True:
                await connection.execute(
                    "SELECT pg_notify('lockstep', g || CASE WHEN g IN ('', 'due') THEN ''"
                    " ELSE left(n::text, 0) END) FROM unnest(%s::text[]) AS g,"
                    " generate_series(1, 50) AS n",
                    [garbage],
                )
                # a client's own channel is no secret to who may read the tables
                for (channel,) in database.rows(
                    "SELECT DISTINCT waiter FROM lockstep.waiter WHERE is_client"
                ):
                    for payload in garbage[2:]:
                        await connection.execute("SELECT pg_notify(%s, %s)", [channel, payload])

    async with working(roles["hand"]), lockstep.AsyncClient(roles["red"].dsn) as red:
        flooding = asyncio.create_task(flood())
        try:
            ids = [await red.enqueue(fulfil, order) for order in range(10)]
            results = asyncio.gather(*(red.result(id, timeout=SOON) for id in ids))
            await asyncio.sleep(1)
            for id in ids:
                await red.send(id, "go", topic="go")
            assert await results == [f"shipped {order}" for order in range(10)]
            assert not flooding.done()
        finally:
            flooding.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await flooding


async def test_squatted_advisory_lock_delays_and_loses_nothing(
    database: Database, roles: dict[str, Database]
) -> None:
    async with working(roles["hand"]) as worker, lockstep.AsyncClient(roles["red"].dsn) as red:
        first = await red.enqueue(ship, 1)
        assert await red.result(first, timeout=SOON) == "shipped 1"
        # any role may take any advisory lock, and a client reads who runs its workflow
        with psycopg.connect(roles["stranger"].dsn) as squatter:
            squatter.execute(
                "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))",
                [f"writes of {worker.executor_id}"],
            )
            held = await red.enqueue(ship, 2)
            await asyncio.sleep(2)
            assert database.status(held) in ("ENQUEUED", "PENDING")
            blockers = database.rows(
                "SELECT DISTINCT a.usename FROM pg_locks AS l"
                " INNER JOIN pg_stat_activity AS a USING (pid)"
                " WHERE l.locktype = 'advisory' AND l.mode = 'ExclusiveLock' AND l.granted"
            )
            assert blockers == [("stranger",)]
        assert await red.result(held, timeout=SOON) == "shipped 2"
        attempts = "SELECT attempts FROM lockstep.workflow_status WHERE workflow_id = %s"
        assert database.value(attempts, held) == 1


async def test_advisory_locks_can_be_kept_from_others(
    database: Database, roles: dict[str, Database]
) -> None:
    page = (Path(__file__).parents[3] / "docs" / "security.md").read_text()
    blocks = [block.partition("```")[0] for block in page.split("```sql\n")[1:]]
    (revoke,) = [block for block in blocks if "advisory_" in block and "REVOKE" in block]
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        connection.execute(revoke.replace("shop_owner", "postgres"))
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        roles["stranger"].rows("SELECT pg_advisory_lock(1)")
    async with working(roles["hand"]), lockstep.AsyncClient(roles["red"].dsn) as red:
        workflow_id = await red.enqueue(fulfil, 1)
        await red.send(workflow_id, "go", topic="go")
        assert await red.result(workflow_id, timeout=SOON) == "shipped 1"
