-- Raises the error for a workflow id that no workflow has.
CREATE OR REPLACE FUNCTION lockstep._refuse_unknown_workflow(p_workflow_id text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'workflow "%" does not exist', left(p_workflow_id, 512)
        USING ERRCODE = 'no_data_found',
              HINT = 'Check the workflow id; a workflow enqueued by another transaction'
                  || ' exists once that transaction commits.';
END
$$;
COMMENT ON FUNCTION lockstep._refuse_unknown_workflow(text) IS
    'Raises the error for a workflow id that no workflow has.';
