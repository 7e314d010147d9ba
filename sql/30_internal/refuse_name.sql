-- Raises the error for a name or id that is missing, blank or too long.
--
-- Public functions test their arguments inline and come here only to fail.
CREATE OR REPLACE FUNCTION lockstep._refuse_name(p_argument text, p_value text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION '% must have 1 to 512 characters', p_argument
        USING ERRCODE = 'invalid_parameter_value',
              DETAIL = CASE
                  WHEN p_value IS NULL THEN 'It is null.'
                  WHEN btrim(p_value) = '' THEN 'It is empty or blank.'
                  ELSE format('It has %s characters and begins with "%s".', length(p_value), left(p_value, 40))
              END,
              HINT = format('Pass a shorter or non-blank text as %s.', p_argument);
END
$$;
COMMENT ON FUNCTION lockstep._refuse_name(text, text) IS
    'Raises the error for a name or id that is missing, blank or too long.';
