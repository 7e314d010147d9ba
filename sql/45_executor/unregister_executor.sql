-- Ends an executor: hands back what it still holds and removes it.
--
-- Lock order: as release_workflows().
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
    WHERE e.executor_id = unregister_executor.executor_id;

    RETURN v_released_count;
END
$$;
COMMENT ON FUNCTION lockstep.unregister_executor(text) IS
    'Ends an executor; returns how many workflows it handed back.';
