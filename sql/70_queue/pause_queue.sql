-- Stops workers from claiming out of a queue; what runs goes on.
CREATE OR REPLACE FUNCTION lockstep.pause_queue(queue_name text)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    v_problem text[];
BEGIN
    IF pause_queue.queue_name IS NULL
        OR btrim(pause_queue.queue_name) = '' OR length(pause_queue.queue_name) > 512
    THEN
        v_problem := lockstep._name_problem('queue_name', pause_queue.queue_name);
        RAISE EXCEPTION '%', v_problem[1]
            USING ERRCODE = 'invalid_parameter_value', DETAIL = v_problem[2], HINT = v_problem[3];
    END IF;

    INSERT INTO lockstep.queue (queue_name, is_paused)
    VALUES (pause_queue.queue_name, true)
    ON CONFLICT (queue_name) DO UPDATE
    SET is_paused = true;
END
$$;
COMMENT ON FUNCTION lockstep.pause_queue(text) IS
    'Stops workers from claiming out of a queue; what runs goes on.';
