-- Creates a queue with limits, or replaces the limits of one that exists.
--
-- A queue needs no row to be used: without one it is unlimited. What is left out is no
-- limit; alter_queue() changes some and leaves the others. A paused queue stays paused.
--
-- concurrency: workflows that run at once, over all workers; worker_concurrency: in one
-- worker; rate_limit and rate_period: executions that begin in any window of that
-- length, where a month has 30 days and a day 24 hours; the partition limits: the same
-- for the workflows of one queue_partition_key.
-- Limits hold from the claims that begin after the commit; what runs goes on.
--
-- Lock order: as _write_queue().
CREATE OR REPLACE FUNCTION lockstep.create_queue(
    queue_name text,
    concurrency int DEFAULT NULL,
    worker_concurrency int DEFAULT NULL,
    rate_limit int DEFAULT NULL,
    rate_period interval DEFAULT NULL,
    partition_concurrency int DEFAULT NULL,
    partition_rate_limit int DEFAULT NULL,
    partition_rate_period interval DEFAULT NULL
)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM lockstep._write_queue(jsonb_populate_record(NULL::lockstep.queue, jsonb_build_object(
        'queue_name', create_queue.queue_name,
        'concurrency', create_queue.concurrency,
        'worker_concurrency', create_queue.worker_concurrency,
        'rate_limit', create_queue.rate_limit,
        'rate_period', create_queue.rate_period,
        'partition_concurrency', create_queue.partition_concurrency,
        'partition_rate_limit', create_queue.partition_rate_limit,
        'partition_rate_period', create_queue.partition_rate_period
    )));
END
$$;
COMMENT ON FUNCTION lockstep.create_queue(text, int, int, int, interval, int, int, interval) IS
    'Creates a queue with limits, or replaces the limits of one that exists.';
