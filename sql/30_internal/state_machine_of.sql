-- Reads which state machine a trigger named lockstep_state_machine follows.
--
-- All are NULL if attach_state_machine() did not write it: whoever owns a table can create a
-- trigger of the name, and must not break the view for everybody. Hence the exception block.
CREATE OR REPLACE FUNCTION lockstep._state_machine_of(
    p_function_id oid,
    p_arguments bytea,
    OUT machine_name text,
    OUT state_column text,
    OUT version_column text
)
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_settings jsonb;
BEGIN
    IF NOT EXISTS (
        SELECT
        FROM pg_proc AS p
        WHERE p.oid = p_function_id
            AND p.prosrc LIKE '%Written by lockstep.attach\_state\_machine()%'
    ) THEN
        RETURN;
    END IF;

    v_settings := convert_from(
        substr(p_arguments, 1, octet_length(p_arguments) - 1), getdatabaseencoding()
    )::jsonb;
    machine_name := v_settings ->> 'machine_name';
    state_column := v_settings ->> 'state_column';
    version_column := v_settings ->> 'version_column';
EXCEPTION
    WHEN data_exception THEN
        NULL;
END
$$;
COMMENT ON FUNCTION lockstep._state_machine_of(oid, bytea) IS
    'Reads which state machine a trigger follows; NULL if none.';
