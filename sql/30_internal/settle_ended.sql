-- Does what the end of workflows means for others.
--
-- Every function that ends workflows calls it after it has written their rows, in
-- the same transaction. Frees places of limited queues, wakes who waits for the
-- workflows, and enqueues the compensation of p_failed_ids, those among them that
-- did not succeed. Lock order: waiter, then the rows of waiting workflows by id.
CREATE OR REPLACE FUNCTION lockstep._settle_ended(p_workflow_ids text[], p_failed_ids text[])
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM lockstep._ring_for_free_places(p_workflow_ids);
    PERFORM lockstep._wake_waiters(p_workflow_ids);

    IF p_failed_ids <> '{}' THEN
        PERFORM lockstep._enqueue_compensations(p_failed_ids);
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep._settle_ended(text[], text[]) IS
    'Does what the end of workflows means for others.';
