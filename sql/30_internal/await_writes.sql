-- Waits until no executor of those named is in the middle of a write.
--
-- Closes a race of who is about to delete the steps of an ended workflow: a write
-- that began while the workflow still ran, and saw that it did, may commit steps of
-- it after that. _hold_executor() begins each write with the lock that this waits
-- for; one that begins later sees that the workflow has ended. Takes the lock only to
-- give it back, so that a client which leaves its transaction open stops no
-- executor. Call it before any row is locked: what is waited for may want that row.
CREATE OR REPLACE FUNCTION lockstep._await_writes(p_executor_ids text[])
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_lock_key bigint;
BEGIN
    FOR v_lock_key IN
        SELECT DISTINCT hashtextextended('writes of ' || e.executor_id, 0)
        FROM unnest(p_executor_ids) AS e (executor_id)
        WHERE e.executor_id IS NOT NULL
    LOOP
        PERFORM pg_advisory_lock(v_lock_key);
        PERFORM pg_advisory_unlock(v_lock_key);
    END LOOP;
END
$$;
COMMENT ON FUNCTION lockstep._await_writes(text[]) IS
    'Waits until no executor of those named is in the middle of a write.';
