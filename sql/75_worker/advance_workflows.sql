-- Advances an executor's workflows: records, sends, suspends, finishes and
-- claims in one call and one commit.
--
-- changes: an object with any of "steps", "timers", "events", "streams", "progress",
-- "children", "messages", "receives", "awaits", "outcomes" and "suspensions", each as
-- the function of that part describes it; claim_count: how many new workflows to
-- claim; low_water: where to begin to look for them, for claim_workflows(); [] for the
-- head, where the answer shall tell the places of what was claimed. Returns an object
-- with "lost" (workflow ids), "now", the database's time in seconds since 1970, and,
-- if any, "timers", "streams", "children", "messages", "receives", "awaits" and
-- "suspensions" as those functions return them, and "claimed", with "claim_seconds",
-- what the claim took, and "claim_again_in", the seconds after which another may bring
-- more, if a rate limit or another claim kept this one back. "connection_number" in changes is
-- that of reconcile_workflows(): what was sent on an earlier connection than the worker's last, and
-- comes late, is refused, as the worker has sent it again since. What users wrote (inputs,
-- headers, outputs, errors, messages) comes as JSON texts inside the JSON, as
-- _recorded_steps() explains.
--
-- One call for everything that many workflows wait for, because the commit is
-- the cost and not the row. Lock order: that of the parts, in the order below, where
-- suspensions come after outcomes: they lock what others want to finish and wait for
-- nothing, so that executors whose workflows wait for each other's do not deadlock.
CREATE OR REPLACE FUNCTION lockstep.advance_workflows(
    executor_id text,
    changes jsonb DEFAULT '{}',
    claim_count int DEFAULT 0,
    low_water jsonb DEFAULT NULL
)
RETURNS json
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- for all of its parts: a plan made when the tables were empty must not scan full ones
SET enable_seqscan = off
SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    v_lost text[] := ARRAY[]::text[];
    v_timers json;
    v_messages json;
    v_streams json;
    v_children json;
    v_receives json;
    v_awaits json;
    v_suspensions json;
    v_claimed json;
    v_claim_again_in double precision;
    v_claim_began timestamptz;
    v_claim_seconds double precision;
BEGIN
    PERFORM lockstep._hold_executor(advance_workflows.executor_id);

    PERFORM
    FROM lockstep.executor AS e
    WHERE e.executor_id = advance_workflows.executor_id
        AND e.connection_number > (advance_workflows.changes ->> 'connection_number')::int;

    IF FOUND THEN
        RAISE EXCEPTION 'executor "%" has made another connection since', advance_workflows.executor_id
            USING ERRCODE = 'serialization_failure',
                  DETAIL = 'What it wants was sent again there.',
                  HINT = 'Nothing is to be done.';
    END IF;

    IF advance_workflows.changes ? 'steps' THEN
        v_lost := v_lost || ARRAY(
            SELECT lockstep.record_steps(advance_workflows.executor_id, advance_workflows.changes -> 'steps')
        );
    END IF;

    IF advance_workflows.changes ? 'timers' THEN
        SELECT json_agg(t)
        INTO v_timers
        FROM lockstep.start_timers(advance_workflows.executor_id, advance_workflows.changes -> 'timers') AS t;
    END IF;

    IF advance_workflows.changes ? 'events' THEN
        v_lost := v_lost || ARRAY(
            SELECT lockstep.set_events(advance_workflows.executor_id, advance_workflows.changes -> 'events')
        );
    END IF;

    IF advance_workflows.changes ? 'streams' THEN
        SELECT json_agg(w)
        INTO v_streams
        FROM lockstep.write_streams(advance_workflows.executor_id, advance_workflows.changes -> 'streams') AS w;
    END IF;

    IF advance_workflows.changes ? 'progress' THEN
        PERFORM lockstep.set_progress(advance_workflows.executor_id, advance_workflows.changes -> 'progress');
    END IF;

    IF advance_workflows.changes ? 'children' THEN
        SELECT json_agg(c)
        INTO v_children
        FROM lockstep.start_children(advance_workflows.executor_id, advance_workflows.changes -> 'children') AS c;
    END IF;

    IF advance_workflows.changes ? 'messages' THEN
        SELECT json_agg(m)
        INTO v_messages
        FROM lockstep.send_step_messages(advance_workflows.executor_id, advance_workflows.changes -> 'messages') AS m;
    END IF;

    IF advance_workflows.changes ? 'receives' THEN
        SELECT json_agg(
            json_build_object(
                'workflow_id', r.workflow_id, 'step_id', r.step_id, 'outcome', r.outcome,
                'message', r.message::text, 'remaining', r.remaining
            )
        )
        INTO v_receives
        FROM lockstep.receive_messages(advance_workflows.executor_id, advance_workflows.changes -> 'receives') AS r;
    END IF;

    IF advance_workflows.changes ? 'awaits' THEN
        SELECT json_agg(
            json_build_object(
                'workflow_id', a.workflow_id, 'step_id', a.step_id, 'outcome', a.outcome,
                'output', a.output::text, 'error', a.error::text, 'remaining', a.remaining
            )
        )
        INTO v_awaits
        FROM lockstep.await_workflows(advance_workflows.executor_id, advance_workflows.changes -> 'awaits') AS a;
    END IF;

    IF advance_workflows.changes ? 'outcomes' THEN
        v_lost := v_lost || ARRAY(
            SELECT lockstep.finish_workflows(advance_workflows.executor_id, advance_workflows.changes -> 'outcomes')
        );
    END IF;

    IF advance_workflows.changes ? 'suspensions' THEN
        SELECT json_agg(s)
        INTO v_suspensions
        FROM lockstep.suspend_workflows(
            advance_workflows.executor_id, advance_workflows.changes -> 'suspensions'
        ) AS s;
    END IF;

    IF advance_workflows.claim_count > 0 THEN
        v_claim_began := clock_timestamp();
        SELECT c.claimed, c.look_again_in
        INTO v_claimed, v_claim_again_in
        FROM lockstep._claim(
            advance_workflows.executor_id, advance_workflows.claim_count, advance_workflows.low_water,
            advance_workflows.low_water IS NOT NULL
        ) AS c;
        v_claim_seconds := extract(EPOCH FROM clock_timestamp() - v_claim_began)::double precision;
    END IF;

    RETURN json_build_object(
        'lost', v_lost, 'now', extract(EPOCH FROM clock_timestamp()), 'timers', v_timers,
        'streams', v_streams, 'children', v_children, 'messages', v_messages, 'receives', v_receives,
        'awaits', v_awaits, 'suspensions', v_suspensions,
        'claimed', v_claimed, 'claim_seconds', v_claim_seconds, 'claim_again_in', v_claim_again_in
    );
END
$$;
COMMENT ON FUNCTION lockstep.advance_workflows(text, jsonb, int, jsonb) IS
    'Records, sends, suspends, finishes and claims for an executor in one commit.';
