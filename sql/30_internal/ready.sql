-- Locks the workflows that an executor may start now, in the order of their queues.
--
-- Of several queues the one comes first whose first workflow comes first, so that none
-- starves behind the backlog of another; those without limits count as one. The rows of
-- limited queues are locked before the time is taken that counts for rate limits. A row
-- that is locked is not waited for but read as "nothing now": the client that changes the
-- queue in an open transaction must not stop a worker that serves others too.
--
-- Suspects are passed over, or, if p_is_alone, everything else is.
-- look_again_in as _claim() describes it.
CREATE OR REPLACE FUNCTION lockstep._ready(
    p_executor lockstep.executor,
    p_max_count int,
    p_low_water jsonb,
    p_is_alone boolean,
    OUT ready tid[],
    OUT taken_at timestamptz,
    OUT look_again_in double precision
)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_limited text[];
    v_free text[];
    v_held lockstep.queue[];
    r_queue lockstep.queue;
    r_ready record;
BEGIN
    ready := ARRAY[]::tid[];
    taken_at := clock_timestamp();

    v_limited := ARRAY(
        SELECT q.queue_name
        FROM lockstep.queue AS q
        WHERE q.queue_name = ANY (p_executor.queues)
            AND (
                q.is_paused
                OR num_nonnulls(
                    q.concurrency, q.worker_concurrency, q.rate_limit,
                    q.partition_concurrency, q.partition_rate_limit
                ) > 0
            )
    );

    IF v_limited = '{}' THEN
        ready := lockstep._ready_in_queues(
            p_executor.queues, p_executor, p_max_count, p_low_water, p_is_alone
        );
    ELSE
        v_free := ARRAY(SELECT unnest(p_executor.queues) EXCEPT SELECT unnest(v_limited));
        v_held := ARRAY(
            SELECT q
            FROM lockstep.queue AS q
            WHERE q.queue_name = ANY (v_limited)
            ORDER BY q.queue_name
            FOR NO KEY UPDATE SKIP LOCKED
        );
        taken_at := clock_timestamp();
        -- counts in other isolation levels are as old as the snapshot: a row that has changed
        -- since fails the claim with 40001, where a row that was only locked would not
        IF current_setting('transaction_isolation') <> 'read committed' THEN
            UPDATE lockstep.queue AS q
            SET is_paused = q.is_paused
            WHERE q.queue_name IN (SELECT h.queue_name FROM unnest(v_held) AS h);
        END IF;
        IF cardinality(v_held) < cardinality(v_limited) THEN
            look_again_in := 0.02 + 0.04 * random();
        END IF;

        FOR r_queue IN
            SELECT q.*
            FROM unnest(v_held || NULL::lockstep.queue) AS q  -- NULL stands for all without limits
            LEFT JOIN LATERAL (
                SELECT w.priority, w.available_at
                FROM lockstep._stretches(
                    CASE WHEN q.queue_name IS NULL THEN v_free ELSE ARRAY[q.queue_name] END,
                    -- those with limits per partition are not claimed in order
                    CASE
                        WHEN num_nonnulls(q.partition_concurrency, q.partition_rate_limit) = 0 THEN p_low_water
                    END
                ) AS s
                CROSS JOIN LATERAL (
                    SELECT w.priority, w.available_at
                    FROM lockstep.workflow_status AS w
                    WHERE w.queue_name = s.queue_name
                        AND (w.priority, w.available_at) >= (s.from_priority, s.from_time)
                        AND w.priority <= s.to_priority
                        AND w.status = 'ENQUEUED'
                    ORDER BY w.priority, w.available_at
                    LIMIT 1
                ) AS w
                ORDER BY w.priority, w.available_at
                LIMIT 1
            ) AS head ON true
            WHERE q.is_paused IS NOT TRUE
            ORDER BY head.priority, head.available_at
        LOOP
            EXIT WHEN cardinality(ready) >= p_max_count;

            IF r_queue.queue_name IS NULL THEN
                ready := ready || lockstep._ready_in_queues(
                    v_free, p_executor, p_max_count - cardinality(ready), p_low_water, p_is_alone
                );
            ELSE
                r_ready := lockstep._ready_in_limited_queue(
                    r_queue, p_executor, p_max_count - cardinality(ready), taken_at, p_low_water,
                    p_is_alone
                );
                ready := ready || r_ready.ready;
                look_again_in := least(look_again_in, r_ready.look_again_in);
            END IF;
        END LOOP;
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep._ready(lockstep.executor, int, jsonb, boolean) IS
    'Locks the workflows that an executor may start now, in the order of their queues.';
