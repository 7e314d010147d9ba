-- Publishes values of workflows under their keys, each recorded as a step.
--
-- events: [{"workflow_id", "attempt", "step_id", "key", "value"}, …]. Returns
-- the ids of workflows that the executor had lost. A step recorded before
-- publishes nothing again, so a call sent twice cannot undo a later value. Of
-- two values for one key in one call that of the later step wins. Who waits for
-- an event is woken.
--
-- Lock order: the executor row (FOR KEY SHARE), the locks of _announce(), then
-- workflow_events, then as _wake_waiters().
CREATE OR REPLACE FUNCTION lockstep.set_events(executor_id text, events jsonb)
RETURNS SETOF text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '500ms'
AS $$
#variable_conflict use_column
DECLARE
    v_now constant timestamptz := clock_timestamp();
    v_ids text[];
    v_whats text[];
BEGIN
    PERFORM lockstep._hold_executor(set_events.executor_id);

    SELECT array_agg(v.workflow_id), array_agg('event:' || v.key)
    INTO v_ids, v_whats
    FROM jsonb_to_recordset(set_events.events) AS v (workflow_id text, key text);

    PERFORM lockstep._announce(v_ids, v_whats);

    WITH event AS (
        SELECT v.workflow_id, v.step_id, v.key, v.value
        FROM jsonb_to_recordset(set_events.events) AS v (
            workflow_id text, attempt int, step_id int, key text, value jsonb
        )
        WHERE lockstep._is_held(set_events.executor_id, v.workflow_id, v.attempt)
    ),

    recorded AS (
        INSERT INTO lockstep.operation_outputs AS o (
            workflow_id, step_id, step_name, started_at, completed_at
        )
        SELECT e.workflow_id, e.step_id, 'set_event', v_now, v_now
        FROM event AS e
        ON CONFLICT (workflow_id, step_id) DO NOTHING
        RETURNING o.workflow_id, o.step_id
    )

    INSERT INTO lockstep.workflow_events (workflow_id, key, value, updated_at)
    SELECT DISTINCT ON (e.workflow_id, e.key) e.workflow_id, e.key, coalesce(e.value, 'null'), v_now
    FROM event AS e
    INNER JOIN recorded AS r ON r.workflow_id = e.workflow_id AND r.step_id = e.step_id
    ORDER BY e.workflow_id, e.key, e.step_id DESC
    ON CONFLICT (workflow_id, key) DO UPDATE
    SET value = excluded.value, updated_at = excluded.updated_at;

    PERFORM lockstep._wake_waiters(v_ids, v_whats);

    RETURN QUERY
    SELECT DISTINCT v.workflow_id
    FROM jsonb_to_recordset(set_events.events) AS v (workflow_id text, attempt int)
    WHERE NOT lockstep._is_held(set_events.executor_id, v.workflow_id, v.attempt);
END
$$;
COMMENT ON FUNCTION lockstep.set_events(text, jsonb) IS
    'Publishes values of workflows under their keys, each recorded as a step.';
