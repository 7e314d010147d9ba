-- Removes the limits of a queue.
--
-- Refused with 55000 while the queue has unfinished workflows, which would run
-- without limits from then on; force => true says that they shall.
--
-- Locks the queue row, so claims of the moment come before or after. A workflow that is
-- enqueued in a transaction that has not committed yet is not seen.
CREATE OR REPLACE FUNCTION lockstep.drop_queue(queue_name text, force boolean DEFAULT false)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_workflow_id text;
BEGIN
    PERFORM
    FROM lockstep.queue AS q
    WHERE q.queue_name = drop_queue.queue_name
    FOR UPDATE;

    IF NOT FOUND THEN
        PERFORM lockstep._refuse_unknown_queue(drop_queue.queue_name);
    END IF;

    IF drop_queue.force IS NOT TRUE THEN
        SELECT u.workflow_id
        INTO v_workflow_id
        FROM (
            SELECT w.workflow_id
            FROM lockstep.workflow_status AS w
            WHERE w.status = 'PENDING'
                AND w.queue_name = drop_queue.queue_name
            UNION ALL
            SELECT w.workflow_id
            FROM lockstep.workflow_status AS w
            WHERE (w.status <> 'PENDING') IS TRUE
                AND w.status IN ('ENQUEUED', 'DELAYED', 'WAITING')
                AND w.queue_name = drop_queue.queue_name
        ) AS u
        LIMIT 1;

        IF FOUND THEN
            RAISE EXCEPTION 'queue "%" has unfinished workflows', drop_queue.queue_name
                USING ERRCODE = 'object_not_in_prerequisite_state',
                      DETAIL = format('One of them is workflow "%s".', v_workflow_id),
                      HINT = 'Move or cancel them, or pass force => true to let them run without limits.';
        END IF;
    END IF;

    DELETE FROM lockstep.queue AS q
    WHERE q.queue_name = drop_queue.queue_name;

    DELETE FROM lockstep.queue_start AS s
    WHERE s.queue_name = drop_queue.queue_name;

    PERFORM lockstep._ring_doorbell(ARRAY[drop_queue.queue_name]);
END
$$;
COMMENT ON FUNCTION lockstep.drop_queue(text, boolean) IS
    'Removes the limits of a queue.';
