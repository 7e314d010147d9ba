-- Locks the workflows of a limited queue that may start now.
--
-- The caller holds the queue's row until the claim commits, so the counts that it starts
-- from stay true: what runs can only become less meanwhile. Claims of one limited queue
-- follow each other, other queues do not notice. look_again_in: seconds until a rate
-- limit lets the next start, if one keeps workflows back.
--
-- Every execution that begins counts for a rate: the first, and each that follows a
-- wait, a retry or a recovery, for each may call what the limit protects.
--
-- Locks workflow rows, skipping locked ones.
CREATE OR REPLACE FUNCTION lockstep._ready_in_limited_queue(
    p_queue lockstep.queue,
    p_executor lockstep.executor,
    p_max_count int,
    p_now timestamptz,
    p_low_water jsonb,
    p_is_alone boolean,
    OUT ready tid[],
    OUT look_again_in double precision
)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_room int := p_max_count;
    r_running record;
    r_rate record;
BEGIN
    ready := ARRAY[]::tid[];

    -- A window has one length, with months of 30 days and days of 24 hours. By the calendar a
    -- start of January 31st would be waited for until February 28th, and count until March 1st.
    p_queue.rate_period := make_interval(secs => extract(EPOCH FROM p_queue.rate_period)::double precision);
    p_queue.partition_rate_period := make_interval(
        secs => extract(EPOCH FROM p_queue.partition_rate_period)::double precision
    );

    IF num_nonnulls(p_queue.rate_limit, p_queue.partition_rate_limit) > 0 THEN
        PERFORM lockstep._pull_back_starts(p_queue.queue_name, p_now);
    END IF;

    IF p_queue.concurrency IS NOT NULL OR p_queue.worker_concurrency IS NOT NULL THEN
        SELECT count(*) AS of_all, count(*) FILTER (WHERE w.executor_id = p_executor.executor_id) AS of_this
        INTO r_running
        FROM lockstep.workflow_status AS w
        WHERE w.status = 'PENDING'
            AND w.queue_name = p_queue.queue_name;

        v_room := least(
            v_room, p_queue.concurrency - r_running.of_all, p_queue.worker_concurrency - r_running.of_this
        )::int;
    END IF;

    IF p_queue.rate_limit IS NOT NULL THEN
        r_rate := lockstep._rate_room(
            p_queue.queue_name, false, '', p_queue.rate_limit, p_queue.rate_period, p_now
        );
        v_room := least(v_room, r_rate.room);
        look_again_in := r_rate.next_in;
    END IF;

    IF v_room <= 0 THEN
        RETURN;
    ELSIF p_is_alone
        AND num_nonnulls(p_queue.partition_concurrency, p_queue.partition_rate_limit) > 0
    THEN
        ready := lockstep._ready_suspect_in_partitions(p_queue, p_executor, p_now);
    ELSIF p_queue.partition_concurrency IS NOT NULL OR p_queue.partition_rate_limit IS NOT NULL THEN
        SELECT r.ready, r.look_again_in
        INTO ready, look_again_in
        FROM lockstep._ready_in_partitions(p_queue, p_executor, v_room, p_now) AS r;
    ELSE
        ready := lockstep._ready_in_queues(ARRAY[p_queue.queue_name], p_executor, v_room, p_low_water, p_is_alone);
    END IF;

    IF p_queue.rate_limit IS NOT NULL AND cardinality(ready) > 0 THEN
        PERFORM lockstep._log_starts(
            p_queue.queue_name, false, ARRAY[''], ARRAY[cardinality(ready)], p_queue.rate_period, p_now
        );
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep._ready_in_limited_queue(
    lockstep.queue, lockstep.executor, int, timestamptz, jsonb, boolean
) IS
    'Locks the workflows of a limited queue that may start now.';
