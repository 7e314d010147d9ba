-- Raises the error for a queue that has no row.
CREATE OR REPLACE FUNCTION lockstep._refuse_unknown_queue(p_queue_name text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'queue "%" has no limits and is not paused', p_queue_name
        USING ERRCODE = 'no_data_found',
              TABLE = 'queue',
              HINT = 'Check the name; create_queue() gives a queue limits.';
END
$$;
COMMENT ON FUNCTION lockstep._refuse_unknown_queue(text) IS
    'Raises the error for a queue that has no row.';
