-- Changes the priority of up to max_count waiting workflows that meet a filter.
--
-- Returns the ids of those that had another. The filter has keys as list_workflows() has
-- parameters; '{}' means all. Rows that somebody holds are skipped
-- (_change_workflows()): call it until it returns nothing.
CREATE OR REPLACE FUNCTION lockstep.set_priorities(filter jsonb, priority int, max_count int DEFAULT 1000)
RETURNS SETOF text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF set_priorities.priority IS NULL OR set_priorities.priority < 0 THEN
        RAISE EXCEPTION 'priority must be 0 or greater'
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = format('It is %s.', coalesce(set_priorities.priority::text, 'null')),
                  HINT = '0 runs first, then 1, 2 and so on.';
    END IF;

    RETURN QUERY
    SELECT c.workflow_id
    FROM lockstep._change_workflows(
        'priority', set_priorities.filter, set_priorities.max_count, set_priorities.priority::text
    ) AS c (workflow_id);
END
$$;
COMMENT ON FUNCTION lockstep.set_priorities(jsonb, int, int) IS
    'Changes the priority of waiting workflows that meet a filter; returns their ids.';
