-- Reads the value that a workflow published last under a key; NULL before that.
CREATE OR REPLACE FUNCTION lockstep.get_event(workflow_id text, key text)
RETURNS jsonb
LANGUAGE plpgsql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    v_value jsonb;
BEGIN
    SELECT v.value
    INTO v_value
    FROM lockstep.workflow_status AS w
    LEFT JOIN lockstep.workflow_events AS v
        ON v.workflow_id = get_event.workflow_id
        AND v.key = get_event.key
    WHERE w.workflow_id = get_event.workflow_id
        AND lockstep._may_see(w.enqueued_by);

    IF NOT FOUND THEN
        PERFORM lockstep._refuse_unknown_workflow(get_event.workflow_id);
    END IF;

    RETURN v_value;
END
$$;
COMMENT ON FUNCTION lockstep.get_event(text, text) IS
    'Reads the value that a workflow published last under a key.';
