-- Tells whether the caller's own transaction cancelled a workflow while it ran.
--
-- Its executor cannot see that yet and goes on writing steps, so what it wrote cannot be
-- deleted before that transaction has committed.
CREATE OR REPLACE FUNCTION lockstep._is_cancelled_here(p_workflow lockstep.workflow_status)
RETURNS boolean
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (p_workflow).status = 'CANCELLED'
        AND (p_workflow).executor_id IS NOT NULL
        AND (
            SELECT w.xmin = pg_current_xact_id()::xid
            FROM lockstep.workflow_status AS w
            WHERE w.workflow_id = (p_workflow).workflow_id
        );
END
$$;
COMMENT ON FUNCTION lockstep._is_cancelled_here(lockstep.workflow_status) IS
    'Tells whether the caller''s own transaction cancelled a workflow while it ran.';
