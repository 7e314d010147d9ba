-- Says that a JSON value is too large: message, detail and hint of the error.
CREATE OR REPLACE FUNCTION lockstep._size_problem(p_argument text, p_value jsonb)
RETURNS text[]
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN ARRAY[
        format('%s must not be larger than 16 MB', p_argument),
        format('It takes %s as jsonb.', pg_size_pretty(pg_column_size(p_value)::bigint)),
        'Keep large data where it is, in a table or an object store, and pass its key.'
    ];
END
$$;
COMMENT ON FUNCTION lockstep._size_problem(text, jsonb) IS
    'Says that a JSON value is too large: message, detail and hint of the error.';
