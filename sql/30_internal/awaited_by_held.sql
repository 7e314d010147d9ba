-- Tells which workflows cannot end now without a wait: those that somebody waits for whose
-- row is locked.
--
-- For those who end workflows of many and must wait for no client's open transaction.
-- The caller holds the rows of the workflows, so that nobody begins to wait for their end.
-- Locks the rows of those who wait, skipping locked ones.
CREATE OR REPLACE FUNCTION lockstep._awaited_by_held(p_workflow_ids text[])
RETURNS text[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    v_waiters constant text[] := ARRAY(
        SELECT DISTINCT r.waiter
        FROM lockstep.waiter AS r
        WHERE r.awaited_id = ANY (p_workflow_ids)
            AND NOT r.is_client
    );
    v_waiter text;
    v_locked text[] := ARRAY[]::text[];
BEGIN
    IF v_waiters = '{}' THEN
        RETURN ARRAY[]::text[];
    END IF;

    FOR v_waiter IN
        SELECT w.workflow_id
        FROM lockstep.workflow_status AS w
        WHERE w.workflow_id = ANY (v_waiters)
            AND w.status = 'WAITING'
        FOR NO KEY UPDATE SKIP LOCKED
    LOOP
        v_locked := v_locked || v_waiter;
    END LOOP;

    RETURN ARRAY(
        SELECT DISTINCT r.awaited_id
        FROM lockstep.waiter AS r
        INNER JOIN lockstep.workflow_status AS w ON w.workflow_id = ANY (ARRAY[r.waiter])
        WHERE r.awaited_id = ANY (p_workflow_ids)
            AND NOT r.is_client
            AND w.status = 'WAITING'
            AND w.workflow_id <> ALL (v_locked)
    );
END
$$;
COMMENT ON FUNCTION lockstep._awaited_by_held(text[]) IS
    'Tells which workflows are waited for by one whose row is locked.';
