-- Tells the newest version of a state machine, which new rows get.
CREATE OR REPLACE FUNCTION lockstep.newest_machine_version(machine_name text)
RETURNS int
LANGUAGE plpgsql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN lockstep._state_machine_version(newest_machine_version.machine_name);
END
$$;
COMMENT ON FUNCTION lockstep.newest_machine_version(text) IS
    'Tells the newest version of a state machine, which new rows get.';
