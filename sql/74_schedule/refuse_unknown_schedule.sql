-- Raises the error for a name that no schedule has.
CREATE OR REPLACE FUNCTION lockstep._refuse_unknown_schedule(p_schedule_name text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'schedule "%" does not exist', left(p_schedule_name, 400)
        USING ERRCODE = 'no_data_found',
              TABLE = 'schedule',
              HINT = 'list_schedules() lists those that do.';
END
$$;
COMMENT ON FUNCTION lockstep._refuse_unknown_schedule(text) IS
    'Raises the error for a name that no schedule has.';
