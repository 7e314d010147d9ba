-- Waits until no executor that ran one of these cancelled workflows is in a write.
--
-- Closes a race of who is about to delete what workflows recorded. A write that began
-- while a workflow still ran, and saw that it did, may add to it after it was cancelled.
-- _hold_executor() begins each write with the lock that this waits for; one that begins
-- later sees the cancellation. Other ends leave no such write: a workflow finishes in the
-- last write of its run, and recover_workflows() waits for those of the dead.
--
-- Takes the lock only to give it back, so that a client which leaves its transaction open
-- stops no executor. The caller holds the workflows' rows FOR UPDATE; a write that wants
-- one of them gives up after half a second and comes again, so this waits no longer.
CREATE OR REPLACE FUNCTION lockstep._await_writes(p_workflow_ids text[])
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    v_lock_key bigint;
BEGIN
    FOR v_lock_key IN
        SELECT DISTINCT hashtextextended('writes of ' || w.executor_id, 0)
        FROM lockstep.workflow_status AS w
        WHERE w.workflow_id = ANY (p_workflow_ids)
            AND w.status = 'CANCELLED'
            AND w.executor_id IS NOT NULL
    LOOP
        PERFORM pg_advisory_lock(v_lock_key);
        PERFORM pg_advisory_unlock(v_lock_key);
    END LOOP;
END
$$;
COMMENT ON FUNCTION lockstep._await_writes(text[]) IS
    'Waits until no executor that ran one of these cancelled workflows is in a write.';
