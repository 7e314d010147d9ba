-- Enqueues the compensation of workflows that failed or were cancelled.
--
-- A step named "compensate" holds an undo step that the workflow registered:
-- {"step", "positionalArgs", "namedArgs"}. They become the argument of one workflow
-- "lockstep.compensate", which every worker knows, the last one first. It is never older
-- than the start of the run that it undoes, by which _rerun_problem() knows it, also if
-- the clock was set back.
CREATE OR REPLACE FUNCTION lockstep._enqueue_compensations(p_workflow_ids text[])
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    v_queues text[];
BEGIN
    WITH enqueued AS (
        INSERT INTO lockstep.workflow_status (
            workflow_name, queue_name, inputs, priority, queue_partition_key, app_version,
            created_at, parent_workflow_id, enqueued_by, headers
        )
        SELECT
            'lockstep.compensate', w.queue_name,
            jsonb_build_object('positionalArgs', jsonb_build_array(u.undo_steps), 'namedArgs', '{}'::jsonb),
            w.priority, w.queue_partition_key, w.app_version,
            greatest(clock_timestamp(), w.started_at), w.workflow_id, w.enqueued_by, w.headers
        FROM lockstep.workflow_status AS w
        CROSS JOIN LATERAL (
            SELECT jsonb_agg(o.output ORDER BY o.completed_at DESC, o.step_id DESC) AS undo_steps
            FROM lockstep.operation_outputs AS o
            WHERE o.workflow_id = w.workflow_id
                AND o.step_name = 'compensate'
                AND o.completed_at IS NOT NULL
        ) AS u
        WHERE w.workflow_id = ANY (p_workflow_ids)
            AND w.status IN ('ERROR', 'CANCELLED', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED')
            AND u.undo_steps IS NOT NULL
        RETURNING queue_name
    )

    SELECT array_agg(DISTINCT e.queue_name)
    INTO v_queues
    FROM enqueued AS e;

    IF v_queues IS NOT NULL THEN
        PERFORM lockstep._ring_doorbell(v_queues);
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep._enqueue_compensations(text[]) IS
    'Enqueues the compensation of workflows that failed or were cancelled.';
