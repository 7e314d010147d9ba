-- Writes a tick as ids and arguments of workflows have it: in UTC, to the second.
CREATE OR REPLACE FUNCTION lockstep._tick_text(p_tick timestamptz)
RETURNS text
LANGUAGE sql
STABLE
BEGIN ATOMIC
    SELECT to_char(p_tick AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"');
END;
COMMENT ON FUNCTION lockstep._tick_text(timestamptz) IS
    'Writes a tick as ids and arguments of workflows have it.';
