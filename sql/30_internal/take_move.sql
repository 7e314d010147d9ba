-- Takes the note that a row may be on its way to another partition, if there is one.
--
-- If the row was inserted, it is: with the note goes the deletion, the latest, that was
-- recorded when it left. The plan is pinned: both tables may have been empty when it was made,
-- and hold thousands of such rows.
CREATE OR REPLACE FUNCTION lockstep._take_move(
    p_table_name text,
    p_key jsonb,
    p_is_inserted boolean,
    OUT has_moved boolean,
    OUT from_state text
)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    v_previous_key jsonb;
BEGIN
    DELETE FROM lockstep.state_move AS m
    WHERE m.key = p_key
        AND m.table_name = p_table_name
        AND m.transaction_id = pg_current_xact_id()
    RETURNING m.previous_key
    INTO v_previous_key;

    has_moved := p_is_inserted AND FOUND;
    IF has_moved THEN
        DELETE FROM lockstep.state_history AS h
        WHERE h.transition_id = (
            SELECT max(d.transition_id)
            FROM lockstep.state_history AS d
            WHERE d.key = v_previous_key
                AND d.table_name = p_table_name
                AND d.to_state IS NULL
                AND d.transaction_id = pg_current_xact_id()
        )
        RETURNING h.from_state
        INTO from_state;
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep._take_move(text, jsonb, boolean) IS
    'Takes the note that a row may be on its way to another partition, if there is one.';
