-- Writes the statements by which attach_state_machine() attaches a state machine to a table.
--
-- A trigger function, <table>_state_machine, beside the table, and the row-level triggers
-- that call it. Rows, because only such triggers see the writes to partitions, those of the
-- future too, and a row's old and new state together; they are not called for updates that
-- leave the state alone. The function belongs to the owner of the table and runs with that
-- role's rights: what the owner's types and casts execute must not run with those of
-- Lockstep's owner. The triggers' argument is what the catalog knows about the machine.
--
-- The key that is recorded leaves the state out, should it be part of the primary key.
CREATE OR REPLACE FUNCTION lockstep.state_machine_triggers(
    table_name regclass,
    state_column name,
    machine_name text,
    version_column name DEFAULT NULL
)
RETURNS TABLE (statement text)
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_body constant text := $body$
-- Written by lockstep.attach_state_machine(); lockstep.detach_state_machine() drops it.
BEGIN
%1$s%2$s    PERFORM lockstep.record_transition(
        TG_RELID, TG_OP, %3$L, %4$s,
        jsonb_build_object(%5$s),
        OLD.%6$I::text, NEW.%6$I::text
    );
    RETURN NULL;
END
$body$;
    v_fill constant text := $fill$    IF TG_WHEN = 'BEFORE' AND TG_OP = 'INSERT' THEN
        NEW.%1$I := lockstep.newest_machine_version(%2$L);
        RETURN NEW;
    END IF;

$fill$;
    v_move constant text := $move$    IF TG_WHEN = 'BEFORE' AND TG_OP = 'UPDATE' THEN
        PERFORM lockstep.record_move(TG_RELID, jsonb_build_object(%1$s), jsonb_build_object(%2$s));
        RETURN NEW;
    END IF;

$move$;
    v_argument constant text := json_build_object(
        'machine_name', state_machine_triggers.machine_name,
        'state_column', state_machine_triggers.state_column,
        'version_column', state_machine_triggers.version_column
    )::text;
    v_problem text[];
    v_by_default text;
    r_table record;
    r_key record;
BEGIN
    SELECT
        c.relowner::regrole AS owner, c.relkind = 'p' AS is_partitioned, c.relkind IN ('r', 'p') AS is_table,
        format('%I.%I', n.nspname, (c.relname || '_state_machine')::name) AS function_name,
        ARRAY(
            SELECT a.attname FROM pg_attribute AS a
            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
            ORDER BY a.attnum
        ) AS columns
    INTO r_table
    FROM pg_class AS c
    INNER JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.oid = state_machine_triggers.table_name;

    IF r_table.is_table IS NOT TRUE THEN
        v_problem := ARRAY[
            'table_name must be a table',
            coalesce(state_machine_triggers.table_name || ' is none.', 'It is null.'),
            'Pass a table or a partitioned table; its rows are what moves.'
        ];
    ELSE
        SELECT ARRAY[
            format('%s must be a column of %s', c.argument, state_machine_triggers.table_name),
            coalesce('It is "' || c.name || '".', 'It is null.'),
            format('Its columns are "%s".', array_to_string(r_table.columns, '", "'))
        ]
        INTO v_problem
        FROM (
            VALUES
                ('state_column', state_machine_triggers.state_column, false),
                ('version_column', state_machine_triggers.version_column, true)
        ) AS c (argument, name, is_optional)
        WHERE coalesce(c.name <> ALL (r_table.columns), NOT c.is_optional)
        LIMIT 1;
    END IF;
    IF v_problem IS NOT NULL THEN
        RAISE EXCEPTION '%', v_problem[1]
            USING ERRCODE = 'invalid_parameter_value', DETAIL = v_problem[2], HINT = v_problem[3];
    END IF;

    SELECT
        string_agg(format('%1$L, OLD.%1$I', k.name), ', ' ORDER BY k.place) FILTER (WHERE k.is_recorded) AS old,
        string_agg(format('%1$L, NEW.%1$I', k.name), ', ' ORDER BY k.place) FILTER (WHERE k.is_recorded) AS new,
        string_agg(format('%1$L, coalesce(NEW.%1$I, OLD.%1$I)', k.name), ', ' ORDER BY k.place)
        FILTER (WHERE k.is_recorded) AS either,
        string_agg(
            format('OLD.%1$I::text IS DISTINCT FROM NEW.%1$I::text', k.name), ' OR ' ORDER BY k.place
        ) AS is_changed
    INTO STRICT r_key
    FROM (
        SELECT a.attname AS name, u.place, a.attname <> state_machine_triggers.state_column AS is_recorded
        FROM pg_index AS i
        CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS u (attnum, place)
        INNER JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = u.attnum
        WHERE i.indrelid = state_machine_triggers.table_name
            AND i.indisprimary
            AND u.place <= i.indnkeyatts
    ) AS k;
    IF r_key.new IS NULL THEN
        RAISE EXCEPTION '% has no primary key%', state_machine_triggers.table_name,
            CASE WHEN r_key.is_changed IS NOT NULL THEN ' apart from its state' ELSE '' END
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = 'The history names rows by it, and fire_event() finds them by it.',
                  HINT = 'Add a primary key.';
    END IF;

    -- a function that a dropped table left behind, with what was granted on it, and no other
    IF EXISTS (
        SELECT
        FROM pg_proc AS p
        WHERE p.oid = to_regprocedure(r_table.function_name || '()')
            AND p.prosrc LIKE '%Written by lockstep.attach\_state\_machine()%'
            AND NOT EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgfoid = p.oid)
    ) THEN
        statement := format('DROP FUNCTION %s()', r_table.function_name);
        RETURN NEXT;
    END IF;

    statement := format(
        'CREATE FUNCTION %s() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER '
        'SET search_path = pg_catalog, pg_temp AS %L',
        r_table.function_name,
        format(
            v_body,
            CASE
                WHEN state_machine_triggers.version_column IS NOT NULL
                    THEN format(v_fill, state_machine_triggers.version_column, state_machine_triggers.machine_name)
            END,
            CASE WHEN r_table.is_partitioned THEN format(v_move, r_key.old, r_key.new) END,
            state_machine_triggers.machine_name,
            CASE
                WHEN state_machine_triggers.version_column IS NULL THEN 'NULL'
                ELSE format('coalesce(NEW.%1$I, OLD.%1$I)::int', state_machine_triggers.version_column)
            END,
            r_key.either, state_machine_triggers.state_column
        )
    );
    RETURN NEXT;

    FOR statement IN
        SELECT format(
            'CREATE TRIGGER %s ON %s FOR EACH ROW WHEN (%s) EXECUTE FUNCTION %s(%L)',
            t.event, state_machine_triggers.table_name, t.condition, r_table.function_name, v_argument
        )
        FROM (
            VALUES
                (
                    'lockstep_state_machine AFTER UPDATE', true, concat_ws(
                        ' OR ',
                        format('OLD.%1$I::text IS DISTINCT FROM NEW.%1$I::text', state_machine_triggers.state_column),
                        CASE
                            WHEN state_machine_triggers.version_column IS NOT NULL
                                THEN format('OLD.%1$I IS DISTINCT FROM NEW.%1$I', state_machine_triggers.version_column)
                        END,
                        CASE WHEN r_table.is_partitioned THEN r_key.is_changed END
                    )
                ),
                ('lockstep_state_machine_ends AFTER INSERT OR DELETE', true, 'true'),
                (
                    'lockstep_state_machine_version BEFORE INSERT', state_machine_triggers.version_column IS NOT NULL,
                    'NEW.' || quote_ident(state_machine_triggers.version_column) || ' IS NULL'
                ),
                -- called last: other triggers may change the key, or suppress the update
                ('zzz_lockstep_state_machine_move BEFORE UPDATE', r_table.is_partitioned, r_key.is_changed)
        ) AS t (event, is_needed, condition)
        WHERE t.is_needed
    LOOP
        RETURN NEXT;
    END LOOP;

    -- whoever may execute the function can make triggers that record what never happened
    SELECT string_agg(DISTINCT quote_ident(r.rolname), ', ')
    INTO v_by_default
    FROM pg_default_acl AS d
    CROSS JOIN LATERAL aclexplode(d.defaclacl) AS a
    INNER JOIN pg_roles AS r ON r.oid = a.grantee
    WHERE d.defaclobjtype = 'f'
        AND d.defaclrole = current_user::regrole
        AND a.grantee <> d.defaclrole;

    FOREACH statement IN ARRAY ARRAY[
        format('REVOKE ALL ON FUNCTION %s() FROM %s', r_table.function_name, concat_ws(', ', 'public', v_by_default)),
        format('ALTER FUNCTION %s() OWNER TO %s', r_table.function_name, r_table.owner)
    ]
    LOOP
        RETURN NEXT;
    END LOOP;
    IF EXISTS (SELECT FROM pg_extension AS e WHERE e.extname = 'lockstep') THEN
        statement := format('ALTER FUNCTION %s() DEPENDS ON EXTENSION lockstep', r_table.function_name);
        RETURN NEXT;
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep.state_machine_triggers(regclass, name, text, name) IS
    'Writes the statements by which attach_state_machine() attaches a state machine to a table.';
