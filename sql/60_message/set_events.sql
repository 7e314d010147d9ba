-- Publishes values of workflows under their keys, each recorded as a step.
--
-- events: [{"workflow_id", "attempt", "step_id", "key", "value"}, …]. Returns
-- the ids of workflows that the executor had lost. A step recorded before
-- publishes nothing again, so a call sent twice cannot undo a later value.
--
-- Lock order: the executor row (FOR KEY SHARE), then workflow_events.
CREATE OR REPLACE FUNCTION lockstep.set_events(executor_id text, events jsonb)
RETURNS SETOF text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    v_now constant timestamptz := clock_timestamp();
    r_event record;
BEGIN
    PERFORM lockstep._hold_executor(set_events.executor_id);

    FOR r_event IN
        SELECT v.*
        FROM jsonb_to_recordset(set_events.events) AS v (
            workflow_id text, attempt int, step_id int, key text, value jsonb
        )
    LOOP
        IF NOT lockstep._is_held(set_events.executor_id, r_event.workflow_id, r_event.attempt) THEN
            RETURN NEXT r_event.workflow_id;
            CONTINUE;
        END IF;

        WITH recorded AS (
            INSERT INTO lockstep.operation_outputs AS o (
                workflow_id, step_id, step_name, started_at, completed_at
            )
            VALUES (r_event.workflow_id, r_event.step_id, 'set_event', v_now, v_now)
            ON CONFLICT (workflow_id, step_id) DO NOTHING
            RETURNING o.workflow_id
        )

        INSERT INTO lockstep.workflow_events (workflow_id, key, value, updated_at)
        SELECT r.workflow_id, r_event.key, coalesce(r_event.value, 'null'), v_now
        FROM recorded AS r
        ON CONFLICT (workflow_id, key) DO UPDATE
        SET value = excluded.value, updated_at = excluded.updated_at;
    END LOOP;
END
$$;
COMMENT ON FUNCTION lockstep.set_events(text, jsonb) IS
    'Publishes values of workflows under their keys, each recorded as a step.';
