-- Creates a state machine, or the next version of one that exists; returns the version.
--
-- add_transition() says what it allows. attach_state_machine() gives a table triggers that
-- hand each change of a row to record_transition(), which refuses, or records it and starts
-- its workflow. fire_event() is an UPDATE of the state by the name of an event.
--
-- A version begins empty and is defined as a whole with add_transition(), usually in the
-- same transaction: rows follow the newest version from its commit on, unless their table
-- has a version column. Of two sessions that create the same version at once one fails.
CREATE OR REPLACE FUNCTION lockstep.create_state_machine(machine_name text)
RETURNS int
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_version int;
    v_problem text[];
BEGIN
    IF create_state_machine.machine_name IS NULL
        OR btrim(create_state_machine.machine_name) = '' OR length(create_state_machine.machine_name) > 512
    THEN
        v_problem := lockstep._name_problem('machine_name', create_state_machine.machine_name);
        RAISE EXCEPTION '%', v_problem[1]
            USING ERRCODE = 'invalid_parameter_value', DETAIL = v_problem[2], HINT = v_problem[3];
    END IF;

    INSERT INTO lockstep.state_machine AS n (machine_name, version, created_by)
    SELECT create_state_machine.machine_name, coalesce(max(m.version), 0) + 1, lockstep._caller()
    FROM lockstep.state_machine AS m
    WHERE m.machine_name = create_state_machine.machine_name
    RETURNING n.version
    INTO v_version;

    RETURN v_version;
END
$$;
COMMENT ON FUNCTION lockstep.create_state_machine(text) IS
    'Creates a state machine, or the next version of one that exists; returns the version.';
