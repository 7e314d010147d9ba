-- Says what is wrong with a move that a version of a state machine does not declare:
-- message, detail and hint.
CREATE OR REPLACE FUNCTION lockstep._move_problem(
    p_table_name text,
    p_machine_name text,
    p_version int,
    p_key jsonb,
    p_from_state text,
    p_to_state text
)
RETURNS text[]
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_to_state constant text := coalesce('"' || p_to_state || '"', 'null');
    v_allowed text;
BEGIN
    SELECT string_agg(format('%s (to "%s")', t.event, t.to_state), ', ' ORDER BY t.event, t.to_state)
    INTO v_allowed
    FROM lockstep.state_transition AS t
    WHERE t.machine_name = p_machine_name
        AND t.version = p_version
        AND CASE WHEN p_from_state IS NULL THEN t.from_state IS NULL ELSE t.from_state = p_from_state END;

    RETURN ARRAY[
        CASE
            WHEN p_from_state IS NULL
                THEN format('no row may enter state machine "%s" in state %s', p_machine_name, v_to_state)
            ELSE format(
                'no event of state machine "%s" leads from "%s" to %s', p_machine_name, p_from_state, v_to_state
            )
        END,
        format('The row is %s of %s, which follows version %s.', p_key, p_table_name, p_version),
        CASE
            WHEN p_from_state IS NULL
                THEN coalesce('Rows enter by: ' || v_allowed || '.', 'Rows may enter in any state that has a transition.')
            ELSE coalesce(
                format('Events in "%s": ', p_from_state) || v_allowed || '.',
                format('No transition leaves "%s".', p_from_state)
            )
        END
    ];
END
$$;
COMMENT ON FUNCTION lockstep._move_problem(text, text, int, jsonb, text, text) IS
    'Says what is wrong with a move that a state machine does not declare: message, detail and hint.';
