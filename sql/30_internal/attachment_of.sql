-- Reads the arguments of a trigger that calls enqueue_rows().
--
-- All are NULL if attach_workflow() did not write them: whoever owns a table can create such a
-- trigger by hand, and must not break the view for everybody. Hence the exception block.
-- pg_trigger ends each argument with a zero byte; the hexadecimal form is cut there, two
-- digits at a time.
CREATE OR REPLACE FUNCTION lockstep._attachment_of(
    p_arguments bytea,
    OUT settings jsonb,
    OUT columns text[],
    OUT primary_key text[],
    OUT priority int,
    OUT debounce interval,
    OUT debounce_max_delay interval
)
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_settings jsonb;
BEGIN
    v_settings := (
        SELECT jsonb_object(
            array_agg(convert_from(decode(m.hex[1], 'hex'), getdatabaseencoding()) ORDER BY m.place)
        )
        FROM regexp_matches(encode(p_arguments, 'hex'), '((?:..)*?)00', 'g') WITH ORDINALITY AS m (hex, place)
    );
    columns := (v_settings ->> 'columns')::text[];
    primary_key := (v_settings ->> 'primary_key')::text[];
    priority := coalesce((v_settings ->> 'priority')::int, 0);
    debounce := (v_settings ->> 'debounce')::interval;
    debounce_max_delay := (v_settings ->> 'debounce_max_delay')::interval;
    settings := v_settings;
EXCEPTION
    WHEN data_exception THEN
        NULL;
END
$$;
COMMENT ON FUNCTION lockstep._attachment_of(bytea) IS
    'Reads the arguments of a trigger that calls enqueue_rows(); NULL if they are malformed.';
