"""Installing where somebody was first: squatted schemas, stand-ins, default privileges."""

from __future__ import annotations

import psycopg
import pytest
from harness import Database
from lockstep._install import Method, install_lockstep

METHODS = [Method.EXTENSION, Method.SQL]
SQUATS = [
    "CREATE TABLE lockstep.workflow_status (id int)",
    "CREATE VIEW lockstep.attachments AS SELECT 1 AS x",
    "CREATE SEQUENCE lockstep.x",
    "CREATE FUNCTION lockstep.now() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE PROCEDURE lockstep.p() LANGUAGE sql AS 'SELECT 1'",
    "CREATE AGGREGATE lockstep.a(int) (SFUNC = int4pl, STYPE = int)",
    "CREATE TYPE lockstep.state AS ENUM ('on')",
    "CREATE TYPE lockstep.pair AS (a int, b int)",
    "CREATE DOMAIN lockstep.text AS pg_catalog.text",
    "CREATE OPERATOR lockstep.= (LEFTARG = text, RIGHTARG = int, FUNCTION = repeat)",
    'CREATE COLLATION lockstep.c FROM "C"',
    "CREATE DEFAULT CONVERSION lockstep.c FOR 'UTF8' TO 'LATIN1' FROM utf8_to_iso8859_1",
    "CREATE TEXT SEARCH CONFIGURATION lockstep.c (COPY = simple)",
    "CREATE TEXT SEARCH DICTIONARY lockstep.d (TEMPLATE = simple)",
    "ALTER DEFAULT PRIVILEGES IN SCHEMA lockstep GRANT EXECUTE ON FUNCTIONS TO PUBLIC",
]


@pytest.mark.parametrize("by", ["superuser", "owner of the database"])
def test_schema_in_which_anything_is_makes_the_install_fail(
    by: str, empty: Database, installer: Database
) -> None:
    database = empty if by == "superuser" else installer
    for squat in SQUATS:
        database.rows("CREATE SCHEMA lockstep")
        database.rows(squat)
        for method in METHODS:
            with pytest.raises(psycopg.errors.DuplicateSchema, match="is not empty"):
                install_lockstep(database.dsn, method)
        database.rows("DROP SCHEMA lockstep CASCADE")


@pytest.mark.parametrize("grantee", ["PUBLIC", "pg_monitor"])
def test_schema_in_which_others_may_create_makes_the_install_fail(
    grantee: str, empty: Database
) -> None:
    empty.rows("CREATE SCHEMA lockstep")
    empty.rows(f"GRANT CREATE ON SCHEMA lockstep TO {grantee}")
    for method in METHODS:
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="others may create") as e:
            install_lockstep(empty.dsn, method)
        assert grantee in (e.value.diag.message_detail or "")
    empty.rows(f"REVOKE CREATE ON SCHEMA lockstep FROM {grantee}")
    empty.rows(f"GRANT USAGE ON SCHEMA lockstep TO {grantee}")
    install_lockstep(empty.dsn)


def opened_to_strangers(database: Database) -> list[tuple[str]]:
    return database.rows(
        "SELECT p.proname FROM pg_proc AS p WHERE p.pronamespace = 'lockstep'::regnamespace"
        " AND has_function_privilege('pg_monitor', p.oid, 'EXECUTE')"
        " UNION ALL SELECT c.relname FROM pg_class AS c"
        " WHERE c.relnamespace = 'lockstep'::regnamespace AND c.relkind IN ('r', 'v')"
        " AND has_table_privilege('pg_monitor', c.oid, 'SELECT, INSERT, UPDATE, DELETE,"
        " TRUNCATE, REFERENCES, TRIGGER')"
    )


@pytest.mark.parametrize("method", METHODS)
def test_default_privileges_of_the_installing_role_open_nothing(
    method: Method, installer: Database
) -> None:
    for what in ("ALL ON TABLES", "EXECUTE ON FUNCTIONS", "USAGE ON SCHEMAS", "USAGE ON TYPES"):
        installer.rows(f"ALTER DEFAULT PRIVILEGES GRANT {what} TO pg_monitor")
    install_lockstep(installer.dsn, method)
    assert opened_to_strangers(installer) == []
    assert installer.value("SELECT lockstep.enqueue_workflow('w', 'q')")


def test_default_privileges_open_nothing_of_what_an_update_adds(installer: Database) -> None:
    installer.rows("CREATE EXTENSION lockstep VERSION '0.1.0'")
    for what in ("ALL ON TABLES", "EXECUTE ON FUNCTIONS"):
        installer.rows(f"ALTER DEFAULT PRIVILEGES GRANT {what} TO pg_monitor")
    installer.rows("ALTER EXTENSION lockstep UPDATE")
    assert opened_to_strangers(installer) == []


STAND_INS = """
DO $$
DECLARE
    r record;
BEGIN
    FOR r IN
        SELECT
            p.proname, pg_get_function_identity_arguments(p.oid) AS arguments,
            pg_get_function_result(p.oid) AS result
        FROM pg_proc AS p
        WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind = 'f'
            AND p.provariadic = 0 AND p.proargmodes IS NULL AND NOT p.proretset
            AND NOT EXISTS (
                SELECT FROM unnest(p.proargtypes::oid[] || p.prorettype) AS a (type)
                INNER JOIN pg_type AS t ON t.oid = a.type
                WHERE t.typtype = 'p'
            )
    LOOP
        EXECUTE format(
            'CREATE FUNCTION public.%I(%s) RETURNS %s LANGUAGE plpgsql AS %L',
            r.proname, r.arguments, r.result, 'BEGIN RAISE ''hijacked''; END'
        );
    END LOOP;
    FOR r IN
        SELECT o.oprname, o.oprleft::regtype, o.oprright::regtype, p.proname
        FROM pg_operator AS o
        INNER JOIN pg_proc AS p ON p.oid = o.oprcode
        INNER JOIN pg_proc AS e ON (e.proname, e.proargtypes) = (p.proname, p.proargtypes)
        WHERE o.oprnamespace = 'pg_catalog'::regnamespace
            AND e.pronamespace = 'public'::regnamespace AND o.oprleft <> 0
    LOOP
        EXECUTE format(
            'CREATE OPERATOR public.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = public.%I)',
            r.oprname, r.oprleft, r.oprright, r.proname
        );
    END LOOP;
END
$$
"""


@pytest.mark.parametrize("method", METHODS)
def test_install_and_use_under_a_search_path_full_of_stand_ins(
    method: Method, empty: Database
) -> None:
    with psycopg.connect(empty.dsn, autocommit=True) as connection:
        connection.execute(STAND_INS)
    name = empty.value("SELECT current_database()")
    empty.rows(f"ALTER DATABASE {name} SET search_path = public, pg_catalog")
    with pytest.raises(psycopg.errors.RaiseException, match="hijacked"):
        empty.rows("SELECT length('x'::text)")

    # what `lockstep install` asks besides is asked under the same path
    assert install_lockstep(empty.dsn, method).startswith("installed lockstep")
    workflow_id = empty.value("SELECT lockstep.enqueue_workflow('w', 'q')")
    executor_id = empty.value("SELECT lockstep.register_executor('{q}', '{w}')")
    with psycopg.connect(empty.dsn, autocommit=True) as connection:
        cursor = connection.execute(
            "SELECT workflow_id FROM lockstep.claim_workflows(%s, 1)", [executor_id]
        )
        assert cursor.fetchall() == [(workflow_id,)]
