-- Appends values to streams of workflows, or closes streams.
--
-- writes: [{"workflow_id", "attempt", "step_id", "key", "value"} or {…, "is_end":
-- true}, …]. With a step_id the value is recorded as that step and written once;
-- without, as from inside of a step, it is written whenever it is sent. Returns for
-- each that was not written, because the stream is closed ("closed") or the
-- executor had lost the workflow ("lost"). Who follows a stream is notified.
--
-- Lock order: the executor row (FOR KEY SHARE), the locks of _announce(), then as
-- _wake_waiters(). Offsets need no lock: only the attempt that holds the workflow
-- writes, and its writes come one after the other.
CREATE OR REPLACE FUNCTION lockstep.write_streams(executor_id text, writes jsonb)
RETURNS TABLE (workflow_id text, step_id int, outcome text)
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
    v_next bigint;
    v_is_closed boolean;
    r_value record;
BEGIN
    PERFORM lockstep._hold_executor(write_streams.executor_id);

    SELECT array_agg(v.workflow_id), array_agg('stream:' || v.key)
    INTO v_ids, v_whats
    FROM jsonb_to_recordset(write_streams.writes) AS v (workflow_id text, key text);

    PERFORM lockstep._announce(v_ids, v_whats);

    FOR r_value IN
        SELECT v.*
        FROM jsonb_to_recordset(write_streams.writes) AS v (
            workflow_id text, attempt int, step_id int, key text, value jsonb, is_end boolean
        )
    LOOP
        workflow_id := r_value.workflow_id;
        step_id := r_value.step_id;

        IF NOT lockstep._is_held(write_streams.executor_id, r_value.workflow_id, r_value.attempt) THEN
            outcome := 'lost';
            RETURN NEXT;
            CONTINUE;
        END IF;

        IF r_value.step_id > 0 THEN
            CONTINUE WHEN EXISTS (
                SELECT
                FROM lockstep.operation_outputs AS o
                WHERE o.workflow_id = r_value.workflow_id
                    AND o.step_id = r_value.step_id
            );
        END IF;

        SELECT s."offset" + 1, s.is_end
        INTO v_next, v_is_closed
        FROM lockstep.workflow_streams AS s
        WHERE s.workflow_id = r_value.workflow_id
            AND s.key = r_value.key
        ORDER BY s."offset" DESC
        LIMIT 1;

        IF v_is_closed AND NOT coalesce(r_value.is_end, false) THEN
            outcome := 'closed';
            RETURN NEXT;
            CONTINUE;
        END IF;

        IF r_value.step_id > 0 THEN
            INSERT INTO lockstep.operation_outputs AS o (
                workflow_id, step_id, step_name, started_at, completed_at
            )
            VALUES (
                r_value.workflow_id, r_value.step_id,
                CASE WHEN r_value.is_end THEN 'close_stream' ELSE 'write_stream' END, v_now, v_now
            );
        END IF;

        IF v_is_closed IS NOT TRUE THEN
            INSERT INTO lockstep.workflow_streams (workflow_id, key, "offset", value, is_end)
            VALUES (
                r_value.workflow_id, r_value.key, coalesce(v_next, 0),
                CASE WHEN r_value.is_end IS NOT TRUE THEN coalesce(r_value.value, 'null') END,
                coalesce(r_value.is_end, false)
            );
        END IF;
    END LOOP;

    PERFORM lockstep._wake_waiters(v_ids, v_whats);
END
$$;
COMMENT ON FUNCTION lockstep.write_streams(text, jsonb) IS
    'Appends values to streams of workflows, or closes streams.';
