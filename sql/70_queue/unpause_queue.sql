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
        RAISE EXCEPTION 'queue "%" has no limits and is not paused', unpause_queue.queue_name
            USING ERRCODE = 'no_data_found',
                  HINT = 'Check the name; a queue without a row is never paused.';
    END IF;

    PERFORM lockstep._ring_doorbell(ARRAY[unpause_queue.queue_name]);
END
$$;
COMMENT ON FUNCTION lockstep.unpause_queue(text) IS
    'Lets workers claim out of a paused queue again.';
