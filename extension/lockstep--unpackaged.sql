-- Built by make from sql/. Do not edit.
\echo Use "CREATE EXTENSION lockstep VERSION unpackaged" to load this file. \quit

-- sql/95_update/10_owner.sql

-- Opens every update, and the adoption of a plain-SQL install.

SET LOCAL search_path TO pg_catalog, pg_temp;

-- Whoever runs it owns what it creates, and runs what is there: it has to be the
-- owner. A superuser's new functions would run with a superuser's rights for everybody who
-- may call them, and what others put into the schema could stand in for ours.
DO $$
DECLARE
    v_owner constant name := (
        SELECT pg_get_userbyid(n.nspowner)
        FROM pg_catalog.pg_namespace AS n
        WHERE n.nspname = 'lockstep'
    );
    v_foreign text := (
        SELECT format('%s of %s', pg_describe_object(o.class_id, o.object_id, 0), pg_get_userbyid(o.owner_id))
        FROM (
            SELECT 'pg_catalog.pg_class'::regclass AS class_id, c.oid AS object_id, c.relowner AS owner_id
            FROM pg_catalog.pg_class AS c
            WHERE c.relnamespace = 'lockstep'::regnamespace
            UNION ALL
            SELECT 'pg_catalog.pg_proc'::regclass, p.oid, p.proowner
            FROM pg_catalog.pg_proc AS p
            WHERE p.pronamespace = 'lockstep'::regnamespace
            UNION ALL
            SELECT 'pg_catalog.pg_type'::regclass, t.oid, t.typowner
            FROM pg_catalog.pg_type AS t
            WHERE t.typnamespace = 'lockstep'::regnamespace
        ) AS o
        WHERE pg_get_userbyid(o.owner_id) <> v_owner
        ORDER BY o.object_id
        LIMIT 1
    );
BEGIN
    IF v_owner <> current_user THEN
        RAISE EXCEPTION 'lockstep belongs to %', v_owner
            USING ERRCODE = 'insufficient_privilege',
                  HINT = format('Do this as its owner: SET ROLE %I.', v_owner);
    ELSIF v_foreign IS NOT NULL THEN
        RAISE EXCEPTION 'schema "lockstep" holds what others own'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = format('There is %s.', v_foreign),
                  HINT = 'Drop it, and let nobody else create objects in the schema.';
    END IF;
END
$$;

-- sql/95_update/30_unpackaged.sql

-- CREATE EXTENSION lockstep VERSION 'unpackaged': an extension that is empty yet, where
-- plain SQL put Lockstep. ALTER EXTENSION lockstep UPDATE takes in what is there.

SET LOCAL search_path TO pg_catalog, pg_temp;

DO $$
BEGIN
    IF to_regprocedure('lockstep.version()') IS NULL THEN
        RAISE EXCEPTION 'lockstep is not in this database'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Install it with CREATE EXTENSION lockstep.';
    ELSIF lockstep.version() <> '0.2.0' THEN
        RAISE EXCEPTION 'the extension takes over lockstep 0.2.0'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = format('The database has lockstep %s.', lockstep.version()),
                  HINT = 'Update it first, as plain SQL.';
    END IF;
END
$$;
