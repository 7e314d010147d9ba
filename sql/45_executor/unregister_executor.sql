-- Ends an executor: hands back what it still holds and removes it.
--
-- What a client holds locked at this moment is left to recover_workflows(), for
-- which the lease is ended. Lock order: as release_workflows().
CREATE OR REPLACE FUNCTION lockstep.unregister_executor(executor_id text)
RETURNS int
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_released_count int;
BEGIN
    v_released_count := lockstep.release_workflows(unregister_executor.executor_id);

    DELETE FROM lockstep.executor AS e
    WHERE e.executor_id = unregister_executor.executor_id
        AND NOT EXISTS (
            SELECT
            FROM lockstep.workflow_status AS w
            WHERE w.status = 'PENDING'
                AND w.executor_id = e.executor_id
        );

    UPDATE lockstep.executor AS e
    SET expires_at = '-infinity', is_idle = false
    WHERE e.executor_id = unregister_executor.executor_id;

    RETURN v_released_count;
END
$$;
COMMENT ON FUNCTION lockstep.unregister_executor(text) IS
    'Ends an executor; returns how many workflows it handed back.';
