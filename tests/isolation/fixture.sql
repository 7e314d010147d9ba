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
    DELETE FROM lockstep.workflow_streams;
    DELETE FROM lockstep.waiter;
    DELETE FROM lockstep.queue;
    DELETE FROM lockstep.queue_start;
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

-- Has a workflow wait for the end of others.
CREATE FUNCTION fixture.await(p_workflow_id text, VARIADIC p_awaited_ids text[])
RETURNS void
LANGUAGE sql
AS $$
    INSERT INTO lockstep.workflow_status (
        workflow_id, workflow_name, queue_name, status, waiting_for, started_at, available_at
    )
    SELECT p_workflow_id, 'greet', 'q', 'WAITING', array_agg('workflow:' || a.id), now(), NULL
    FROM unnest(p_awaited_ids) AS a (id);

    INSERT INTO lockstep.waiter (awaited_id, is_client, waiter)
    SELECT a.id, false, p_workflow_id
    FROM unnest(p_awaited_ids) AS a (id);
$$;

-- Makes workflows the children of another.
CREATE FUNCTION fixture.adopt(p_parent_id text, VARIADIC p_child_ids text[])
RETURNS void
LANGUAGE sql
AS $$
    UPDATE lockstep.workflow_status SET parent_workflow_id = p_parent_id WHERE workflow_id = ANY (p_child_ids);
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

CREATE FUNCTION fixture.failures(VARIADIC p_workflow_ids text[])
RETURNS jsonb
LANGUAGE sql
AS $$
    SELECT jsonb_agg(jsonb_build_object(
        'workflow_id', w.id, 'attempt', 1, 'error', '{"type": "E", "message": "m"}'::jsonb,
        'retries', '{"max_attempts": 2, "delay": 3600}'::jsonb
    ))
    FROM unnest(p_workflow_ids) AS w (id);
$$;

CREATE FUNCTION fixture.children(p_parent_id text, VARIADIC p_child_ids text[])
RETURNS jsonb
LANGUAGE sql
AS $$
    SELECT jsonb_agg(jsonb_build_object(
        'workflow_id', p_parent_id, 'attempt', 1, 'step_id', c.place, 'step_name', 'greet', 'is_awaited', true,
        'workflow_name', 'greet', 'queue_name', 'q', 'child_id', c.id,
        'inputs', '{"positionalArgs": [], "namedArgs": {}}'::jsonb
    ))
    FROM unnest(p_child_ids) WITH ORDINALITY AS c (id, place);
$$;

CREATE FUNCTION fixture.events(p_workflow_id text, p_key text)
RETURNS jsonb
LANGUAGE sql
AS $$
    SELECT jsonb_build_array(jsonb_build_object(
        'workflow_id', p_workflow_id, 'attempt', 1, 'step_id', 1, 'key', p_key, 'value', 1
    ));
$$;

-- A suspension until any of some workflows ends.
CREATE FUNCTION fixture.awaits(p_workflow_id text, VARIADIC p_awaited_ids text[])
RETURNS jsonb
LANGUAGE sql
AS $$
    SELECT jsonb_build_array(jsonb_build_object(
        'workflow_id', p_workflow_id, 'attempt', 1, 'step_ids', ARRAY[1],
        'awaits', jsonb_agg(jsonb_build_object('awaited_id', a.id))
    ))
    FROM unnest(p_awaited_ids) AS a (id);
$$;

-- A suspension until a workflow sets an event.
CREATE FUNCTION fixture.event_awaits(p_workflow_id text, p_awaited_id text, p_key text)
RETURNS jsonb
LANGUAGE sql
AS $$
    SELECT jsonb_build_array(jsonb_build_object(
        'workflow_id', p_workflow_id, 'attempt', 1, 'step_ids', ARRAY[1],
        'awaits', jsonb_build_array(jsonb_build_object('awaited_id', p_awaited_id, 'key', p_key))
    ));
$$;

CREATE VIEW fixture.workflow AS
SELECT w.workflow_id, w.status, w.attempts, w.executor_id
FROM lockstep.workflow_status AS w
ORDER BY w.workflow_id;

-- What a client watches: the end of a workflow, or an event and a stream of it.
CREATE FUNCTION fixture.watch(p_workflow_id text)
RETURNS jsonb
LANGUAGE sql
AS $$
    SELECT jsonb_build_array(jsonb_build_object('workflow_id', p_workflow_id));
$$;

CREATE FUNCTION fixture.watch_values(p_workflow_id text)
RETURNS jsonb
LANGUAGE sql
AS $$
    SELECT jsonb_build_array(
        jsonb_build_object('workflow_id', p_workflow_id, 'event_key', 'k'),
        jsonb_build_object('workflow_id', p_workflow_id, 'stream_key', 'k', 'from_offset', 0)
    );
$$;

-- What step p_step_id of a workflow publishes.
CREATE FUNCTION fixture.value(p_workflow_id text, p_step_id int)
RETURNS jsonb
LANGUAGE sql
AS $$
    SELECT jsonb_build_array(jsonb_build_object(
        'workflow_id', p_workflow_id, 'attempt', 1, 'step_id', p_step_id, 'key', 'k', 'value', p_step_id
    ));
$$;
