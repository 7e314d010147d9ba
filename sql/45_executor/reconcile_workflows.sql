-- Hands back what an executor holds and its worker does not run, after a lost connection.
--
-- A claim whose answer never arrived would be stuck else. keep_ids: what the worker runs;
-- connection_number: how many connections it has made. A call that was under way on an earlier
-- one may come late, and knows nothing of what was claimed since: it does nothing. Returns the
-- number handed back; their attempt is not counted.
--
-- Lock order: as release_workflows(), the executor row FOR NO KEY UPDATE before.
CREATE OR REPLACE FUNCTION lockstep.reconcile_workflows(
    executor_id text,
    connection_number int,
    keep_ids text[] DEFAULT '{}'
)
RETURNS int
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '1s'
AS $$
BEGIN
    UPDATE lockstep.executor AS e
    SET connection_number = reconcile_workflows.connection_number
    WHERE e.executor_id = reconcile_workflows.executor_id
        AND e.connection_number <= reconcile_workflows.connection_number;

    IF NOT FOUND THEN
        RETURN 0;
    END IF;

    RETURN lockstep.release_workflows(reconcile_workflows.executor_id, reconcile_workflows.keep_ids);
END
$$;
COMMENT ON FUNCTION lockstep.reconcile_workflows(text, int, text[]) IS
    'Hands back what an executor holds and its worker does not run, after a lost connection.';
