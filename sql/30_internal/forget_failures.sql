-- Forgets the recorded failures that ended workflows, so that those steps run again.
--
-- A failure that the workflow caught is kept: replay must take the same way. What it
-- did not catch is what nothing came after: a step begun later than the failure was
-- recorded tells that the workflow went on, unless the step is that of a concurrent
-- branch; so the latest failure that is the workflow's own error is forgotten too.
CREATE OR REPLACE FUNCTION lockstep._forget_failures(p_workflow_ids text[])
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
BEGIN
    DELETE FROM lockstep.operation_outputs AS o
    USING unnest(p_workflow_ids) AS f (workflow_id)
    WHERE o.workflow_id = ANY (ARRAY[f.workflow_id])
        AND o.error IS NOT NULL
        AND o.completed_at IS NOT NULL
        AND (
            NOT EXISTS (
                SELECT
                FROM lockstep.operation_outputs AS later
                WHERE later.workflow_id = ANY (ARRAY[f.workflow_id])
                    AND later.started_at > o.completed_at
            )
            OR o.step_id = (
                SELECT fatal.step_id
                FROM lockstep.workflow_status AS w
                INNER JOIN lockstep.operation_outputs AS fatal
                    ON fatal.workflow_id = ANY (ARRAY[w.workflow_id])
                WHERE w.workflow_id = ANY (ARRAY[f.workflow_id])
                    AND fatal.completed_at IS NOT NULL
                    AND (fatal.error ->> 'type', fatal.error ->> 'message')
                    = (w.error ->> 'type', w.error ->> 'message')
                ORDER BY fatal.completed_at DESC
                LIMIT 1
            )
        );
END
$$;
COMMENT ON FUNCTION lockstep._forget_failures(text[]) IS
    'Forgets the recorded failures that ended workflows, so that those steps run again.';
