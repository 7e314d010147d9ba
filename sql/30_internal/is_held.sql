-- Tells whether an executor still runs this attempt of a workflow.
CREATE OR REPLACE FUNCTION lockstep._is_held(p_executor_id text, p_workflow_id text, p_attempt int)
RETURNS boolean
LANGUAGE sql
STABLE
BEGIN ATOMIC
    SELECT EXISTS ( -- noqa: LT01, LT06
        SELECT
        FROM lockstep.workflow_status AS w
        WHERE w.workflow_id = p_workflow_id
            AND w.status = 'PENDING'
            AND w.executor_id = p_executor_id
            AND w.attempts = p_attempt
    );
END;
COMMENT ON FUNCTION lockstep._is_held(text, text, int) IS
    'Tells whether an executor still runs this attempt of a workflow.';
