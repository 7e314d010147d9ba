-- Takes the state machine from a table: its triggers, and the function that they call.
--
-- The history stays. Returns whether there was one. Locks the table as DROP TRIGGER does.
CREATE OR REPLACE FUNCTION lockstep.detach_state_machine(table_name regclass)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
-- all that it changes is dynamic: @plpgsql_check_options: performance_warnings = off
DECLARE
    v_function regprocedure;
    r_trigger record;
BEGIN
    FOR r_trigger IN
        SELECT t.tgname, t.tgfoid
        FROM pg_trigger AS t
        INNER JOIN pg_proc AS p ON p.oid = t.tgfoid
        WHERE t.tgrelid = detach_state_machine.table_name
            AND t.tgname IN (
                'lockstep_state_machine', 'lockstep_state_machine_ends',
                'lockstep_state_machine_version', 'zzz_lockstep_state_machine_move'
            )
            AND p.prosrc LIKE '%Written by lockstep.attach\_state\_machine()%'
    LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', r_trigger.tgname, detach_state_machine.table_name);
        v_function := r_trigger.tgfoid;
    END LOOP;

    IF v_function IS NOT NULL THEN
        EXECUTE format('DROP FUNCTION %s', v_function);
    END IF;

    RETURN v_function IS NOT NULL;
END
$$;
COMMENT ON FUNCTION lockstep.detach_state_machine(regclass) IS
    'Takes the state machine from a table: its triggers, and the function that they call.';
