-- Generates a time-ordered id: a UUID version 7 (RFC 9562, method 3), as text.
--
-- Time-ordered, so that new rows share the hot pages of their primary key at
-- any history size. The 12 bits after the version hold the fraction of the
-- millisecond, so ids generated one after the other in one transaction sort
-- in that order: microseconds * 4096 / 1000 is both numbers in a row of digits.
CREATE OR REPLACE FUNCTION lockstep._generate_id(p_at timestamptz DEFAULT clock_timestamp())
RETURNS text
LANGUAGE sql
VOLATILE
BEGIN ATOMIC
    SELECT ( -- noqa: LT01
        overlay(
            lpad(to_hex((date_part('epoch', p_at) * 1000000)::bigint * 512 / 125), 15, '0')
            PLACING '7' FROM 13 FOR 0 -- noqa: CP05
        )
        || right(gen_random_uuid()::text, 17)
    )::uuid::text;
END;
COMMENT ON FUNCTION lockstep._generate_id(timestamptz) IS
    'Generates a time-ordered id, a UUID version 7 as text.';
