-- Generates a time-ordered id: a UUID version 7 (RFC 9562, method 3), as text.
--
-- Time-ordered, so that new rows share the hot pages of their primary key at
-- any history size. The 12 bits after the version hold the fraction of the
-- millisecond, so ids generated one after the other in one transaction sort
-- in that order.
CREATE OR REPLACE FUNCTION lockstep._generate_id(p_at timestamptz DEFAULT clock_timestamp())
RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_microseconds constant bigint := (extract(EPOCH FROM p_at) * 1000000)::bigint;
    v_milliseconds constant text := lpad(to_hex(v_microseconds / 1000), 12, '0');
    v_fraction constant text := lpad(to_hex((v_microseconds % 1000) * 4096 / 1000), 3, '0');
BEGIN
    RETURN substr(v_milliseconds, 1, 8)
        || '-' || substr(v_milliseconds, 9, 4)
        || '-7' || v_fraction
        || substr(gen_random_uuid()::text, 19);
END
$$;
COMMENT ON FUNCTION lockstep._generate_id(timestamptz) IS
    'Generates a time-ordered id, a UUID version 7 as text.';
