-- Adds a transition to the newest version of a state machine, and returns that version.
--
-- A row in from_state moves to to_state when the event happens to it; without from_state,
-- rows may be inserted in to_state. workflow_name is the workflow that each such move
-- starts. A state is what occurs in a transition, a final one what no transition leaves.
CREATE OR REPLACE FUNCTION lockstep.add_transition(
    machine_name text,
    from_state text,
    event text,
    to_state text,
    workflow_name text DEFAULT NULL,
    queue_name text DEFAULT 'default'
)
RETURNS int
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_version constant int := lockstep._state_machine_version(add_transition.machine_name);
    v_problem text[];
    r_rival record;
BEGIN
    SELECT lockstep._name_problem(n.argument, n.value)
    INTO v_problem
    FROM (
        VALUES
            ('from_state', add_transition.from_state, true),
            ('event', add_transition.event, false),
            ('to_state', add_transition.to_state, false),
            ('workflow_name', add_transition.workflow_name, true),
            ('queue_name', add_transition.queue_name, add_transition.workflow_name IS NULL)
    ) AS n (argument, value, is_optional)
    WHERE btrim(n.value) = '' OR length(n.value) > 512 OR (n.value IS NULL AND NOT n.is_optional)
    LIMIT 1;

    IF v_problem IS NULL AND add_transition.from_state = add_transition.to_state THEN
        v_problem := ARRAY[
            'from_state and to_state must differ',
            format('Both are "%s".', add_transition.to_state),
            'What leaves the state as it is needs no transition; enqueue_workflow() starts a workflow without one.'
        ];
    END IF;
    IF v_problem IS NOT NULL THEN
        RAISE EXCEPTION '%', v_problem[1]
            USING ERRCODE = 'invalid_parameter_value', DETAIL = v_problem[2], HINT = v_problem[3];
    END IF;

    INSERT INTO lockstep.state_transition (
        machine_name, version, from_state, event, to_state, workflow_name, queue_name
    )
    VALUES (
        add_transition.machine_name, v_version, add_transition.from_state, add_transition.event,
        add_transition.to_state, add_transition.workflow_name,
        CASE WHEN add_transition.workflow_name IS NOT NULL THEN add_transition.queue_name END
    )
    ON CONFLICT DO NOTHING;

    IF FOUND THEN
        RETURN v_version;
    END IF;

    SELECT t.event, t.to_state
    INTO r_rival
    FROM lockstep.state_transition AS t
    WHERE t.machine_name = add_transition.machine_name
        AND t.version = v_version
        AND CASE
            WHEN add_transition.from_state IS NULL THEN t.from_state IS NULL AND t.to_state = add_transition.to_state
            ELSE t.from_state = add_transition.from_state AND t.event = add_transition.event
        END;

    IF add_transition.from_state IS NULL THEN
        RAISE EXCEPTION 'rows enter state "%" of state machine "%" already', r_rival.to_state, add_transition.machine_name
            USING ERRCODE = 'unique_violation',
                  DETAIL = format('They do by event "%s".', r_rival.event),
                  HINT = 'One event leads into a state; an insertion could not tell two apart.';
    END IF;
    RAISE EXCEPTION 'event "%" leaves state "%" of state machine "%" already',
        add_transition.event, add_transition.from_state, add_transition.machine_name
        USING ERRCODE = 'unique_violation',
              DETAIL = format('It leads to "%s".', r_rival.to_state),
              HINT = 'Name another event, or define a new version with create_state_machine().';
END
$$;
COMMENT ON FUNCTION lockstep.add_transition(text, text, text, text, text, text) IS
    'Adds a transition to the newest version of a state machine, and returns that version.';
