-- Sends a message to a workflow; durable when the caller's transaction commits.
--
-- idempotency_key makes the call idempotent per destination: a second message
-- with the same key is not sent, and the id of the first is returned. A
-- workflow that waits for the topic becomes claimable; one that has ended keeps
-- the message unread, because a sender in a trigger cannot know that it ended.
--
-- Lock order: the workflow row (FOR KEY SHARE), then notifications, then the
-- workflow row again if it waits. The first lock closes the race with
-- suspend_workflows(): that function does not suspend a workflow while a sender
-- holds its row, and a sender that comes later finds it WAITING.
CREATE OR REPLACE FUNCTION lockstep.send_message(
    destination_id text,
    message jsonb,
    topic text DEFAULT NULL,
    idempotency_key text DEFAULT NULL
)
RETURNS text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    v_message_id text;
    v_topic constant text := coalesce(send_message.topic, '');
    v_problem text[];
    r_workflow record;
BEGIN
    IF send_message.destination_id IS NULL
        OR btrim(send_message.destination_id) = '' OR length(send_message.destination_id) > 512
        OR btrim(send_message.topic) = '' OR length(send_message.topic) > 512
        OR btrim(send_message.idempotency_key) = '' OR length(send_message.idempotency_key) > 512
        OR send_message.message IS NULL
        OR lockstep._is_too_large(send_message.message)
    THEN
        v_problem := lockstep._send_problem(
            send_message.destination_id, send_message.message, send_message.topic,
            send_message.idempotency_key
        );
        RAISE EXCEPTION '%', v_problem[1]
            USING ERRCODE = 'invalid_parameter_value', DETAIL = v_problem[2], HINT = v_problem[3];
    END IF;

    SELECT w.queue_name, w.waiting_for
    INTO r_workflow
    FROM lockstep.workflow_status AS w
    WHERE w.workflow_id = send_message.destination_id
        AND lockstep._may_see(w.enqueued_by)
    FOR KEY SHARE;

    IF NOT FOUND THEN
        PERFORM lockstep._refuse_unknown_workflow(send_message.destination_id);
    END IF;

    INSERT INTO lockstep.notifications (destination_id, topic, message, idempotency_key)
    VALUES (send_message.destination_id, v_topic, send_message.message, send_message.idempotency_key)
    ON CONFLICT (destination_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
    RETURNING message_id INTO v_message_id;

    IF v_message_id IS NULL THEN
        SELECT n.message_id
        INTO v_message_id
        FROM lockstep.notifications AS n
        WHERE n.destination_id = send_message.destination_id
            AND n.idempotency_key = send_message.idempotency_key;
        RETURN v_message_id;
    END IF;

    IF 'message:' || v_topic = ANY (r_workflow.waiting_for) THEN
        UPDATE lockstep.workflow_status AS w
        SET status = 'ENQUEUED', waiting_for = NULL, available_at = clock_timestamp()
        WHERE w.workflow_id = send_message.destination_id
            AND w.status = 'WAITING';

        PERFORM lockstep._ring_doorbell(ARRAY[r_workflow.queue_name]);
    END IF;

    RETURN v_message_id;
END
$$;
COMMENT ON FUNCTION lockstep.send_message(text, jsonb, text, text) IS
    'Sends a message to a workflow and returns its id; durable when the transaction commits.';
