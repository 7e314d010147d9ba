-- Notes how far workflows have come, for people who look at them.
--
-- progress: [{"workflow_id", "attempt", "done", "total", "note"}, …]. No step: what
-- is noted last counts, and noting it costs no history. It is the event
-- "lockstep.progress" of the workflow. What a lost workflow notes is dropped.
--
-- Lock order: the executor row (FOR KEY SHARE), then workflow_events.
CREATE OR REPLACE FUNCTION lockstep.set_progress(executor_id text, progress jsonb)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '500ms'
AS $$
BEGIN
    PERFORM lockstep._hold_executor(set_progress.executor_id);

    INSERT INTO lockstep.workflow_events (workflow_id, key, value)
    SELECT DISTINCT ON (p.workflow_id)
        p.workflow_id, 'lockstep.progress',
        jsonb_build_object('done', p.done, 'total', p.total, 'note', p.note)
    FROM ROWS FROM (
        jsonb_to_recordset(set_progress.progress)
            AS (workflow_id text, attempt int, done numeric, total numeric, note text)
    ) WITH ORDINALITY AS p (workflow_id, attempt, done, total, note, place)
    WHERE lockstep._is_held(set_progress.executor_id, p.workflow_id, p.attempt)
    ORDER BY p.workflow_id, p.place DESC
    ON CONFLICT ON CONSTRAINT workflow_events_pkey DO UPDATE
    SET value = excluded.value, updated_at = excluded.updated_at;
END
$$;
COMMENT ON FUNCTION lockstep.set_progress(text, jsonb) IS
    'Notes how far workflows have come, for people who look at them.';
