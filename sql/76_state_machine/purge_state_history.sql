-- Deletes up to max_count of the oldest moves that are older than an interval.
--
-- Returns how many; call it until that is fewer than max_count. Ids of moves are ordered
-- by time, so the primary key leads to the oldest. There are none of before 1970, and an id
-- of such a time would be greater than all others.
CREATE OR REPLACE FUNCTION lockstep.purge_state_history(older_than interval, max_count int DEFAULT 10000)
RETURNS int
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_count int;
BEGIN
    IF purge_state_history.older_than IS NULL
        OR purge_state_history.older_than NOT BETWEEN interval '0' AND interval '6000 years'
    THEN
        RAISE EXCEPTION 'older_than must not be negative, nor over 6000 years'
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = format('It is %s.', coalesce(purge_state_history.older_than::text, 'null')),
                  HINT = 'Pass how long moves are kept, as interval ''1 year''.';
    ELSIF purge_state_history.max_count IS NULL OR purge_state_history.max_count < 1 THEN
        RAISE EXCEPTION 'max_count must be 1 or greater'
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = format('It is %s.', coalesce(purge_state_history.max_count::text, 'null')),
                  HINT = 'It bounds how long the call takes.';
    END IF;

    DELETE FROM lockstep.state_history AS h
    WHERE h.transition_id = ANY (ARRAY(
        SELECT o.transition_id
        FROM lockstep.state_history AS o
        WHERE o.transition_id < lockstep._generate_id(
            greatest(clock_timestamp() - purge_state_history.older_than, 'epoch'::timestamptz)
        )
        ORDER BY o.transition_id
        LIMIT purge_state_history.max_count
        FOR UPDATE SKIP LOCKED
    ));
    GET DIAGNOSTICS v_count = ROW_COUNT;
    RETURN v_count;
END
$$;
COMMENT ON FUNCTION lockstep.purge_state_history(interval, int) IS
    'Deletes the oldest moves of the history, up to max_count that are older than an interval.';
