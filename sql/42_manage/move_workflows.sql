-- Moves up to max_count waiting workflows that meet a filter to another queue.
--
-- Returns the ids of those that were in another. What cannot be moved, because its
-- deduplication id is taken there, is passed over. The filter has keys as
-- list_workflows() has parameters; '{}' means all. Rows that somebody holds are skipped
-- (_change_workflows()): call it until it returns nothing.
CREATE OR REPLACE FUNCTION lockstep.move_workflows(filter jsonb, queue_name text, max_count int DEFAULT 1000)
RETURNS SETOF text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_problem text[];
BEGIN
    IF move_workflows.queue_name IS NULL
        OR btrim(move_workflows.queue_name) = '' OR length(move_workflows.queue_name) > 512
    THEN
        v_problem := lockstep._name_problem('queue_name', move_workflows.queue_name);
        RAISE EXCEPTION '%', v_problem[1]
            USING ERRCODE = 'invalid_parameter_value', DETAIL = v_problem[2], HINT = v_problem[3];
    END IF;

    RETURN QUERY
    SELECT c.workflow_id
    FROM lockstep._change_workflows(
        'move', move_workflows.filter, move_workflows.max_count, move_workflows.queue_name
    ) AS c (workflow_id);
END
$$;
COMMENT ON FUNCTION lockstep.move_workflows(jsonb, text, int) IS
    'Moves waiting workflows that meet a filter to another queue; returns their ids.';
