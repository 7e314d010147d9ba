-- Makes waiting workflows claimable.
--
-- Locks their rows by id, so that two that wake the same ones do not deadlock, and none
-- but theirs: who stands in the list of waiters from a wait that is over may be running,
-- and its executor must not wait for who would wake it, nor the other way round.
CREATE OR REPLACE FUNCTION lockstep._wake_workflows(p_workflow_ids text[])
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    v_queues text[];
BEGIN
    PERFORM
    FROM lockstep.workflow_status AS w
    WHERE w.workflow_id = ANY (p_workflow_ids)
        AND w.status = 'WAITING'
    ORDER BY w.workflow_id
    FOR NO KEY UPDATE;

    WITH woken AS (
        UPDATE lockstep.workflow_status AS w
        SET status = 'ENQUEUED', waiting_for = NULL, available_at = clock_timestamp()
        WHERE w.workflow_id = ANY (p_workflow_ids)
            AND w.status = 'WAITING'
        RETURNING w.queue_name
    )

    SELECT array_agg(DISTINCT w.queue_name)
    INTO v_queues
    FROM woken AS w;

    IF v_queues IS NOT NULL THEN
        PERFORM lockstep._ring_doorbell(v_queues);
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep._wake_workflows(text[]) IS
    'Makes waiting workflows claimable.';
