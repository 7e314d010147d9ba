-- Hands back what an executor holds and its worker does not run, after a lost connection.
--
-- A claim whose answer never arrived would be stuck else. keep_ids: what the worker runs;
-- connection_number: how many connections it has made. Returns the number handed back; their
-- attempt is not counted.
--
-- A request that was under way on an earlier connection may come late. It knows nothing of what
-- was claimed and recorded since, and its executor and attempt may be those of what runs now. From
-- this commit on it does nothing: neither a reconciliation, nor a call of advance_workflows(), which
-- holds the executor row before it looks at the number.
--
-- Lock order: as release_workflows(). FOR UPDATE comes before the UPDATE: a claim under way holds the
-- row FOR KEY SHARE, may update it as well, and would wait for a weaker lock that waits for it.
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
    PERFORM
    FROM lockstep.executor AS e
    WHERE e.executor_id = reconcile_workflows.executor_id
        AND e.connection_number <= reconcile_workflows.connection_number
    FOR UPDATE;

    IF NOT FOUND THEN
        RETURN 0;
    END IF;

    UPDATE lockstep.executor AS e
    SET connection_number = reconcile_workflows.connection_number
    WHERE e.executor_id = reconcile_workflows.executor_id;

    RETURN lockstep.release_workflows(reconcile_workflows.executor_id, reconcile_workflows.keep_ids);
END
$$;
COMMENT ON FUNCTION lockstep.reconcile_workflows(text, int, text[]) IS
    'Hands back what an executor holds and its worker does not run, after a lost connection.';
