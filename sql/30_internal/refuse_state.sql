-- Raises the error for a workflow whose status does not allow what is asked.
--
-- p_change completes the sentence "workflow … is SUCCESS and …".
CREATE OR REPLACE FUNCTION lockstep._refuse_state(
    p_workflow_id text,
    p_status text,
    p_change text,
    p_hint text
)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'workflow "%" is % and %', p_workflow_id, p_status, p_change
        USING ERRCODE = 'object_not_in_prerequisite_state', HINT = p_hint;
END
$$;
COMMENT ON FUNCTION lockstep._refuse_state(text, text, text, text) IS
    'Raises the error for a workflow whose status does not allow what is asked.';
