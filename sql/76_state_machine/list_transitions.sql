-- Lists the transitions of a state machine, or those that leave one state.
--
-- Of the newest version, unless one is named. A transition without from_state is a way in.
CREATE OR REPLACE FUNCTION lockstep.list_transitions(
    machine_name text,
    state text DEFAULT NULL,
    version int DEFAULT NULL
)
RETURNS TABLE (from_state text, event text, to_state text, workflow_name text, queue_name text)
LANGUAGE plpgsql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_version constant int := lockstep._state_machine_version(list_transitions.machine_name, list_transitions.version);
BEGIN
    RETURN QUERY
    SELECT t.from_state, t.event, t.to_state, t.workflow_name, t.queue_name
    FROM lockstep.state_transition AS t
    WHERE t.machine_name = list_transitions.machine_name
        AND t.version = v_version
        AND (list_transitions.state IS NULL OR t.from_state = list_transitions.state)
    ORDER BY t.from_state NULLS FIRST, t.event, t.to_state;
END
$$;
COMMENT ON FUNCTION lockstep.list_transitions(text, text, int) IS
    'Lists the transitions of a state machine, or those that leave one state.';
