-- Tells whether an executor still runs this attempt of a workflow.
--
-- PL/pgSQL, because it keeps its plan: a LANGUAGE sql function that holds a
-- subquery is planned again by each statement that calls it. Here and wherever a
-- workflow is compared with its claim, IS NOT DISTINCT FROM keeps the planner at
-- the primary key: no other index fits it. Joins say workflow_id = ANY (ARRAY[…]) to
-- the same end: it can be looked up, but neither merged nor hashed, and a plan that
-- was made for an empty table and kept cannot go through a full one. That takes each
-- column of the key: one that is compared with = is enough to hash by.
CREATE OR REPLACE FUNCTION lockstep._is_held(p_executor_id text, p_workflow_id text, p_attempt int)
RETURNS boolean
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN EXISTS (
        SELECT
        FROM lockstep.workflow_status AS w
        WHERE w.workflow_id = p_workflow_id
            AND (w.status, w.executor_id, w.attempts)
            IS NOT DISTINCT FROM ('PENDING', p_executor_id, p_attempt)
    );
END
$$;
COMMENT ON FUNCTION lockstep._is_held(text, text, int) IS
    'Tells whether an executor still runs this attempt of a workflow.';
