-- Gives a table, its partitions and children the triggers of an attachment, and no others.
--
-- A statement trigger fires for the table that the statement names, and its transition
-- tables hold the rows of partitions and children too: with one on each of these tables
-- every row meets exactly one. p_arguments are those of enqueue_rows(), the first two are
-- 'workflow_name' and the name. A trigger that has them already stays as it is, another
-- one of the workflow is replaced, or dropped if its event is not wanted; changed_count
-- counts those two. trigger_names are those of the given table.
--
-- Locks: an advisory lock of the table, so that of two calls the second sees what the
-- first created; SHARE ROW EXCLUSIVE on each table that lacks a trigger, the given one
-- first, then by oid; ACCESS EXCLUSIVE where one is dropped.
CREATE OR REPLACE FUNCTION lockstep._place_triggers(
    p_table regclass,
    p_events text[],
    p_arguments text[],
    OUT trigger_names text[],
    OUT changed_count int
)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- as CREATE TRIGGER takes them, and as pg_trigger keeps them
    v_arguments text;
    v_tgargs bytea;
    v_workflow_tgargs bytea;
    v_name text;
    v_statement text;
    r_trigger record;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('attachments of ' || p_table::oid, 0));

    SELECT
        string_agg(quote_literal(a.text), ', ' ORDER BY a.place),
        string_agg(convert_to(a.text, getdatabaseencoding()) || decode('00', 'hex'), '' ORDER BY a.place),
        string_agg(convert_to(a.text, getdatabaseencoding()) || decode('00', 'hex'), '' ORDER BY a.place) FILTER (WHERE a.place <= 2)
    INTO v_arguments, v_tgargs, v_workflow_tgargs
    FROM unnest(p_arguments) WITH ORDINALITY AS a (text, place);

    trigger_names := '{}';
    changed_count := 0;

    FOR r_trigger IN
        WITH RECURSIVE family AS (
            SELECT p_table::oid AS oid
            UNION
            SELECT i.inhrelid
            FROM family AS f
            INNER JOIN pg_inherits AS i ON i.inhparent = f.oid
        )

        SELECT
            c.oid, c.relkind, n.nspname, c.relname,
            e.event, e.transition_tables, t.tgname::text, t.tgargs
        FROM family AS f
        INNER JOIN pg_class AS c ON c.oid = f.oid
        INNER JOIN pg_namespace AS n ON n.oid = c.relnamespace
        CROSS JOIN (
            VALUES
                (1, 'INSERT', 4, 'NEW TABLE AS new_rows'),
                (2, 'UPDATE', 16, 'OLD TABLE AS old_rows NEW TABLE AS new_rows'),
                (3, 'DELETE', 8, 'OLD TABLE AS old_rows')
        ) AS e (place, event, tgtype, transition_tables)
        LEFT JOIN pg_trigger AS t
            ON t.tgrelid = c.oid
            AND t.tgfoid = 'lockstep.enqueue_rows()'::regprocedure
            AND t.tgtype & e.tgtype <> 0
            AND substr(t.tgargs, 1, length(v_workflow_tgargs)) = v_workflow_tgargs
        WHERE e.event = ANY (p_events)
            OR t.oid IS NOT NULL
        ORDER BY c.oid <> p_table, c.oid, e.place
    LOOP
        v_name := coalesce(r_trigger.tgname, 'lockstep_' || lower(r_trigger.event) || '_' || p_arguments[2]);
        IF octet_length(v_name) > 63 THEN
            v_name := left(v_name, 16) || left(md5(p_arguments[2]), 8) || '_' || p_arguments[2];
            v_name := v_name::name::text;
        END IF;

        IF r_trigger.event <> ALL (p_events) THEN
            EXECUTE format('DROP TRIGGER %I ON %I.%I', v_name, r_trigger.nspname, r_trigger.relname);
        ELSIF r_trigger.relkind = 'f' THEN
            RAISE EXCEPTION 'table_name must be a table without foreign tables as partitions or children'
                USING ERRCODE = 'invalid_parameter_value',
                      DETAIL = format('"%s" is a foreign table, whose rows Postgres does not collect.', r_trigger.relname),
                      HINT = 'Attach the workflow to the other partitions, one by one.';
        ELSIF r_trigger.tgargs IS DISTINCT FROM v_tgargs THEN
            v_statement := format(
                'CREATE %s TRIGGER %I AFTER %s ON %I.%I REFERENCING %s FOR EACH STATEMENT '
                'EXECUTE FUNCTION lockstep.enqueue_rows(%s)',
                CASE WHEN r_trigger.tgname IS NOT NULL THEN 'OR REPLACE' END, v_name, r_trigger.event,
                r_trigger.nspname, r_trigger.relname, r_trigger.transition_tables, v_arguments
            );
            EXECUTE v_statement;
        END IF;

        IF r_trigger.event = ANY (p_events) AND r_trigger.oid = p_table THEN
            trigger_names := trigger_names || v_name;
        END IF;
        IF r_trigger.tgname IS NOT NULL
            AND (r_trigger.event <> ALL (p_events) OR r_trigger.tgargs <> v_tgargs)
        THEN
            changed_count := changed_count + 1;
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION lockstep._place_triggers(regclass, text[], text[]) IS
    'Gives a table, its partitions and children the triggers of an attachment, and no others.';
