-- Derives the id of a tick's workflow: the same one, whoever starts the tick.
CREATE OR REPLACE FUNCTION lockstep._tick_id(p_schedule_name text, p_tick timestamptz)
RETURNS text
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN p_schedule_name || ':' || lockstep._tick_text(p_tick);
END
$$;
COMMENT ON FUNCTION lockstep._tick_id(text, timestamptz) IS
    'Derives the id of a tick''s workflow.';
