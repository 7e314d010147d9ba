-- Ends now what a workflow waits for: a start delay, a sleep, the pause before a retry, or
-- the wait for a message, an event or another workflow.
--
-- Without a payload time is over for all of it: a DELAYED workflow goes on, a WAITING one
-- finds that its waits have timed out, also those that had no timeout. With a payload a
-- workflow that waits for messages of one topic receives that as a message; of a
-- workflow that waits for several topics, send_message() says which is meant. Others
-- take no payload: what an event or a child returns is theirs alone to say.
--
-- Refuses with 55000 a workflow in any other status. Locks the workflow row, then its
-- steps: a promotion that came first has made it ENQUEUED and the call fails; an
-- executor writes steps only of workflows that run.
CREATE OR REPLACE FUNCTION lockstep.fast_forward(workflow_id text, payload jsonb DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_now constant timestamptz := clock_timestamp();
    v_topics text[];
    r_workflow record;
BEGIN
    SELECT w.status, w.waiting_for, w.queue_name
    INTO r_workflow
    FROM lockstep.workflow_status AS w
    WHERE w.workflow_id = fast_forward.workflow_id
    FOR NO KEY UPDATE;

    IF NOT FOUND THEN
        PERFORM lockstep._refuse_unknown_workflow(fast_forward.workflow_id);
    ELSIF r_workflow.status NOT IN ('DELAYED', 'WAITING') THEN
        PERFORM lockstep._refuse_state(
            fast_forward.workflow_id, r_workflow.status, 'has no wait to end',
            'Only a workflow that is DELAYED or WAITING can be fast-forwarded to ENQUEUED.'
        );
    END IF;

    IF fast_forward.payload IS NOT NULL THEN
        v_topics := ARRAY(
            SELECT substr(f.what, length('message:') + 1)
            FROM unnest(r_workflow.waiting_for) AS f (what)
            WHERE starts_with(f.what, 'message:')
        );

        IF v_topics = '{}' THEN
            RAISE EXCEPTION 'workflow "%" waits for no message: it is %', fast_forward.workflow_id, r_workflow.status
                USING ERRCODE = 'object_not_in_prerequisite_state',
                      DETAIL = CASE
                          WHEN r_workflow.status = 'WAITING'
                              THEN format('It waits for %s.', array_to_string(r_workflow.waiting_for, ', '))
                          ELSE 'It waits for a moment.'
                      END,
                      HINT = 'Leave the payload out to end the wait.';
        ELSIF cardinality(v_topics) > 1 THEN
            RAISE EXCEPTION 'workflow "%" waits for messages of % topics', fast_forward.workflow_id, cardinality(v_topics)
                USING ERRCODE = 'invalid_parameter_value',
                      DETAIL = format('It waits for %s.', array_to_string(r_workflow.waiting_for, ', ')),
                      HINT = 'Name the topic: send_message(workflow_id, message, topic).';
        END IF;

        PERFORM lockstep.send_message(fast_forward.workflow_id, fast_forward.payload, nullif(v_topics[1], ''));
        RETURN;
    END IF;

    UPDATE lockstep.operation_outputs AS o
    SET available_at = v_now
    WHERE o.workflow_id = fast_forward.workflow_id
        AND o.completed_at IS NULL;

    UPDATE lockstep.workflow_status AS w
    SET status = 'ENQUEUED', waiting_for = NULL, available_at = v_now
    WHERE w.workflow_id = fast_forward.workflow_id;

    PERFORM lockstep._ring_doorbell(ARRAY[r_workflow.queue_name]);
END
$$;
COMMENT ON FUNCTION lockstep.fast_forward(text, jsonb) IS
    'Ends now what a workflow waits for, or delivers it as a message.';
