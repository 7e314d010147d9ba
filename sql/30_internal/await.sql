-- Enters a workflow as waiting for others; NULL, or why it cannot wait now.
--
-- p_awaits is [{"awaited_id", "key": of the event, or null for the end}, …]. Returns
-- "ready" when one of them is there already, or will not come because its workflow has
-- ended, "busy" when it may be coming at this moment. Locks the awaited rows FOR SHARE,
-- and skips those that are locked: such a lock may be their end.
CREATE OR REPLACE FUNCTION lockstep._await(p_workflow_id text, p_awaits jsonb)
RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_awaited text[] := ARRAY(
        SELECT DISTINCT a.awaited_id
        FROM jsonb_to_recordset(p_awaits) AS a (awaited_id text)
    );
    v_unended_count bigint;
    v_locked_count bigint;
BEGIN
    SELECT count(*), count(*) FILTER (WHERE w.completed_at IS NULL)
    INTO v_locked_count, v_unended_count
    FROM (
        SELECT w.completed_at
        FROM lockstep.workflow_status AS w
        WHERE w.workflow_id = ANY (v_awaited)
        FOR SHARE SKIP LOCKED
    ) AS w;

    IF v_unended_count < v_locked_count THEN
        RETURN 'ready';
    ELSIF v_locked_count < cardinality(v_awaited) THEN
        RETURN 'busy';
    ELSIF EXISTS (
        SELECT
        FROM jsonb_to_recordset(p_awaits) AS a (awaited_id text, key text)
        WHERE a.key IS NOT NULL
            AND lockstep._is_announced(a.awaited_id, 'event:' || a.key)
    ) THEN
        RETURN 'busy';
    ELSIF EXISTS (
        SELECT
        FROM jsonb_to_recordset(p_awaits) AS a (awaited_id text, key text)
        WHERE (
            SELECT true
            FROM lockstep.workflow_events AS v
            WHERE v.workflow_id = a.awaited_id
                AND v.key = a.key
            LIMIT 1  -- keeps it a look for each, where a join may read all events
        )
    ) THEN
        RETURN 'ready';
    END IF;

    -- an earlier wait's row is locked as a new one is: who ends the awaited workflow at
    -- this moment takes it away after this commits, and then finds the row WAITING
    INSERT INTO lockstep.waiter (awaited_id, awaited_what, is_client, waiter)
    SELECT DISTINCT a.awaited_id, coalesce('event:' || a.key, ''), false, p_workflow_id
    FROM jsonb_to_recordset(p_awaits) AS a (awaited_id text, key text)
    ON CONFLICT ON CONSTRAINT waiter_pkey DO UPDATE SET waiter = excluded.waiter;

    RETURN NULL;
END
$$;
COMMENT ON FUNCTION lockstep._await(text, jsonb) IS
    'Enters a workflow as waiting for others; NULL, or why it cannot wait now.';
