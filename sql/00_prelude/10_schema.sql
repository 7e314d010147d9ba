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
-- could replace our functions, and what lies in it could shadow them.
DO $$
DECLARE
    v_owner text := (
        SELECT pg_get_userbyid(n.nspowner)
        FROM pg_catalog.pg_namespace AS n
        WHERE n.nspname = 'lockstep'
    );
BEGIN
    IF v_owner <> current_user THEN
        RAISE EXCEPTION 'schema "lockstep" belongs to %', v_owner
            USING ERRCODE = 'insufficient_privilege',
                  HINT = 'Drop the schema, or install as its owner; '
                      'restore a dump in the name of its owner (pg_restore --role).';
    END IF;

    IF EXISTS (SELECT FROM pg_catalog.pg_class AS c WHERE c.relnamespace = 'lockstep'::regnamespace)
        OR EXISTS (SELECT FROM pg_catalog.pg_proc AS p WHERE p.pronamespace = 'lockstep'::regnamespace)
        OR EXISTS (SELECT FROM pg_catalog.pg_type AS t WHERE t.typnamespace = 'lockstep'::regnamespace)
    THEN
        RAISE EXCEPTION 'schema "lockstep" is not empty'
            USING ERRCODE = 'duplicate_schema',
                  HINT = 'Lockstep needs the schema for itself; move or drop what is in it.';
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
