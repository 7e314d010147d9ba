-- Lets the rows of a table move only as a state machine allows.
--
-- Writes a trigger function, <table>_state_machine, beside the table, and has row-level
-- triggers call it after each write. Rows, because only such triggers see the writes to
-- partitions, those of the future too, and a row's old and new state together; they are
-- not called for updates that leave the state alone. The function belongs to the owner
-- of the table and runs with that role's rights, which must include record_transition():
-- what the owner's types and casts execute must not run with the rights of Lockstep's owner.
--
-- The triggers are what is attached: dumps and renames of the table keep them, and their
-- argument says the rest. It names columns, so attach again after renaming one.
--
-- Locks the table in SHARE ROW EXCLUSIVE, as a new trigger needs it, before it looks at its rows.
CREATE OR REPLACE FUNCTION lockstep.attach_state_machine(
    table_name regclass,
    state_column name,
    machine_name text,
    version_column name DEFAULT NULL,
    check_existing boolean DEFAULT true
)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
-- names are quoted, or regclass: @plpgsql_check_options: security_warnings = off
DECLARE
    v_newest constant int := lockstep.newest_version(attach_state_machine.machine_name);
    v_body constant text := $body$
-- Written by lockstep.attach_state_machine(); lockstep.detach_state_machine() drops it.
BEGIN
%1$s    PERFORM lockstep.record_transition(
        TG_RELID, TG_OP, %2$L, %3$s,
        jsonb_build_object(%4$s),
        OLD.%5$I::text, NEW.%5$I::text
    );
    RETURN NULL;
END
$body$;
    v_fill constant text := $fill$    IF TG_WHEN = 'BEFORE' THEN
        NEW.%1$I := lockstep.newest_version(%2$L);
        RETURN NEW;
    END IF;

$fill$;
    v_stranger constant text := $query$
SELECT string_agg(format('%%s is %%s', e.key, coalesce(to_json(e.state)::text, 'null')), ', ')
FROM (
    SELECT jsonb_build_object(%1$s) AS key, t.%2$I::text AS state
    FROM %3$s AS t
    WHERE NOT EXISTS (
        SELECT
        FROM lockstep.state_transition AS d
        CROSS JOIN LATERAL unnest(ARRAY[d.from_state, d.to_state]) AS s (state)
        WHERE d.machine_name = %4$L
            AND d.version = %5$s
            AND s.state = t.%2$I::text
    )
    LIMIT 3
) AS e
$query$;
    v_call text;
    v_strangers text;
    v_problem text[];
    r_table record;
    r_key record;
BEGIN
    SELECT
        c.relowner::regrole AS owner,
        format('%I.%I', n.nspname, (c.relname || '_state_machine')::name) AS function_name,
        format(CASE c.relkind WHEN 'p' THEN '%s' ELSE 'ONLY %s' END, c.oid::regclass) AS scanned,
        has_schema_privilege(c.relowner, 'lockstep', 'USAGE') AND has_function_privilege(
            c.relowner, 'lockstep.record_transition(regclass, text, text, int, jsonb, text, text)', 'EXECUTE'
        ) AS may_record,
        EXISTS (
            SELECT
            FROM pg_trigger AS t
            WHERE t.tgrelid = c.oid
                AND t.tgname = 'lockstep_state_machine'
        ) AS is_attached,
        NOT EXISTS (
            SELECT
            FROM pg_attribute AS a
            WHERE a.attrelid = c.oid
                AND a.attname = attach_state_machine.version_column
                AND (a.atthasdef OR NOT a.attnotnull)
        ) AS fills_version
    INTO STRICT r_table
    FROM pg_class AS c
    INNER JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.oid = attach_state_machine.table_name;

    SELECT
        string_agg(format('%1$L, coalesce(NEW.%1$I, OLD.%1$I)', a.attname), ', ' ORDER BY k.place) AS written,
        string_agg(format('%1$L, t.%1$I', a.attname), ', ' ORDER BY k.place) AS existing
    INTO STRICT r_key
    FROM pg_index AS i
    CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, place)
    INNER JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
    WHERE i.indrelid = attach_state_machine.table_name
        AND i.indisprimary
        AND k.place <= i.indnkeyatts;

    v_problem := CASE
        WHEN r_table.is_attached THEN ARRAY[
            'object_not_in_prerequisite_state',
            format('%s follows a state machine already', attach_state_machine.table_name),
            'A table follows one at most.', 'Call detach_state_machine() first.'
        ]
        WHEN r_key.written IS NULL THEN ARRAY[
            'object_not_in_prerequisite_state',
            format('%s has no primary key', attach_state_machine.table_name),
            'The history names rows by it, and fire_event() finds them by it.', 'Add a primary key.'
        ]
        WHEN NOT r_table.fills_version THEN ARRAY[
            'object_not_in_prerequisite_state',
            format(
                'column "%s" of %s must be NOT NULL and have no default',
                attach_state_machine.version_column, attach_state_machine.table_name
            ),
            'A row that is inserted without a version gets the newest one.',
            'Fill it for the rows that exist, then use SET NOT NULL and DROP DEFAULT.'
        ]
        WHEN NOT r_table.may_record THEN ARRAY[
            'insufficient_privilege',
            format('role %s may not record transitions', r_table.owner),
            format('It owns %s, and the trigger function will run with its rights.', attach_state_machine.table_name),
            format('Call grant_usage(%L, ''admin'').', r_table.owner)
        ]
    END;
    IF v_problem IS NOT NULL THEN
        RAISE EXCEPTION '%', v_problem[2]
            USING ERRCODE = v_problem[1], DETAIL = v_problem[3], HINT = v_problem[4];
    END IF;

    -- a function that a dropped table left behind is replaced, no other
    EXECUTE format(
        'CREATE %s FUNCTION %s() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER '
        'SET search_path = pg_catalog, pg_temp AS %L',
        CASE
            WHEN EXISTS (
                SELECT
                FROM pg_proc AS p
                WHERE p.oid = to_regproc(r_table.function_name)
                    AND p.prosrc LIKE '%Written by lockstep.attach\_state\_machine()%'
                    AND NOT EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgfoid = p.oid)
            ) THEN 'OR REPLACE'
        END,
        r_table.function_name,
        format(
            v_body,
            CASE
                WHEN attach_state_machine.version_column IS NOT NULL
                    THEN format(v_fill, attach_state_machine.version_column, attach_state_machine.machine_name)
            END,
            attach_state_machine.machine_name,
            CASE
                WHEN attach_state_machine.version_column IS NULL THEN 'NULL'
                ELSE format('coalesce(NEW.%1$I, OLD.%1$I)::int', attach_state_machine.version_column)
            END,
            r_key.written, attach_state_machine.state_column
        )
    );
    EXECUTE format('REVOKE ALL ON FUNCTION %s() FROM public', r_table.function_name);
    IF EXISTS (SELECT FROM pg_extension AS e WHERE e.extname = 'lockstep') THEN
        EXECUTE format('ALTER FUNCTION %s() DEPENDS ON EXTENSION lockstep', r_table.function_name);
    END IF;

    v_call := format(
        'EXECUTE FUNCTION %s(%L)', r_table.function_name, json_build_object(
            'machine_name', attach_state_machine.machine_name,
            'state_column', attach_state_machine.state_column,
            'version_column', attach_state_machine.version_column
        )
    );
    EXECUTE format(
        'CREATE TRIGGER lockstep_state_machine AFTER UPDATE ON %s FOR EACH ROW '
        'WHEN (OLD.%2$I::text IS DISTINCT FROM NEW.%2$I::text%3$s) %4$s',
        attach_state_machine.table_name, attach_state_machine.state_column,
        CASE
            WHEN attach_state_machine.version_column IS NOT NULL
                THEN format(' OR OLD.%1$I IS DISTINCT FROM NEW.%1$I', attach_state_machine.version_column)
        END,
        v_call
    );
    EXECUTE format(
        'CREATE TRIGGER lockstep_state_machine_ends AFTER INSERT OR DELETE ON %s FOR EACH ROW %s',
        attach_state_machine.table_name, v_call
    );
    IF attach_state_machine.version_column IS NOT NULL THEN
        EXECUTE format(
            'CREATE TRIGGER lockstep_state_machine_version BEFORE INSERT ON %s FOR EACH ROW WHEN (NEW.%I IS NULL) %s',
            attach_state_machine.table_name, attach_state_machine.version_column, v_call
        );
    END IF;
    EXECUTE format('ALTER FUNCTION %s() OWNER TO %s', r_table.function_name, r_table.owner);

    IF attach_state_machine.check_existing THEN
        EXECUTE format(
            v_stranger, r_key.existing, attach_state_machine.state_column, r_table.scanned,
            attach_state_machine.machine_name,
            coalesce(quote_ident(attach_state_machine.version_column), v_newest::text)
        )
        INTO v_strangers;
    END IF;
    IF v_strangers IS NOT NULL THEN
        RAISE EXCEPTION '% has rows in states that state machine "%" does not know',
            attach_state_machine.table_name, attach_state_machine.machine_name
            USING ERRCODE = 'check_violation',
                  DETAIL = format('%s.', v_strangers),
                  HINT = 'Add the states, or pass check_existing => false to let such rows stay as they are.';
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep.attach_state_machine(regclass, name, text, name, boolean) IS
    'Lets the rows of a table move only as a state machine allows.';
