-- Returns a filter of workflows, or raises what is wrong with it or with a number of them.
CREATE OR REPLACE FUNCTION lockstep._checked_filter(p_filter jsonb, p_max_count int)
RETURNS jsonb
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_problem text[] := lockstep._filter_problem(p_filter);
BEGIN
    IF v_problem IS NULL AND (p_max_count IS NULL OR p_max_count NOT BETWEEN 1 AND 100000) THEN
        v_problem := ARRAY[
            'max_count must be between 1 and 100000',
            format('It is %s.', coalesce(p_max_count::text, 'null')),
            'Ask again for what is left.'
        ];
    END IF;

    IF v_problem IS NOT NULL THEN
        RAISE EXCEPTION '%', v_problem[1]
            USING ERRCODE = 'invalid_parameter_value', DETAIL = v_problem[2], HINT = v_problem[3];
    END IF;

    RETURN p_filter;
END
$$;
COMMENT ON FUNCTION lockstep._checked_filter(jsonb, int) IS
    'Returns a filter of workflows, or raises what is wrong with it.';
