-- Lets workers claim out of a paused queue again.
CREATE OR REPLACE FUNCTION lockstep.unpause_queue(queue_name text)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE lockstep.queue AS q
    SET is_paused = false
    WHERE q.queue_name = unpause_queue.queue_name;

    IF NOT FOUND THEN
        PERFORM lockstep._refuse_unknown_queue(unpause_queue.queue_name);
    END IF;

    PERFORM lockstep._ring_doorbell(ARRAY[unpause_queue.queue_name]);
END
$$;
COMMENT ON FUNCTION lockstep.unpause_queue(text) IS
    'Lets workers claim out of a paused queue again.';
