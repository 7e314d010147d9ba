-- Names the state of a recorded step; list_steps() says what the words mean.
CREATE OR REPLACE FUNCTION lockstep._step_status(p_step lockstep.operation_outputs)
RETURNS text
LANGUAGE sql
IMMUTABLE
BEGIN ATOMIC
    SELECT CASE
        WHEN (p_step).completed_at IS NULL AND (p_step).error IS NOT NULL THEN 'RETRYING'
        WHEN (p_step).completed_at IS NULL THEN 'WAITING'
        WHEN (p_step).error IS NOT NULL THEN 'ERROR'
        WHEN (p_step).attempts = 0 THEN 'TIMED_OUT'
        ELSE 'SUCCESS'
    END;
END;
COMMENT ON FUNCTION lockstep._step_status(lockstep.operation_outputs) IS
    'Names the state of a recorded step.';
