-- Suspends workflows of an executor until a message or a moment wakes them.
--
-- suspensions: [{"workflow_id", "attempt", "step_ids": [int, …],
-- "topics": [text, …]}, …]. The workflow waits for the earliest available_at of
-- the named steps' timers (DELAYED), or for a message of the topics (WAITING).
-- Returns for each how it went: "suspended"; "ready" when a message is there
-- already, "busy" when a client's open transaction may be sending one (both:
-- keep it and try again); "lost".
--
-- Closes the race with send_message(): that locks the workflow row FOR KEY
-- SHARE before it inserts, this locks it FOR UPDATE before it looks. So either
-- the message is visible to the look, or its sender finds the row WAITING and
-- wakes it. A row that a sender holds is skipped, not waited for: "busy".
-- Lock order: the executor row (FOR KEY SHARE), then workflow rows.
CREATE OR REPLACE FUNCTION lockstep.suspend_workflows(executor_id text, suspensions jsonb)
RETURNS TABLE (workflow_id text, outcome text)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    v_available_at timestamptz;
    r_suspension record;
BEGIN
    PERFORM lockstep._hold_executor(suspend_workflows.executor_id);

    FOR r_suspension IN
        SELECT s.workflow_id, s.attempt, s.step_ids, coalesce(s.topics, '{}') AS topics
        FROM jsonb_to_recordset(suspend_workflows.suspensions)
            AS s (workflow_id text, attempt int, step_ids int[], topics text[])
    LOOP
        workflow_id := r_suspension.workflow_id;

        PERFORM
        FROM lockstep.workflow_status AS w
        WHERE w.workflow_id = r_suspension.workflow_id
            AND (w.status, w.executor_id, w.attempts)
            IS NOT DISTINCT FROM ('PENDING', suspend_workflows.executor_id, r_suspension.attempt)
        FOR UPDATE SKIP LOCKED;

        IF NOT FOUND THEN
            outcome := CASE
                WHEN lockstep._is_held(suspend_workflows.executor_id, r_suspension.workflow_id, r_suspension.attempt)
                    THEN 'busy'
                ELSE 'lost'
            END;
            RETURN NEXT;
            CONTINUE;
        END IF;

        IF EXISTS (
            SELECT
            FROM lockstep.notifications AS n
            WHERE n.destination_id = r_suspension.workflow_id
                AND n.topic = ANY (r_suspension.topics)
                AND n.consumed_at IS NULL
        ) THEN
            outcome := 'ready';
            RETURN NEXT;
            CONTINUE;
        END IF;

        SELECT min(o.available_at)
        INTO v_available_at
        FROM lockstep.operation_outputs AS o
        WHERE o.workflow_id = r_suspension.workflow_id
            AND o.step_id = ANY (r_suspension.step_ids)
            AND o.completed_at IS NULL;

        UPDATE lockstep.workflow_status AS w
        SET
            status = CASE WHEN cardinality(r_suspension.topics) = 0 THEN 'DELAYED' ELSE 'WAITING' END,
            waiting_for = CASE
                WHEN cardinality(r_suspension.topics) > 0
                    THEN ARRAY(SELECT 'message:' || t.topic FROM unnest(r_suspension.topics) AS t (topic))
            END,
            available_at = CASE
                WHEN cardinality(r_suspension.topics) = 0 THEN coalesce(v_available_at, clock_timestamp())
                ELSE v_available_at
            END,
            executor_id = NULL,
            attempts = w.attempts - 1
        WHERE w.workflow_id = r_suspension.workflow_id;

        outcome := 'suspended';
        RETURN NEXT;
    END LOOP;

    PERFORM lockstep._ring_for_free_places(suspend_workflows.suspensions);
END
$$;
COMMENT ON FUNCTION lockstep.suspend_workflows(text, jsonb) IS
    'Suspends workflows of an executor until a message or a moment wakes them.';
