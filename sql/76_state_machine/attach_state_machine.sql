-- Lets the rows of a table move only as a state machine allows.
--
-- Executes what state_machine_triggers() writes. The triggers are what is attached: dumps
-- and renames of the table keep them. They name columns, so attach again after renaming one.
--
-- Runs with the rights of the caller, who must own the table. So must, later, the owner of the
-- table be able to record: the trigger function runs with that role's rights.
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
    v_newest constant int := lockstep.newest_machine_version(attach_state_machine.machine_name);
    v_look constant text := $look$
SELECT string_agg(format('%%s (%%s)', coalesce(to_json(r.state)::text, 'null'), r.row_count), ', ' ORDER BY r.state)
FROM (SELECT t.%1$I::text AS state, %2$s AS version, count(*) AS row_count FROM %3$s AS t GROUP BY 1, 2) AS r
WHERE NOT EXISTS (
    SELECT
    FROM lockstep.state_transition AS d
    WHERE d.machine_name = %4$L AND d.version = r.version AND r.state IN (d.from_state, d.to_state)
)
$look$;
    v_strangers text;
    v_problem text[];
    r_table record;
    r_statement record;
BEGIN
    SELECT
        c.relowner::regrole AS owner,
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
        EXISTS (
            SELECT
            FROM pg_attribute AS a
            WHERE a.attrelid = c.oid
                AND a.attname = attach_state_machine.version_column
                AND (a.atthasdef OR NOT a.attnotnull)
        ) AS has_other_version
    INTO r_table
    FROM pg_class AS c
    WHERE c.oid = attach_state_machine.table_name;

    v_problem := CASE
        WHEN r_table.is_attached THEN ARRAY[
            'object_not_in_prerequisite_state',
            format('%s follows a state machine already', attach_state_machine.table_name),
            'A table follows one at most.', 'Call detach_state_machine() first.'
        ]
        WHEN r_table.has_other_version THEN ARRAY[
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

    FOR r_statement IN
        SELECT s.statement
        FROM lockstep.state_machine_triggers(
            attach_state_machine.table_name, attach_state_machine.state_column,
            attach_state_machine.machine_name, attach_state_machine.version_column
        ) AS s
    LOOP
        EXECUTE r_statement.statement;
    END LOOP;

    IF attach_state_machine.check_existing THEN
        EXECUTE format(
            v_look, attach_state_machine.state_column,
            coalesce('t.' || quote_ident(attach_state_machine.version_column), v_newest::text),
            r_table.scanned, attach_state_machine.machine_name
        )
        INTO v_strangers;
    END IF;
    IF v_strangers IS NOT NULL THEN
        RAISE EXCEPTION '% has rows in states that state machine "%" does not know',
            attach_state_machine.table_name, attach_state_machine.machine_name
            USING ERRCODE = 'check_violation',
                  DETAIL = format('The states, and how many rows are in each: %s.', v_strangers),
                  HINT = 'Add the states, or pass check_existing => false to leave such rows as they are.';
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep.attach_state_machine(regclass, name, text, name, boolean) IS
    'Lets the rows of a table move only as a state machine allows.';
