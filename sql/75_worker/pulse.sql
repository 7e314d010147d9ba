-- Does in one transaction what a worker must do from time to time.
--
-- Extends the executor's lease (heartbeat()), puts back what dead executors held
-- (recover_workflows()) and makes claimable what fell due
-- (promote_due_workflows()); each tells when it wants to be called next, and schedules
-- tell when they want due_schedules() to be. Says also
-- whether a workflow waits that the executor can run, so that a sleeping worker,
-- which the doorbell may have missed, need not claim to know. A busy one, which
-- claims all the time, is spared the looks into the queues.
--
-- Lock order: the executor's own row, then, skipping locked ones, the rows of dead
-- executors and workflow rows.
CREATE OR REPLACE FUNCTION lockstep.pulse(
    executor_id text,
    is_idle boolean DEFAULT false,
    is_busy boolean DEFAULT false,
    OUT unserved_names text[],
    OUT recovered_count int,
    OUT next_expiry_in double precision,
    OUT promoted_count int,
    OUT next_due_in double precision,
    OUT has_ready boolean,
    OUT next_tick_in double precision
)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $$
BEGIN
    unserved_names := ARRAY(SELECT lockstep.heartbeat(pulse.executor_id, pulse.is_idle, NOT pulse.is_busy));

    SELECT r.recovered_count, r.next_expiry_in
    INTO recovered_count, next_expiry_in
    FROM lockstep.recover_workflows() AS r;

    SELECT p.promoted_count, p.next_due_in
    INTO promoted_count, next_due_in
    FROM lockstep.promote_due_workflows() AS p;

    has_ready := NOT pulse.is_busy AND EXISTS (
        SELECT
        FROM lockstep.executor AS e
        CROSS JOIN LATERAL unnest(e.queues) AS q (queue_name)
        INNER JOIN lockstep.workflow_status AS w ON w.queue_name = q.queue_name
        WHERE e.executor_id = pulse.executor_id
            AND w.status = 'ENQUEUED'
            AND w.workflow_name = ANY (e.workflow_names)
            AND (w.app_version IS NULL OR w.app_version = e.app_version)
    );

    next_tick_in := lockstep._next_tick_in();
END
$$;
COMMENT ON FUNCTION lockstep.pulse(text, boolean, boolean) IS
    'Extends an executor''s lease, recovers and promotes workflows, in one transaction.';
