-- Receives messages for steps: the oldest one waiting for each step's topic.
--
-- receives: [{"workflow_id", "attempt", "step_id", "topic", "timeout": seconds
-- or null}, …]. Returns for each step one of
--   received   the message, consumed and recorded as the step's output;
--   timed_out  nothing came in time, recorded as no output and 0 attempts;
--   waiting    nothing yet; remaining has the seconds left, NULL for no timeout;
--   lost       the executor had lost the workflow.
-- The timeout runs from the first call, whatever crashes in between; a call
-- sent twice returns the outcome of the first.
--
-- Lock order: the executor row (FOR KEY SHARE), then notifications. Two steps
-- cannot take one message: only the attempt that holds the workflow receives,
-- and its receives run one after the other.
CREATE OR REPLACE FUNCTION lockstep.receive_messages(executor_id text, receives jsonb)
RETURNS TABLE (
    workflow_id text,
    step_id int,
    outcome text,
    message jsonb,
    remaining double precision
)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '500ms'
AS $$
#variable_conflict use_column
DECLARE
    v_now constant timestamptz := clock_timestamp();
    r_receive record;
    r_step record;
BEGIN
    PERFORM lockstep._hold_executor(receive_messages.executor_id);

    FOR r_receive IN
        SELECT r.workflow_id, r.attempt, r.step_id, coalesce(r.topic, '') AS topic, r.timeout
        FROM jsonb_to_recordset(receive_messages.receives) AS r (
            workflow_id text, attempt int, step_id int, topic text, timeout double precision
        )
    LOOP
        workflow_id := r_receive.workflow_id;
        step_id := r_receive.step_id;
        message := NULL;
        remaining := NULL;

        IF NOT lockstep._is_held(receive_messages.executor_id, r_receive.workflow_id, r_receive.attempt) THEN
            outcome := 'lost';
            RETURN NEXT;
            CONTINUE;
        END IF;

        SELECT o.output, o.attempts, o.started_at, o.completed_at, o.available_at
        INTO r_step
        FROM lockstep.operation_outputs AS o
        WHERE o.workflow_id = r_receive.workflow_id
            AND o.step_id = r_receive.step_id;

        IF r_step.completed_at IS NOT NULL THEN
            outcome := CASE WHEN r_step.attempts = 0 THEN 'timed_out' ELSE 'received' END;
            message := r_step.output;
            RETURN NEXT;
            CONTINUE;
        END IF;

        UPDATE lockstep.notifications AS n
        SET consumed_at = v_now, consumed_by_step = r_receive.step_id
        WHERE n.message_id = (
            SELECT oldest.message_id
            FROM lockstep.notifications AS oldest
            WHERE oldest.destination_id = r_receive.workflow_id
                AND oldest.topic = r_receive.topic
                AND oldest.consumed_at IS NULL
            ORDER BY oldest.created_at, oldest.message_id
            LIMIT 1
        )
        RETURNING n.message INTO message;

        IF FOUND THEN
            outcome := 'received';
        ELSIF r_step.available_at <= v_now OR r_receive.timeout <= 0 THEN
            outcome := 'timed_out';
        ELSE
            outcome := 'waiting';
            IF r_step.started_at IS NULL THEN
                INSERT INTO lockstep.operation_outputs AS o (
                    workflow_id, step_id, step_name, attempts, started_at, available_at
                )
                VALUES (
                    r_receive.workflow_id, r_receive.step_id, 'receive', 0,
                    v_now, v_now + make_interval(secs => r_receive.timeout)
                );
            END IF;
            remaining := coalesce(extract(EPOCH FROM r_step.available_at - v_now), r_receive.timeout);
            RETURN NEXT;
            CONTINUE;
        END IF;

        INSERT INTO lockstep.operation_outputs AS o (
            workflow_id, step_id, step_name, output, attempts, started_at, completed_at
        )
        VALUES (
            r_receive.workflow_id, r_receive.step_id, 'receive', message,
            CASE WHEN outcome = 'received' THEN 1 ELSE 0 END,
            coalesce(r_step.started_at, v_now), v_now
        )
        ON CONFLICT (workflow_id, step_id) DO UPDATE
        SET output = excluded.output, attempts = excluded.attempts, completed_at = excluded.completed_at;
        RETURN NEXT;
    END LOOP;
END
$$;
COMMENT ON FUNCTION lockstep.receive_messages(text, jsonb) IS
    'Receives messages for steps: the oldest one waiting for each step''s topic.';
