-- Finds what is wrong with a cron expression: NULL, or message, detail and hint.
--
-- Takes what the library takes that computes the ticks, and nothing else. That leaves
-- out dates that no month has, as the 30th of February, where only the day of the
-- month decides; what else never comes is only found when a worker looks for it.
CREATE OR REPLACE FUNCTION lockstep._cron_problem(p_cron text)
RETURNS text[]
LANGUAGE plpgsql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_cron constant text := btrim(upper(p_cron COLLATE "C"), E' \t');
    v_names constant text[] := ARRAY[
        'second', 'minute', 'hour', 'day of month', 'month', 'day of week'
    ];
    v_field_count constant int := cardinality(regexp_split_to_array(v_cron, E'[ \t]+'));
    v_detail text;
    v_first_day numeric;
BEGIN
    IF v_cron IN ('@YEARLY', '@ANNUALLY', '@MONTHLY', '@WEEKLY', '@DAILY', '@MIDNIGHT', '@HOURLY') THEN
        RETURN NULL;
    ELSIF p_cron IS NULL THEN
        v_detail := 'It is null.';
    ELSIF length(p_cron) > 512 THEN
        v_detail := format('It has %s characters, more than 512.', length(p_cron));
    ELSIF v_field_count NOT IN (5, 6) THEN
        v_detail := format('It has %s fields.', CASE WHEN v_cron = '' THEN 0 ELSE v_field_count END);
    ELSE
        SELECT format('The field for the %s has "%s".', v_names[t.field + 1], left(t.term, 40))
        INTO v_detail
        FROM lockstep._cron_terms(p_cron) AS t
        WHERE NOT t.is_good
        ORDER BY t.field
        LIMIT 1;

        -- a day of the week that begins with a star leaves the days to the day of the month
        IF v_detail IS NULL AND v_cron ~ E'[ \t][*][^ \t]*$' THEN
            SELECT min(coalesce(t.low, 1))
            INTO v_first_day
            FROM lockstep._cron_terms(p_cron) AS t
            WHERE t.field = 3;

            IF v_first_day > 29 THEN
                SELECT format('None of its months has %s days.', v_first_day)
                INTO v_detail
                FROM lockstep._cron_terms(p_cron) AS t
                CROSS JOIN LATERAL generate_series(t.low, t.high, coalesce(t.step, 1)) AS m (month)
                WHERE t.field = 4
                HAVING max(CASE WHEN m.month = 2 THEN 29 WHEN m.month IN (4, 6, 9, 11) THEN 30 ELSE 31 END)
                    < v_first_day;
            END IF;
        END IF;
    END IF;

    RETURN CASE
        WHEN v_detail IS NOT NULL THEN ARRAY[
            format('cron expression %s is not valid', coalesce('"' || left(p_cron, 100) || '"', 'null')),
            v_detail,
            'Write five fields (minute, hour, day of month, month, day of week), six with the seconds'
            || ' first, or @hourly, @daily, @weekly, @monthly or @yearly.'
        ]
    END;
END
$$;
COMMENT ON FUNCTION lockstep._cron_problem(text) IS
    'Finds what is wrong with a cron expression: NULL, or message, detail and hint.';
