"""A plain-SQL install becomes the extension, with its rows and grants, or nothing happens."""

from __future__ import annotations

import re

import psycopg
import pytest
from harness import Database
from releases import RELEASES, ROOT, VERSION, adopt, fingerprint, install, run_script
from servers import Cluster

ROWS = """
SELECT lockstep.enqueue_workflow('w', 'q', workflow_id => 'a');
SELECT lockstep.send_message('a', '1');
SELECT lockstep.create_queue('q', concurrency => 3);
"""

GRANTS = """
SELECT DISTINCT object, grantee, privilege, is_grantable
FROM (
    SELECT p.oid::regprocedure::text AS object, p.proacl AS acl
    FROM pg_proc AS p
    WHERE p.pronamespace = 'lockstep'::regnamespace
    UNION ALL
    SELECT c.relname, c.relacl FROM pg_class AS c WHERE c.relnamespace = 'lockstep'::regnamespace
    UNION ALL
    SELECT c.relname || '.' || a.attname, a.attacl
    FROM pg_class AS c
    INNER JOIN pg_attribute AS a ON a.attrelid = c.oid
    WHERE c.relnamespace = 'lockstep'::regnamespace
) AS o
CROSS JOIN LATERAL aclexplode(o.acl) AS a (grantor, grantee, privilege, is_grantable)
ORDER BY 1, 2, 3
"""


def test_rows_and_grants_stay_and_are_dumped(
    cluster: Cluster, empty: Database, database: Database
) -> None:
    install(empty, "sql", VERSION)
    run_script(
        empty,
        """
        CREATE ROLE "Shop app";
        CREATE ROLE shop_boss;
        SELECT lockstep.grant_usage('Shop app', 'worker');
        SELECT lockstep.grant_usage('shop_boss', 'admin');
        GRANT SELECT (workflow_id, status) ON lockstep.workflow_status TO "Shop app";
        GRANT SELECT ON lockstep.queue TO shop_boss WITH GRANT OPTION;
        GRANT SELECT ON lockstep.queue TO "Shop app";
        SET ROLE shop_boss;
        GRANT SELECT ON lockstep.queue TO "Shop app";
        RESET ROLE;
        GRANT EXECUTE ON FUNCTION lockstep.version() TO PUBLIC;
        CREATE FUNCTION lockstep.of_the_user() RETURNS int LANGUAGE sql RETURN 1;
        """,
    )
    try:
        run_script(empty, ROWS)
        tables = ("workflow_status", "notifications", "queue")
        rows = {t: empty.rows(f"SELECT to_jsonb(t) FROM lockstep.{t} AS t") for t in tables}
        grants = empty.rows(GRANTS)

        adopt(empty)
        assert empty.rows(GRANTS) == grants
        assert empty.rows("SELECT grant_statement FROM lockstep.pending_grant") == []
        members = [line for line in fingerprint(empty) if line.startswith("member: ")]
        assert "member: table lockstep.workflow_status" in members
        assert "member: function lockstep.of_the_user()" not in members

        dump = cluster.run("pg_dump", empty.dsn)
        assert "CREATE TABLE" not in dump
        database.rows("DROP EXTENSION lockstep")
        database.rows("DROP SCHEMA lockstep")
        cluster.run("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", database.dsn, input=dump)
        for table in tables:
            restored = database.rows(f"SELECT to_jsonb(t) FROM lockstep.{table} AS t")
            assert restored == rows[table]
        assert database.rows(GRANTS) == grants
    finally:
        for name in ('"Shop app"', "shop_boss"):
            for where in (empty, database):
                run_script(where, f"DROP OWNED BY {name}")
            run_script(empty, f"DROP ROLE {name}")


@pytest.mark.parametrize(
    ("preparation", "message"),
    [
        ("", "lockstep is not in this database"),
        ("CREATE SCHEMA lockstep", "lockstep is not in this database"),
        (RELEASES[-1], f"the extension takes over lockstep {VERSION}"),
        ("ALTER SCHEMA lockstep OWNER TO stranger", "lockstep belongs to stranger"),
        ("ALTER TABLE lockstep.queue OWNER TO stranger", "holds what others own"),
        ("DROP VIEW lockstep.attachments", "is not as lockstep"),
        ("DROP FUNCTION lockstep.get_workflow(text)", "is not as lockstep"),
    ],
)
def test_other_schemas_are_refused_and_left_as_they_are(
    empty: Database, preparation: str, message: str
) -> None:
    run_script(empty, "CREATE ROLE stranger")
    try:
        if preparation in RELEASES:
            install(empty, "sql", preparation)
        elif "lockstep." in preparation or "ALTER" in preparation:
            install(empty, "sql", VERSION)
            run_script(empty, ROWS)
            run_script(empty, preparation)
        elif preparation:
            run_script(empty, preparation)
        is_there = bool(preparation)
        before = fingerprint(empty) if is_there else []
        with pytest.raises(psycopg.Error, match=message):
            adopt(empty)
        assert empty.rows("SELECT extname FROM pg_extension WHERE extname = 'lockstep'") == []
        assert not is_there or fingerprint(empty) == before
    finally:
        run_script(empty, "REASSIGN OWNED BY stranger TO postgres; DROP ROLE stranger")


def test_extension_is_not_adopted_again(database: Database) -> None:
    before = fingerprint(database)
    with pytest.raises(psycopg.errors.DuplicateObject):
        adopt(database)
    assert fingerprint(database) == before


def test_extension_becomes_plain_sql_as_the_manual_says(database: Database) -> None:
    manual = (ROOT / "docs" / "upgrading.md").read_text()
    (recipe,) = re.findall(r"```sql\n(DO \$leave\$.*?)```", manual, re.S)
    before = fingerprint(database)
    run_script(database, ROWS)
    run_script(database, recipe)
    assert database.rows("SELECT extname FROM pg_extension WHERE extname = 'lockstep'") == []
    assert database.status("a") == "ENQUEUED"
    assert database.enqueue("w")
    adopt(database)
    assert fingerprint(database) == before
