-- Deletes up to max_count workflows that ended longer ago than an interval.
--
-- With them go their steps, messages, events, streams and what is left of their waits.
-- Returns how many it deleted; call it until that is fewer than max_count, each time in
-- a transaction of its own, so that no call holds up vacuum or a restart. A child stays
-- while its parent, which may not have read its result yet, has not ended.
--
-- workflow_status_list_idx leads to them: of each status, queue and name the oldest first,
-- by the time they were enqueued, so that of those which ran for longer than the interval
-- more are looked at. Locks workflow rows FOR UPDATE, skipping locked ones, among them those
-- that record_step() in an open transaction holds (FOR KEY SHARE), and then waits for the
-- other writes of the executors that ran them (_await_writes()). So no step is left.
CREATE OR REPLACE FUNCTION lockstep.purge_workflows(older_than interval, max_count int DEFAULT 1000)
RETURNS int
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $$
DECLARE
    v_ended_before timestamptz;
    v_ids text[] := ARRAY[]::text[];
    r_kind record;
BEGIN
    IF purge_workflows.older_than IS NULL
        OR purge_workflows.older_than NOT BETWEEN interval '0' AND interval '1000 years'
    THEN
        RAISE EXCEPTION 'older_than must not be negative, nor over 1000 years'
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = format('It is %s.', coalesce(purge_workflows.older_than::text, 'null')),
                  HINT = 'Pass how long workflows are kept after they ended, as interval ''30 days''.';
    END IF;
    PERFORM lockstep._checked_filter('{}', purge_workflows.max_count);
    v_ended_before := clock_timestamp() - purge_workflows.older_than;

    FOR r_kind IN
        WITH RECURSIVE kind AS (
            SELECT f.status, f.queue_name, f.workflow_name
            FROM unnest(ARRAY['SUCCESS', 'ERROR', 'CANCELLED', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED']) AS s (status)
            CROSS JOIN LATERAL (
                SELECT w.status, w.queue_name, w.workflow_name
                FROM lockstep.workflow_status AS w
                WHERE (w.status <> 'PENDING') IS TRUE
                    AND w.status = s.status
                ORDER BY w.status, w.queue_name, w.workflow_name
                LIMIT 1
            ) AS f
            UNION ALL
            SELECT n.status, n.queue_name, n.workflow_name
            FROM kind AS k
            CROSS JOIN LATERAL (
                SELECT w.status, w.queue_name, w.workflow_name
                FROM lockstep.workflow_status AS w
                WHERE (w.status <> 'PENDING') IS TRUE
                    AND w.status = k.status
                    AND (w.queue_name, w.workflow_name) > (k.queue_name, k.workflow_name)
                ORDER BY w.status, w.queue_name, w.workflow_name
                LIMIT 1
            ) AS n
        )

        SELECT k.status, k.queue_name, k.workflow_name
        FROM kind AS k
    LOOP
        v_ids := v_ids || ARRAY(
            SELECT w.workflow_id
            FROM lockstep.workflow_status AS w
            WHERE (w.status <> 'PENDING') IS TRUE
                AND w.status = r_kind.status
                AND w.queue_name = r_kind.queue_name
                AND w.workflow_name = r_kind.workflow_name
                AND w.created_at <= v_ended_before
                AND w.completed_at <= v_ended_before
                AND NOT EXISTS (
                    SELECT
                    FROM lockstep.workflow_status AS p
                    WHERE p.workflow_id = w.parent_workflow_id
                        AND p.completed_at IS NULL
                )
            ORDER BY w.created_at
            LIMIT purge_workflows.max_count - cardinality(v_ids)
            FOR UPDATE OF w SKIP LOCKED
        );
        EXIT WHEN cardinality(v_ids) = purge_workflows.max_count;
    END LOOP;

    PERFORM lockstep._await_writes(v_ids);

    -- a workflow that stopped waiting may have left its entry with what it waited for
    DELETE FROM lockstep.waiter AS e
    USING lockstep.operation_outputs AS o
    WHERE o.workflow_id = ANY (v_ids)
        AND o.child_workflow_id IS NOT NULL
        AND e.awaited_id = ANY (ARRAY[o.child_workflow_id])
        AND NOT e.is_client
        AND e.waiter = o.workflow_id;

    DELETE FROM lockstep.waiter AS e WHERE e.awaited_id = ANY (v_ids);
    DELETE FROM lockstep.operation_outputs AS o WHERE o.workflow_id = ANY (v_ids);
    DELETE FROM lockstep.workflow_events AS v WHERE v.workflow_id = ANY (v_ids);
    DELETE FROM lockstep.workflow_streams AS s WHERE s.workflow_id = ANY (v_ids);
    DELETE FROM lockstep.notifications AS n WHERE n.destination_id = ANY (v_ids) AND n.consumed_at IS NULL;
    DELETE FROM lockstep.notifications AS n WHERE n.destination_id = ANY (v_ids) AND n.consumed_at IS NOT NULL;
    DELETE FROM lockstep.workflow_status AS w WHERE w.workflow_id = ANY (v_ids);

    RETURN cardinality(v_ids);
END
$$;
COMMENT ON FUNCTION lockstep.purge_workflows(interval, int) IS
    'Deletes workflows that ended longer ago than an interval, with all that they recorded.';
