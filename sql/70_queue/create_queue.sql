-- Creates a queue with limits, or changes the limits of one that exists.
--
-- concurrency limits the workflows that run at once, partition_concurrency
-- those with one queue_partition_key; NULL is no limit. A queue needs no row to
-- be used: without one it is unlimited. Workers heed a change at their next
-- claim. Locks the queue row, as every claim from a limited queue does.
CREATE OR REPLACE FUNCTION lockstep.create_queue(
    queue_name text,
    concurrency int DEFAULT NULL,
    partition_concurrency int DEFAULT NULL
)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    v_problem text[];
BEGIN
    IF create_queue.queue_name IS NULL
        OR btrim(create_queue.queue_name) = '' OR length(create_queue.queue_name) > 512
    THEN
        v_problem := lockstep._name_problem('queue_name', create_queue.queue_name);
    ELSIF least(create_queue.concurrency, create_queue.partition_concurrency) < 1 THEN
        v_problem := ARRAY[
            'concurrency and partition_concurrency must be 1 or greater',
            format(
                'They are %s and %s.', coalesce(create_queue.concurrency::text, 'null'),
                coalesce(create_queue.partition_concurrency::text, 'null')
            ),
            'Leave a limit out for none; pause_queue() stops a queue.'
        ];
    END IF;
    IF v_problem IS NOT NULL THEN
        RAISE EXCEPTION '%', v_problem[1]
            USING ERRCODE = 'invalid_parameter_value', DETAIL = v_problem[2], HINT = v_problem[3];
    END IF;

    INSERT INTO lockstep.queue (queue_name, concurrency, partition_concurrency)
    VALUES (create_queue.queue_name, create_queue.concurrency, create_queue.partition_concurrency)
    ON CONFLICT (queue_name) DO UPDATE
    SET concurrency = excluded.concurrency, partition_concurrency = excluded.partition_concurrency;

    PERFORM lockstep._ring_doorbell(ARRAY[create_queue.queue_name]);
END
$$;
COMMENT ON FUNCTION lockstep.create_queue(text, int, int) IS
    'Creates a queue with limits, or changes the limits of one that exists.';
