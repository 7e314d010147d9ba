-- Tells whether a value is being published at this moment; see _announce().
--
-- If not, nobody begins to before the caller's transaction ends.
CREATE OR REPLACE FUNCTION lockstep._is_announced(p_awaited_id text, p_what text)
RETURNS boolean
LANGUAGE sql
VOLATILE
BEGIN ATOMIC
    SELECT NOT pg_try_advisory_xact_lock(hashtextextended(p_what || ' of ' || p_awaited_id, 0));
END;
COMMENT ON FUNCTION lockstep._is_announced(text, text) IS
    'Tells whether a value is being published at this moment.';
