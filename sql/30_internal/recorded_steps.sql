-- Lists the recorded steps of a workflow as replay reads them.
--
-- Outputs and errors are JSON texts inside the JSON: jsonb holds what a
-- client's parser may refuse, and that must fail one workflow and not the reply.
-- A step that has not finished has "remaining", the seconds until it goes on, if it
-- waits for a moment, and "elapsed", the seconds since its first attempt, both by the
-- database's clock, the only clock that counts.
CREATE OR REPLACE FUNCTION lockstep._recorded_steps(p_workflow_id text)
RETURNS json
LANGUAGE sql
STABLE
BEGIN ATOMIC
    SELECT json_agg(
        json_build_object(
            'step_id', o.step_id,
            'step_name', o.step_name,
            'output', o.output::text,
            'error', o.error::text,
            'attempts', o.attempts,
            'child_id', o.child_workflow_id,
            'is_finished', o.completed_at IS NOT NULL,
            'remaining', CASE
                WHEN o.completed_at IS NULL AND o.available_at IS NOT NULL
                    THEN greatest(extract(EPOCH FROM o.available_at - clock_timestamp()), 0)
            END,
            'elapsed', CASE
                WHEN o.completed_at IS NULL THEN extract(EPOCH FROM clock_timestamp() - o.started_at)
            END
        )
    )
    FROM lockstep.operation_outputs AS o
    WHERE o.workflow_id = p_workflow_id;
END;
COMMENT ON FUNCTION lockstep._recorded_steps(text) IS
    'Lists the recorded steps of a workflow as replay reads them.';
