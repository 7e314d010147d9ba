-- Claims workflows for an executor, as claim_workflows() and advance_workflows() describe it.
--
-- claimed: a JSON array of the workflows, what users wrote in it as JSON texts, NULL if
-- there is none; "priority" and "available_at", from which a caller makes its mark, only where
-- p_reports_places asks for them, the latter half a second old at the least: what became
-- available since then, such as a delay that ended, may not have been committed yet.
-- look_again_in: seconds after which a claim may bring what this one could not, if a
-- rate limit or another claim from the same queue is what kept it back.
--
-- What may have killed its workers runs alone, as _turn_of_suspects() describes it.
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
    v_ready tid[];
    v_is_alone boolean;
    v_reports_places boolean;
    r_executor lockstep.executor;
    r_turn record;
    r_ready record;
BEGIN
    SELECT e.*
    INTO r_executor
    FROM lockstep.executor AS e
    WHERE e.executor_id = p_executor_id;

    r_turn := lockstep._turn_of_suspects(r_executor, v_now);
    IF r_turn.turn = 'wait' THEN
        look_again_in := r_turn.look_again_in;
        RETURN;
    END IF;

    FOREACH v_is_alone IN ARRAY
        CASE r_turn.turn WHEN 'take' THEN '{t,f}' WHEN 'take last' THEN '{f,t}' ELSE '{f}' END::boolean[]
    LOOP
        r_ready := lockstep._ready(
            r_executor,
            CASE WHEN v_is_alone THEN 1 ELSE p_max_count END,
            CASE WHEN NOT v_is_alone THEN p_low_water END,
            v_is_alone
        );
        v_ready := r_ready.ready;
        look_again_in := least(look_again_in, r_ready.look_again_in);
        EXIT WHEN cardinality(v_ready) > 0;
    END LOOP;
    v_now := r_ready.taken_at;
    -- a suspect comes from wherever it waits: what others wait before it is not drained
    v_reports_places := p_reports_places AND NOT v_is_alone;

    IF v_is_alone AND cardinality(v_ready) > 0 THEN
        UPDATE lockstep.executor AS e
        SET
            suspect_id = w.workflow_id,
            alone_until = CASE
                WHEN w.attempts + 1 >= w.max_attempts THEN 'infinity'
                ELSE v_now + e.lease_duration
            END
        FROM lockstep.workflow_status AS w
        WHERE w.ctid = v_ready[1]
            AND e.executor_id = p_executor_id;
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
            'priority', CASE WHEN v_reports_places THEN c.priority END,
            'available_at', CASE WHEN v_reports_places THEN least(c.available_at, v_now - interval '500 ms') END
        )
        ORDER BY c.priority, c.available_at
    )
    INTO claimed
    FROM claimed_row AS c;
END
$$;
COMMENT ON FUNCTION lockstep._claim(text, int, jsonb, boolean) IS
    'Claims workflows for an executor, for claim_workflows() and advance_workflows().';
