-- Raises the error for a deduplication id that an unfinished workflow has.
CREATE OR REPLACE FUNCTION lockstep._refuse_rival(
    p_queue_name text,
    p_deduplication_id text,
    p_rival_id text,
    p_hint text
)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'queue "%" has an unfinished workflow with deduplication_id "%"',
        p_queue_name, p_deduplication_id
        USING ERRCODE = 'unique_violation',
              DETAIL = format('It is workflow "%s".', p_rival_id),
              HINT = p_hint;
END
$$;
COMMENT ON FUNCTION lockstep._refuse_rival(text, text, text, text) IS
    'Raises the error for a deduplication id that an unfinished workflow has.';
