-- Finds what is wrong with a retry policy: NULL, or message, detail and hint.
CREATE OR REPLACE FUNCTION lockstep._retries_problem(p_retries jsonb)
RETURNS text[]
LANGUAGE plpgsql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_detail text;
BEGIN
    IF jsonb_typeof(p_retries) <> 'object' THEN
        v_detail := format('It is %s.', jsonb_typeof(p_retries));
    ELSE
        SELECT CASE
            WHEN r.least_value IS NULL THEN format('"%s" is no key of a policy.', left(p.key, 40))
            WHEN jsonb_typeof(p.value) <> 'number' THEN format('"%s" is no number.', p.key)
            ELSE format('"%s" is %s, not between %s and %s.', p.key, left(p.value::text, 40), r.least_value, r.largest_value)
        END
        INTO v_detail
        FROM jsonb_each(p_retries) AS p
        LEFT JOIN (
            VALUES
            ('max_attempts', 1, 1000000),
            ('delay', 0, 31536000),
            ('backoff', 1, 1000),
            ('max_delay', 0, 31536000),
            ('jitter', 0, 1)
        ) AS r (key, least_value, largest_value) ON r.key = p.key
        WHERE NOT coalesce(
            CASE WHEN jsonb_typeof(p.value) = 'number' THEN p.value::numeric BETWEEN r.least_value AND r.largest_value END,
            false
        ) OR (p.key = 'max_attempts' AND p.value::numeric % 1 <> 0)
        ORDER BY p.key
        LIMIT 1;
    END IF;

    RETURN CASE WHEN v_detail IS NOT NULL THEN ARRAY[
        'retries must be a retry policy', v_detail,
        'Pass any of max_attempts, delay, backoff, max_delay and jitter, times in seconds, as {"max_attempts": 5}.'
    ] END;
END
$$;
COMMENT ON FUNCTION lockstep._retries_problem(jsonb) IS
    'Finds what is wrong with a retry policy: NULL, or message, detail and hint.';
