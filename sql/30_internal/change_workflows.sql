-- Changes up to p_max_count workflows that meet a filter; returns their ids.
--
-- p_change is cancel, resume, restart, priority or move; the last two have p_value. What
-- cannot be changed is passed over, and so is what is that way already: a call changes
-- as many as it may while there are any.
--
-- Rows that somebody holds are skipped, not waited for: who ends a batch of workflows locks
-- them in an order of its own, so that waiting could deadlock, and one open transaction of
-- a client would hold up the whole. They are found by the next call. Lock order: as
-- the function that changes one, row by row; a cancellation's descendants are waited for.
CREATE OR REPLACE FUNCTION lockstep._change_workflows(
    p_change text,
    p_filter jsonb,
    p_max_count int,
    p_value text DEFAULT NULL
)
RETURNS SETOF text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_filter constant jsonb := lockstep._checked_filter(p_filter, p_max_count);
    v_statuses constant text[] := CASE p_change
        WHEN 'cancel' THEN ARRAY['ENQUEUED', 'DELAYED', 'PENDING', 'WAITING']
        WHEN 'resume' THEN ARRAY['ERROR', 'CANCELLED', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED']
        WHEN 'restart' THEN ARRAY['SUCCESS', 'ERROR', 'CANCELLED', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED']
        ELSE ARRAY['ENQUEUED', 'DELAYED', 'WAITING']
    END;
    v_ids text[];
    v_last_id text;
    v_left int := p_max_count;
    r_workflow record;
BEGIN
    LOOP
        v_ids := ARRAY(
            SELECT f.workflow_id
            FROM lockstep._find_workflows(v_filter, v_statuses, v_last_id, least(p_max_count, 1000)) AS f
        );
        EXIT WHEN v_ids = '{}';

        FOR v_last_id IN SELECT unnest(v_ids) LOOP
            SELECT w.priority, w.queue_name, w.deduplication_id, lockstep._is_cancelled_here(w) AS is_cancelled_here
            INTO r_workflow
            FROM lockstep.workflow_status AS w
            WHERE w.workflow_id = v_last_id
                AND w.status = ANY (v_statuses)
            FOR NO KEY UPDATE SKIP LOCKED;

            CONTINUE WHEN NOT FOUND;

            IF p_change = 'cancel' THEN
                RETURN QUERY
                SELECT c.workflow_id
                FROM unnest(lockstep._cancel_tree(ARRAY[v_last_id])) AS c (workflow_id);
            ELSIF p_change = 'resume' THEN
                CONTINUE WHEN lockstep._rerun_problem(v_last_id, true) IS NOT NULL;
                PERFORM lockstep.resume_workflow(v_last_id);
                RETURN NEXT v_last_id;
            ELSIF p_change = 'restart' THEN
                CONTINUE WHEN r_workflow.is_cancelled_here
                    OR lockstep._rerun_problem(v_last_id, false) IS NOT NULL;

                PERFORM
                FROM lockstep.workflow_status AS w
                WHERE w.workflow_id = v_last_id
                FOR UPDATE SKIP LOCKED;

                CONTINUE WHEN NOT FOUND;
                PERFORM lockstep._restart(v_last_id);
                RETURN NEXT v_last_id;
            ELSIF p_change = 'priority' THEN
                CONTINUE WHEN r_workflow.priority = p_value::int;
                PERFORM lockstep.set_priority(v_last_id, p_value::int);
                RETURN NEXT v_last_id;
            ELSE
                CONTINUE WHEN r_workflow.queue_name = p_value
                    OR lockstep._deduplication_rival(p_value, r_workflow.deduplication_id) IS NOT NULL;
                PERFORM lockstep.move_workflow(v_last_id, p_value);
                RETURN NEXT v_last_id;
            END IF;

            v_left := v_left - 1;
            EXIT WHEN v_left = 0;
        END LOOP;

        EXIT WHEN v_left = 0 OR cardinality(v_ids) < least(p_max_count, 1000);
    END LOOP;
END
$$;
COMMENT ON FUNCTION lockstep._change_workflows(text, jsonb, int, text) IS
    'Changes up to p_max_count workflows that meet a filter; returns their ids.';
