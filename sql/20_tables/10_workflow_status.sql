-- One row per workflow: what to run, where it stands, who runs it, how it ended.
CREATE TABLE lockstep.workflow_status (
    workflow_id text NOT NULL DEFAULT lockstep._generate_id(),
    workflow_name text NOT NULL,
    queue_name text NOT NULL,
    status text NOT NULL DEFAULT 'ENQUEUED',
    inputs jsonb NOT NULL DEFAULT '{"positionalArgs": [], "namedArgs": {}}',
    output jsonb,
    error jsonb,
    priority int NOT NULL DEFAULT 0,
    deduplication_id text,
    queue_partition_key text,
    app_version text,
    executor_id text,
    attempts int NOT NULL DEFAULT 0,
    max_attempts int NOT NULL DEFAULT 50,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    available_at timestamptz DEFAULT clock_timestamp(),
    started_at timestamptz,
    completed_at timestamptz,
    deadline_at timestamptz,
    timeout interval,
    waiting_for text[],
    parent_workflow_id text,
    forked_from text,
    enqueued_by text NOT NULL DEFAULT current_user,
    headers jsonb,
    retries jsonb,
    failures int NOT NULL DEFAULT 0,

    CONSTRAINT workflow_status_pkey PRIMARY KEY (workflow_id),

    -- Postgres reads the text of these anew in each statement, so they are terse:
    -- once they were most of the cost of enqueueing one workflow.
    CONSTRAINT workflow_status_names_have_a_length_check CHECK (
        int4range '[1,512]' @> ALL (ARRAY[ -- noqa: CP03, LT01, LT06
            length(workflow_id), length(workflow_name), length(queue_name),
            length(deduplication_id), length(queue_partition_key), length(app_version)
        ])
    ),
    CONSTRAINT workflow_status_inputs_are_arguments_check CHECK (
        inputs @@ '$.positionalArgs.type() == "array" && $.namedArgs.type() == "object"'
    ),
    CONSTRAINT workflow_status_headers_are_an_object_check CHECK (jsonb_typeof(headers) = 'object'),
    CONSTRAINT workflow_status_counts_not_negative_check CHECK (
        0 <= ALL (ARRAY[priority, attempts, max_attempts - 1, failures]) -- noqa: CP03, LT01, LT06
    ),
    CONSTRAINT workflow_status_timeout_is_positive_check CHECK (timeout > interval '0'),
    CONSTRAINT workflow_status_timeout_not_endless_check CHECK (timeout <= interval '1000 years'),
    CONSTRAINT workflow_status_times_are_finite_check CHECK (
        isfinite(available_at) AND isfinite(deadline_at)
    ),
    CONSTRAINT workflow_status_completed_or_completed_at_null_check CHECK (
        CASE
            WHEN completed_at IS NULL THEN status IN ('ENQUEUED', 'DELAYED', 'PENDING', 'WAITING')
            ELSE status IN ('SUCCESS', 'ERROR', 'CANCELLED', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED')
        END
    ),
    CONSTRAINT workflow_status_output_only_of_success_check CHECK (
        output IS NULL OR status = 'SUCCESS'
    ),
    -- while a failed workflow is tried again it keeps the error of its latest failure
    CONSTRAINT workflow_status_error_only_of_failure_check CHECK (
        CASE
            WHEN error IS NULL THEN status NOT IN ('ERROR', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED')
            ELSE status <> 'SUCCESS' AND (failures > 0 OR completed_at IS NOT NULL)
        END
    ),
    CONSTRAINT workflow_status_retries_are_a_policy_check CHECK (jsonb_typeof(retries) = 'object'),
    CONSTRAINT workflow_status_executor_while_it_runs_check CHECK (
        completed_at IS NOT NULL OR (executor_id IS NOT NULL) = (status = 'PENDING')
    ),
    CONSTRAINT workflow_status_pending_has_started_check CHECK (
        status <> 'PENDING' OR (started_at IS NOT NULL AND attempts > 0)
    ),
    CONSTRAINT workflow_status_waiting_waits_for_something_check CHECK (
        (waiting_for IS NOT NULL) = (status = 'WAITING') AND waiting_for <> '{}'
    ),
    CONSTRAINT workflow_status_only_waiting_lacks_a_time_check CHECK (
        available_at IS NOT NULL OR waiting_for IS NOT NULL OR completed_at IS NOT NULL
    )
);

-- claim_workflows() reads the head of a queue from it and stops after n rows
CREATE INDEX workflow_status_claim_idx
ON lockstep.workflow_status (queue_name, priority, available_at)
WHERE status = 'ENQUEUED';

-- a claim from a queue with limits per partition takes the partitions in turn
CREATE INDEX workflow_status_partition_idx
ON lockstep.workflow_status (queue_name, queue_partition_key, priority, available_at)
WHERE queue_partition_key IS NOT NULL AND status = 'ENQUEUED';

-- recover_workflows() finds what a dead executor held; queue limits count what runs
CREATE INDEX workflow_status_executor_idx
ON lockstep.workflow_status (executor_id)
WHERE status = 'PENDING';

-- promote_due_workflows() finds sleepers and timeouts that fell due
CREATE INDEX workflow_status_due_idx
ON lockstep.workflow_status (available_at)
WHERE status IN ('DELAYED', 'WAITING') AND available_at IS NOT NULL;

-- promote_due_workflows() finds workflows that outlived their deadline
CREATE INDEX workflow_status_deadline_idx
ON lockstep.workflow_status (deadline_at)
WHERE deadline_at IS NOT NULL AND completed_at IS NULL;

-- a cancellation reaches a workflow's children, and list_workflows() lists them
CREATE INDEX workflow_status_parent_idx
ON lockstep.workflow_status (parent_workflow_id, created_at)
WHERE parent_workflow_id IS NOT NULL;

-- list_workflows() merges the newest of each status, queue and name; purge_workflows()
-- finds the old. A running workflow has no entry, so its claim adds none. The predicate is
-- written so that no other query's condition implies it (_newest_workflows()).
CREATE INDEX workflow_status_list_idx
ON lockstep.workflow_status (status, queue_name, workflow_name, created_at)
WHERE (status <> 'PENDING') IS TRUE;

-- list_workflows() finds ids by their beginning: in the primary key where texts are
-- compared byte by byte, else it takes an index that does so
DO $$
BEGIN
    IF NOT EXISTS (
        SELECT
        FROM pg_catalog.pg_database AS d
        CROSS JOIN LATERAL (SELECT coalesce(to_jsonb(d) ->> 'datlocprovider', 'c') AS provider) AS l
        WHERE d.datname = current_database()
            AND (l.provider = 'b' OR (l.provider = 'c' AND d.datcollate IN ('C', 'POSIX')))
    ) THEN
        CREATE INDEX workflow_status_prefix_idx
        ON lockstep.workflow_status (workflow_id text_pattern_ops)
        WHERE (status <> 'PENDING') IS TRUE;
    END IF;
END
$$;

-- at most one unfinished workflow per queue and deduplication id
CREATE UNIQUE INDEX workflow_status_deduplication_idx
ON lockstep.workflow_status (queue_name, deduplication_id)
WHERE deduplication_id IS NOT NULL AND completed_at IS NULL;

COMMENT ON TABLE lockstep.workflow_status IS
    'One row per workflow: what to run, where it stands, who runs it, how it ended.';
COMMENT ON COLUMN lockstep.workflow_status.workflow_id IS
    'Identifies the workflow; generated ids are time-ordered UUIDs.';
COMMENT ON COLUMN lockstep.workflow_status.workflow_name IS
    'Name under which workers register the function to run.';
COMMENT ON COLUMN lockstep.workflow_status.queue_name IS
    'Queue in which the workflow waits for a worker.';
COMMENT ON COLUMN lockstep.workflow_status.status IS
    'ENQUEUED, DELAYED, PENDING, WAITING; at the end SUCCESS, ERROR, CANCELLED, MAX_RECOVERY_ATTEMPTS_EXCEEDED.';
COMMENT ON COLUMN lockstep.workflow_status.inputs IS
    'Arguments of the function: {"positionalArgs": [...], "namedArgs": {...}}.';
COMMENT ON COLUMN lockstep.workflow_status.output IS
    'Value that the workflow returned; NULL also when it returned nothing.';
COMMENT ON COLUMN lockstep.workflow_status.error IS
    'Why the workflow failed, or failed last while it is retried: {"type", "message", "traceback"?}.';
COMMENT ON COLUMN lockstep.workflow_status.priority IS
    'Order within the queue: 0 first, then 1, 2 and so on.';
COMMENT ON COLUMN lockstep.workflow_status.deduplication_id IS
    'At most one unfinished workflow per queue has a given one.';
COMMENT ON COLUMN lockstep.workflow_status.queue_partition_key IS
    'Partition of the queue whose own limits count the workflow.';
COMMENT ON COLUMN lockstep.workflow_status.app_version IS
    'If set, only workers of this application version take the workflow.';
COMMENT ON COLUMN lockstep.workflow_status.executor_id IS
    'Executor that runs the workflow or ran it last.';
COMMENT ON COLUMN lockstep.workflow_status.attempts IS
    'Executions begun; one that suspended or was handed back in good order is not counted.';
COMMENT ON COLUMN lockstep.workflow_status.max_attempts IS
    'Executions allowed before a dead worker leaves the workflow in the dead letter.';
COMMENT ON COLUMN lockstep.workflow_status.created_at IS
    'When the workflow was enqueued.';
COMMENT ON COLUMN lockstep.workflow_status.available_at IS
    'When the workflow became or becomes claimable; NULL while it waits without a timeout.';
COMMENT ON COLUMN lockstep.workflow_status.started_at IS
    'When a worker claimed the workflow for the first time.';
COMMENT ON COLUMN lockstep.workflow_status.completed_at IS
    'When the workflow reached its final status.';
COMMENT ON COLUMN lockstep.workflow_status.deadline_at IS
    'When the workflow is cancelled if it has not ended by then.';
COMMENT ON COLUMN lockstep.workflow_status.timeout IS
    'Time allowed from the first start; sets deadline_at at that moment.';
COMMENT ON COLUMN lockstep.workflow_status.waiting_for IS
    'What wakes a WAITING workflow, such as "message:approval".';
COMMENT ON COLUMN lockstep.workflow_status.parent_workflow_id IS
    'Workflow that started this one.';
COMMENT ON COLUMN lockstep.workflow_status.forked_from IS
    'Workflow whose recorded steps this one began with.';
COMMENT ON COLUMN lockstep.workflow_status.enqueued_by IS
    'Role that enqueued the workflow.';
COMMENT ON COLUMN lockstep.workflow_status.headers IS
    'Object handed to the workflow beside its arguments, such as a trace context.';
COMMENT ON COLUMN lockstep.workflow_status.retries IS
    'Policy by which a failure is tried again: {"max_attempts", "delay", "backoff", "max_delay", "jitter"}.';
COMMENT ON COLUMN lockstep.workflow_status.failures IS
    'Failures so far that ended an execution of the workflow; retries counts them.';
