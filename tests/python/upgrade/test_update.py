"""What an update does to roles, sessions, triggers and locks, when it is refused or cut off."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import lockstep
import psycopg
import pytest
from harness import Database
from lockstep._install import upgrade_lockstep
from lockstep._version import check_version
from psycopg import sql
from releases import (
    METHODS,
    RELEASES,
    VERSION,
    fingerprint,
    install,
    plain_update,
    run_cli,
    run_script,
    update,
)
from servers import Cluster, pgbouncer
from waiting import eventually

PREVIOUS = RELEASES[-1]

LOCKED = """
SELECT DISTINCT c.relname::text
FROM pg_locks AS l
INNER JOIN pg_class AS c ON c.oid = l.relation
WHERE c.relnamespace = 'lockstep'::regnamespace
    AND c.relkind = 'r'
    AND l.mode IN (
        'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock'
    )
"""

SQUATTED = (
    "CREATE FUNCTION lockstep._grant_at_commit() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN END'"
)
"""Takes the name of a function that the update creates."""

ALTERED = {
    *("workflow_status", "operation_outputs", "notifications", "workflow_events"),
    *("workflow_streams", "executor", "state_transition", "state_move"),
}
"""The tables of the previous release that the update to this one has to alter."""


@pytest.fixture
def roles(empty: Database) -> Iterator[list[str]]:
    """Roles named after what they will hold; gone with the test."""
    names = ["client", "worker", "viewer", "admin", "Partial admin", "nobody"]
    for name in names:
        run_script(empty, f'CREATE ROLE "{name}"')
    yield names
    for name in names:
        run_script(empty, f'DROP OWNED BY "{name}"; DROP ROLE "{name}"')


def holders(database: Database, roles: list[str], what: str, privilege: str) -> set[str]:
    function = "has_function_privilege" if privilege == "EXECUTE" else "has_table_privilege"
    rows = database.rows(
        f"SELECT r FROM unnest(%s::text[]) AS r WHERE {function}(r, %s, %s)",
        [*roles, "public"],
        what,
        privilege,
    )
    return {name for (name,) in rows}


def dump_and_restore(cluster: Cluster, source: Database, target: Database) -> None:
    dump = cluster.run("pg_dump", source.dsn)
    target.rows("DROP EXTENSION lockstep")
    target.rows("DROP SCHEMA lockstep")
    cluster.run("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", target.dsn, input=dump)


def test_plain_install_grants_what_is_new_to_the_holders_of_a_capability(
    empty: Database, roles: list[str]
) -> None:
    install(empty, "sql", PREVIOUS)
    for name in ("client", "worker", "viewer", "admin"):
        empty.rows("SELECT lockstep.grant_usage(%s, %s)", name, name)
    update(empty, "sql", PREVIOUS)
    assert holders(empty, roles, "lockstep.pending_grant", "SELECT") == {"viewer", "admin"}
    assert holders(empty, roles, "lockstep.version()", "EXECUTE") == {"client", "worker", "admin"}
    assert empty.rows("SELECT grant_statement FROM lockstep.pending_grant") == []


def test_new_function_is_granted_and_nothing_of_it_belongs_to_the_extension(
    cluster: Cluster, empty: Database, database: Database, roles: list[str]
) -> None:
    """The function version() is in every update: without it, it is new to the database."""
    install(empty, "extension", PREVIOUS)
    for name in ("client", "worker", "viewer", "admin"):
        empty.rows("SELECT lockstep.grant_usage(%s, %s)", name, name)
    empty.rows("SELECT lockstep.grant_usage('Partial admin', 'admin')")
    run_script(empty, 'REVOKE SELECT ON lockstep.queue FROM "Partial admin"')
    run_script(
        empty, 'REVOKE EXECUTE ON FUNCTION lockstep.get_event(text, text) FROM "Partial admin"'
    )
    empty.rows("ALTER EXTENSION lockstep DROP FUNCTION lockstep.version()")
    empty.rows("DROP FUNCTION lockstep.version()")
    run_script(empty, "ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO PUBLIC")

    update(empty, "extension", PREVIOUS)

    version, old = "lockstep.version()", "lockstep.get_event(text, text)"
    assert holders(empty, roles, version, "EXECUTE") == {"client", "worker", "admin"}
    assert holders(empty, roles, old, "EXECUTE") == {"client", "worker", "admin"}
    table, old_table = "lockstep.pending_grant", "lockstep.workflow_status"
    assert holders(empty, roles, table, "SELECT") == {"viewer", "admin"}
    assert holders(empty, roles, old_table, "SELECT") == {"viewer", "admin", "Partial admin"}
    grantees = (
        "SELECT DISTINCT a.grantee FROM pg_init_privs AS i, aclexplode(i.initprivs) AS a"
        " WHERE i.objoid IN (SELECT d.objid FROM pg_depend AS d INNER JOIN pg_extension AS e"
        " ON e.oid = d.refobjid AND d.deptype = 'e' WHERE e.extname = 'lockstep')"
    )
    owner = empty.value("SELECT extowner FROM pg_extension WHERE extname = 'lockstep'")
    assert empty.rows(grantees) == [(owner,)]

    dump_and_restore(cluster, empty, database)
    assert holders(database, roles, version, "EXECUTE") == {"client", "worker", "admin"}
    assert holders(database, roles, old, "EXECUTE") == {"client", "worker", "admin"}
    assert holders(database, roles, table, "SELECT") == {"viewer", "admin"}
    assert holders(database, roles, old_table, "SELECT") == {"viewer", "admin", "Partial admin"}
    for name in roles:
        run_script(database, f'DROP OWNED BY "{name}"')


@pytest.mark.parametrize("method", METHODS)
def test_only_the_owner_updates_and_owns_what_is_new(
    empty: Database, roles: list[str], method: str
) -> None:
    name = empty.value("SELECT current_database()")
    run_script(empty, f"GRANT CREATE ON DATABASE {name} TO admin; ALTER ROLE admin LOGIN")
    owner = Database(f"{empty.dsn} user=admin")
    install(owner, method, PREVIOUS)
    before = fingerprint(empty)
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="belongs to admin") as refusal:
        update(empty, method, PREVIOUS)
    assert refusal.value.diag.message_hint == "Do this as its owner: SET ROLE admin."
    assert fingerprint(empty) == before
    update(owner, method, PREVIOUS)
    owners = (
        "SELECT DISTINCT relowner::regrole::text FROM pg_class"
        " WHERE relnamespace = 'lockstep'::regnamespace UNION"
        " SELECT DISTINCT proowner::regrole::text FROM pg_proc"
        " WHERE pronamespace = 'lockstep'::regnamespace"
    )
    assert empty.rows(owners) == [("admin",)]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("plant", "planter", "error"),
    [
        (
            SQUATTED,
            "nobody",
            psycopg.errors.ObjectNotInPrerequisiteState,
        ),
        (
            "CREATE TABLE lockstep.pending_grant ()",
            "nobody",
            psycopg.errors.ObjectNotInPrerequisiteState,
        ),
        (
            "CREATE TYPE lockstep.text AS ENUM ()",
            "nobody",
            psycopg.errors.ObjectNotInPrerequisiteState,
        ),
        ("CREATE TABLE lockstep.pending_grant ()", "postgres", psycopg.errors.DuplicateTable),
        (
            SQUATTED,
            "postgres",
            psycopg.errors.DuplicateFunction,
        ),
    ],
)
def test_what_somebody_put_into_the_schema_is_not_taken_for_ours(
    empty: Database,
    roles: list[str],
    method: str,
    plant: str,
    planter: str,
    error: type[Exception],
) -> None:
    install(empty, method, PREVIOUS)
    run_script(empty, "GRANT USAGE, CREATE ON SCHEMA lockstep TO nobody")
    run_script(empty, f"SET ROLE {planter}; {plant}")
    before = fingerprint(empty)
    with pytest.raises(error):
        update(empty, method, PREVIOUS)
    assert fingerprint(empty) == before


def test_plain_script_refuses_the_extension_and_other_versions(
    empty: Database, database: Database
) -> None:
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState) as refusal:
        run_script(database, plain_update(PREVIOUS))
    assert refusal.value.diag.message_hint == "Update it with ALTER EXTENSION lockstep UPDATE."
    install(empty, "sql", VERSION)
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState) as refusal:
        run_script(empty, plain_update(PREVIOUS))
    assert refusal.value.diag.message_detail == f"The database has lockstep {VERSION}."


@pytest.mark.parametrize("method", METHODS)
def test_update_that_a_crash_cuts_off_has_not_happened(own_cluster: Cluster, method: str) -> None:
    with psycopg.connect(own_cluster.dsn(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE shop TEMPLATE template0")
    shop = Database(own_cluster.dsn("shop"))
    install(shop, method, PREVIOUS)
    workflow_id = shop.enqueue("w")
    before = fingerprint(shop)
    # a rival takes a name of the update and does not commit: the update waits half-way
    rival = psycopg.connect(own_cluster.dsn("shop"))
    rival.execute(SQUATTED)
    with ThreadPoolExecutor(1) as thread:
        updating = thread.submit(update, shop, method, PREVIOUS)
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'transactionid'"
        eventually(lambda: shop.value(waiting) == 1, "an update half-way")
        own_cluster.kill()
        with pytest.raises(psycopg.OperationalError):
            updating.result(60)
    rival.close()

    own_cluster.start()
    assert fingerprint(shop) == before
    assert run_cli(shop, "upgrade").returncode == 0
    assert shop.value("SELECT lockstep.version()") == VERSION
    assert shop.status(workflow_id) == "ENQUEUED"


@pytest.mark.parametrize("method", METHODS)
def test_update_locks_no_table_that_it_does_not_alter(empty: Database, method: str) -> None:
    install(empty, method, PREVIOUS)
    tables = {
        name
        for (name,) in empty.rows(
            "SELECT relname::text FROM pg_class"
            " WHERE relnamespace = 'lockstep'::regnamespace AND relkind = 'r'"
        )
    }
    script = "ALTER EXTENSION lockstep UPDATE"
    if method == "sql":
        script = plain_update(PREVIOUS).removesuffix("COMMIT;\n")
    with psycopg.connect(empty.dsn) as connection:
        connection.execute(sql.SQL(script))  # type: ignore[arg-type]
        locked = {name for (name,) in connection.execute(LOCKED).fetchall()}
        connection.rollback()
    assert locked & tables == ALTERED


@pytest.mark.parametrize("method", METHODS)
def test_sessions_and_triggers_live_through_an_update(empty: Database, method: str) -> None:
    install(empty, method, PREVIOUS)
    run_script(
        empty,
        """
        CREATE TABLE orders (id int PRIMARY KEY, state text NOT NULL DEFAULT 'new');
        SELECT lockstep.create_state_machine('order');
        SELECT lockstep.add_transition('order', NULL, 'place', 'new');
        SELECT lockstep.add_transition('order', 'new', 'pay', 'paid', 'fulfil', 'default');
        SELECT lockstep.attach_state_machine('orders', 'state', 'order');
        SELECT lockstep.attach_workflow('orders', 'welcome', 'default');
        """,
    )
    names = "SELECT workflow_name, count(*)::int FROM lockstep.workflow_status GROUP BY 1"

    def use(session: psycopg.Connection, number: int) -> None:
        session.execute("INSERT INTO orders VALUES (%s)", [number], prepare=True)
        session.execute("UPDATE orders SET state = 'paid' WHERE id = %s", [number], prepare=True)
        session.execute("SELECT lockstep.enqueue_workflow('plain', 'default')", prepare=True)

    with psycopg.connect(empty.dsn, autocommit=True) as session:
        for number in range(8):  # until plans are generic
            use(session, number)
        update(empty, method, PREVIOUS)
        use(session, 8)
    assert dict(empty.rows(names)) == {"welcome": 9, "fulfil": 9, "plain": 9}
    run_script(
        empty,
        "SELECT lockstep.detach_workflow('orders', 'welcome');"
        " SELECT lockstep.detach_state_machine('orders')",
    )
    empty.rows("INSERT INTO orders VALUES (20)")
    empty.rows("UPDATE orders SET state = 'anything' WHERE id = 20")
    assert dict(empty.rows(names)) == {"welcome": 9, "fulfil": 9, "plain": 9}


@pytest.mark.parametrize("method", METHODS)
def test_transaction_that_used_the_release_before_may_update_and_go_on(
    empty: Database, method: str
) -> None:
    install(empty, method, PREVIOUS)
    script = "ALTER EXTENSION lockstep UPDATE"
    if method == "sql":
        script = plain_update(PREVIOUS).replace("\nBEGIN;\n", "\n").removesuffix("COMMIT;\n")
    with psycopg.connect(empty.dsn) as connection:
        connection.execute("SELECT lockstep.enqueue_workflow('w', 'default', workflow_id => 'a')")
        connection.execute(sql.SQL(script))  # type: ignore[arg-type]
        connection.execute("SELECT lockstep.enqueue_workflow('w', 'default', workflow_id => 'b')")
    assert empty.value("SELECT lockstep.version()") == VERSION
    assert (empty.status("a"), empty.status("b")) == ("ENQUEUED", "ENQUEUED")


# the command


@pytest.mark.parametrize("method", METHODS)
def test_upgrade_command_updates_once_however_many_ask(
    empty: Database, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr("lockstep._install._LOCK_TIMEOUT", "60s")
    missing = run_cli(empty, "upgrade")
    assert missing.returncode == 1
    assert 'run "lockstep install"' in missing.stderr
    install(empty, method, PREVIOUS)
    there = run_cli(empty, "install")
    assert f'"lockstep upgrade" updates it to {VERSION}' in there.stdout
    waiting = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    with psycopg.connect(empty.dsn) as rival, ThreadPoolExecutor(3) as threads:
        rival.execute("CREATE TABLE lockstep.pending_grant ()")  # holds all of them for a moment
        updates = [threads.submit(upgrade_lockstep, empty.dsn) for _ in range(3)]
        eventually(lambda: empty.value(waiting) == 3, "three updates at the same point")
        rival.rollback()
        outputs = sorted(update.result(60) for update in updates)
    again = f"lockstep {VERSION} is installed already"
    assert outputs == [again, again, f"upgraded lockstep {PREVIOUS} to {VERSION}"]
    assert run_cli(empty, "upgrade").stdout.strip() == again


@pytest.mark.parametrize("method", METHODS)
def test_upgrade_lets_others_through_while_a_transaction_is_in_its_way(
    empty: Database, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    install(empty, method, PREVIOUS)
    monkeypatch.setattr("lockstep._install._LOCK_TIMEOUT", "300ms")
    with psycopg.connect(empty.dsn) as in_the_way, ThreadPoolExecutor(1) as thread:
        in_the_way.execute("LOCK TABLE lockstep.executor IN ACCESS SHARE MODE")
        upgrading = thread.submit(upgrade_lockstep, empty.dsn)
        waiting = (
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        for _ in range(2):
            eventually(lambda: empty.value(waiting) == 1, "an update that waits")
            empty.enqueue("w")  # looks for idle executors, behind the update
            assert not upgrading.done()
        in_the_way.rollback()
        assert upgrading.result(60) == f"upgraded lockstep {PREVIOUS} to {VERSION}"


def test_upgrade_gives_up_when_a_lock_is_not_to_be_had(
    empty: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(empty, "sql", PREVIOUS)
    monkeypatch.setattr("lockstep._install._LOCK_TIMEOUT", "200ms")
    monkeypatch.setattr("lockstep._install._TRIES", 2)
    before = fingerprint(empty)
    with psycopg.connect(empty.dsn) as rival:
        rival.execute("CREATE TABLE lockstep.pending_grant ()")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            upgrade_lockstep(empty.dsn)
        rival.rollback()
    assert fingerprint(empty) == before


@pytest.mark.parametrize("method", METHODS)
def test_upgrade_through_a_pooler_changes_nobody_elses_session(
    empty: Database, cluster: Cluster, method: str
) -> None:
    install(empty, method, PREVIOUS)
    with pgbouncer(cluster, "default_pool_size = 1") as bouncer:
        pooled = Database(bouncer.dsn(empty.name))
        assert upgrade_lockstep(pooled.dsn) == f"upgraded lockstep {PREVIOUS} to {VERSION}"
        assert pooled.value("SHOW lock_timeout") == "0"


def test_upgrade_says_that_the_server_lacks_the_files(
    empty: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(empty, "extension", PREVIOUS)
    monkeypatch.setattr("lockstep._install.__version__", "9.8.7")
    with pytest.raises(
        lockstep.NotInstalled, match=f"no files to update lockstep {PREVIOUS} to 9.8.7"
    ):
        upgrade_lockstep(empty.dsn)


async def test_worker_refuses_an_older_database_and_names_the_command(empty: Database) -> None:
    install(empty, "sql", PREVIOUS)
    app = lockstep.App()

    @app.workflow
    async def w() -> None: ...

    with pytest.raises(lockstep.NotInstalled, match='run "lockstep upgrade"'):
        await lockstep.Worker(app, dsn=empty.dsn).run()


def test_worker_works_with_the_next_release_and_not_with_the_one_after() -> None:
    major, minor, _ = (int(number) for number in VERSION.split("."))
    for installed in (VERSION, f"{major}.{minor}.9", f"{major}.{minor + 1}.0"):
        check_version(installed)
    for installed in (f"{major}.{minor - 1}.7", f"{major - 1}.{minor + 5}.0"):
        with pytest.raises(lockstep.NotInstalled, match="ALTER EXTENSION lockstep UPDATE"):
            check_version(installed)
    for installed in (f"{major}.{minor + 2}.0", f"{major + 1}.0.0"):
        with pytest.raises(lockstep.NotInstalled, match="update the package"):
            check_version(installed)
