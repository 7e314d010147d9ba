-- What every spec starts from: two executors, alice and bob, of one queue; and the
-- documents that the worker functions take, because a spec cannot contain braces.
CREATE SCHEMA fixture;

CREATE FUNCTION fixture.begin_spec()
RETURNS void
LANGUAGE sql
AS $$
    DELETE FROM lockstep.workflow_status;
    DELETE FROM lockstep.operation_outputs;
    DELETE FROM lockstep.notifications;
    DELETE FROM lockstep.workflow_events;
    DELETE FROM lockstep.queue;
    DELETE FROM lockstep.executor;

    INSERT INTO lockstep.executor (executor_id, queues, workflow_names, lease_duration, expires_at)
    SELECT e.executor_id, '{q}', '{greet}', '1 hour', clock_timestamp() + interval '1 hour'
    FROM unnest(ARRAY['alice', 'bob']) AS e (executor_id);
$$;

CREATE FUNCTION fixture.enqueue(VARIADIC p_workflow_ids text[])
RETURNS void
LANGUAGE sql
AS $$
    INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name, priority)
    SELECT w.workflow_id, 'greet', 'q', w.place
    FROM unnest(p_workflow_ids) WITH ORDINALITY AS w (workflow_id, place);
$$;

-- Has an executor run the first attempt of a workflow.
CREATE FUNCTION fixture.run(p_executor_id text, p_workflow_id text)
RETURNS void
LANGUAGE sql
AS $$
    INSERT INTO lockstep.workflow_status (
        workflow_id, workflow_name, queue_name, status, executor_id, attempts, started_at
    )
    VALUES (p_workflow_id, 'greet', 'q', 'PENDING', p_executor_id, 1, now());
$$;

-- Lets the lease of an executor end.
CREATE FUNCTION fixture.expire(p_executor_id text)
RETURNS void
LANGUAGE sql
AS $$
    UPDATE lockstep.executor SET expires_at = '2026-01-01' WHERE executor_id = p_executor_id;
$$;

-- Has a workflow wait for a message.
CREATE FUNCTION fixture.wait(p_workflow_id text)
RETURNS void
LANGUAGE sql
AS $$
    INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name, status, waiting_for)
    VALUES (p_workflow_id, 'greet', 'q', 'WAITING', ARRAY['message:']);
$$;

-- Changes of the first attempt of workflows.
CREATE FUNCTION fixture.steps(VARIADIC p_workflow_ids text[])
RETURNS jsonb
LANGUAGE sql
AS $$
    SELECT jsonb_agg(jsonb_build_object('workflow_id', w.id, 'attempt', 1, 'step_id', 1, 'step_name', 's'))
    FROM unnest(p_workflow_ids) AS w (id);
$$;

CREATE FUNCTION fixture.undo_steps(VARIADIC p_workflow_ids text[])
RETURNS jsonb
LANGUAGE sql
AS $$
    SELECT jsonb_agg(jsonb_build_object(
        'workflow_id', w.id, 'attempt', 1, 'step_id', 1, 'step_name', 'compensate',
        'output', '{"step": "refund", "positionalArgs": [], "namedArgs": {}}'::jsonb
    ))
    FROM unnest(p_workflow_ids) AS w (id);
$$;

CREATE FUNCTION fixture.receives(VARIADIC p_workflow_ids text[])
RETURNS jsonb
LANGUAGE sql
AS $$
    SELECT jsonb_agg(jsonb_build_object('workflow_id', w.id, 'attempt', 1, 'step_id', 1, 'topic', ''))
    FROM unnest(p_workflow_ids) AS w (id);
$$;

CREATE FUNCTION fixture.suspensions(VARIADIC p_workflow_ids text[])
RETURNS jsonb
LANGUAGE sql
AS $$
    SELECT jsonb_agg(jsonb_build_object(
        'workflow_id', w.id, 'attempt', 1, 'step_ids', ARRAY[1], 'topics', ARRAY['']
    ))
    FROM unnest(p_workflow_ids) AS w (id);
$$;

CREATE FUNCTION fixture.outcomes(VARIADIC p_workflow_ids text[])
RETURNS jsonb
LANGUAGE sql
AS $$
    SELECT jsonb_agg(jsonb_build_object('workflow_id', w.id, 'attempt', 1, 'output', 'done'))
    FROM unnest(p_workflow_ids) AS w (id);
$$;

CREATE VIEW fixture.workflow AS
SELECT w.workflow_id, w.status, w.attempts, w.executor_id
FROM lockstep.workflow_status AS w
ORDER BY w.workflow_id;
