-- Claims workflows for an executor, as claim_workflows() and advance_workflows() describe it.
--
-- claimed: a JSON array of the workflows, what users wrote in it as JSON texts, NULL if
-- there is none; "priority" and "available_at", from which a caller makes its mark, only where
-- p_reports_places asks for them, the latter half a second old at the least: what became
-- available since then, such as a delay that ended, may not have been committed yet.
-- look_again_in: seconds after which a claim may bring what this one could not, if a
-- rate limit or another claim from the same queue is what kept it back.
--
-- Of several queues the one comes first whose first workflow comes first, so that none
-- starves behind the backlog of another; those without limits count as one. The rows of
-- limited queues are locked before the time is taken that counts for rate limits. A row
-- that is locked is not waited for but read as "nothing now": the client that changes the
-- queue in an open transaction must not stop a worker that serves others too.
CREATE OR REPLACE FUNCTION lockstep._claim(
    p_executor_id text,
    p_max_count int,
    p_low_water jsonb,
    p_reports_places boolean,
    OUT claimed json,
    OUT look_again_in double precision
)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
-- an ANALYZE of an empty table must not turn the claim into a scan and a sort
SET enable_seqscan = off
SET enable_bitmapscan = off
-- a plan that seqscans all the same costs so much on paper that it would be compiled
SET jit = off
AS $$
DECLARE
    v_now timestamptz := clock_timestamp();
    v_ready tid[] := ARRAY[]::tid[];
    v_limited text[];
    v_free text[];
    v_held lockstep.queue[];
    r_executor lockstep.executor;
    r_queue lockstep.queue;
    r_ready record;
BEGIN
    SELECT e.*
    INTO r_executor
    FROM lockstep.executor AS e
    WHERE e.executor_id = p_executor_id;

    v_limited := ARRAY(
        SELECT q.queue_name
        FROM lockstep.queue AS q
        WHERE q.queue_name = ANY (r_executor.queues)
            AND (
                q.is_paused
                OR num_nonnulls(
                    q.concurrency, q.worker_concurrency, q.rate_limit,
                    q.partition_concurrency, q.partition_rate_limit
                ) > 0
            )
    );

    IF v_limited = '{}' THEN
        v_ready := lockstep._ready_in_queues(r_executor.queues, r_executor, p_max_count, p_low_water);
    ELSE
        v_free := ARRAY(SELECT unnest(r_executor.queues) EXCEPT SELECT unnest(v_limited));
        v_held := ARRAY(
            SELECT q
            FROM lockstep.queue AS q
            WHERE q.queue_name = ANY (v_limited)
            ORDER BY q.queue_name
            FOR NO KEY UPDATE SKIP LOCKED
        );
        v_now := clock_timestamp();
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
                FROM unnest(CASE WHEN q.queue_name IS NULL THEN v_free ELSE ARRAY[q.queue_name] END) AS n (queue_name)
                CROSS JOIN LATERAL (
                    SELECT w.priority, w.available_at
                    FROM lockstep.workflow_status AS w
                    WHERE w.queue_name = n.queue_name
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
            EXIT WHEN cardinality(v_ready) >= p_max_count;

            IF r_queue.queue_name IS NULL THEN
                v_ready := v_ready || lockstep._ready_in_queues(
                    v_free, r_executor, p_max_count - cardinality(v_ready), p_low_water
                );
            ELSE
                r_ready := lockstep._ready_in_limited_queue(
                    r_queue, r_executor, p_max_count - cardinality(v_ready), v_now
                );
                v_ready := v_ready || r_ready.ready;
                look_again_in := least(look_again_in, r_ready.look_again_in);
            END IF;
        END LOOP;
    END IF;

    WITH claimed_row AS (
        UPDATE lockstep.workflow_status AS w
        SET
            status = 'PENDING',
            executor_id = p_executor_id,
            attempts = w.attempts + 1,
            started_at = coalesce(w.started_at, v_now),
            deadline_at = CASE
                WHEN w.started_at IS NULL THEN least(w.deadline_at, v_now + w.timeout)
                ELSE coalesce(w.deadline_at, v_now + w.timeout)
            END,
            app_version = CASE WHEN r_executor.pins_version THEN r_executor.app_version ELSE w.app_version END
        WHERE w.ctid = ANY (v_ready)
        RETURNING
            w.workflow_id, w.workflow_name, w.queue_name, w.inputs, w.headers, w.attempts,
            w.priority, w.available_at, w.deadline_at,
            w.started_at <> v_now OR w.forked_from IS NOT NULL AS has_history
    )

    SELECT json_agg(
        json_build_object(
            'workflow_id', c.workflow_id, 'workflow_name', c.workflow_name,
            'queue_name', c.queue_name, 'inputs', c.inputs::text, 'headers', c.headers::text,
            'attempt', c.attempts,
            'steps', CASE WHEN c.has_history THEN lockstep._recorded_steps(c.workflow_id) END,
            'deadline_in', extract(EPOCH FROM c.deadline_at - v_now),
            'priority', CASE WHEN p_reports_places THEN c.priority END,
            'available_at', CASE WHEN p_reports_places THEN least(c.available_at, v_now - interval '500 ms') END
        )
        ORDER BY c.priority, c.available_at
    )
    INTO claimed
    FROM claimed_row AS c;
END
$$;
COMMENT ON FUNCTION lockstep._claim(text, int, jsonb, boolean) IS
    'Claims workflows for an executor, for claim_workflows() and advance_workflows().';
