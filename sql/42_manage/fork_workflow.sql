-- Enqueues a new workflow that goes on where another one was before a step.
--
-- The source may be in any status and stays as it is. The fork has its name, arguments,
-- priority, partition, headers, retries, timeout and enqueued_by, so that the same tenant sees
-- it, and, unless they are given, its queue and app_version. It begins with the source's finished
-- steps before from_step: those whose place in the main branch, step_id % 65536, is smaller.
-- What was published before the first of the other steps began is copied too: events, of which
-- the last value is known and no earlier one, and streams. Not copied are messages, as what the
-- source received is in its steps; the deduplication id; the parent; and a deadline that has
-- passed or came from a timeout. Steps with an undo step are undone if the fork fails.
--
-- Returns the new id. The same call with the same new_workflow_id returns it again;
-- 23505 if another workflow has it. A source that was compensated cannot be forked after
-- a step that was undone: 55000.
--
-- Locks the source FOR KEY SHARE: it may go on, be claimed or finish meanwhile, but not be
-- restarted or purged.
CREATE OR REPLACE FUNCTION lockstep.fork_workflow(
    workflow_id text,
    from_step int,
    new_workflow_id text DEFAULT NULL,
    app_version text DEFAULT NULL,
    queue_name text DEFAULT NULL
)
RETURNS text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    v_now constant timestamptz := clock_timestamp();
    v_new_id constant text := coalesce(fork_workflow.new_workflow_id, lockstep._generate_id(v_now));
    v_problem text[];
    v_undo_id text;
    v_first_left_out_at timestamptz;
    r_source record;
    r_rival record;
BEGIN
    IF btrim(v_new_id) = '' OR length(v_new_id) > 512 THEN
        v_problem := lockstep._name_problem('new_workflow_id', v_new_id);
    ELSIF btrim(fork_workflow.app_version) = '' OR length(fork_workflow.app_version) > 512 THEN
        v_problem := lockstep._name_problem('app_version', fork_workflow.app_version);
    ELSIF btrim(fork_workflow.queue_name) = '' OR length(fork_workflow.queue_name) > 512 THEN
        v_problem := lockstep._name_problem('queue_name', fork_workflow.queue_name);
    ELSIF fork_workflow.from_step IS NULL OR fork_workflow.from_step NOT BETWEEN 1 AND 65535 THEN
        v_problem := ARRAY[
            'from_step must be between 1 and 65535',
            format('It is %s.', coalesce(fork_workflow.from_step::text, 'null')),
            'Pass the step_id of the first step that is to run again; list_steps() lists them.'
        ];
    END IF;
    IF v_problem IS NOT NULL THEN
        RAISE EXCEPTION '%', v_problem[1]
            USING ERRCODE = 'invalid_parameter_value', DETAIL = v_problem[2], HINT = v_problem[3];
    END IF;

    SELECT w.*
    INTO r_source
    FROM lockstep.workflow_status AS w
    WHERE w.workflow_id = fork_workflow.workflow_id
    FOR KEY SHARE;

    IF NOT FOUND THEN
        PERFORM lockstep._refuse_unknown_workflow(fork_workflow.workflow_id);
    END IF;

    SELECT u.workflow_id
    INTO v_undo_id
    FROM lockstep.workflow_status AS u
    WHERE u.parent_workflow_id = fork_workflow.workflow_id
        AND u.workflow_name = 'lockstep.compensate'
        AND u.created_at >= r_source.started_at
        AND EXISTS (
            SELECT
            FROM lockstep.operation_outputs AS o
            WHERE o.workflow_id = fork_workflow.workflow_id
                AND o.step_name = 'compensate'
                AND o.completed_at IS NOT NULL
                AND o.step_id % 65536 < fork_workflow.from_step
        )
    LIMIT 1;

    IF FOUND THEN
        RAISE EXCEPTION 'workflow "%" was compensated and cannot be forked from step %',
            fork_workflow.workflow_id, fork_workflow.from_step
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = format('Workflow "%s" undoes steps before that one.', v_undo_id),
                  HINT = 'Fork it from a step before the first that was undone, such as 1.';
    END IF;

    INSERT INTO lockstep.workflow_status (
        workflow_id, workflow_name, queue_name, inputs, priority, queue_partition_key,
        app_version, max_attempts, created_at, available_at, deadline_at, timeout,
        forked_from, enqueued_by, headers, retries
    )
    VALUES (
        v_new_id, r_source.workflow_name, coalesce(fork_workflow.queue_name, r_source.queue_name),
        r_source.inputs, r_source.priority, r_source.queue_partition_key,
        coalesce(fork_workflow.app_version, r_source.app_version), r_source.max_attempts,
        v_now, v_now,
        CASE WHEN r_source.timeout IS NULL AND r_source.deadline_at > v_now THEN r_source.deadline_at END,
        r_source.timeout, r_source.workflow_id, r_source.enqueued_by, r_source.headers, r_source.retries
    )
    ON CONFLICT DO NOTHING;

    IF NOT FOUND THEN
        SELECT w.workflow_name, w.forked_from
        INTO r_rival
        FROM lockstep.workflow_status AS w
        WHERE w.workflow_id = v_new_id;

        IF r_rival.forked_from = r_source.workflow_id THEN
            RETURN v_new_id;
        END IF;

        RAISE EXCEPTION 'workflow "%" exists already', v_new_id
            USING ERRCODE = 'unique_violation',
                  DETAIL = format('It runs "%s" and is no fork of "%s".', r_rival.workflow_name, r_source.workflow_id),
                  HINT = 'Use another new_workflow_id, or leave it out.';
    END IF;

    INSERT INTO lockstep.operation_outputs (
        workflow_id, step_id, step_name, output, error, attempts, started_at, completed_at,
        available_at, child_workflow_id
    )
    SELECT
        v_new_id, o.step_id, o.step_name, o.output, o.error, o.attempts, o.started_at, o.completed_at,
        o.available_at, o.child_workflow_id
    FROM lockstep.operation_outputs AS o
    WHERE o.workflow_id = fork_workflow.workflow_id
        AND o.completed_at IS NOT NULL
        AND o.step_id % 65536 < fork_workflow.from_step;

    SELECT coalesce(min(o.started_at), 'infinity')
    INTO v_first_left_out_at
    FROM lockstep.operation_outputs AS o
    WHERE o.workflow_id = fork_workflow.workflow_id
        AND NOT EXISTS (
            SELECT
            FROM lockstep.operation_outputs AS copied
            WHERE copied.workflow_id = v_new_id
                AND copied.step_id = o.step_id
        );

    INSERT INTO lockstep.workflow_events (workflow_id, key, value, updated_at)
    SELECT v_new_id, v.key, v.value, v.updated_at
    FROM lockstep.workflow_events AS v
    WHERE v.workflow_id = fork_workflow.workflow_id
        AND v.updated_at < v_first_left_out_at;

    INSERT INTO lockstep.workflow_streams (workflow_id, key, "offset", value, is_end, written_at)
    SELECT v_new_id, s.key, s."offset", s.value, s.is_end, s.written_at
    FROM lockstep.workflow_streams AS s
    WHERE s.workflow_id = fork_workflow.workflow_id
        AND s.written_at < v_first_left_out_at;

    PERFORM lockstep._ring_doorbell(ARRAY[coalesce(fork_workflow.queue_name, r_source.queue_name)]);
    RETURN v_new_id;
END
$$;
COMMENT ON FUNCTION lockstep.fork_workflow(text, int, text, text, text) IS
    'Enqueues a new workflow that goes on where another one was before a step; returns its id.';
