-- Takes a cron expression apart into the terms of its fields.
--
-- Field 0 holds the seconds; an expression of five fields begins with field 1. is_good
-- tells whether the library that computes the ticks takes the term: a test compares
-- the two. low, high and step are the range that the term names, in numbers; a term for
-- last or nth days has none. No moment is computed here.
CREATE OR REPLACE FUNCTION lockstep._cron_terms(p_cron text)
RETURNS TABLE (field int, term text, low numeric, high numeric, step numeric, is_good boolean)
LANGUAGE plpgsql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_texts constant text[] := regexp_split_to_array(btrim(upper(p_cron COLLATE "C"), E' \t'), '[ \t]+');
    v_first constant int := (cardinality(v_texts) <> 6)::int;
    v_lowest constant int[] := ARRAY[0, 0, 0, 1, 1, 0];
    v_highest constant int[] := ARRAY[59, 59, 23, 31, 12, 7];
    v_months constant text[] := ARRAY[
        'JAN', 'FEB', 'MAR', 'APR', 'MAY', 'JUN', 'JUL', 'AUG', 'SEP', 'OCT', 'NOV', 'DEC'
    ];
    v_days constant text[] := ARRAY['SUN', 'MON', 'TUE', 'WED', 'THU', 'FRI', 'SAT'];
BEGIN
    RETURN QUERY
    WITH terms AS (
        SELECT
            (f.place - 1)::int + v_first AS field,
            t.term,
            -- star, last day, from, to, step
            regexp_match(t.term, '^(?:([*])|(LW?)|([0-9]+|[A-Z]{3})(?:-([0-9]+|[A-Z]{3}))?)(?:/([0-9]+))?$') AS parts
        FROM unnest(v_texts) WITH ORDINALITY AS f (text, place)
        CROSS JOIN LATERAL regexp_split_to_table(f.text, ',') AS t (term)
    ),

    numbered AS (
        SELECT
            t.*,
            CASE
                WHEN t.parts[3] ~ '^[0-9]' THEN t.parts[3]::numeric
                WHEN t.field = 4 THEN array_position(v_months, t.parts[3])
                WHEN t.field = 5 THEN array_position(v_days, t.parts[3]) - 1
            END AS first,
            CASE
                WHEN t.parts[4] ~ '^[0-9]' THEN t.parts[4]::numeric
                WHEN t.field = 4 THEN array_position(v_months, t.parts[4])
                WHEN t.field = 5 THEN array_position(v_days, t.parts[4]) - 1
            END AS last,
            t.parts[5]::numeric AS step
        FROM terms AS t
    )

    SELECT
        n.field,
        n.term,
        CASE WHEN n.parts[1] IS NULL THEN n.first ELSE v_lowest[n.field + 1] END,
        CASE
            WHEN n.parts[1] IS NOT NULL THEN v_highest[n.field + 1]
            -- the library steps from a single number to the end of the field
            WHEN n.step IS NOT NULL AND (n.parts[4] IS NULL OR n.last = n.first) THEN v_highest[n.field + 1]
            WHEN n.parts[4] IS NULL THEN n.first
            ELSE n.last
        END,
        n.step,
        CASE
            WHEN n.field = 5 AND n.term ~ '^(0*[0-7]L|(0*[0-7]|SUN|MON|TUE|WED|THU|FRI|SAT)#0*[1-5])$' THEN true
            WHEN n.parts IS NULL OR n.step = 0 THEN false
            WHEN n.parts[1] IS NOT NULL THEN true
            WHEN n.parts[2] IS NOT NULL THEN n.field = 3
            ELSE coalesce(n.first BETWEEN v_lowest[n.field + 1] AND v_highest[n.field + 1], false)
                AND (n.parts[4] IS NULL OR coalesce(n.last BETWEEN n.first AND v_highest[n.field + 1], false))
        END
    FROM numbered AS n;
END
$$;
COMMENT ON FUNCTION lockstep._cron_terms(text) IS
    'Takes a cron expression apart into the terms of its fields.';
