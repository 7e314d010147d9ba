-- Checks a change of a row against its state machine, records it, starts its workflow.
--
-- The trigger function that attach_state_machine() writes calls it after each INSERT and
-- DELETE, and after each UPDATE of the state or the version. operation is that word. The
-- trigger function belongs to the table's owner and hands over texts, so that nothing of
-- the user's runs with the rights of this function.
--
-- A transition is known by its states. If several events lead from one state to another,
-- the setting lockstep.event, which fire_event() sets, tells which it was.
--
-- A row that moved to another partition was deleted and inserted: see record_move().
CREATE OR REPLACE FUNCTION lockstep.record_transition(
    table_name regclass,
    operation text,
    machine_name text,
    version int,
    key jsonb,
    from_state text,
    to_state text
)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    v_root constant regclass := pg_partition_root(record_transition.table_name);
    v_table constant text := coalesce(v_root, record_transition.table_name)::text;
    v_version constant int := coalesce(
        record_transition.version, lockstep._state_machine_version(record_transition.machine_name)
    );
    v_id constant text := lockstep._generate_id();
    v_operation text := record_transition.operation;
    v_from_state text := record_transition.from_state;
    v_problem text[];
    r_move record;
    r_transition record;
BEGIN
    IF v_root IS NOT NULL AND v_operation <> 'DELETE' THEN
        SELECT m.has_moved, m.from_state
        INTO STRICT r_move
        FROM lockstep._take_move(v_table, record_transition.key, v_operation = 'INSERT') AS m;

        IF r_move.has_moved THEN
            v_operation := 'UPDATE';
            v_from_state := r_move.from_state;
        END IF;
    END IF;

    IF v_operation = 'DELETE' THEN
        IF v_from_state IS NULL THEN
            RETURN;
        END IF;

        INSERT INTO lockstep.state_history (
            transition_id, table_name, key, machine_name, version, from_state, changed_by
        )
        VALUES (
            v_id, v_table, record_transition.key, record_transition.machine_name, v_version,
            v_from_state, lockstep._caller()
        );
        RETURN;
    ELSIF v_operation = 'UPDATE' AND v_from_state = record_transition.to_state THEN
        -- a new version, or a new partition, and nothing else
        IF NOT EXISTS (
            SELECT
            FROM lockstep.state_transition AS t
            WHERE t.machine_name = record_transition.machine_name
                AND t.version = v_version
                AND record_transition.to_state IN (t.from_state, t.to_state)
        ) THEN
            RAISE EXCEPTION 'version % of state machine "%" has no state "%"',
                v_version, record_transition.machine_name, record_transition.to_state
                USING ERRCODE = 'check_violation',
                      DETAIL = format('It is the state of row %s of %s.', record_transition.key, v_table),
                      HINT = 'Move the row to a state of both versions first, or add the state to that version.';
        END IF;
        RETURN;
    END IF;

    -- of one, the least is itself: cheaper than to order them
    SELECT count(*) AS rivals, min(t.event) AS event, min(t.workflow_name) AS workflow_name, min(t.queue_name) AS queue_name
    INTO STRICT r_transition
    FROM lockstep.state_transition AS t
    WHERE t.machine_name = record_transition.machine_name
        AND t.version = v_version
        AND t.to_state = record_transition.to_state
        AND (t.from_state = v_from_state OR (t.from_state IS NULL AND v_from_state IS NULL));

    IF r_transition.rivals > 1 THEN
        SELECT 1 AS rivals, t.event, t.workflow_name, t.queue_name
        INTO r_transition
        FROM lockstep.state_transition AS t
        WHERE t.machine_name = record_transition.machine_name
            AND t.version = v_version
            AND t.to_state = record_transition.to_state
            AND t.from_state = v_from_state
            AND t.event = current_setting('lockstep.event', true);

        IF NOT FOUND THEN
            RAISE EXCEPTION 'several events of state machine "%" lead from "%" to "%"',
                record_transition.machine_name, v_from_state, record_transition.to_state
                USING ERRCODE = 'check_violation',
                      DETAIL = format('The row is %s of %s.', record_transition.key, v_table),
                      HINT = 'Use fire_event(), or say which before the update: SET LOCAL lockstep.event = ''…''.';
        END IF;
    ELSIF r_transition.rivals = 0 AND NOT lockstep._is_open_entry(
        record_transition.machine_name, v_version, v_from_state, record_transition.to_state
    ) THEN
        v_problem := lockstep._move_problem(
            v_table, record_transition.machine_name, v_version, record_transition.key,
            v_from_state, record_transition.to_state
        );
        RAISE EXCEPTION '%', v_problem[1]
            USING ERRCODE = 'check_violation', DETAIL = v_problem[2], HINT = v_problem[3];
    END IF;

    INSERT INTO lockstep.state_history (
        transition_id, table_name, key, machine_name, version, from_state, event, to_state,
        changed_by, workflow_id
    )
    VALUES (
        v_id, v_table, record_transition.key, record_transition.machine_name, v_version, v_from_state,
        r_transition.event, record_transition.to_state, lockstep._caller(),
        CASE WHEN r_transition.workflow_name IS NOT NULL THEN v_id END
    );

    IF r_transition.workflow_name IS NOT NULL THEN
        PERFORM lockstep.enqueue_workflow(
            r_transition.workflow_name, r_transition.queue_name,
            named_args => record_transition.key,
            workflow_id => v_id,
            headers => jsonb_build_object(
                'table_name', v_table, 'from_state', v_from_state, 'event', r_transition.event,
                'to_state', record_transition.to_state
            )
        );
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep.record_transition(regclass, text, text, int, jsonb, text, text) IS
    'Checks a change of a row against its state machine, records it, starts its workflow.';
