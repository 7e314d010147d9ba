-- Sends messages from steps of workflows, each recorded as its step's outcome.
--
-- messages: [{"workflow_id", "attempt", "step_id", "destination_id", "topic",
-- "message", "idempotency_key"}, …]. Returns the steps whose destination does
-- not exist, which are not recorded, and those of workflows that the executor
-- had lost. A step recorded before sends nothing again.
--
-- Lock order: the executor row (FOR KEY SHARE), then as send_message(). Gives
-- up with 55P03 when a row stays locked, as finish_workflows().
CREATE OR REPLACE FUNCTION lockstep.send_step_messages(executor_id text, messages jsonb)
RETURNS TABLE (workflow_id text, step_id int, outcome text)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '500ms'
AS $$
#variable_conflict use_column
DECLARE
    v_now constant timestamptz := clock_timestamp();
    r_message record;
BEGIN
    PERFORM lockstep._hold_executor(send_step_messages.executor_id);

    FOR r_message IN
        SELECT m.*
        FROM jsonb_to_recordset(send_step_messages.messages) AS m (
            workflow_id text, attempt int, step_id int, destination_id text, topic text,
            message jsonb, idempotency_key text
        )
    LOOP
        workflow_id := r_message.workflow_id;
        step_id := r_message.step_id;

        IF NOT lockstep._is_held(send_step_messages.executor_id, r_message.workflow_id, r_message.attempt) THEN
            outcome := 'lost';
            RETURN NEXT;
            CONTINUE;
        ELSIF NOT EXISTS (
            SELECT
            FROM lockstep.workflow_status AS w
            WHERE w.workflow_id = r_message.destination_id
        ) THEN
            outcome := 'unknown_destination';
            RETURN NEXT;
            CONTINUE;
        END IF;

        INSERT INTO lockstep.operation_outputs AS o (
            workflow_id, step_id, step_name, started_at, completed_at
        )
        VALUES (r_message.workflow_id, r_message.step_id, 'send', v_now, v_now)
        ON CONFLICT (workflow_id, step_id) DO NOTHING;

        IF FOUND THEN
            PERFORM lockstep.send_message(
                r_message.destination_id, coalesce(r_message.message, 'null'),
                r_message.topic, r_message.idempotency_key
            );
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION lockstep.send_step_messages(text, jsonb) IS
    'Sends messages from steps of workflows, each recorded as its step''s outcome.';
