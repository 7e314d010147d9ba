-- Draws a workflow, its steps and its children as the lines of a tree.
--
-- p_path are the workflows that it is below: a child that is one of them, or lies too
-- deep, is named and not drawn.
CREATE OR REPLACE FUNCTION lockstep._explain_as_text(p_workflow_id text, p_path text[] DEFAULT '{}')
RETURNS TABLE (line text)
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_max_depth constant int := 20;
    v_is_first boolean;
    v_line text;
    r_workflow record;
    r_step record;
BEGIN
    SELECT e.mark, e.title, e.detail
    INTO r_workflow
    FROM lockstep._explained_workflow(p_workflow_id) AS e;

    line := format('%s %s: %s', r_workflow.mark, r_workflow.title, r_workflow.detail);
    RETURN NEXT;

    IF p_workflow_id = ANY (p_path) OR cardinality(p_path) >= v_max_depth THEN
        line := '└─ …';
        RETURN NEXT;
        RETURN;
    END IF;

    FOR r_step IN
        SELECT e.mark, e.title, e.detail, e.child_id, row_number() OVER () = count(*) OVER () AS is_last
        FROM lockstep._explained_steps(p_workflow_id) AS e
    LOOP
        line := concat(
            CASE WHEN r_step.is_last THEN '└─ ' ELSE '├─ ' END, r_step.mark, ' ', r_step.title,
            ': ' || nullif(r_step.detail, '')
        );
        RETURN NEXT;
        CONTINUE WHEN r_step.child_id IS NULL;

        v_is_first := true;
        FOR v_line IN
            SELECT e.line
            FROM lockstep._explain_as_text(r_step.child_id, p_path || p_workflow_id) AS e
        LOOP
            line := concat(
                CASE WHEN r_step.is_last THEN '   ' ELSE '│  ' END,
                CASE WHEN v_is_first THEN '└─ ' ELSE '   ' END, v_line
            );
            RETURN NEXT;
            v_is_first := false;
        END LOOP;
    END LOOP;
END
$$;
COMMENT ON FUNCTION lockstep._explain_as_text(text, text[]) IS
    'Draws a workflow, its steps and its children as the lines of a tree.';
