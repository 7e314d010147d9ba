-- Built by make from sql/. Do not edit.
\echo Use "ALTER EXTENSION lockstep UPDATE" to load this file. \quit

-- sql/95_update/10_begin.sql

-- Opens every update.

SET LOCAL search_path TO pg_catalog, pg_temp;

-- Whoever runs the update owns what it creates, and runs what is there: it has to be the
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
                  HINT = format('Update it as its owner: SET ROLE %I.', v_owner);
    ELSIF v_foreign IS NOT NULL THEN
        RAISE EXCEPTION 'schema "lockstep" holds what others own'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = format('There is %s.', v_foreign),
                  HINT = 'Drop it, and let nobody else create objects in the schema.';
    END IF;

    PERFORM set_config(
        'lockstep.before_update',
        (
            SELECT json_object_agg(o.object_id, true)::text
            FROM (
                SELECT p.oid AS object_id
                FROM pg_catalog.pg_proc AS p
                WHERE p.pronamespace = 'lockstep'::regnamespace
                UNION ALL
                SELECT c.oid
                FROM pg_catalog.pg_class AS c
                WHERE c.relnamespace = 'lockstep'::regnamespace
            ) AS o
        ),
        true
    );
END
$$;

-- sql/95_update/0.1.0--0.2.0.sql

-- By hand: what changed in the tables of 0.1.0, and what went. New tables, and all
-- functions and views, are added by make.

-- sql/80_admin/10_version.sql

-- Tells the version of Lockstep in this database, also without the extension.
CREATE OR REPLACE FUNCTION lockstep.version()
RETURNS text
LANGUAGE sql
IMMUTABLE
PARALLEL SAFE
BEGIN ATOMIC
    SELECT '0.2.0';
END;
COMMENT ON FUNCTION lockstep.version() IS
    'Tells the version of Lockstep in this database.';

-- sql/95_update/90_end.sql

-- Closes every update.

-- Nothing is PUBLIC's. Only what is new is touched: in an extension a REVOKE makes all
-- grants of the object part of the extension, and pg_dump would leave them out.
DO $$
DECLARE
    v_before constant jsonb := current_setting('lockstep.before_update');
    v_object text;
BEGIN
    FOR v_object IN
        SELECT format('FUNCTION %s', p.oid::regprocedure)
        FROM pg_catalog.pg_proc AS p
        WHERE p.pronamespace = 'lockstep'::regnamespace
            AND NOT v_before ? p.oid::text
        UNION ALL
        SELECT format('TABLE %s', c.oid::regclass)
        FROM pg_catalog.pg_class AS c
        WHERE c.relnamespace = 'lockstep'::regnamespace
            AND c.relkind IN ('r', 'v')
            AND NOT v_before ? c.oid::text
    LOOP
        EXECUTE format('REVOKE ALL ON %s FROM public', v_object);
    END LOOP;
END
$$;

-- sql/90_extension.sql

