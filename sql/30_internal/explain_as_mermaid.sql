-- Draws a workflow, its steps and its children as the lines of a Mermaid flowchart.
--
-- p_node names the workflow's node; the others are named after it. Steps of the main
-- branch follow each other; a branch hangs on the step before the one at which it began.
-- What users named is inside of quotes, with the characters escaped that end them, that
-- HTML knows or that Mermaid reads in a text.
CREATE OR REPLACE FUNCTION lockstep._explain_as_mermaid(
    p_workflow_id text,
    p_node text DEFAULT 'w',
    p_path text[] DEFAULT '{}'
)
RETURNS TABLE (line text)
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_max_depth constant int := 20;
    v_main_node text := p_node;
    v_branch_node text;
    v_branch int := 0;
    v_node text;
    r_workflow record;
    r_step record;
BEGIN
    SELECT e.mark, e.title, e.detail
    INTO r_workflow
    FROM lockstep._explained_workflow(p_workflow_id) AS e;

    line := format(
        '    %s(["%s %s<br>%s"])', p_node, r_workflow.mark,
        lockstep._mermaid_text(r_workflow.title), lockstep._mermaid_text(r_workflow.detail)
    );
    RETURN NEXT;

    IF p_workflow_id = ANY (p_path) OR cardinality(p_path) >= v_max_depth THEN
        RETURN;
    END IF;

    FOR r_step IN
        SELECT
            e.step_id, e.mark, e.title, e.detail, e.child_id,
            coalesce(e.step_id % 65536, 0) AS branch, coalesce(e.step_id < 65536, true) AS is_main,
            row_number() OVER () AS place
        FROM lockstep._explained_steps(p_workflow_id) AS e
    LOOP
        v_node := p_node || '_' || r_step.place;
        line := format(
            '    %s["%s %s%s"]', v_node, r_step.mark, lockstep._mermaid_text(r_step.title),
            '<br>' || nullif(lockstep._mermaid_text(r_step.detail), '')
        );
        RETURN NEXT;
        line := format(
            '    %s --> %s',
            CASE WHEN NOT r_step.is_main AND r_step.branch = v_branch THEN v_branch_node ELSE v_main_node END,
            v_node
        );
        RETURN NEXT;

        IF r_step.is_main THEN
            v_main_node := v_node;
        ELSE
            v_branch := r_step.branch;
            v_branch_node := v_node;
        END IF;

        IF r_step.child_id IS NOT NULL THEN
            RETURN QUERY
            SELECT e.line
            FROM lockstep._explain_as_mermaid(r_step.child_id, v_node || '_w', p_path || p_workflow_id) AS e;
            line := format('    %s -.-> %s_w', v_node, v_node);
            RETURN NEXT;
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION lockstep._explain_as_mermaid(text, text, text[]) IS
    'Draws a workflow, its steps and its children as the lines of a Mermaid flowchart.';
