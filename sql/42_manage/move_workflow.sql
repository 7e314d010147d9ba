-- Moves a workflow that waits to another queue.
--
-- It keeps its age, so it does not go to the end of the new queue. Returns true;
-- false if it is in that queue already. One that runs, or has ended, is refused with
-- 55000; one whose deduplication id is taken in the new queue with 23505.
--
-- Locks the workflow row: a claim that came first has made it PENDING and the call
-- fails; one that comes later skips the row. The unique index stops a rival that is
-- enqueued at this moment.
CREATE OR REPLACE FUNCTION lockstep.move_workflow(workflow_id text, queue_name text)
RETURNS boolean
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_problem text[];
    v_rival_id text;
    r_workflow record;
BEGIN
    IF move_workflow.queue_name IS NULL
        OR btrim(move_workflow.queue_name) = '' OR length(move_workflow.queue_name) > 512
    THEN
        v_problem := lockstep._name_problem('queue_name', move_workflow.queue_name);
        RAISE EXCEPTION '%', v_problem[1]
            USING ERRCODE = 'invalid_parameter_value', DETAIL = v_problem[2], HINT = v_problem[3];
    END IF;

    SELECT w.status, w.queue_name, w.deduplication_id
    INTO r_workflow
    FROM lockstep.workflow_status AS w
    WHERE w.workflow_id = move_workflow.workflow_id
    FOR NO KEY UPDATE;

    IF NOT FOUND THEN
        PERFORM lockstep._refuse_unknown_workflow(move_workflow.workflow_id);
    ELSIF r_workflow.status NOT IN ('ENQUEUED', 'DELAYED', 'WAITING') THEN
        PERFORM lockstep._refuse_state(
            move_workflow.workflow_id, r_workflow.status, 'cannot move to another queue',
            'Only a workflow that is ENQUEUED, DELAYED or WAITING can move.'
        );
    ELSIF r_workflow.queue_name = move_workflow.queue_name THEN
        RETURN false;
    END IF;

    v_rival_id := lockstep._deduplication_rival(move_workflow.queue_name, r_workflow.deduplication_id);
    IF v_rival_id IS NOT NULL THEN
        PERFORM lockstep._refuse_rival(
            move_workflow.queue_name, r_workflow.deduplication_id, v_rival_id,
            'Move this one when that one has ended.'
        );
    END IF;

    UPDATE lockstep.workflow_status AS w
    SET queue_name = move_workflow.queue_name
    WHERE w.workflow_id = move_workflow.workflow_id;

    IF r_workflow.status = 'ENQUEUED' THEN
        PERFORM lockstep._ring_doorbell(ARRAY[move_workflow.queue_name]);
    END IF;

    RETURN true;
END
$$;
COMMENT ON FUNCTION lockstep.move_workflow(text, text) IS
    'Moves a workflow that waits to another queue; false if it is there already.';
