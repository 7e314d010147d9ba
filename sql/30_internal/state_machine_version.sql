-- Finds a version of a state machine, the newest if none is named; raises if there is none.
CREATE OR REPLACE FUNCTION lockstep._state_machine_version(p_machine_name text, p_version int DEFAULT NULL)
RETURNS int
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_newest int;
BEGIN
    SELECT max(m.version)
    INTO v_newest
    FROM lockstep.state_machine AS m
    WHERE m.machine_name = p_machine_name;

    IF v_newest IS NULL THEN
        RAISE EXCEPTION 'state machine "%" does not exist', coalesce(p_machine_name, '')
            USING ERRCODE = 'no_data_found',
                  HINT = 'Create it with create_state_machine().';
    ELSIF p_version NOT BETWEEN 1 AND v_newest THEN
        RAISE EXCEPTION 'state machine "%" has no version %', p_machine_name, p_version
            USING ERRCODE = 'no_data_found',
                  DETAIL = format('Its newest version is %s.', v_newest),
                  HINT = 'create_state_machine() creates the next one.';
    END IF;

    RETURN coalesce(p_version, v_newest);
END
$$;
COMMENT ON FUNCTION lockstep._state_machine_version(text, int) IS
    'Finds a version of a state machine, the newest if none is named; raises if there is none.';
