-- Says in a line where a workflow stands: its mark, its title and what is to be said.
CREATE OR REPLACE FUNCTION lockstep._explained_workflow(
    p_workflow_id text,
    OUT mark text,
    OUT title text,
    OUT detail text
)
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    SELECT
        CASE w.status
            WHEN 'SUCCESS' THEN '✓'
            WHEN 'ENQUEUED' THEN '◌'
            WHEN 'PENDING' THEN '▶'
            WHEN 'DELAYED' THEN '⏳'
            WHEN 'WAITING' THEN '⏳'
            ELSE '✗'
        END,
        format('%s (%s)', lockstep._one_line(w.workflow_name), lockstep._one_line(w.workflow_id)),
        concat_ws(
            ', ', w.status,
            CASE
                WHEN w.status IN ('WAITING', 'DELAYED') AND w.failures > 0 AND w.waiting_for IS NULL
                    THEN format('try %s', w.failures + 1)
                WHEN w.status = 'WAITING' THEN 'for ' || lockstep._one_line(array_to_string(w.waiting_for, ' or '))
            END,
            CASE
                WHEN w.status IN ('WAITING', 'DELAYED')
                    THEN 'until ' || to_char(w.available_at, 'YYYY-MM-DD HH24:MI:SS TZ')
                WHEN w.status = 'ENQUEUED' THEN
                    format('in queue %s since %s', lockstep._one_line(w.queue_name), to_char(w.available_at, 'YYYY-MM-DD HH24:MI:SS TZ'))
                WHEN w.status = 'PENDING' THEN
                    format('since %s on %s', to_char(w.started_at, 'YYYY-MM-DD HH24:MI:SS TZ'), lockstep._one_line(w.executor_id))
            END,
            lockstep._duration_text(w.completed_at - w.started_at),
            CASE WHEN w.attempts > 1 THEN format('%s attempts', w.attempts) END,
            CASE WHEN w.forked_from IS NOT NULL THEN 'forked from ' || lockstep._one_line(w.forked_from) END,
            (
                SELECT lockstep._one_line(concat_ws(
                    ' ', 'at', (v.value ->> 'done') || coalesce('/' || (v.value ->> 'total'), ''), v.value ->> 'note'
                ))
                FROM lockstep.workflow_events AS v
                WHERE v.workflow_id = w.workflow_id
                    AND v.key = 'lockstep.progress'
                    AND w.completed_at IS NULL
            ),
            lockstep._one_line((w.error ->> 'type') || ': ' || (w.error ->> 'message'))
        )
    INTO mark, title, detail
    FROM lockstep.workflow_status AS w
    WHERE w.workflow_id = p_workflow_id;
END
$$;
COMMENT ON FUNCTION lockstep._explained_workflow(text) IS
    'Says in a line where a workflow stands.';
