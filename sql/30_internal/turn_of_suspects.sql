-- Tells what a claim of an executor does about workflows that may kill it.
--
-- A worker that dies takes all it runs with it, so its death says little of any one of
-- them. Therefore a suspect (_is_suspect()) runs alone: an executor that holds nothing
-- takes it and nothing else, for the time of a lease, and until its end if the attempt is
-- the last. So what ends in the dead letter died alone, and an innocent workflow is not
-- charged with more than the deaths that made it a suspect.
--
-- turn: 'take', a suspect waits and the executor holds nothing; 'take last', the same, but
-- what is not suspected comes first; 'wait', nothing may be claimed, because the executor
-- runs a suspect (look_again_in: for so many seconds more) or shall run dry for one; 'none'
-- otherwise. Where suspects wait for longer than a lease, half of the executors are there for
-- them: they claim nothing until they have run dry, unless a rate limit keeps the suspects back
-- for longer than a lease, and the others take a suspect only if nothing else waits. Then it is
-- the other half's turn; turns grow with the time that a suspect has waited. So it waits no
-- longer than a few times the longest execution, and the rest of the work goes on, however
-- many suspects there are.
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
    v_is_turn boolean;
BEGIN
    turn := 'none';

    IF p_executor.suspect_id IS NOT NULL THEN
        IF NOT EXISTS (
            SELECT
            FROM lockstep.workflow_status AS w
            WHERE w.workflow_id = p_executor.suspect_id
                AND (w.status, w.executor_id) IS NOT DISTINCT FROM ('PENDING', p_executor.executor_id)
        ) THEN
            UPDATE lockstep.executor AS e
            SET suspect_id = NULL, alone_until = NULL
            WHERE e.executor_id = p_executor.executor_id;
        ELSIF p_executor.alone_until > p_now THEN
            turn := 'wait';
            IF isfinite(p_executor.alone_until) THEN
                look_again_in := extract(EPOCH FROM p_executor.alone_until - p_now)::double precision;
            END IF;
            RETURN;
        END IF;
    END IF;

    v_since := (
        SELECT min(head.available_at)
        FROM unnest(p_executor.queues) AS n (queue_name)
        CROSS JOIN LATERAL (
            SELECT w.available_at
            FROM lockstep.workflow_status AS w
            WHERE (w.status = 'ENQUEUED') IS TRUE  -- as the index of suspects says it, and no other
                AND lockstep._is_suspect(w.attempts, w.max_attempts)
                AND w.queue_name = n.queue_name
                AND w.workflow_name = ANY (p_executor.workflow_names)
                AND (w.app_version IS NULL OR w.app_version = p_executor.app_version)
            ORDER BY w.priority, w.available_at
            LIMIT 1
        ) AS head
        WHERE NOT EXISTS (
            SELECT
            FROM lockstep.queue AS q
            WHERE q.queue_name = n.queue_name
                AND q.is_paused
        )
    );
    IF v_since IS NULL THEN
        RETURN;
    END IF;

    v_leases := (
        extract(EPOCH FROM p_now - v_since) / extract(EPOCH FROM p_executor.lease_duration)
    )::double precision;
    v_is_turn := CASE
        WHEN v_leases >= 1
            THEN floor(ln(v_leases) / ln(2))::int % 2 = abs(hashtext(p_executor.executor_id) % 2)
    END;

    IF NOT EXISTS (
        SELECT
        FROM lockstep.workflow_status AS w
        WHERE w.status = 'PENDING'
            AND w.executor_id = p_executor.executor_id
    ) THEN
        turn := CASE WHEN v_is_turn IS FALSE THEN 'take last' ELSE 'take' END;
    ELSIF v_is_turn AND lockstep._may_start_suspect(p_executor, p_now) THEN
        turn := 'wait';
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep._turn_of_suspects(lockstep.executor, timestamptz) IS
    'Tells what a claim of an executor does about workflows that may kill it.';
