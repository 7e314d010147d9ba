-- Puts back what dead executors held; any worker may call it at any time.
--
-- Returns how many workflows it put back, with the seconds until the next
-- lease ends, NULL when there is none. A workflow whose executor died under it
-- max_attempts times goes to the dead letter; from the fourth death on it also
-- waits before it runs again, 1 s, 2 s, 4 s and so on up to a minute, so that
-- a workflow which kills its worker cannot spin. An executor from before a failover or a
-- restore is ended at once (_is_alive()), and no death is counted: nothing that it ran did that.
--
-- A lease that ends later than its length from now was given before the clock was set
-- back. It is cut to that length, or a dead executor's would last until the clock is there
-- again. And who was not heard since the server started has the length of its lease from then:
-- after an outage longer than all leases, whoever came back first would declare the others dead.
--
-- First the lease is ended for good: -infinity, under FOR UPDATE, which no
-- write of the executor survives (_hold_executor). Its workflows follow; one
-- that a client holds locked is skipped and found again by a later call, as the
-- executor row goes only when it holds nothing, and so is one that goes to the dead
-- letter while the row of who waits for it is locked. Lock order: executor rows, then
-- workflow rows, skipping locked ones of both.
CREATE OR REPLACE FUNCTION lockstep.recover_workflows(
    OUT recovered_count int,
    OUT next_expiry_in double precision
)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    v_now constant timestamptz := clock_timestamp();
    v_moved_count int;
    v_dead text[];
    v_queues text[];
    v_held text[];
    v_given_up text[];
    v_blocked text[];
BEGIN
    -- more than a second, because heartbeats come after v_now
    UPDATE lockstep.executor AS e
    SET expires_at = v_now + e.lease_duration
    WHERE e.executor_id = ANY (
        ARRAY(
            SELECT l.executor_id
            FROM lockstep.executor AS l
            WHERE l.expires_at > v_now + l.lease_duration + interval '1 s'
            FOR NO KEY UPDATE SKIP LOCKED
        )
    );

    SELECT sum(lockstep.unregister_executor(m.executor_id))::int
    INTO v_moved_count
    FROM (
        SELECT e.executor_id
        FROM lockstep.executor AS e
        WHERE e.expires_at > '-infinity'
            AND NOT lockstep._is_alive(e)
        FOR UPDATE SKIP LOCKED
    ) AS m;

    v_dead := ARRAY(
        SELECT e.executor_id
        FROM lockstep.executor AS e
        WHERE e.expires_at <= v_now
            AND (
                e.expires_at = '-infinity'
                OR coalesce(e.server_started_at = pg_postmaster_start_time(), true)
                OR v_now - pg_postmaster_start_time() NOT BETWEEN interval '0' AND e.lease_duration
            )
        FOR UPDATE SKIP LOCKED
    );

    IF cardinality(v_dead) > 0 THEN
        UPDATE lockstep.executor AS e
        SET expires_at = '-infinity', is_idle = false
        WHERE e.executor_id = ANY (v_dead)
            AND e.expires_at > '-infinity';

        SELECT
            array_agg(h.workflow_id),
            coalesce(array_agg(h.workflow_id) FILTER (WHERE h.is_last_attempt), '{}')
        INTO v_held, v_given_up
        FROM (
            SELECT w.workflow_id, w.attempts >= w.max_attempts AS is_last_attempt
            FROM lockstep.workflow_status AS w
            WHERE w.status = 'PENDING'
                AND w.executor_id = ANY (v_dead)
            FOR NO KEY UPDATE SKIP LOCKED
        ) AS h;

        v_blocked := lockstep._awaited_by_held(v_given_up);

        WITH recovered AS (
            UPDATE lockstep.workflow_status AS w
            SET
                status = CASE
                    WHEN w.attempts >= w.max_attempts THEN 'MAX_RECOVERY_ATTEMPTS_EXCEEDED'
                    WHEN w.attempts > 3 THEN 'DELAYED'
                    ELSE 'ENQUEUED'
                END,
                error = CASE
                    WHEN w.attempts >= w.max_attempts
                        THEN lockstep._error_document(
                            'MaxRecoveryAttemptsExceeded',
                            format('its executor died under each of its %s attempts', w.attempts)
                        )
                    ELSE w.error
                END,
                completed_at = CASE WHEN w.attempts >= w.max_attempts THEN v_now END,
                available_at = CASE
                    WHEN w.attempts > 3
                        THEN v_now + least(interval '1 s' * 2 ^ least(w.attempts - 4, 10), interval '1 min')
                    ELSE v_now
                END,
                executor_id = CASE WHEN w.attempts >= w.max_attempts THEN w.executor_id END
            FROM unnest(v_held) AS h (workflow_id)
            WHERE w.workflow_id = ANY (ARRAY[h.workflow_id])
                AND w.workflow_id <> ALL (v_blocked)
            RETURNING w.workflow_id, w.queue_name, w.completed_at IS NOT NULL AS is_given_up
        )

        SELECT
            count(*)::int, array_agg(DISTINCT r.queue_name),
            array_agg(r.workflow_id) FILTER (WHERE r.is_given_up)
        INTO recovered_count, v_queues, v_given_up
        FROM recovered AS r;

        DELETE FROM lockstep.executor AS e
        WHERE e.executor_id = ANY (v_dead)
            AND NOT EXISTS (
                SELECT
                FROM lockstep.workflow_status AS w
                WHERE w.status = 'PENDING'
                    AND w.executor_id = e.executor_id
            );

        IF v_given_up IS NOT NULL THEN
            PERFORM lockstep._settle_ended(v_given_up, v_given_up);
        END IF;

        IF v_queues IS NOT NULL THEN
            PERFORM lockstep._ring_doorbell(v_queues);
        END IF;
    END IF;

    recovered_count := coalesce(recovered_count, 0) + coalesce(v_moved_count, 0);

    -- an executor that could not be dealt with now is looked at again in a second
    SELECT extract(EPOCH FROM min(greatest(e.expires_at, v_now + interval '1 s')) - v_now)::double precision
    INTO next_expiry_in
    FROM lockstep.executor AS e;
END
$$;
COMMENT ON FUNCTION lockstep.recover_workflows() IS
    'Puts back what dead executors held.';
