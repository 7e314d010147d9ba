-- Holds the caller's lease until its transaction ends.
--
-- Locks the executor row FOR KEY SHARE: a heartbeat does not wait for it, but
-- recover_workflows(), which needs the row FOR UPDATE, cannot declare the
-- executor dead while a write of it is under way. A failover declares it dead too
-- (_is_alive()). First lock of every
-- function that writes for an executor. The other lock tells _await_writes() that
-- a write is under way.
CREATE OR REPLACE FUNCTION lockstep._hold_executor(p_executor_id text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtextextended('writes of ' || p_executor_id, 0));

    PERFORM
    FROM lockstep.executor AS e
    WHERE e.executor_id = p_executor_id
        AND lockstep._is_alive(e)
    FOR KEY SHARE;

    IF NOT FOUND THEN
        RAISE EXCEPTION 'executor "%" has lost its lease', p_executor_id
            USING ERRCODE = 'WF001',
                  DETAIL = CASE
                      WHEN EXISTS (
                          SELECT
                          FROM lockstep.executor AS e
                          WHERE e.executor_id = p_executor_id
                              AND e.expires_at > '-infinity'
                      ) THEN 'The server was promoted or restored since it registered.'
                      ELSE 'Its workflows belong to other executors now.'
                  END,
                  HINT = 'Drop what is running and call register_executor() again.';
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep._hold_executor(text) IS
    'Holds an executor''s lease until the transaction ends, or raises WF001.';
