-- Lockstep keeps durable workflows in tables and moves them with functions.
--
-- enqueue_workflow() inserts a row of workflow_status. A worker registers with
-- register_executor(), takes rows with claim_workflows() and reports with
-- record_steps(), start_timers(), receive_messages(), suspend_workflows() and
-- finish_workflows(), usually all of them in one advance_workflows() call.
-- heartbeat() keeps its lease; promote_due_workflows() and recover_workflows()
-- put back what fell due and what a dead worker held.

SET LOCAL search_path TO pg_catalog, pg_temp;

-- Refuses a schema that someone else owns or filled: whoever owns the schema
-- could replace our functions, and what lies in it, or is put there, could shadow them.
DO $$
DECLARE
    v_owner text := (
        SELECT pg_get_userbyid(n.nspowner)
        FROM pg_catalog.pg_namespace AS n
        WHERE n.nspname = 'lockstep'
    );
    v_creators text;
BEGIN
    IF v_owner <> current_user THEN
        RAISE EXCEPTION 'schema "lockstep" belongs to %', v_owner
            USING ERRCODE = 'insufficient_privilege',
                  HINT = 'Drop the schema, or install as its owner; '
                      'restore a dump in the name of its owner (pg_restore --role).';
    END IF;

    -- what is in a schema depends on it, of whatever kind it is; so does what applies to it
    IF EXISTS (
        SELECT
        FROM pg_catalog.pg_depend AS d
        WHERE d.refclassid = 'pg_catalog.pg_namespace'::regclass
            AND d.refobjid = 'lockstep'::regnamespace
            AND d.classid <> 'pg_catalog.pg_extension'::regclass
    )
    THEN
        RAISE EXCEPTION 'schema "lockstep" is not empty'
            USING ERRCODE = 'duplicate_schema',
                  HINT = 'Lockstep needs the schema for itself; move or drop what is in it.';
    END IF;

    SELECT string_agg(DISTINCT coalesce(r.rolname, 'PUBLIC'), ', ')
    INTO v_creators
    FROM pg_catalog.pg_namespace AS n
    CROSS JOIN LATERAL aclexplode(n.nspacl) AS a
    LEFT JOIN pg_catalog.pg_roles AS r ON r.oid = a.grantee
    WHERE n.nspname = 'lockstep'
        AND a.grantee <> n.nspowner
        AND a.privilege_type = 'CREATE';

    IF v_creators IS NOT NULL THEN
        RAISE EXCEPTION 'others may create objects in schema "lockstep"'
            USING ERRCODE = 'insufficient_privilege',
                  DETAIL = format('These roles may: %s.', v_creators),
                  HINT = 'Create the schema before the install, and REVOKE CREATE ON SCHEMA lockstep from them.';
    END IF;
END
$$;

-- Refuses a database that takes any bytes for text: what is cut out of one, such as the
-- beginning of a long name in a message, need not be text to the client.
DO $$
BEGIN
    IF getdatabaseencoding() = 'SQL_ASCII' THEN
        RAISE EXCEPTION 'database "%" has encoding SQL_ASCII', current_database()
            USING ERRCODE = 'feature_not_supported',
                  DETAIL = 'It does not know what a character is.',
                  HINT = 'Create a database with ENCODING ''UTF8''.';
    END IF;
END
$$;

COMMENT ON SCHEMA lockstep IS 'Durable workflows: a workflow is a row, Postgres is the orchestrator.';
