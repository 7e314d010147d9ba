-- Shows how a workflow came to where it is: its steps, their times, what it waits for.
--
-- format 'text' is a tree: ✓ succeeded, ✗ failed, timed out or was cancelled, ⏳ waits,
-- ▶ runs, ◌ is enqueued, ↩ is the workflow that undoes the steps. Children are below the
-- step that started them. 'mermaid' is a flowchart of the same. A step that runs now is
-- not recorded yet and is not shown. Times are in the session's time zone.
CREATE OR REPLACE FUNCTION lockstep.explain_workflow(workflow_id text, format text DEFAULT 'text')
RETURNS text
LANGUAGE plpgsql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF explain_workflow.format IS NULL OR explain_workflow.format NOT IN ('text', 'mermaid') THEN
        RAISE EXCEPTION 'format must be ''text'' or ''mermaid'''
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = 'It is ' || quote_nullable(left(explain_workflow.format, 40)) || '.',
                  HINT = 'Leave it out for text.';
    ELSIF NOT EXISTS (
        SELECT
        FROM lockstep.workflow_status AS w
        WHERE w.workflow_id = explain_workflow.workflow_id
    ) THEN
        PERFORM lockstep._refuse_unknown_workflow(explain_workflow.workflow_id);
    END IF;

    IF explain_workflow.format = 'text' THEN
        RETURN (
            SELECT string_agg(e.line, E'\n' ORDER BY e.place)
            FROM lockstep._explain_as_text(explain_workflow.workflow_id)
                WITH ORDINALITY AS e (line, place)
        );
    END IF;

    RETURN (
        SELECT string_agg(e.line, E'\n' ORDER BY e.place)
        FROM (
            SELECT 'flowchart TD' AS line, 0 AS place
            UNION ALL
            SELECT m.line, m.place
            FROM lockstep._explain_as_mermaid(explain_workflow.workflow_id)
                WITH ORDINALITY AS m (line, place)
        ) AS e
    );
END
$$;
COMMENT ON FUNCTION lockstep.explain_workflow(text, text) IS
    'Shows how a workflow came to where it is, as a tree of text or a Mermaid flowchart.';
