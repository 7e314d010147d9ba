-- Finds what keeps an ended workflow from running again: NULL, or code, message,
-- detail and hint.
--
-- p_keeps_steps tells whether it would go on from its recorded steps. Then it must
-- not have been compensated, as those steps were undone; without them the
-- compensation must only have ended. A compensation from before the latest start is
-- that of a run which was restarted since.
CREATE OR REPLACE FUNCTION lockstep._rerun_problem(
    p_workflow_id text,
    p_keeps_steps boolean
)
RETURNS text[]
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_undo_id text;
    v_rival_id text;
    r_workflow record;
BEGIN
    SELECT w.status, w.queue_name, w.deduplication_id, w.started_at
    INTO r_workflow
    FROM lockstep.workflow_status AS w
    WHERE w.workflow_id = p_workflow_id;

    SELECT u.workflow_id
    INTO v_undo_id
    FROM lockstep.workflow_status AS u
    WHERE u.parent_workflow_id = p_workflow_id
        AND u.workflow_name = 'lockstep.compensate'
        AND u.created_at >= r_workflow.started_at
        AND (p_keeps_steps OR u.completed_at IS NULL)
    LIMIT 1;

    IF FOUND THEN
        RETURN ARRAY[
            'object_not_in_prerequisite_state',
            format(
                'workflow "%s" %s: %s cannot become ENQUEUED', p_workflow_id,
                CASE WHEN p_keeps_steps THEN 'was compensated' ELSE 'is being compensated' END,
                r_workflow.status
            ),
            format('Workflow "%s" undoes its steps.', v_undo_id),
            CASE
                WHEN p_keeps_steps THEN 'restart_workflow() runs it again from its beginning.'
                ELSE 'Restart it when that one has ended.'
            END
        ];
    END IF;

    v_rival_id := lockstep._deduplication_rival(r_workflow.queue_name, r_workflow.deduplication_id);

    IF v_rival_id IS NOT NULL THEN
        RETURN ARRAY[
            'unique_violation',
            format(
                'queue "%s" has an unfinished workflow with deduplication_id "%s"',
                r_workflow.queue_name, r_workflow.deduplication_id
            ),
            format('It is workflow "%s".', v_rival_id),
            CASE
                WHEN p_keeps_steps THEN 'Resume this one when that one has ended.'
                ELSE 'Restart this one when that one has ended.'
            END
        ];
    END IF;

    RETURN NULL;
END
$$;
COMMENT ON FUNCTION lockstep._rerun_problem(text, boolean) IS
    'Finds what keeps an ended workflow from running again.';
