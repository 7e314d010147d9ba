-- Writes the limits that create_queue(), alter_queue() or declare_queue() was given.
--
-- Locks the queue row, as every claim from a limited queue does, so it waits for claims
-- under way. Wakes idle workers: what a limit kept back may start now.
CREATE OR REPLACE FUNCTION lockstep._write_queue(p_queue lockstep.queue)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_problem constant text[] := lockstep._queue_problem(p_queue);
BEGIN
    IF v_problem IS NOT NULL THEN
        RAISE EXCEPTION '%', v_problem[1]
            USING ERRCODE = 'invalid_parameter_value', DETAIL = v_problem[2], HINT = v_problem[3];
    END IF;

    INSERT INTO lockstep.queue AS q (
        queue_name, concurrency, worker_concurrency, rate_limit, rate_period,
        partition_concurrency, partition_rate_limit, partition_rate_period
    )
    VALUES (
        p_queue.queue_name, p_queue.concurrency, p_queue.worker_concurrency,
        p_queue.rate_limit, p_queue.rate_period, p_queue.partition_concurrency,
        p_queue.partition_rate_limit, p_queue.partition_rate_period
    )
    ON CONFLICT (queue_name) DO UPDATE
    SET
        concurrency = excluded.concurrency,
        worker_concurrency = excluded.worker_concurrency,
        rate_limit = excluded.rate_limit,
        rate_period = excluded.rate_period,
        partition_concurrency = excluded.partition_concurrency,
        partition_rate_limit = excluded.partition_rate_limit,
        partition_rate_period = excluded.partition_rate_period;

    DELETE FROM lockstep.queue_start AS s
    WHERE s.queue_name = p_queue.queue_name
        AND CASE WHEN s.is_partition THEN p_queue.partition_rate_limit ELSE p_queue.rate_limit END IS NULL;

    PERFORM lockstep._ring_doorbell(ARRAY[p_queue.queue_name]);
END
$$;
COMMENT ON FUNCTION lockstep._write_queue(lockstep.queue) IS
    'Writes the limits that create_queue(), alter_queue() or declare_queue() was given.';
