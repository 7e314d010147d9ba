-- Tells what a claim of an executor does about workflows that may kill it.
--
-- A worker that dies takes all it runs with it, so its death says little of any one of
-- them. Therefore a suspect (_is_suspect()) runs alone: an executor that holds nothing
-- takes it and nothing else, for the time of a lease, and until its end if the attempt is
-- the last. So what ends in the dead letter died alone, and an innocent workflow is not
-- charged with more than the deaths that made it a suspect.
--
-- turn: 'take', a suspect waits and the executor holds nothing; 'wait', nothing may be
-- claimed, because the executor runs a suspect (look_again_in: for so many seconds more)
-- or shall run dry for one; 'none' otherwise. Where no executor is without work for a lease, half
-- of them claim nothing for a while, and then the other half, in turns whose length grows
-- with the time that a suspect has waited: so it waits no longer than a few times the
-- longest execution, and the rest of the work goes on.
CREATE OR REPLACE FUNCTION lockstep._turn_of_suspects(
    p_executor lockstep.executor,
    p_now timestamptz,
    OUT turn text,
    OUT look_again_in double precision
)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_since timestamptz;
    v_leases double precision;
BEGIN
    turn := 'none';

    IF p_executor.suspect_id IS NOT NULL THEN
        IF p_executor.alone_until > p_now AND EXISTS (
            SELECT
            FROM lockstep.workflow_status AS w
            WHERE w.workflow_id = p_executor.suspect_id
                AND (w.status, w.executor_id) IS NOT DISTINCT FROM ('PENDING', p_executor.executor_id)
        ) THEN
            turn := 'wait';
            IF isfinite(p_executor.alone_until) THEN
                look_again_in := extract(EPOCH FROM p_executor.alone_until - p_now)::double precision;
            END IF;
            RETURN;
        END IF;

        UPDATE lockstep.executor AS e
        SET suspect_id = NULL, alone_until = NULL
        WHERE e.executor_id = p_executor.executor_id;
    END IF;

    v_since := (
        SELECT min(w.available_at)
        FROM lockstep.workflow_status AS w
        WHERE (w.status = 'ENQUEUED') IS TRUE  -- as the index of suspects says it, and no other
            AND lockstep._is_suspect(w.attempts, w.max_attempts)
            AND w.queue_name = ANY (p_executor.queues)
            AND w.workflow_name = ANY (p_executor.workflow_names)
            AND (w.app_version IS NULL OR w.app_version = p_executor.app_version)
            AND NOT EXISTS (
                SELECT
                FROM lockstep.queue AS q
                WHERE q.queue_name = w.queue_name
                    AND q.is_paused
            )
    );

    IF v_since IS NULL THEN
        RETURN;
    ELSIF NOT EXISTS (
        SELECT
        FROM lockstep.workflow_status AS w
        WHERE w.status = 'PENDING'
            AND w.executor_id = p_executor.executor_id
    ) THEN
        turn := 'take';
        RETURN;
    END IF;

    v_leases := (
        extract(EPOCH FROM p_now - v_since) / extract(EPOCH FROM p_executor.lease_duration)
    )::double precision;
    IF v_leases >= 1 AND floor(ln(v_leases) / ln(2))::int % 2 = abs(hashtext(p_executor.executor_id) % 2) THEN
        turn := 'wait';
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep._turn_of_suspects(lockstep.executor, timestamptz) IS
    'Tells what a claim of an executor does about workflows that may kill it.';
