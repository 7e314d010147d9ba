-- Says for each recorded step of a workflow, in the order of its code, how it went.
--
-- child_id is the workflow to show below the step: a child, at the first step that names
-- it, or the workflow that undoes the steps, whose row comes last and has step_id NULL. A
-- workflow with very many steps is cut short, with a row that says so.
CREATE OR REPLACE FUNCTION lockstep._explained_steps(p_workflow_id text)
RETURNS TABLE (step_id int, mark text, title text, detail text, child_id text)
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    v_max_count constant int := 1000;
BEGIN
    RETURN QUERY
    WITH step AS (
        SELECT
            o.*, lockstep._step_status(o) AS status,
            row_number() OVER (PARTITION BY o.child_workflow_id ORDER BY o.step_id % 65536, o.step_id) AS mention,
            row_number() OVER (ORDER BY o.step_id % 65536, o.step_id) AS place
        FROM lockstep.operation_outputs AS o
        WHERE o.workflow_id = p_workflow_id
    )

    SELECT
        s.step_id,
        CASE s.status WHEN 'SUCCESS' THEN '✓' WHEN 'RETRYING' THEN '⏳' WHEN 'WAITING' THEN '⏳' ELSE '✗' END,
        format('%s %s', s.step_id, lockstep._one_line(s.step_name)),
        concat_ws(
            ', ',
            lockstep._duration_text(s.completed_at - s.started_at),
            CASE WHEN s.status = 'TIMED_OUT' THEN 'timed out' END,
            CASE
                WHEN s.status = 'RETRYING' THEN format('attempt %s failed', s.attempts)
                WHEN s.attempts > 1 THEN format('%s attempts', s.attempts)
            END,
            CASE
                WHEN s.completed_at IS NULL THEN coalesce(
                    'waits until ' || to_char(s.available_at, 'YYYY-MM-DD HH24:MI:SS TZ'), 'waits'
                )
            END,
            CASE WHEN c.workflow_id IS NULL THEN 'workflow ' || lockstep._one_line(s.child_workflow_id) END,
            lockstep._one_line((s.error ->> 'type') || ': ' || (s.error ->> 'message'))
        ),
        c.workflow_id
    FROM step AS s
    LEFT JOIN lockstep.workflow_status AS c
        ON c.workflow_id = ANY (ARRAY[s.child_workflow_id])
        AND c.parent_workflow_id = p_workflow_id
        AND s.mention = 1
    WHERE s.place <= v_max_count
    ORDER BY s.place;

    RETURN QUERY
    SELECT NULL::int, '…', format('%s more steps', count(*) - v_max_count), '', NULL::text
    FROM lockstep.operation_outputs AS o
    WHERE o.workflow_id = p_workflow_id
    HAVING count(*) > v_max_count;

    RETURN QUERY
    SELECT NULL::int, '↩', 'undone by', '', w.workflow_id
    FROM lockstep.workflow_status AS w
    WHERE w.parent_workflow_id = p_workflow_id
        AND w.workflow_name = 'lockstep.compensate'
    ORDER BY w.created_at;
END
$$;
COMMENT ON FUNCTION lockstep._explained_steps(text) IS
    'Says for each recorded step of a workflow how it went.';
