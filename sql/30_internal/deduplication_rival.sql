-- Finds the unfinished workflow that has a deduplication id in a queue; NULL if none has.
CREATE OR REPLACE FUNCTION lockstep._deduplication_rival(p_queue_name text, p_deduplication_id text)
RETURNS text
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (
        SELECT w.workflow_id
        FROM lockstep.workflow_status AS w
        WHERE w.queue_name = p_queue_name
            AND w.deduplication_id = p_deduplication_id
            AND w.completed_at IS NULL
    );
END
$$;
COMMENT ON FUNCTION lockstep._deduplication_rival(text, text) IS
    'Finds the unfinished workflow that has a deduplication id in a queue.';
