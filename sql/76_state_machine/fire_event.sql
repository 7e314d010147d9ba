-- Lets an event happen to a row: moves it as its state machine says, and returns the new state.
--
-- Refused with 23514 if the event does not leave the state of the row, with P0002 if the
-- machine does not know it or the row is gone, with 55000 if the table has no machine.
--
-- Called as SELECT lockstep.fire_event(o, 'pay') FROM orders AS o WHERE …: the type of the
-- row names the table, its primary key the row. The row is locked (FOR NO KEY UPDATE) and
-- read again, so of two calls at once the second sees what the first one did.
--
-- Everything here runs with the rights of the caller, and what the row's table calls, its
-- triggers and policies, with the caller's search_path, as in an UPDATE: the default of the
-- parameter is evaluated by the caller.
CREATE OR REPLACE FUNCTION lockstep.fire_event(
    record anyelement,
    event text,
    search_path text DEFAULT pg_catalog.current_setting('search_path')
)
RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
-- names are quoted, or regclass: @plpgsql_check_options: security_warnings = off
DECLARE
    v_table constant regclass := (
        SELECT t.typrelid::regclass
        FROM pg_type AS t
        WHERE t.oid = pg_typeof(fire_event.record)
            AND t.typrelid <> 0
    );
    v_earlier_event constant text := coalesce(current_setting('lockstep.event', true), '');
    v_is_row text;
    v_key text;
    v_state text;
    v_quoted_state text;
    v_version int;
    v_to_state text;
    v_is_there boolean;
    v_problem text[];
    r_machine record;
BEGIN
    SELECT m.machine_name, m.state_column, m.version_column, format_type(a.atttypid, -1) AS state_type
    INTO r_machine
    FROM pg_trigger AS t
    CROSS JOIN LATERAL lockstep._state_machine_of(t.tgfoid, t.tgargs) AS m
    INNER JOIN pg_attribute AS a ON a.attrelid = t.tgrelid AND a.attname = m.state_column
    WHERE t.tgrelid = v_table
        AND t.tgname = 'lockstep_state_machine';
    IF NOT FOUND THEN
        RAISE EXCEPTION '% follows no state machine', coalesce(v_table::text, pg_typeof(fire_event.record)::text)
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Pass a row of a table with one: SELECT lockstep.fire_event(o, ''pay'') FROM orders AS o.';
    END IF;

    -- with the operators of the key's index, which may be those of an extension
    SELECT
        string_agg(format('t.%1$I OPERATOR(%2$I.%3$s) ($1).%1$I', a.attname, n.nspname, o.oprname), ' AND '),
        string_agg(format('%1$L, ($1).%1$I', a.attname), ', ' ORDER BY k.place)
    INTO STRICT v_is_row, v_key
    FROM pg_index AS i
    CROSS JOIN LATERAL unnest(i.indkey::int2[], i.indclass::oid[]) WITH ORDINALITY AS k (attnum, opclass, place)
    INNER JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
    INNER JOIN pg_opclass AS c ON c.oid = k.opclass
    INNER JOIN pg_amop AS p
        ON p.amopfamily = c.opcfamily AND p.amoplefttype = c.opcintype AND p.amoprighttype = c.opcintype
        AND p.amopstrategy = 3
    INNER JOIN pg_operator AS o ON o.oid = p.amopopr
    INNER JOIN pg_namespace AS n ON n.oid = o.oprnamespace
    WHERE i.indrelid = v_table
        AND i.indisprimary
        AND k.place <= i.indnkeyatts;

    PERFORM set_config('search_path', fire_event.search_path, true);
    EXECUTE pg_catalog.format(
        'SELECT t.%I::pg_catalog.text, %s, true FROM %s AS t WHERE %s FOR NO KEY UPDATE',
        r_machine.state_column, coalesce(pg_catalog.quote_ident(r_machine.version_column), 'NULL'), v_table, v_is_row
    )
    INTO v_state, v_version, v_is_there
    USING fire_event.record;
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);

    SELECT l.to_state
    INTO v_to_state
    FROM lockstep.list_transitions(r_machine.machine_name, v_state, v_version) AS l
    WHERE l.from_state = v_state
        AND l.event = fire_event.event;

    IF NOT FOUND THEN
        v_quoted_state := coalesce('"' || v_state || '"', 'null');
        EXECUTE format('SELECT format(''Row %%s of %%s'', jsonb_build_object(%s), $2)', v_key)
        INTO v_key
        USING fire_event.record, v_table;

        SELECT CASE
            WHEN v_is_there IS NULL THEN ARRAY[
                'no_data_found', format('row of %s does not exist', v_table), v_key || '.',
                'It was deleted, or your role does not see it.'
            ]
            WHEN count(*) FILTER (WHERE l.event = fire_event.event) = 0 THEN ARRAY[
                'no_data_found',
                format('state machine "%s" has no event "%s"', r_machine.machine_name, fire_event.event),
                format('%s is in state %s.', v_key, v_quoted_state),
                coalesce(
                    'Its events are ' || string_agg(DISTINCT format('"%s"', l.event), ', ') || '.',
                    'Add transitions with add_transition(); none leaves a state.'
                )
            ]
            ELSE ARRAY[
                'check_violation',
                format(
                    'event "%s" of state machine "%s" leads %s, not from %s',
                    fire_event.event, r_machine.machine_name,
                    string_agg(
                        format('from "%s" to "%s"', l.from_state, l.to_state), ' and ' ORDER BY l.from_state
                    ) FILTER (WHERE l.event = fire_event.event),
                    v_quoted_state
                ),
                format('%s is in state %s.', v_key, v_quoted_state),
                coalesce(
                    format('Events in %s: ', v_quoted_state)
                    || string_agg(format('%s (to "%s")', l.event, l.to_state), ', ')
                        FILTER (WHERE l.from_state = v_state)
                    || '.',
                    format('No transition leaves %s.', v_quoted_state)
                )
            ]
        END
        INTO v_problem
        FROM lockstep.list_transitions(r_machine.machine_name, NULL, v_version) AS l
        WHERE l.from_state IS NOT NULL;

        RAISE EXCEPTION '%', v_problem[2]
            USING ERRCODE = v_problem[1], DETAIL = v_problem[3], HINT = v_problem[4];
    END IF;

    PERFORM
        set_config('lockstep.event', fire_event.event, true),
        set_config('search_path', fire_event.search_path, true);
    EXECUTE pg_catalog.format(
        'UPDATE %1$s AS t SET %2$I = $2::%3$s WHERE %4$s RETURNING t.%2$I::pg_catalog.text',
        v_table, r_machine.state_column, r_machine.state_type, v_is_row
    )
    INTO v_to_state
    USING fire_event.record, v_to_state;
    PERFORM
        pg_catalog.set_config('lockstep.event', v_earlier_event, true),
        pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);

    IF v_to_state IS NULL THEN
        RAISE EXCEPTION 'a trigger of % kept its row in state "%"', v_table, v_state
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'A BEFORE UPDATE trigger returned NULL.';
    END IF;
    RETURN v_to_state;
END
$$;
COMMENT ON FUNCTION lockstep.fire_event(anyelement, text, text) IS
    'Lets an event happen to a row: moves it as its state machine says, and returns the new state.';
