-- Lists workflows, newest first, as get_workflow() reads them.
--
-- Each argument that is given leaves out what does not meet it. created_after includes
-- that moment, created_before does not; error_text is searched for, in any case, in the
-- error's type and message; headers must contain what is given. before_id is the last
-- id of the page before: what follows it is listed, whatever was enqueued since.
--
-- An index serves status, queue_name, workflow_name, the times and before_id in any
-- combination; parent_workflow_id; and id_prefix, if at most 2000 ids have it. Only
-- tested, on what the others leave and from the newest on, are error_text, headers and
-- any other id_prefix: give a status, queue or time with them. The cost does not grow
-- with the number of workflows, but by some 10 µs with each combination of status, queue
-- and name that there is.
--
-- LANGUAGE sql, because its arguments have the names of its columns.
CREATE OR REPLACE FUNCTION lockstep.list_workflows(
    status text[] DEFAULT NULL,
    workflow_name text DEFAULT NULL,
    queue_name text DEFAULT NULL,
    created_after timestamptz DEFAULT NULL,
    created_before timestamptz DEFAULT NULL,
    parent_workflow_id text DEFAULT NULL,
    id_prefix text DEFAULT NULL,
    error_text text DEFAULT NULL,
    headers jsonb DEFAULT NULL,
    before_id text DEFAULT NULL,
    max_count int DEFAULT 100
)
RETURNS TABLE (
    workflow_id text,
    workflow_name text,
    queue_name text,
    status text,
    output jsonb,
    error jsonb,
    attempts int,
    created_at timestamptz,
    started_at timestamptz,
    completed_at timestamptz,
    inputs jsonb,
    priority int,
    deduplication_id text,
    queue_partition_key text,
    app_version text,
    executor_id text,
    max_attempts int,
    failures int,
    available_at timestamptz,
    deadline_at timestamptz,
    waiting_for text[],
    parent_workflow_id text,
    forked_from text,
    enqueued_by text,
    headers jsonb,
    progress jsonb
)
LANGUAGE sql
STABLE
SECURITY DEFINER
ROWS 100
-- the number of rows is not known to the planner, which would compile the query for it
SET jit = off
-- a plan for few workflows must not go through many
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
BEGIN ATOMIC
    SELECT
        w.workflow_id, w.workflow_name, w.queue_name, w.status, w.output, w.error, w.attempts,
        w.created_at, w.started_at, w.completed_at, w.inputs, w.priority,
        w.deduplication_id, w.queue_partition_key, w.app_version, w.executor_id,
        w.max_attempts, w.failures, w.available_at, w.deadline_at, w.waiting_for,
        w.parent_workflow_id, w.forked_from, w.enqueued_by, w.headers, v.value
    FROM lockstep._find_workflows(
        lockstep._checked_filter(
            jsonb_strip_nulls(jsonb_build_object(
                'status', to_jsonb(list_workflows.status),
                'workflow_name', list_workflows.workflow_name,
                'queue_name', list_workflows.queue_name,
                'created_after', list_workflows.created_after,
                'created_before', list_workflows.created_before,
                'parent_workflow_id', list_workflows.parent_workflow_id,
                'id_prefix', list_workflows.id_prefix,
                'error_text', list_workflows.error_text
            ))
            || CASE
                WHEN list_workflows.headers IS NULL THEN '{}'
                ELSE jsonb_build_object('headers', list_workflows.headers)
            END,
            list_workflows.max_count
        ),
        NULL, list_workflows.before_id, list_workflows.max_count
    ) AS f
    INNER JOIN lockstep.workflow_status AS w ON f.workflow_id = w.workflow_id
    LEFT JOIN lockstep.workflow_events AS v
        ON f.workflow_id = v.workflow_id
        AND v.key = 'lockstep.progress'
    ORDER BY f.created_at DESC, f.workflow_id DESC;
END;
COMMENT ON FUNCTION lockstep.list_workflows(
    text[], text, text, timestamptz, timestamptz, text, text, text, jsonb, text, int
) IS
    'Lists workflows, newest first.';
