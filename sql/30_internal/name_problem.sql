-- Says what is wrong with a name or id that is missing, blank or too long: message,
-- detail and hint of the error.
--
-- Public functions test their arguments inline and come here only to fail.
CREATE OR REPLACE FUNCTION lockstep._name_problem(p_argument text, p_value text)
RETURNS text[]
LANGUAGE plpgsql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN ARRAY[
        format('%s must have 1 to 512 characters', p_argument),
        CASE
            WHEN p_value IS NULL THEN 'It is null.'
            WHEN btrim(p_value) = '' THEN 'It is empty or blank.'
            ELSE format('It has %s characters and begins with "%s".', length(p_value), left(p_value, 40))
        END,
        format('Pass a shorter or non-blank text as %s.', p_argument)
    ];
END
$$;
COMMENT ON FUNCTION lockstep._name_problem(text, text) IS
    'Says what is wrong with a name or id: message, detail and hint.';
