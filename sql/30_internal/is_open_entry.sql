-- Tells whether rows may be inserted in a state because the machine declares no way in.
CREATE OR REPLACE FUNCTION lockstep._is_open_entry(
    p_machine_name text,
    p_version int,
    p_from_state text,
    p_to_state text
)
RETURNS boolean
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN p_from_state IS NULL AND (
        SELECT bool_or(p_to_state IN (t.from_state, t.to_state)) AND bool_and(t.from_state IS NOT NULL)
        FROM lockstep.state_transition AS t
        WHERE t.machine_name = p_machine_name
            AND t.version = p_version
    ) IS TRUE;
END
$$;
COMMENT ON FUNCTION lockstep._is_open_entry(text, int, text, text) IS
    'Tells whether rows may be inserted in a state because the machine declares no way in.';
