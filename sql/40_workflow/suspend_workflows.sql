-- Suspends workflows of an executor until what they wait for comes, or a moment.
--
-- suspensions: [{"workflow_id", "attempt", "step_ids": [int, …], "topics":
-- [text, …], "awaits": [{"awaited_id", "key"}, …]}, …]. The workflow waits for the
-- earliest available_at of the named steps (DELAYED), or for a message of the
-- topics, the end of a workflow or an event of it (WAITING). Returns for each how it
-- went: "suspended"; "ready" when something of it is there already, "busy" when an
-- open transaction may be bringing it (both: keep it and try again); "lost".
--
-- The execution is not counted as an attempt, and a suspect that began it alone is forgiven one
-- death: it need not kill. Else a workflow that lives for months would be suspected at each
-- waking, once workers have died under it for other reasons.
--
-- Closes the races with those who wake it. send_message() locks the workflow row FOR
-- KEY SHARE before it inserts, this locks it FOR UPDATE before it looks; who ends an
-- awaited workflow has its row locked, this locks it FOR SHARE; who sets an event
-- has announced it (_announce()). So either what came is visible to the look, or
-- its bringer comes later and finds the row WAITING. What somebody holds is not
-- waited for, as two executors might wait for each other: "busy".
-- Lock order: the executor row (FOR KEY SHARE), then workflow rows, then waiter. The last
-- may be waited for, where somebody takes away the row of an earlier wait: gives up with
-- 55P03 when that takes long, as finish_workflows().
CREATE OR REPLACE FUNCTION lockstep.suspend_workflows(executor_id text, suspensions jsonb)
RETURNS TABLE (workflow_id text, outcome text)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
SET lock_timeout = '500ms'
AS $$
#variable_conflict use_column
DECLARE
    v_suspect_id text;
    v_available_at timestamptz;
    v_suspended text[] := ARRAY[]::text[];
    r_suspension record;
BEGIN
    PERFORM lockstep._hold_executor(suspend_workflows.executor_id);

    SELECT e.suspect_id
    INTO v_suspect_id
    FROM lockstep.executor AS e
    WHERE e.executor_id = suspend_workflows.executor_id;

    FOR r_suspension IN
        SELECT
            s.workflow_id, s.attempt, s.step_ids, coalesce(s.topics, '{}') AS topics,
            coalesce(s.awaits, '[]') AS awaits,
            cardinality(s.topics) > 0 OR jsonb_array_length(s.awaits) > 0 AS is_waiting
        FROM jsonb_to_recordset(suspend_workflows.suspensions)
            AS s (workflow_id text, attempt int, step_ids int[], topics text[], awaits jsonb)
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

        outcome := CASE
            WHEN EXISTS (
                SELECT
                FROM lockstep.notifications AS n
                WHERE n.destination_id = r_suspension.workflow_id
                    AND n.topic = ANY (r_suspension.topics)
                    AND n.consumed_at IS NULL
            ) THEN 'ready'
            WHEN r_suspension.awaits <> '[]'
                THEN lockstep._await(r_suspension.workflow_id, r_suspension.awaits)
        END;
        IF outcome IS NOT NULL THEN
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
            status = CASE WHEN r_suspension.is_waiting THEN 'WAITING' ELSE 'DELAYED' END,
            waiting_for = CASE
                WHEN r_suspension.is_waiting THEN ARRAY(
                    SELECT 'message:' || t.topic
                    FROM unnest(r_suspension.topics) AS t (topic)
                    UNION ALL
                    SELECT CASE
                        WHEN a.key IS NULL THEN 'workflow:' || a.awaited_id
                        ELSE format('event:%s of workflow:%s', a.key, a.awaited_id)
                    END
                    FROM jsonb_to_recordset(r_suspension.awaits) AS a (awaited_id text, key text)
                )
            END,
            available_at = CASE
                WHEN r_suspension.is_waiting THEN v_available_at
                ELSE coalesce(v_available_at, clock_timestamp())
            END,
            executor_id = NULL,
            attempts = w.attempts - 1 - (w.workflow_id IS NOT DISTINCT FROM v_suspect_id)::int
        WHERE w.workflow_id = r_suspension.workflow_id;

        v_suspended := v_suspended || r_suspension.workflow_id;
        outcome := 'suspended';
        RETURN NEXT;
    END LOOP;

    PERFORM lockstep._ring_for_free_places(v_suspended);
END
$$;
COMMENT ON FUNCTION lockstep.suspend_workflows(text, jsonb) IS
    'Suspends workflows of an executor until what they wait for comes, or a moment.';
