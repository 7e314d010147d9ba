-- Built by make from sql/. Do not edit.
\echo Use "CREATE EXTENSION lockstep" to load this file. \quit

-- sql/00_prelude/10_schema.sql

-- Lockstep keeps durable workflows in tables and moves them with functions.
--
-- enqueue_workflow() inserts a row of workflow_status. A worker registers with
-- register_executor(), takes rows with claim_workflows() and reports with
-- record_steps(), start_timers(), receive_messages(), suspend_workflows() and
-- finish_workflows(), usually all of them in one advance_workflows() call.
-- heartbeat() keeps its lease; promote_due_workflows() and recover_workflows()
-- put back what fell due and what a dead worker held.

SET LOCAL search_path TO pg_catalog, pg_temp;

-- Refuses a schema that someone else owns or filled: whoever owns the schema
-- could replace our functions, and what lies in it, or is put there, could shadow them.
DO $$
DECLARE
    v_owner text := (
        SELECT pg_get_userbyid(n.nspowner)
        FROM pg_catalog.pg_namespace AS n
        WHERE n.nspname = 'lockstep'
    );
    v_creators text;
BEGIN
    IF v_owner <> current_user THEN
        RAISE EXCEPTION 'schema "lockstep" belongs to %', v_owner
            USING ERRCODE = 'insufficient_privilege',
                  HINT = 'Drop the schema, or install as its owner; '
                      'restore a dump in the name of its owner (pg_restore --role).';
    END IF;

    -- what is in a schema depends on it, of whatever kind it is; so does what applies to it
    IF EXISTS (
        SELECT
        FROM pg_catalog.pg_depend AS d
        WHERE d.refclassid = 'pg_catalog.pg_namespace'::regclass
            AND d.refobjid = 'lockstep'::regnamespace
            AND d.classid <> 'pg_catalog.pg_extension'::regclass
    )
    THEN
        RAISE EXCEPTION 'schema "lockstep" is not empty'
            USING ERRCODE = 'duplicate_schema',
                  HINT = 'Lockstep needs the schema for itself; move or drop what is in it.';
    END IF;

    SELECT string_agg(DISTINCT coalesce(r.rolname, 'PUBLIC'), ', ')
    INTO v_creators
    FROM pg_catalog.pg_namespace AS n
    CROSS JOIN LATERAL aclexplode(n.nspacl) AS a
    LEFT JOIN pg_catalog.pg_roles AS r ON r.oid = a.grantee
    WHERE n.nspname = 'lockstep'
        AND a.grantee <> n.nspowner
        AND a.privilege_type = 'CREATE';

    IF v_creators IS NOT NULL THEN
        RAISE EXCEPTION 'others may create objects in schema "lockstep"'
            USING ERRCODE = 'insufficient_privilege',
                  DETAIL = format('These roles may: %s.', v_creators),
                  HINT = 'Create the schema before the install, and REVOKE CREATE ON SCHEMA lockstep from them.';
    END IF;
END
$$;

-- Refuses a database that takes any bytes for text: what is cut out of one, such as the
-- beginning of a long name in a message, need not be text to the client.
DO $$
BEGIN
    IF getdatabaseencoding() = 'SQL_ASCII' THEN
        RAISE EXCEPTION 'database "%" has encoding SQL_ASCII', current_database()
            USING ERRCODE = 'feature_not_supported',
                  DETAIL = 'It does not know what a character is.',
                  HINT = 'Create a database with ENCODING ''UTF8''.';
    END IF;
END
$$;

COMMENT ON SCHEMA lockstep IS 'Durable workflows: a workflow is a row, Postgres is the orchestrator.';

-- sql/00_prelude/20_generate_id.sql

-- Generates a time-ordered id: a UUID version 7 (RFC 9562, method 3), as text.
--
-- Time-ordered, so that new rows share the hot pages of their primary key at
-- any history size. The 12 bits after the version hold the fraction of the
-- millisecond, so ids generated one after the other in one transaction sort
-- in that order: microseconds * 4096 / 1000 is both numbers in a row of digits.
CREATE FUNCTION lockstep._generate_id(p_at timestamptz DEFAULT clock_timestamp())
RETURNS text
LANGUAGE sql
VOLATILE
BEGIN ATOMIC
    SELECT ( -- noqa: LT01
        overlay(
            lpad(to_hex((date_part('epoch', p_at) * 1000000)::bigint * 512 / 125), 15, '0')
            PLACING '7' FROM 13 FOR 0 -- noqa: CP05
        )
        || right(gen_random_uuid()::text, 17)
    )::uuid::text;
END;
COMMENT ON FUNCTION lockstep._generate_id(timestamptz) IS
    'Generates a time-ordered id, a UUID version 7 as text.';

-- sql/00_prelude/30_is_suspect.sql

-- Tells whether a workflow that waits is suspected of killing its workers.
--
-- While it waits, attempts counts the workers that died under it, and perhaps under many
-- others at the same time. One is suspected from the third death on, and before its last
-- attempt in any case.
CREATE FUNCTION lockstep._is_suspect(p_attempts int, p_max_attempts int)
RETURNS boolean
LANGUAGE sql
IMMUTABLE
BEGIN ATOMIC
    SELECT p_attempts > 0 AND p_attempts >= least(3, p_max_attempts - 1);
END;
COMMENT ON FUNCTION lockstep._is_suspect(int, int) IS
    'Tells whether a workflow that waits is suspected of killing its workers.';

-- sql/00_prelude/30_timeline.sql

-- Returns the timeline that the server writes: a promotion or a restore to a moment begins a
-- new one.
--
-- The control file has it too, but only after the first checkpoint of the new timeline.
-- The planner inlines it.
CREATE FUNCTION lockstep._timeline()
RETURNS int
LANGUAGE sql
VOLATILE
BEGIN ATOMIC
    SELECT ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int; -- noqa: LT01
END;
COMMENT ON FUNCTION lockstep._timeline() IS
    'Returns the timeline that the server writes.';

-- sql/00_prelude/32_system_id.sql

-- Returns the number that initdb drew for this server and its copies.
--
-- Reads a file: 20 us.
CREATE FUNCTION lockstep._system_id()
RETURNS bigint
LANGUAGE sql
VOLATILE
BEGIN ATOMIC
    SELECT c.system_identifier
    FROM pg_control_system() AS c;
END;
COMMENT ON FUNCTION lockstep._system_id() IS
    'Returns the number that initdb drew for this server and its copies.';

-- sql/20_tables/10_workflow_status.sql

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

-- sql/20_tables/12_workflow_status_suspect_idx.sql

-- _turn_of_suspects() and claims find those under which workers died, whatever else waits. The
-- predicate is written so that no other query's condition implies it
CREATE INDEX workflow_status_suspect_idx
ON lockstep.workflow_status (queue_name, priority, available_at)
WHERE (status = 'ENQUEUED') IS TRUE AND lockstep._is_suspect(attempts, max_attempts);

-- sql/20_tables/20_operation_outputs.sql

-- One row per finished step, and one per step that waits for a retry, a wake-up
-- or a timeout: completed_at tells them apart.
CREATE TABLE lockstep.operation_outputs (
    workflow_id text NOT NULL,
    step_id int NOT NULL,
    step_name text NOT NULL,
    output jsonb,
    error jsonb,
    attempts int NOT NULL DEFAULT 1,
    started_at timestamptz NOT NULL,
    completed_at timestamptz,
    available_at timestamptz,
    child_workflow_id text,

    CONSTRAINT operation_outputs_pkey PRIMARY KEY (workflow_id, step_id),

    CONSTRAINT operation_outputs_step_id_is_positive_check CHECK (step_id > 0),
    CONSTRAINT operation_outputs_step_name_has_a_length_check CHECK (
        length(step_name) BETWEEN 1 AND 512
    ),
    CONSTRAINT operation_outputs_attempts_not_negative_check CHECK (attempts >= 0),
    CONSTRAINT operation_outputs_either_output_or_error_check CHECK (
        output IS NULL OR error IS NULL
    ),
    CONSTRAINT operation_outputs_unfinished_waits_check CHECK (
        completed_at IS NOT NULL OR output IS NULL
    )
);

COMMENT ON TABLE lockstep.operation_outputs IS
    'One row per finished step of a workflow, and one per step that waits to go on.';
COMMENT ON COLUMN lockstep.operation_outputs.workflow_id IS
    'Workflow that the step belongs to.';
COMMENT ON COLUMN lockstep.operation_outputs.step_id IS
    'Position of the step in the order in which the workflow calls its steps, from 1; '
    'concurrent branches count from 65536 up (docs/internals.md).';
COMMENT ON COLUMN lockstep.operation_outputs.step_name IS
    'Name of the step; replay compares it with the name that the code calls now.';
COMMENT ON COLUMN lockstep.operation_outputs.output IS
    'Value that the step returned; NULL also when it returned nothing.';
COMMENT ON COLUMN lockstep.operation_outputs.error IS
    'Why the step failed, or why its latest attempt did while it waits for the next.';
COMMENT ON COLUMN lockstep.operation_outputs.attempts IS
    'Attempts made so far.';
COMMENT ON COLUMN lockstep.operation_outputs.started_at IS
    'When the recorded attempt began, or the wait.';
COMMENT ON COLUMN lockstep.operation_outputs.completed_at IS
    'When the outcome was recorded; NULL while the step waits to go on.';
COMMENT ON COLUMN lockstep.operation_outputs.available_at IS
    'When a waiting step goes on: its next attempt, its wake-up or its timeout; NULL without one.';
COMMENT ON COLUMN lockstep.operation_outputs.child_workflow_id IS
    'Workflow that the step started or waits for.';

-- sql/20_tables/30_notifications.sql

-- One row per message sent to a workflow; kept after it was consumed.
CREATE TABLE lockstep.notifications (
    message_id text NOT NULL DEFAULT lockstep._generate_id(),
    destination_id text NOT NULL,
    topic text NOT NULL DEFAULT '',
    message jsonb NOT NULL,
    idempotency_key text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    consumed_at timestamptz,
    consumed_by_step int,

    CONSTRAINT notifications_pkey PRIMARY KEY (message_id),

    CONSTRAINT notifications_names_have_a_length_check CHECK (
        length(message_id) BETWEEN 1 AND 512
        AND length(destination_id) BETWEEN 1 AND 512
        AND length(topic) <= 512
        AND length(idempotency_key) BETWEEN 1 AND 512
    ),
    CONSTRAINT notifications_consumed_by_a_step_check CHECK (
        (consumed_at IS NULL) = (consumed_by_step IS NULL)
    )
);

-- receive_messages() takes the oldest waiting message of a topic from it
CREATE INDEX notifications_unconsumed_idx
ON lockstep.notifications (destination_id, topic, created_at, message_id)
WHERE consumed_at IS NULL;

-- restart_workflow() and purge_workflows() find what a workflow has received
CREATE INDEX notifications_consumed_idx
ON lockstep.notifications (destination_id)
WHERE consumed_at IS NOT NULL;

-- a key names one message of one workflow: the same key to another workflow is another message
CREATE UNIQUE INDEX notifications_idempotency_idx
ON lockstep.notifications (destination_id, idempotency_key)
WHERE idempotency_key IS NOT NULL;

COMMENT ON TABLE lockstep.notifications IS
    'One row per message sent to a workflow.';
COMMENT ON COLUMN lockstep.notifications.message_id IS
    'Identifies the message; generated ids are time-ordered UUIDs.';
COMMENT ON COLUMN lockstep.notifications.destination_id IS
    'Workflow that the message is for.';
COMMENT ON COLUMN lockstep.notifications.topic IS
    'Topic that the workflow receives it by; empty for a message without one.';
COMMENT ON COLUMN lockstep.notifications.message IS
    'What was sent.';
COMMENT ON COLUMN lockstep.notifications.idempotency_key IS
    'At most one message per destination has a given one.';
COMMENT ON COLUMN lockstep.notifications.created_at IS
    'When the message was sent; messages of a topic are received in this order.';
COMMENT ON COLUMN lockstep.notifications.consumed_at IS
    'When a step received the message; NULL while it waits.';
COMMENT ON COLUMN lockstep.notifications.consumed_by_step IS
    'Step of the destination that received the message.';

-- sql/20_tables/40_workflow_events.sql

-- One row per value that a workflow published under a key: the last one wins.
CREATE TABLE lockstep.workflow_events (
    workflow_id text NOT NULL,
    key text NOT NULL,
    value jsonb NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),

    CONSTRAINT workflow_events_pkey PRIMARY KEY (workflow_id, key),

    CONSTRAINT workflow_events_key_has_a_length_check CHECK (length(key) BETWEEN 1 AND 512)
);

COMMENT ON TABLE lockstep.workflow_events IS
    'One row per value that a workflow published under a key.';
COMMENT ON COLUMN lockstep.workflow_events.workflow_id IS
    'Workflow that published the value.';
COMMENT ON COLUMN lockstep.workflow_events.key IS
    'Name under which it was published.';
COMMENT ON COLUMN lockstep.workflow_events.value IS
    'The value published last.';
COMMENT ON COLUMN lockstep.workflow_events.updated_at IS
    'When it was published.';

-- sql/20_tables/42_workflow_streams.sql

-- Append-only values that a workflow published under a key, for readers to follow.
CREATE TABLE lockstep.workflow_streams (
    workflow_id text NOT NULL,
    key text NOT NULL,
    "offset" bigint NOT NULL,
    value jsonb,
    is_end boolean NOT NULL DEFAULT false,
    written_at timestamptz NOT NULL DEFAULT clock_timestamp(),

    CONSTRAINT workflow_streams_pkey PRIMARY KEY (workflow_id, key, "offset"),

    CONSTRAINT workflow_streams_key_has_a_length_check CHECK (length(key) BETWEEN 1 AND 512),
    CONSTRAINT workflow_streams_offset_not_negative_check CHECK ("offset" >= 0),
    CONSTRAINT workflow_streams_only_end_lacks_a_value_check CHECK ((value IS NULL) = is_end)
);

COMMENT ON TABLE lockstep.workflow_streams IS
    'Append-only values that a workflow published under a key.';
COMMENT ON COLUMN lockstep.workflow_streams.workflow_id IS
    'Workflow that wrote the value.';
COMMENT ON COLUMN lockstep.workflow_streams.key IS
    'Name of the stream.';
COMMENT ON COLUMN lockstep.workflow_streams."offset" IS
    'Position in the stream, from 0.';
COMMENT ON COLUMN lockstep.workflow_streams.value IS
    'What was written; NULL only in the row that closes the stream.';
COMMENT ON COLUMN lockstep.workflow_streams.is_end IS
    'Whether the row closes the stream.';
COMMENT ON COLUMN lockstep.workflow_streams.written_at IS
    'When it was written.';

-- sql/20_tables/45_waiter.sql

-- One row per who waits for another workflow: for its end, an event or a stream of it.
--
-- A waiter adds its row and then looks; who ends a workflow, or publishes a value,
-- takes the rows away and wakes them. suspend_workflows() says why none is missed.
CREATE TABLE lockstep.waiter (
    awaited_id text NOT NULL,
    awaited_what text NOT NULL DEFAULT '',
    is_client boolean NOT NULL,
    waiter text NOT NULL,

    CONSTRAINT waiter_pkey PRIMARY KEY (awaited_id, awaited_what, is_client, waiter)
);

COMMENT ON TABLE lockstep.waiter IS
    'One row per who waits for the end, an event or a stream of a workflow.';
COMMENT ON COLUMN lockstep.waiter.awaited_id IS
    'Workflow that is waited for.';
COMMENT ON COLUMN lockstep.waiter.awaited_what IS
    'What of it: empty for its end, else "event:" or "stream:" with the key.';
COMMENT ON COLUMN lockstep.waiter.is_client IS
    'Whether a client waits, to be notified, or a workflow, to be made claimable.';
COMMENT ON COLUMN lockstep.waiter.waiter IS
    'Channel on which the client listens, or id of the workflow that waits.';

-- sql/20_tables/50_queue.sql

-- Limits of a queue. A queue without a row exists too, unlimited.
CREATE TABLE lockstep.queue (
    queue_name text NOT NULL,
    concurrency int,
    worker_concurrency int,
    rate_limit int,
    rate_period interval,
    partition_concurrency int,
    partition_rate_limit int,
    partition_rate_period interval,
    is_paused boolean NOT NULL DEFAULT false,
    partition_cursor text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),

    CONSTRAINT queue_pkey PRIMARY KEY (queue_name),

    CONSTRAINT queue_name_has_a_length_check CHECK (length(queue_name) BETWEEN 1 AND 512),
    CONSTRAINT queue_limits_are_positive_check CHECK (
        least(concurrency, worker_concurrency, rate_limit, partition_concurrency, partition_rate_limit) >= 1
    ),
    CONSTRAINT queue_rate_limit_has_a_period_check CHECK (
        (rate_limit IS NULL) = (rate_period IS NULL)
        AND (partition_rate_limit IS NULL) = (partition_rate_period IS NULL)
    ),
    CONSTRAINT queue_rate_periods_are_positive_check CHECK (
        least(rate_period, partition_rate_period) > interval '0'
    )
) WITH (fillfactor = 50);

COMMENT ON TABLE lockstep.queue IS
    'Limits of a queue; a queue without a row exists too, unlimited.';
COMMENT ON COLUMN lockstep.queue.queue_name IS
    'Name of the queue.';
COMMENT ON COLUMN lockstep.queue.concurrency IS
    'Workflows of the queue that may run at once, over all workers.';
COMMENT ON COLUMN lockstep.queue.worker_concurrency IS
    'Workflows of the queue that may run at once in one worker.';
COMMENT ON COLUMN lockstep.queue.rate_limit IS
    'Workflows of the queue that may start in any rate_period, over all workers.';
COMMENT ON COLUMN lockstep.queue.rate_period IS
    'Length of the sliding window in which rate_limit counts.';
COMMENT ON COLUMN lockstep.queue.partition_concurrency IS
    'Workflows of one queue_partition_key that may run at once, over all workers.';
COMMENT ON COLUMN lockstep.queue.partition_rate_limit IS
    'Workflows of one queue_partition_key that may start in any partition_rate_period.';
COMMENT ON COLUMN lockstep.queue.partition_rate_period IS
    'Length of the sliding window in which partition_rate_limit counts.';
COMMENT ON COLUMN lockstep.queue.is_paused IS
    'Whether workers leave the queue alone.';
COMMENT ON COLUMN lockstep.queue.partition_cursor IS
    'Partition that had its turn last; the next claim goes on behind it.';
COMMENT ON COLUMN lockstep.queue.created_at IS
    'When the queue was created.';

-- sql/20_tables/52_queue_start.sql

-- What started lately in queues with a rate limit: a row per claim, and per partition if
-- these have a rate of their own. The counts run on, so that how many started in a
-- window is a difference of two rows, however many there are between them.
CREATE TABLE lockstep.queue_start (
    queue_name text NOT NULL,
    is_partition boolean NOT NULL,
    partition_key text NOT NULL,
    started_at timestamptz NOT NULL,
    count_before bigint NOT NULL,
    count_after bigint NOT NULL,

    CONSTRAINT queue_start_pkey PRIMARY KEY (queue_name, is_partition, partition_key, started_at),

    CONSTRAINT queue_start_key_only_of_partition_check CHECK (is_partition OR partition_key = ''),
    CONSTRAINT queue_start_count_grows_check CHECK (count_after > count_before)
);

-- _log_starts() removes what has left the window, of partitions too that start nothing more
CREATE INDEX queue_start_expired_idx
ON lockstep.queue_start (queue_name, is_partition, started_at);

COMMENT ON TABLE lockstep.queue_start IS
    'What started lately in queues with a rate limit.';
COMMENT ON COLUMN lockstep.queue_start.queue_name IS
    'Name of the queue.';
COMMENT ON COLUMN lockstep.queue_start.is_partition IS
    'Whether the row counts one partition of the queue; else the queue as a whole.';
COMMENT ON COLUMN lockstep.queue_start.partition_key IS
    'Partition that is counted; empty for workflows without a key and for the whole queue.';
COMMENT ON COLUMN lockstep.queue_start.started_at IS
    'When the workflows started.';
COMMENT ON COLUMN lockstep.queue_start.count_before IS
    'Workflows started before these, as far back as is known.';
COMMENT ON COLUMN lockstep.queue_start.count_after IS
    'The same with these.';

-- sql/20_tables/60_executor.sql

-- One row per live worker process. The row is its lease over all the workflows it
-- runs: whoever writes for an executor holds the row FOR KEY SHARE, whoever
-- declares it dead needs it FOR UPDATE, so a dead executor cannot write.
CREATE TABLE lockstep.executor (
    executor_id text NOT NULL DEFAULT lockstep._generate_id(),
    queues text[] NOT NULL,
    workflow_names text[] NOT NULL,
    app_version text,
    pins_version boolean NOT NULL DEFAULT false,
    host text,
    pid int,
    client_version text,
    lease_duration interval NOT NULL,
    is_idle boolean NOT NULL DEFAULT false,
    registered_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL,
    timeline int,
    table_id oid,
    suspect_id text,
    alone_until timestamptz,
    system_id bigint,
    server_started_at timestamptz,
    connection_number int NOT NULL DEFAULT 0,

    CONSTRAINT executor_pkey PRIMARY KEY (executor_id),

    CONSTRAINT executor_serves_a_queue_check CHECK (cardinality(queues) > 0),
    CONSTRAINT executor_lease_is_positive_check CHECK (lease_duration > interval '0'),
    CONSTRAINT executor_alone_with_a_suspect_check CHECK ((suspect_id IS NULL) = (alone_until IS NULL))
)
-- a heartbeat is an UPDATE: room for it on the page keeps it off the index
WITH (fillfactor = 50);

COMMENT ON TABLE lockstep.executor IS
    'One row per live worker process: its lease over the workflows it runs.';
COMMENT ON COLUMN lockstep.executor.executor_id IS
    'Identity that the worker claims with; a new one at each registration.';
COMMENT ON COLUMN lockstep.executor.queues IS
    'Queues that the worker claims from.';
COMMENT ON COLUMN lockstep.executor.workflow_names IS
    'Workflows that the worker can run; it leaves others alone.';
COMMENT ON COLUMN lockstep.executor.app_version IS
    'Application version of the worker; it leaves workflows of another version alone.';
COMMENT ON COLUMN lockstep.executor.pins_version IS
    'Whether a workflow that the worker starts is left to workers of its version from then on.';
COMMENT ON COLUMN lockstep.executor.host IS
    'Host that the worker runs on.';
COMMENT ON COLUMN lockstep.executor.pid IS
    'Process id of the worker on its host.';
COMMENT ON COLUMN lockstep.executor.client_version IS
    'Version of the worker''s client library.';
COMMENT ON COLUMN lockstep.executor.lease_duration IS
    'Time from a heartbeat to the end of the lease.';
COMMENT ON COLUMN lockstep.executor.is_idle IS
    'Whether the worker sleeps and wants to be notified of new work.';
COMMENT ON COLUMN lockstep.executor.registered_at IS
    'When the worker registered.';
COMMENT ON COLUMN lockstep.executor.expires_at IS
    'End of the lease unless a heartbeat extends it; -infinity once declared dead.';
COMMENT ON COLUMN lockstep.executor.timeline IS
    'Timeline of the server at the registration: after a failover the executor is dead; NULL where it is not told.';
COMMENT ON COLUMN lockstep.executor.table_id IS
    'This table at the registration: after a restore from a dump, which makes another one, the executor is dead.';
COMMENT ON COLUMN lockstep.executor.suspect_id IS
    'Workflow that the worker runs alone, because workers died under it.';
COMMENT ON COLUMN lockstep.executor.alone_until IS
    'Until when the worker claims nothing beside that workflow while it runs.';
COMMENT ON COLUMN lockstep.executor.system_id IS
    'Server of the registration: on any other the executor is dead; NULL where it is not told.';
COMMENT ON COLUMN lockstep.executor.server_started_at IS
    'Start of the server that the executor was last heard by, where system_id was compared.';
COMMENT ON COLUMN lockstep.executor.connection_number IS
    'Connections that the worker had made when it last said what it runs: what comes from an earlier one is late.';

-- sql/20_tables/70_schedule.sql

-- One row per schedule: when it starts what.
--
-- All its ticks up to handled_until were started, or forgotten by its policy; no
-- earlier one ever starts by itself, also when its workflow was purged long ago.
-- Who computes ticks outside of a transaction says of which revision they are.
CREATE TABLE lockstep.schedule (
    schedule_name text NOT NULL,
    cron text NOT NULL,
    time_zone text NOT NULL DEFAULT 'UTC',
    workflow_name text NOT NULL,
    queue_name text NOT NULL,
    named_args jsonb NOT NULL DEFAULT '{}',
    time_arg text,
    on_missed text NOT NULL DEFAULT 'skip',
    engine text,
    cron_job_id bigint,
    is_paused boolean NOT NULL DEFAULT false,
    priority int NOT NULL DEFAULT 0,
    deduplication_id text,
    queue_partition_key text,
    timeout interval,
    max_attempts int,
    app_version text,
    headers jsonb,
    retries jsonb,
    revision bigint NOT NULL DEFAULT 1,
    handled_until timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_tick_at timestamptz,
    next_tick_at timestamptz NOT NULL DEFAULT '-infinity',
    problem text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_by text NOT NULL DEFAULT current_user,

    CONSTRAINT schedule_pkey PRIMARY KEY (schedule_name),

    -- the ids of its workflows are longer by 21
    CONSTRAINT schedule_name_has_a_length_check CHECK (length(schedule_name) BETWEEN 1 AND 400),
    CONSTRAINT schedule_named_args_are_an_object_check CHECK (jsonb_typeof(named_args) = 'object'),
    CONSTRAINT schedule_headers_are_an_object_check CHECK (jsonb_typeof(headers) = 'object'),
    CONSTRAINT schedule_on_missed_is_known_check CHECK (on_missed IN ('skip', 'latest', 'all')),
    CONSTRAINT schedule_engine_is_known_check CHECK (engine IN ('pg_cron', 'workers')),
    CONSTRAINT schedule_paused_has_no_job_check CHECK (NOT is_paused OR cron_job_id IS NULL),
    CONSTRAINT schedule_priority_not_negative_check CHECK (priority >= 0)
);

-- pulse() asks when the next tick falls due, due_schedules() for those that have
CREATE INDEX schedule_due_idx
ON lockstep.schedule (next_tick_at)
WHERE NOT is_paused;

COMMENT ON TABLE lockstep.schedule IS
    'One row per schedule: when it starts what.';
COMMENT ON COLUMN lockstep.schedule.schedule_name IS
    'Name of the schedule; the ids of its workflows begin with it.';
COMMENT ON COLUMN lockstep.schedule.cron IS
    'Cron expression: five fields, six with seconds first, or an alias such as @daily.';
COMMENT ON COLUMN lockstep.schedule.time_zone IS
    'Time zone in which the expression is meant.';
COMMENT ON COLUMN lockstep.schedule.workflow_name IS
    'Workflow that each tick starts.';
COMMENT ON COLUMN lockstep.schedule.queue_name IS
    'Queue in which it waits for a worker.';
COMMENT ON COLUMN lockstep.schedule.named_args IS
    'Its named arguments.';
COMMENT ON COLUMN lockstep.schedule.time_arg IS
    'Named argument that receives the scheduled time; NULL for none.';
COMMENT ON COLUMN lockstep.schedule.on_missed IS
    'What becomes of ticks that nobody started in time: skip, latest or all.';
COMMENT ON COLUMN lockstep.schedule.engine IS
    'Engine that was asked for: pg_cron, workers, or NULL for pg_cron where it can.';
COMMENT ON COLUMN lockstep.schedule.cron_job_id IS
    'Job of pg_cron that starts the ticks; NULL if the workers alone do.';
COMMENT ON COLUMN lockstep.schedule.is_paused IS
    'Whether ticks are left out.';
COMMENT ON COLUMN lockstep.schedule.priority IS
    'Priority of the workflows: 0 first.';
COMMENT ON COLUMN lockstep.schedule.deduplication_id IS
    'Their deduplication id: a tick is left out while an unfinished workflow has it.';
COMMENT ON COLUMN lockstep.schedule.queue_partition_key IS
    'Their partition of the queue.';
COMMENT ON COLUMN lockstep.schedule.timeout IS
    'How long they may take from their first start.';
COMMENT ON COLUMN lockstep.schedule.max_attempts IS
    'Executions before they are dead letters; NULL for the default.';
COMMENT ON COLUMN lockstep.schedule.app_version IS
    'Application version that they ask for.';
COMMENT ON COLUMN lockstep.schedule.headers IS
    'Their headers, beside schedule_name and scheduled_at.';
COMMENT ON COLUMN lockstep.schedule.retries IS
    'How a failure of theirs is tried again.';
COMMENT ON COLUMN lockstep.schedule.revision IS
    'Counts the changes of the row.';
COMMENT ON COLUMN lockstep.schedule.handled_until IS
    'All ticks up to this moment were started or forgotten.';
COMMENT ON COLUMN lockstep.schedule.last_tick_at IS
    'Latest tick that was started.';
COMMENT ON COLUMN lockstep.schedule.next_tick_at IS
    'Next tick; -infinity until a worker computes it, infinity if there is none.';
COMMENT ON COLUMN lockstep.schedule.problem IS
    'Why a worker could not compute or start ticks; it is tried again each minute.';
COMMENT ON COLUMN lockstep.schedule.created_at IS
    'When the schedule was created.';
COMMENT ON COLUMN lockstep.schedule.created_by IS
    'Role that created it.';

-- sql/20_tables/80_state_machine.sql

-- State machines of application tables: the versions of each, and what each allows.

-- A version of a state machine. The newest is what new rows follow.
CREATE TABLE lockstep.state_machine (
    machine_name text NOT NULL,
    version int NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_by text NOT NULL DEFAULT current_user,

    CONSTRAINT state_machine_pkey PRIMARY KEY (machine_name, version),

    CONSTRAINT state_machine_name_has_a_length_check CHECK (length(machine_name) BETWEEN 1 AND 512),
    CONSTRAINT state_machine_version_is_positive_check CHECK (version >= 1)
);

-- A move that a version of a state machine allows; without from_state, a way in.
CREATE TABLE lockstep.state_transition (
    machine_name text NOT NULL,
    version int NOT NULL,
    from_state text,
    event text NOT NULL,
    to_state text NOT NULL,
    workflow_name text,
    queue_name text,

    CONSTRAINT state_transition_names_have_a_length_check CHECK (
        int4range '[1,512]' @> ALL (ARRAY[ -- noqa: CP03, LT01, LT06
            length(machine_name), length(from_state), length(event), length(to_state),
            length(workflow_name), length(queue_name)
        ])
    ),
    CONSTRAINT state_transition_leads_elsewhere_check CHECK (from_state <> to_state),
    CONSTRAINT state_transition_queue_of_a_workflow_check CHECK (
        (queue_name IS NULL) = (workflow_name IS NULL)
    )
);

-- an event leads from a state to one other
CREATE UNIQUE INDEX state_transition_event_idx
ON lockstep.state_transition (machine_name, version, from_state, event)
WHERE from_state IS NOT NULL;

-- and each state is entered by one event
CREATE UNIQUE INDEX state_transition_entry_idx
ON lockstep.state_transition (machine_name, version, to_state)
WHERE from_state IS NULL;

-- a table without a primary key: or a publication for all tables refuses to let go of its rows
ALTER TABLE lockstep.state_transition REPLICA IDENTITY FULL;

COMMENT ON TABLE lockstep.state_machine IS
    'A version of a state machine; the newest is what new rows follow.';
COMMENT ON COLUMN lockstep.state_machine.machine_name IS
    'Name of the state machine.';
COMMENT ON COLUMN lockstep.state_machine.version IS
    'Counts the versions of the machine from 1.';
COMMENT ON COLUMN lockstep.state_machine.created_at IS
    'When the version was created.';
COMMENT ON COLUMN lockstep.state_machine.created_by IS
    'Role that created the version.';

COMMENT ON TABLE lockstep.state_transition IS
    'A move that a version of a state machine allows.';
COMMENT ON COLUMN lockstep.state_transition.machine_name IS
    'Name of the state machine.';
COMMENT ON COLUMN lockstep.state_transition.version IS
    'Version of the state machine.';
COMMENT ON COLUMN lockstep.state_transition.from_state IS
    'State that is left; NULL if rows may be inserted in to_state.';
COMMENT ON COLUMN lockstep.state_transition.event IS
    'What happens to a row that makes this move.';
COMMENT ON COLUMN lockstep.state_transition.to_state IS
    'State that is reached.';
COMMENT ON COLUMN lockstep.state_transition.workflow_name IS
    'Workflow that the move starts, if any.';
COMMENT ON COLUMN lockstep.state_transition.queue_name IS
    'Queue of that workflow.';

-- sql/20_tables/82_state_history.sql

-- The moves that rows of application tables made, their insertion and deletion among them.
CREATE TABLE lockstep.state_history (
    transition_id text NOT NULL DEFAULT lockstep._generate_id(),
    table_name text NOT NULL,
    key jsonb NOT NULL,
    machine_name text NOT NULL,
    version int NOT NULL,
    from_state text,
    event text,
    to_state text,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed_by text NOT NULL DEFAULT current_user,
    transaction_id xid8 NOT NULL DEFAULT pg_current_xact_id(), -- noqa: CP05
    workflow_id text,

    CONSTRAINT state_history_pkey PRIMARY KEY (transition_id),

    CONSTRAINT state_history_key_is_an_object_check CHECK (jsonb_typeof(key) = 'object'),
    CONSTRAINT state_history_has_a_state_check CHECK (num_nonnulls(from_state, to_state) > 0)
);

-- finds the moves of a row; a hash, because keys may be longer than what a B-tree takes
CREATE INDEX state_history_key_idx
ON lockstep.state_history USING hash (key);

COMMENT ON TABLE lockstep.state_history IS
    'The moves that rows of application tables made, their insertion and deletion among them.';
COMMENT ON COLUMN lockstep.state_history.transition_id IS
    'Identifies the move; a time-ordered UUID.';
COMMENT ON COLUMN lockstep.state_history.table_name IS
    'Table of the row, with its schema, as it was called then.';
COMMENT ON COLUMN lockstep.state_history.key IS
    'Primary key of the row: an object with one element per column.';
COMMENT ON COLUMN lockstep.state_history.machine_name IS
    'State machine that allowed the move.';
COMMENT ON COLUMN lockstep.state_history.version IS
    'Version of the state machine.';
COMMENT ON COLUMN lockstep.state_history.from_state IS
    'State that was left; NULL if the row was inserted.';
COMMENT ON COLUMN lockstep.state_history.event IS
    'What happened to the row; NULL if it was deleted, or inserted where no event is declared.';
COMMENT ON COLUMN lockstep.state_history.to_state IS
    'State that was reached; NULL if the row was deleted.';
COMMENT ON COLUMN lockstep.state_history.changed_at IS
    'When the row was written.';
COMMENT ON COLUMN lockstep.state_history.changed_by IS
    'Role that wrote the row.';
COMMENT ON COLUMN lockstep.state_history.transaction_id IS
    'Transaction that wrote the row; moves of one transaction share it.';
COMMENT ON COLUMN lockstep.state_history.workflow_id IS
    'Workflow that the move started, if any; its id is that of the move.';

-- Rows whose key an UPDATE of a partitioned table changes: Postgres may delete such a row and
-- insert it into another partition. Empty but for open transactions.
CREATE TABLE lockstep.state_move (
    transaction_id xid8 NOT NULL DEFAULT pg_current_xact_id(), -- noqa: CP05
    table_name text NOT NULL,
    previous_key jsonb NOT NULL,
    key jsonb NOT NULL,

    CONSTRAINT state_move_keys_are_objects_check CHECK (
        jsonb_typeof(previous_key) = 'object' AND jsonb_typeof(key) = 'object'
    )
);

CREATE INDEX state_move_key_idx
ON lockstep.state_move USING hash (key);

-- a table without a primary key: or a publication for all tables refuses to let go of its rows
ALTER TABLE lockstep.state_move REPLICA IDENTITY FULL;

COMMENT ON TABLE lockstep.state_move IS
    'Rows that may be on their way to another partition; empty but for open transactions.';
COMMENT ON COLUMN lockstep.state_move.transaction_id IS 'Transaction that updates the row.';
COMMENT ON COLUMN lockstep.state_move.table_name IS 'Partitioned table of the row, with its schema.';
COMMENT ON COLUMN lockstep.state_move.previous_key IS 'Primary key before the update.';
COMMENT ON COLUMN lockstep.state_move.key IS 'Primary key after it.';

-- sql/20_tables/90_pending_grant.sql

-- GRANTs that an update leaves for the end of its transaction; empty at all other times.
-- What the script of an extension grants itself belongs to the extension: pg_dump leaves it
-- out, and before Postgres 17 a role that is dropped leaves a trace in pg_init_privs.
CREATE TABLE lockstep.pending_grant (
    grant_statement text NOT NULL,

    CONSTRAINT pending_grant_pkey PRIMARY KEY (grant_statement),

    CONSTRAINT pending_grant_is_a_grant_check CHECK (grant_statement LIKE 'GRANT %')
);

COMMENT ON TABLE lockstep.pending_grant IS
    'Grants that an update has left for the end of its transaction.';
COMMENT ON COLUMN lockstep.pending_grant.grant_statement IS
    'The GRANT, whole.';

-- sql/20_tables/90_tenant_isolation.sql

-- One row if clients are tenants that see their own workflows only; none if they see all.
CREATE TABLE lockstep.tenant_isolation (
    is_enabled boolean NOT NULL DEFAULT true,
    enabled_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    enabled_by text NOT NULL DEFAULT current_user,

    CONSTRAINT tenant_isolation_pkey PRIMARY KEY (is_enabled),

    CONSTRAINT tenant_isolation_is_there_or_not_check CHECK (is_enabled)
);

COMMENT ON TABLE lockstep.tenant_isolation IS
    'One row if clients are tenants that see their own workflows only; none if they see all.';
COMMENT ON COLUMN lockstep.tenant_isolation.is_enabled IS 'Always true.';
COMMENT ON COLUMN lockstep.tenant_isolation.enabled_at IS 'When tenants were isolated.';
COMMENT ON COLUMN lockstep.tenant_isolation.enabled_by IS 'Role that did it.';

-- sql/30_internal/announce.sql

-- Says, until the transaction ends, that values are being published.
--
-- Closes the race between who publishes a value, and then looks who waits for it,
-- and who begins to wait, and then looks for the value: neither would see the other
-- before both have committed. The one who waits needs the same locks for itself
-- (_is_announced()) and tries again later when it does not get them. The locks are
-- shared: who publishes waits only for a suspension that is about to commit.
CREATE FUNCTION lockstep._announce(p_awaited_ids text[], p_whats text[])
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(k.lock_key)
    FROM (
        SELECT DISTINCT hashtextextended(a.what || ' of ' || a.awaited_id, 0) AS lock_key
        FROM unnest(p_awaited_ids, p_whats) AS a (awaited_id, what)
        ORDER BY lock_key
    ) AS k;
END
$$;
COMMENT ON FUNCTION lockstep._announce(text[], text[]) IS
    'Says, until the transaction ends, that values are being published.';

-- sql/30_internal/attachment_of.sql

-- Reads the arguments of a trigger that calls enqueue_rows().
--
-- All are NULL if attach_workflow() did not write them: whoever owns a table can create such a
-- trigger by hand, and must not break the view for everybody. Hence the exception block.
-- pg_trigger ends each argument with a zero byte; the hexadecimal form is cut there, two
-- digits at a time.
CREATE FUNCTION lockstep._attachment_of(
    p_arguments bytea,
    OUT settings jsonb,
    OUT columns text[],
    OUT primary_key text[],
    OUT priority int,
    OUT debounce interval,
    OUT debounce_max_delay interval
)
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_settings jsonb;
BEGIN
    v_settings := (
        SELECT jsonb_object(
            array_agg(convert_from(decode(m.hex[1], 'hex'), getdatabaseencoding()) ORDER BY m.place)
        )
        FROM regexp_matches(encode(p_arguments, 'hex'), '((?:..)*?)00', 'g') WITH ORDINALITY AS m (hex, place)
    );
    columns := (v_settings ->> 'columns')::text[];
    primary_key := (v_settings ->> 'primary_key')::text[];
    priority := coalesce((v_settings ->> 'priority')::int, 0);
    debounce := (v_settings ->> 'debounce')::interval;
    debounce_max_delay := (v_settings ->> 'debounce_max_delay')::interval;
    settings := v_settings;
EXCEPTION
    WHEN data_exception THEN
        NULL;
END
$$;
COMMENT ON FUNCTION lockstep._attachment_of(bytea) IS
    'Reads the arguments of a trigger that calls enqueue_rows(); NULL if they are malformed.';

-- sql/30_internal/await.sql

-- Enters a workflow as waiting for others; NULL, or why it cannot wait now.
--
-- p_awaits is [{"awaited_id", "key": of the event, or null for the end}, …]. Returns
-- "ready" when one of them is there already, or will not come because its workflow has
-- ended, "busy" when it may be coming at this moment. Locks the awaited rows FOR SHARE,
-- and skips those that are locked: such a lock may be their end.
CREATE FUNCTION lockstep._await(p_workflow_id text, p_awaits jsonb)
RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_awaited text[] := ARRAY(
        SELECT DISTINCT a.awaited_id
        FROM jsonb_to_recordset(p_awaits) AS a (awaited_id text)
    );
    v_unended_count bigint;
    v_locked_count bigint;
BEGIN
    SELECT count(*), count(*) FILTER (WHERE w.completed_at IS NULL)
    INTO v_locked_count, v_unended_count
    FROM (
        SELECT w.completed_at
        FROM lockstep.workflow_status AS w
        WHERE w.workflow_id = ANY (v_awaited)
        FOR SHARE SKIP LOCKED
    ) AS w;

    IF v_unended_count < v_locked_count THEN
        RETURN 'ready';
    ELSIF v_locked_count < cardinality(v_awaited) THEN
        RETURN 'busy';
    ELSIF EXISTS (
        SELECT
        FROM jsonb_to_recordset(p_awaits) AS a (awaited_id text, key text)
        WHERE a.key IS NOT NULL
            AND lockstep._is_announced(a.awaited_id, 'event:' || a.key)
    ) THEN
        RETURN 'busy';
    ELSIF EXISTS (
        SELECT
        FROM jsonb_to_recordset(p_awaits) AS a (awaited_id text, key text)
        WHERE (
            SELECT true
            FROM lockstep.workflow_events AS v
            WHERE v.workflow_id = a.awaited_id
                AND v.key = a.key
            LIMIT 1  -- keeps it a look for each, where a join may read all events
        )
    ) THEN
        RETURN 'ready';
    END IF;

    -- an earlier wait's row is locked as a new one is: who ends the awaited workflow at
    -- this moment takes it away after this commits, and then finds the row WAITING
    INSERT INTO lockstep.waiter (awaited_id, awaited_what, is_client, waiter)
    SELECT DISTINCT a.awaited_id, coalesce('event:' || a.key, ''), false, p_workflow_id
    FROM jsonb_to_recordset(p_awaits) AS a (awaited_id text, key text)
    ON CONFLICT ON CONSTRAINT waiter_pkey DO UPDATE SET waiter = excluded.waiter;

    RETURN NULL;
END
$$;
COMMENT ON FUNCTION lockstep._await(text, jsonb) IS
    'Enters a workflow as waiting for others; NULL, or why it cannot wait now.';

-- sql/30_internal/await_writes.sql

-- Waits until no executor that ran one of these cancelled workflows is in a write.
--
-- Closes a race of who is about to delete what workflows recorded. A write that began
-- while a workflow still ran, and saw that it did, may add to it after it was cancelled.
-- _hold_executor() begins each write with the lock that this waits for; one that begins
-- later sees the cancellation. Other ends leave no such write: a workflow finishes in the
-- last write of its run, and recover_workflows() waits for those of the dead.
--
-- Takes the lock only to give it back, so that a client which leaves its transaction open
-- stops no executor. The caller holds the workflows' rows FOR UPDATE; a write that wants
-- one of them gives up after half a second and comes again, so this waits no longer.
CREATE FUNCTION lockstep._await_writes(p_workflow_ids text[])
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    v_lock_key bigint;
BEGIN
    FOR v_lock_key IN
        SELECT DISTINCT hashtextextended('writes of ' || w.executor_id, 0)
        FROM lockstep.workflow_status AS w
        WHERE w.workflow_id = ANY (p_workflow_ids)
            AND w.status = 'CANCELLED'
            AND w.executor_id IS NOT NULL
    LOOP
        PERFORM pg_advisory_lock(v_lock_key);
        PERFORM pg_advisory_unlock(v_lock_key);
    END LOOP;
END
$$;
COMMENT ON FUNCTION lockstep._await_writes(text[]) IS
    'Waits until no executor that ran one of these cancelled workflows is in a write.';

-- sql/30_internal/awaited_by_held.sql

-- Tells which workflows cannot end now without a wait: those that somebody waits for whose
-- row is locked.
--
-- For those who end workflows of many and must wait for no client's open transaction.
-- The caller holds the rows of the workflows, so that nobody begins to wait for their end.
-- Locks the rows of those who wait, skipping locked ones.
CREATE FUNCTION lockstep._awaited_by_held(p_workflow_ids text[])
RETURNS text[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    v_waiters constant text[] := ARRAY(
        SELECT DISTINCT r.waiter
        FROM lockstep.waiter AS r
        WHERE r.awaited_id = ANY (p_workflow_ids)
            AND NOT r.is_client
    );
    v_waiter text;
    v_locked text[] := ARRAY[]::text[];
BEGIN
    IF v_waiters = '{}' THEN
        RETURN ARRAY[]::text[];
    END IF;

    FOR v_waiter IN
        SELECT w.workflow_id
        FROM lockstep.workflow_status AS w
        WHERE w.workflow_id = ANY (v_waiters)
            AND w.status = 'WAITING'
        FOR NO KEY UPDATE SKIP LOCKED
    LOOP
        v_locked := v_locked || v_waiter;
    END LOOP;

    RETURN ARRAY(
        SELECT DISTINCT r.awaited_id
        FROM lockstep.waiter AS r
        INNER JOIN lockstep.workflow_status AS w ON w.workflow_id = ANY (ARRAY[r.waiter])
        WHERE r.awaited_id = ANY (p_workflow_ids)
            AND NOT r.is_client
            AND w.status = 'WAITING'
            AND w.workflow_id <> ALL (v_locked)
    );
END
$$;
COMMENT ON FUNCTION lockstep._awaited_by_held(text[]) IS
    'Tells which workflows are waited for by one whose row is locked.';

-- sql/30_internal/caller.sql

-- Names the role that called a SECURITY DEFINER function.
--
-- current_user is the owner in there. SET ROLE shows in the setting, a plain
-- login or SET SESSION AUTHORIZATION in session_user. The planner inlines it.
CREATE FUNCTION lockstep._caller()
RETURNS text
LANGUAGE sql
STABLE
BEGIN ATOMIC
    SELECT coalesce(nullif(current_setting('role'), 'none'), session_user); -- noqa: LT01
END;
COMMENT ON FUNCTION lockstep._caller() IS
    'Names the role that called a SECURITY DEFINER function.';

-- sql/30_internal/cancel_tree.sql

-- Cancels unfinished workflows and, level by level, their unfinished descendants.
--
-- Returns the ids of all that it cancelled. Lock order: workflow rows by id, from
-- parents to children. start_children() locks the parent's row FOR SHARE, so of a
-- child that is being started either the start fails or its row is found here.
CREATE FUNCTION lockstep._cancel_tree(p_workflow_ids text[])
RETURNS text[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    v_level text[] := p_workflow_ids;
    v_cancelled text[] := ARRAY[]::text[];
BEGIN
    WHILE cardinality(v_level) > 0 LOOP
        PERFORM
        FROM lockstep.workflow_status AS w
        WHERE w.workflow_id = ANY (v_level)
        ORDER BY w.workflow_id
        FOR NO KEY UPDATE;

        WITH cancelled AS (
            UPDATE lockstep.workflow_status AS w
            SET status = 'CANCELLED', error = NULL, completed_at = clock_timestamp(), waiting_for = NULL
            WHERE w.workflow_id = ANY (v_level)
                AND w.completed_at IS NULL
            RETURNING w.workflow_id
        )

        SELECT coalesce(array_agg(c.workflow_id), '{}')
        INTO v_level
        FROM cancelled AS c;

        v_cancelled := v_cancelled || v_level;

        v_level := ARRAY(
            SELECT w.workflow_id
            FROM lockstep.workflow_status AS w
            WHERE w.parent_workflow_id = ANY (v_level)
                AND w.completed_at IS NULL
        );
    END LOOP;

    PERFORM lockstep._settle_ended(v_cancelled, v_cancelled);
    RETURN v_cancelled;
END
$$;
COMMENT ON FUNCTION lockstep._cancel_tree(text[]) IS
    'Cancels unfinished workflows and their unfinished descendants; returns their ids.';

-- sql/30_internal/change_workflows.sql

-- Changes up to p_max_count workflows that meet a filter; returns their ids.
--
-- p_change is cancel, resume, restart, priority or move; the last two have p_value. What
-- cannot be changed is passed over, and so is what is that way already: a call changes
-- as many as it may while there are any.
--
-- Rows that somebody holds are skipped, not waited for: who ends a batch of workflows locks
-- them in an order of its own, so that waiting could deadlock, and one open transaction of
-- a client would hold up the whole. They are found by the next call. Lock order: as
-- the function that changes one, row by row; a cancellation's descendants are waited for.
CREATE FUNCTION lockstep._change_workflows(
    p_change text,
    p_filter jsonb,
    p_max_count int,
    p_value text DEFAULT NULL
)
RETURNS SETOF text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_filter constant jsonb := lockstep._checked_filter(p_filter, p_max_count);
    v_statuses constant text[] := CASE p_change
        WHEN 'cancel' THEN ARRAY['ENQUEUED', 'DELAYED', 'PENDING', 'WAITING']
        WHEN 'resume' THEN ARRAY['ERROR', 'CANCELLED', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED']
        WHEN 'restart' THEN ARRAY['SUCCESS', 'ERROR', 'CANCELLED', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED']
        ELSE ARRAY['ENQUEUED', 'DELAYED', 'WAITING']
    END;
    v_ids text[];
    v_last_id text;
    v_left int := p_max_count;
    r_workflow record;
BEGIN
    LOOP
        v_ids := ARRAY(
            SELECT f.workflow_id
            FROM lockstep._find_workflows(v_filter, v_statuses, v_last_id, least(p_max_count, 1000)) AS f
        );
        EXIT WHEN v_ids = '{}';

        FOR v_last_id IN SELECT unnest(v_ids) LOOP
            SELECT w.priority, w.queue_name, w.deduplication_id, lockstep._is_cancelled_here(w) AS is_cancelled_here
            INTO r_workflow
            FROM lockstep.workflow_status AS w
            WHERE w.workflow_id = v_last_id
                AND w.status = ANY (v_statuses)
            FOR NO KEY UPDATE SKIP LOCKED;

            CONTINUE WHEN NOT FOUND;

            IF p_change = 'cancel' THEN
                RETURN QUERY
                SELECT c.workflow_id
                FROM unnest(lockstep._cancel_tree(ARRAY[v_last_id])) AS c (workflow_id);
            ELSIF p_change = 'resume' THEN
                CONTINUE WHEN lockstep._rerun_problem(v_last_id, true) IS NOT NULL;
                PERFORM lockstep.resume_workflow(v_last_id);
                RETURN NEXT v_last_id;
            ELSIF p_change = 'restart' THEN
                CONTINUE WHEN r_workflow.is_cancelled_here
                    OR lockstep._rerun_problem(v_last_id, false) IS NOT NULL;

                PERFORM
                FROM lockstep.workflow_status AS w
                WHERE w.workflow_id = v_last_id
                FOR UPDATE SKIP LOCKED;

                CONTINUE WHEN NOT FOUND;
                PERFORM lockstep._restart(v_last_id);
                RETURN NEXT v_last_id;
            ELSIF p_change = 'priority' THEN
                CONTINUE WHEN r_workflow.priority = p_value::int;
                PERFORM lockstep.set_priority(v_last_id, p_value::int);
                RETURN NEXT v_last_id;
            ELSE
                CONTINUE WHEN r_workflow.queue_name = p_value
                    OR lockstep._deduplication_rival(p_value, r_workflow.deduplication_id) IS NOT NULL;
                PERFORM lockstep.move_workflow(v_last_id, p_value);
                RETURN NEXT v_last_id;
            END IF;

            v_left := v_left - 1;
            EXIT WHEN v_left = 0;
        END LOOP;

        EXIT WHEN v_left = 0 OR cardinality(v_ids) < least(p_max_count, 1000);
    END LOOP;
END
$$;
COMMENT ON FUNCTION lockstep._change_workflows(text, jsonb, int, text) IS
    'Changes up to p_max_count workflows that meet a filter; returns their ids.';

-- sql/30_internal/checked_filter.sql

-- Returns a filter of workflows, or raises what is wrong with it or with a number of them.
CREATE FUNCTION lockstep._checked_filter(p_filter jsonb, p_max_count int)
RETURNS jsonb
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_problem text[] := lockstep._filter_problem(p_filter);
BEGIN
    IF v_problem IS NULL AND (p_max_count IS NULL OR p_max_count NOT BETWEEN 1 AND 100000) THEN
        v_problem := ARRAY[
            'max_count must be between 1 and 100000',
            format('It is %s.', coalesce(p_max_count::text, 'null')),
            'Ask again for what is left.'
        ];
    END IF;

    IF v_problem IS NOT NULL THEN
        RAISE EXCEPTION '%', v_problem[1]
            USING ERRCODE = 'invalid_parameter_value', DETAIL = v_problem[2], HINT = v_problem[3];
    END IF;

    RETURN p_filter;
END
$$;
COMMENT ON FUNCTION lockstep._checked_filter(jsonb, int) IS
    'Returns a filter of workflows, or raises what is wrong with it.';

-- sql/30_internal/claim.sql

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
CREATE FUNCTION lockstep._claim(
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

-- sql/30_internal/debounce_workflows.sql

-- Enqueues workflows that start when calls for their deduplication id have paused;
-- returns their ids, in the order of the arrays.
--
-- A workflow that has the deduplication id and has not started takes everything from the
-- newest call, except its id and created_at, and starts p_debounce after that call, but
-- not later than p_max_delay after created_at. If the id is repeated in the arrays, the
-- last element is the newest call.
--
-- A workflow that has started has read its inputs, so it cannot take the newest ones, and
-- they must not be lost. Only one unfinished workflow may have the deduplication id, so
-- that one gives it up and runs on without, and a new workflow has it: later calls find
-- the one that can still take their inputs.
--
-- Lock order: the holders of the ids (FOR NO KEY UPDATE) and the new rows, in one statement,
-- by deduplication id: calls for the same ids do not deadlock. One that another
-- transaction holds, or is about to insert, is waited for. What INSERT does not change,
-- it has locked, so that nobody else takes the id between the two rounds of the loop.
CREATE FUNCTION lockstep._debounce_workflows(
    p_workflow_name text,
    p_queue_name text,
    p_inputs jsonb[],
    p_workflow_ids text[],
    p_deduplication_ids text[],
    p_queue_partition_keys text[],
    p_priority int,
    p_timeout interval,
    p_deadline timestamptz,
    p_max_attempts int,
    p_app_version text,
    p_headers jsonb,
    p_retries jsonb,
    p_debounce interval,
    p_max_delay interval
)
RETURNS text[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    v_now constant timestamptz := clock_timestamp();
    v_done jsonb := jsonb '{}';
    v_is_claimable boolean := false;
    v_open text[];
    r_rival record;
BEGIN
    IF p_workflow_ids IS NOT NULL THEN
        SELECT w.workflow_id, w.workflow_name, w.queue_name, lockstep._may_see(w.enqueued_by) AS is_visible
        INTO r_rival
        FROM unnest(p_workflow_ids, p_deduplication_ids) AS n (workflow_id, deduplication_id)
        INNER JOIN lockstep.workflow_status AS w ON w.workflow_id = n.workflow_id
        WHERE (w.queue_name, w.deduplication_id, w.started_at, w.completed_at)
            IS DISTINCT FROM (p_queue_name, n.deduplication_id, NULL, NULL)
            OR NOT lockstep._may_see(w.enqueued_by)
        LIMIT 1;

        IF FOUND THEN
            RAISE EXCEPTION 'workflow "%" exists already', r_rival.workflow_id
                USING ERRCODE = 'unique_violation',
                      DETAIL = CASE
                          WHEN r_rival.is_visible
                              THEN format('It runs "%s" in queue "%s".', r_rival.workflow_name, r_rival.queue_name)
                          ELSE 'It is not visible to this role.'
                      END,
                      HINT = 'Leave workflow_id out: with debounce, calls are told apart by deduplication_id.';
        END IF;
    END IF;

    LOOP
        WITH newest AS (
            SELECT DISTINCT ON (n.deduplication_id COLLATE "C")
                n.inputs, n.deduplication_id, n.queue_partition_key, n.place,
                first_value(n.workflow_id) OVER (PARTITION BY n.deduplication_id ORDER BY n.place) AS workflow_id
            FROM unnest(p_inputs, p_workflow_ids, p_deduplication_ids, p_queue_partition_keys) WITH ORDINALITY
                AS n (inputs, workflow_id, deduplication_id, queue_partition_key, place)
            WHERE NOT v_done ? n.deduplication_id
            ORDER BY n.deduplication_id COLLATE "C", n.place DESC
        ),

        enqueued AS (
            INSERT INTO lockstep.workflow_status AS w (
                workflow_id, workflow_name, queue_name, status, inputs, priority,
                deduplication_id, queue_partition_key, app_version, max_attempts,
                created_at, available_at, deadline_at, timeout, enqueued_by, headers, retries
            )
            SELECT
                coalesce(n.workflow_id, lockstep._generate_id(v_now + n.place * interval '1 us')),
                p_workflow_name, p_queue_name, 'DELAYED', n.inputs, p_priority,
                n.deduplication_id, n.queue_partition_key, p_app_version, coalesce(p_max_attempts, 50),
                v_now + n.place * interval '1 us',
                v_now + least(p_debounce, p_max_delay) + n.place * interval '1 us',
                p_deadline, p_timeout, lockstep._caller(), p_headers, p_retries
            FROM newest AS n
            ORDER BY n.deduplication_id COLLATE "C"
            ON CONFLICT (queue_name, deduplication_id)
            WHERE deduplication_id IS NOT NULL AND completed_at IS NULL
            DO UPDATE SET
                status = CASE
                    WHEN w.created_at + p_max_delay <= v_now THEN 'ENQUEUED' ELSE 'DELAYED'
                END,
                inputs = excluded.inputs,
                priority = excluded.priority,
                queue_partition_key = excluded.queue_partition_key,
                app_version = excluded.app_version,
                -- a restarted workflow has used attempts
                max_attempts = least(w.attempts::bigint + excluded.max_attempts, 2147483647),
                available_at = least(excluded.available_at, w.created_at + p_max_delay),
                deadline_at = excluded.deadline_at,
                timeout = excluded.timeout,
                enqueued_by = excluded.enqueued_by,
                headers = excluded.headers,
                retries = excluded.retries
            WHERE w.workflow_name = excluded.workflow_name
                AND w.started_at IS NULL
                AND lockstep._may_see(w.enqueued_by)
            RETURNING w.deduplication_id, w.workflow_id, w.status
        )

        SELECT
            v_done || coalesce(jsonb_object_agg(e.deduplication_id, e.workflow_id), '{}'),
            v_is_claimable OR coalesce(bool_or(e.status = 'ENQUEUED'), false)
        INTO v_done, v_is_claimable
        FROM enqueued AS e;

        v_open := ARRAY(
            SELECT n.deduplication_id
            FROM unnest(p_deduplication_ids) AS n (deduplication_id)
            WHERE NOT v_done ? n.deduplication_id
        );
        EXIT WHEN v_open = '{}';

        SELECT w.workflow_id, w.deduplication_id
        INTO r_rival
        FROM lockstep.workflow_status AS w
        WHERE w.queue_name = p_queue_name
            AND w.deduplication_id = ANY (v_open)
            AND w.completed_at IS NULL
            AND (w.workflow_name <> p_workflow_name OR NOT lockstep._may_see(w.enqueued_by))
        LIMIT 1;

        IF FOUND THEN
            PERFORM lockstep._refuse_rival(
                p_queue_name, r_rival.deduplication_id, r_rival.workflow_id,
                'Use another deduplication_id for another workflow_name.'
            );
        END IF;

        UPDATE lockstep.workflow_status AS w
        SET deduplication_id = NULL
        WHERE w.queue_name = p_queue_name
            AND w.deduplication_id = ANY (v_open)
            AND w.completed_at IS NULL;
    END LOOP;

    PERFORM lockstep._ring_doorbell(
        ARRAY[p_queue_name], CASE WHEN v_is_claimable THEN '' ELSE 'due' END
    );

    RETURN ARRAY(
        SELECT v_done ->> n.deduplication_id
        FROM unnest(p_deduplication_ids) WITH ORDINALITY AS n (deduplication_id, place)
        ORDER BY n.place
    );
END
$$;
COMMENT ON FUNCTION lockstep._debounce_workflows(
    text, text, jsonb[], text[], text[], text[], int, interval, timestamptz, int, text, jsonb, jsonb,
    interval, interval
) IS
    'Enqueues workflows that start when calls for their deduplication id have paused.';

-- sql/30_internal/deduplication_rival.sql

-- Finds the unfinished workflow that has a deduplication id in a queue; NULL if none has.
CREATE FUNCTION lockstep._deduplication_rival(p_queue_name text, p_deduplication_id text)
RETURNS text
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (
        SELECT w.workflow_id
        FROM lockstep.workflow_status AS w
        WHERE w.queue_name = p_queue_name
            AND w.deduplication_id = p_deduplication_id
            AND w.completed_at IS NULL
    );
END
$$;
COMMENT ON FUNCTION lockstep._deduplication_rival(text, text) IS
    'Finds the unfinished workflow that has a deduplication id in a queue.';

-- sql/30_internal/duration_text.sql

-- Writes a duration for people, to two places: 340 ms, 2.5 s, 3 min 20 s, 5 h 3 min, 2 d 4 h.
CREATE FUNCTION lockstep._duration_text(p_duration interval)
RETURNS text
LANGUAGE sql
IMMUTABLE
BEGIN ATOMIC
    SELECT CASE
        WHEN s.seconds < 0.9995 THEN format('%s ms', round(s.seconds * 1000))
        WHEN s.seconds < 60 THEN format('%s s', round(s.seconds, 1))
        WHEN s.seconds < 3600 THEN format('%s min %s s', div(s.seconds, 60), div(s.seconds % 60, 1))
        WHEN s.seconds < 86400 THEN format('%s h %s min', div(s.seconds, 3600), div(s.seconds % 3600, 60))
        ELSE format('%s d %s h', div(s.seconds, 86400), div(s.seconds % 86400, 3600))
    END
    FROM (SELECT greatest(extract(EPOCH FROM p_duration)::numeric, 0) AS seconds) AS s
    WHERE p_duration IS NOT NULL;
END;
COMMENT ON FUNCTION lockstep._duration_text(interval) IS
    'Writes a duration for people.';

-- sql/30_internal/enqueue_compensations.sql

-- Enqueues the compensation of workflows that failed or were cancelled.
--
-- A step named "compensate" holds an undo step that the workflow registered:
-- {"step", "positionalArgs", "namedArgs"}. They become the argument of one workflow
-- "lockstep.compensate", which every worker knows, the last one first. It is never older
-- than the start of the run that it undoes, by which _rerun_problem() knows it, also if
-- the clock was set back.
CREATE FUNCTION lockstep._enqueue_compensations(p_workflow_ids text[])
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    v_queues text[];
BEGIN
    WITH enqueued AS (
        INSERT INTO lockstep.workflow_status (
            workflow_name, queue_name, inputs, priority, queue_partition_key, app_version,
            created_at, parent_workflow_id, enqueued_by, headers
        )
        SELECT
            'lockstep.compensate', w.queue_name,
            jsonb_build_object('positionalArgs', jsonb_build_array(u.undo_steps), 'namedArgs', '{}'::jsonb),
            w.priority, w.queue_partition_key, w.app_version,
            greatest(clock_timestamp(), w.started_at), w.workflow_id, w.enqueued_by, w.headers
        FROM lockstep.workflow_status AS w
        CROSS JOIN LATERAL (
            SELECT jsonb_agg(o.output ORDER BY o.completed_at DESC, o.step_id DESC) AS undo_steps
            FROM lockstep.operation_outputs AS o
            WHERE o.workflow_id = w.workflow_id
                AND o.step_name = 'compensate'
                AND o.completed_at IS NOT NULL
        ) AS u
        WHERE w.workflow_id = ANY (p_workflow_ids)
            AND w.status IN ('ERROR', 'CANCELLED', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED')
            AND u.undo_steps IS NOT NULL
        RETURNING queue_name
    )

    SELECT array_agg(DISTINCT e.queue_name)
    INTO v_queues
    FROM enqueued AS e;

    IF v_queues IS NOT NULL THEN
        PERFORM lockstep._ring_doorbell(v_queues);
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep._enqueue_compensations(text[]) IS
    'Enqueues the compensation of workflows that failed or were cancelled.';

-- sql/30_internal/enqueue_many_problem.sql

-- Finds what enqueue_workflows() cannot take in its arrays: NULL, or message, detail and
-- hint, about the first element that is wrong.
CREATE FUNCTION lockstep._enqueue_many_problem(
    p_named_args jsonb[],
    p_positional_args jsonb[],
    p_workflow_ids text[],
    p_deduplication_ids text[],
    p_queue_partition_keys text[],
    p_debounce interval
)
RETURNS text[]
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_count constant int := cardinality(p_named_args);
    v_counts constant int[] := ARRAY[
        cardinality(p_positional_args), cardinality(p_workflow_ids),
        cardinality(p_deduplication_ids), cardinality(p_queue_partition_keys)
    ];
    v_problem text[];
BEGIN
    IF v_count IS NULL OR v_count <> ANY (v_counts) THEN
        RETURN ARRAY[
            'named_args must have one element per workflow, as every other array that is given',
            format(
                'named_args has %s, positional_args, workflow_ids, deduplication_ids and queue_partition_keys have %s.',
                coalesce(v_count::text, 'none'), array_to_string(v_counts, ', ', 'none')
            ),
            'Pass an empty object for a workflow without named arguments, and leave out an array that says nothing.'
        ];
    END IF;

    SELECT lockstep._enqueue_problem(
        'any', 'any', coalesce(n.positional_args, '[]'), coalesce(n.named_args, '{}'),
        n.workflow_id, n.deduplication_id, 'raise', 0, n.queue_partition_key,
        NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, p_debounce
    )
    INTO v_problem
    FROM unnest(p_named_args, p_positional_args, p_workflow_ids, p_deduplication_ids, p_queue_partition_keys)
        WITH ORDINALITY
        AS n (named_args, positional_args, workflow_id, deduplication_id, queue_partition_key, place)
    WHERE jsonb_typeof(n.named_args) <> 'object'
        OR jsonb_typeof(n.positional_args) <> 'array'
        OR lockstep._is_too_large(n.named_args) OR lockstep._is_too_large(n.positional_args)
        OR btrim(n.workflow_id) = '' OR length(n.workflow_id) > 512
        OR btrim(n.deduplication_id) = '' OR length(n.deduplication_id) > 512
        OR (p_debounce IS NOT NULL AND n.deduplication_id IS NULL)
        OR btrim(n.queue_partition_key) = '' OR length(n.queue_partition_key) > 512
    ORDER BY n.place
    LIMIT 1;

    RETURN v_problem;
END
$$;
COMMENT ON FUNCTION lockstep._enqueue_many_problem(jsonb[], jsonb[], text[], text[], text[], interval) IS
    'Finds what enqueue_workflows() cannot take in its arrays: NULL, or message, detail and hint.';

-- sql/30_internal/enqueue_problem.sql

-- Finds what enqueue_workflow() cannot take: NULL, or message, detail and hint.
--
-- Returns instead of raising, so that the error comes from the function that
-- the user called, without a page of context.
CREATE FUNCTION lockstep._enqueue_problem(
    p_workflow_name text,
    p_queue_name text,
    p_positional_args jsonb,
    p_named_args jsonb,
    p_workflow_id text,
    p_deduplication_id text,
    p_on_duplicate text,
    p_priority int,
    p_queue_partition_key text,
    p_delay interval,
    p_run_at timestamptz,
    p_timeout interval,
    p_deadline timestamptz,
    p_max_attempts int,
    p_app_version text,
    p_headers jsonb,
    p_retries jsonb,
    p_debounce interval DEFAULT NULL,
    p_debounce_max_delay interval DEFAULT NULL
)
RETURNS text[]
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_message text;
    v_detail text;
    v_hint text;
BEGIN
    IF p_workflow_name IS NULL OR btrim(p_workflow_name) = '' OR length(p_workflow_name) > 512 THEN
        RETURN lockstep._name_problem('workflow_name', p_workflow_name);
    ELSIF p_queue_name IS NULL OR btrim(p_queue_name) = '' OR length(p_queue_name) > 512 THEN
        RETURN lockstep._name_problem('queue_name', p_queue_name);
    ELSIF btrim(p_workflow_id) = '' OR length(p_workflow_id) > 512 THEN
        RETURN lockstep._name_problem('workflow_id', p_workflow_id);
    ELSIF btrim(p_deduplication_id) = '' OR length(p_deduplication_id) > 512 THEN
        RETURN lockstep._name_problem('deduplication_id', p_deduplication_id);
    ELSIF btrim(p_queue_partition_key) = '' OR length(p_queue_partition_key) > 512 THEN
        RETURN lockstep._name_problem('queue_partition_key', p_queue_partition_key);
    ELSIF btrim(p_app_version) = '' OR length(p_app_version) > 512 THEN
        RETURN lockstep._name_problem('app_version', p_app_version);
    ELSIF p_positional_args IS NULL OR jsonb_typeof(p_positional_args) <> 'array' THEN
        v_message := 'positional_args must be a JSON array';
        v_detail := format('It is %s.', coalesce(jsonb_typeof(p_positional_args), 'null'));
        v_hint := 'Pass one element per argument, for example jsonb_build_array(1, ''two'').';
    ELSIF p_named_args IS NULL OR jsonb_typeof(p_named_args) <> 'object' THEN
        v_message := 'named_args must be a JSON object';
        v_detail := format('It is %s.', coalesce(jsonb_typeof(p_named_args), 'null'));
        v_hint := 'Pass one key per argument, for example jsonb_build_object(''order_id'', 1).';
    ELSIF jsonb_typeof(p_headers) <> 'object' THEN
        v_message := 'headers must be a JSON object';
        v_detail := format('It is %s.', jsonb_typeof(p_headers));
        v_hint := 'Pass one key per header, or null.';
    ELSIF lockstep._is_too_large(p_positional_args) THEN
        RETURN lockstep._size_problem('positional_args', p_positional_args);
    ELSIF lockstep._is_too_large(p_named_args) THEN
        RETURN lockstep._size_problem('named_args', p_named_args);
    ELSIF lockstep._is_too_large(p_headers) THEN
        RETURN lockstep._size_problem('headers', p_headers);
    ELSIF p_on_duplicate IS NULL OR p_on_duplicate NOT IN ('raise', 'return') THEN
        v_message := 'on_duplicate must be ''raise'' or ''return''';
        v_detail := format('It is %s.', quote_nullable(left(p_on_duplicate, 40)));
        v_hint := '''return'' gives the id of the unfinished workflow with the same deduplication_id.';
    ELSIF p_priority IS NULL OR p_priority < 0 THEN
        v_message := 'priority must be 0 or greater';
        v_detail := format('It is %s.', coalesce(p_priority::text, 'null'));
        v_hint := '0 runs first, then 1, 2 and so on.';
    ELSIF p_max_attempts < 1 THEN
        v_message := 'max_attempts must be 1 or greater';
        v_detail := format('It is %s.', p_max_attempts);
        v_hint := 'It counts executions; leave it out for the default.';
    ELSIF p_delay IS NOT NULL AND p_run_at IS NOT NULL THEN
        v_message := 'delay and run_at exclude each other';
        v_detail := format('They are %s and %s.', p_delay, p_run_at);
        v_hint := 'Pass delay to start after a while, run_at to start at a time.';
    ELSIF p_delay NOT BETWEEN interval '0' AND interval '1000 years' THEN
        v_message := 'delay must not be negative, nor over 1000 years';
        v_detail := format('It is %s.', p_delay);
        v_hint := 'Leave it out to start at once.';
    ELSIF p_run_at NOT BETWEEN '0001-01-02' AND '9999-12-30' THEN
        v_message := 'run_at must be in the years 1 to 9999';
        v_detail := format('It is %s.', p_run_at);
        v_hint := 'Leave it out to start at once.';
    ELSIF p_timeout IS NOT NULL AND p_deadline IS NOT NULL THEN
        v_message := 'timeout and deadline exclude each other';
        v_detail := format('They are %s and %s.', p_timeout, p_deadline);
        v_hint := 'Pass timeout to limit the time from the first start, deadline to name a moment.';
    ELSIF p_timeout <= interval '0' OR p_timeout > interval '1000 years' THEN
        v_message := 'timeout must be positive, and at most 1000 years';
        v_detail := format('It is %s.', p_timeout);
        v_hint := 'Leave it out for no limit.';
    ELSIF p_deadline NOT BETWEEN '0001-01-02' AND '9999-12-30' THEN
        v_message := 'deadline must be in the years 1 to 9999';
        v_detail := format('It is %s.', p_deadline);
        v_hint := 'Leave it out for no limit.';
    ELSIF p_debounce IS NULL AND p_debounce_max_delay IS NOT NULL THEN
        v_message := 'debounce_max_delay needs a debounce';
        v_detail := format('It is %s.', p_debounce_max_delay);
        v_hint := 'Pass debounce, or leave both out.';
    ELSIF p_debounce IS NOT NULL AND p_deduplication_id IS NULL THEN
        v_message := 'debounce needs a deduplication_id';
        v_detail := format('debounce is %s, deduplication_id is null.', p_debounce);
        v_hint := 'Calls with the same queue and deduplication_id become one workflow.';
    ELSIF p_debounce IS NOT NULL AND num_nonnulls(p_delay, p_run_at) > 0 THEN
        v_message := 'debounce excludes delay and run_at';
        v_detail := format(
            'They are %s, %s and %s.', p_debounce,
            coalesce(p_delay::text, 'null'), coalesce(p_run_at::text, 'null')
        );
        v_hint := 'debounce itself says when the workflow starts.';
    ELSIF p_debounce <= interval '0' OR p_debounce > interval '1000 years' THEN
        v_message := 'debounce must be positive, and at most 1000 years';
        v_detail := format('It is %s.', p_debounce);
        v_hint := 'Leave it out to start at once.';
    ELSIF p_debounce_max_delay <= interval '0' OR p_debounce_max_delay > interval '1000 years' THEN
        v_message := 'debounce_max_delay must be positive, and at most 1000 years';
        v_detail := format('It is %s.', p_debounce_max_delay);
        v_hint := 'Leave it out for no limit.';
    ELSIF p_retries IS NOT NULL THEN
        RETURN lockstep._retries_problem(p_retries);
    ELSE
        RETURN NULL;
    END IF;

    RETURN ARRAY[v_message, v_detail, v_hint];
END
$$;
COMMENT ON FUNCTION lockstep._enqueue_problem(
    text, text, jsonb, jsonb, text, text, text, int, text,
    interval, timestamptz, interval, timestamptz, int, text, jsonb, jsonb, interval, interval
) IS
    'Finds what enqueue_workflow() cannot take: NULL, or message, detail and hint.';

-- sql/30_internal/error_document.sql

-- Builds the error of a workflow that no user code raised.
CREATE FUNCTION lockstep._error_document(p_type text, p_message text)
RETURNS jsonb
LANGUAGE sql
IMMUTABLE
PARALLEL SAFE
BEGIN ATOMIC
    SELECT jsonb_build_object('type', p_type, 'message', p_message);
END;
COMMENT ON FUNCTION lockstep._error_document(text, text) IS
    'Builds the error of a workflow that no user code raised.';

-- sql/30_internal/explain_as_mermaid.sql

-- Draws a workflow, its steps and its children as the lines of a Mermaid flowchart.
--
-- p_node names the workflow's node; the others are named after it. Steps of the main
-- branch follow each other; a branch hangs on the step before the one at which it began.
-- What users named is inside of quotes, with the characters escaped that end them, that
-- HTML knows or that Mermaid reads in a text.
CREATE FUNCTION lockstep._explain_as_mermaid(
    p_workflow_id text,
    p_node text DEFAULT 'w',
    p_path text[] DEFAULT '{}'
)
RETURNS TABLE (line text)
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_max_depth constant int := 20;
    v_main_node text := p_node;
    v_branch_node text;
    v_branch int := 0;
    v_node text;
    r_workflow record;
    r_step record;
BEGIN
    SELECT e.mark, e.title, e.detail
    INTO r_workflow
    FROM lockstep._explained_workflow(p_workflow_id) AS e;

    line := format(
        '    %s(["%s %s<br>%s"])', p_node, r_workflow.mark,
        lockstep._mermaid_text(r_workflow.title), lockstep._mermaid_text(r_workflow.detail)
    );
    RETURN NEXT;

    IF p_workflow_id = ANY (p_path) OR cardinality(p_path) >= v_max_depth THEN
        RETURN;
    END IF;

    FOR r_step IN
        SELECT
            e.step_id, e.mark, e.title, e.detail, e.child_id,
            coalesce(e.step_id % 65536, 0) AS branch, coalesce(e.step_id < 65536, true) AS is_main,
            row_number() OVER () AS place
        FROM lockstep._explained_steps(p_workflow_id) AS e
    LOOP
        v_node := p_node || '_' || r_step.place;
        line := format(
            '    %s["%s %s%s"]', v_node, r_step.mark, lockstep._mermaid_text(r_step.title),
            '<br>' || nullif(lockstep._mermaid_text(r_step.detail), '')
        );
        RETURN NEXT;
        line := format(
            '    %s --> %s',
            CASE WHEN NOT r_step.is_main AND r_step.branch = v_branch THEN v_branch_node ELSE v_main_node END,
            v_node
        );
        RETURN NEXT;

        IF r_step.is_main THEN
            v_main_node := v_node;
        ELSE
            v_branch := r_step.branch;
            v_branch_node := v_node;
        END IF;

        IF r_step.child_id IS NOT NULL THEN
            RETURN QUERY
            SELECT e.line
            FROM lockstep._explain_as_mermaid(r_step.child_id, v_node || '_w', p_path || p_workflow_id) AS e;
            line := format('    %s -.-> %s_w', v_node, v_node);
            RETURN NEXT;
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION lockstep._explain_as_mermaid(text, text, text[]) IS
    'Draws a workflow, its steps and its children as the lines of a Mermaid flowchart.';

-- sql/30_internal/explain_as_text.sql

-- Draws a workflow, its steps and its children as the lines of a tree.
--
-- p_path are the workflows that it is below: a child that is one of them, or lies too
-- deep, is named and not drawn.
CREATE FUNCTION lockstep._explain_as_text(p_workflow_id text, p_path text[] DEFAULT '{}')
RETURNS TABLE (line text)
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_max_depth constant int := 20;
    v_is_first boolean;
    v_line text;
    r_workflow record;
    r_step record;
BEGIN
    SELECT e.mark, e.title, e.detail
    INTO r_workflow
    FROM lockstep._explained_workflow(p_workflow_id) AS e;

    line := format('%s %s: %s', r_workflow.mark, r_workflow.title, r_workflow.detail);
    RETURN NEXT;

    IF p_workflow_id = ANY (p_path) OR cardinality(p_path) >= v_max_depth THEN
        line := '└─ …';
        RETURN NEXT;
        RETURN;
    END IF;

    FOR r_step IN
        SELECT e.mark, e.title, e.detail, e.child_id, row_number() OVER () = count(*) OVER () AS is_last
        FROM lockstep._explained_steps(p_workflow_id) AS e
    LOOP
        line := concat(
            CASE WHEN r_step.is_last THEN '└─ ' ELSE '├─ ' END, r_step.mark, ' ', r_step.title,
            ': ' || nullif(r_step.detail, '')
        );
        RETURN NEXT;
        CONTINUE WHEN r_step.child_id IS NULL;

        v_is_first := true;
        FOR v_line IN
            SELECT e.line
            FROM lockstep._explain_as_text(r_step.child_id, p_path || p_workflow_id) AS e
        LOOP
            line := concat(
                CASE WHEN r_step.is_last THEN '   ' ELSE '│  ' END,
                CASE WHEN v_is_first THEN '└─ ' ELSE '   ' END, v_line
            );
            RETURN NEXT;
            v_is_first := false;
        END LOOP;
    END LOOP;
END
$$;
COMMENT ON FUNCTION lockstep._explain_as_text(text, text[]) IS
    'Draws a workflow, its steps and its children as the lines of a tree.';

-- sql/30_internal/explained_steps.sql

-- Says for each recorded step of a workflow, in the order of its code, how it went.
--
-- child_id is the workflow to show below the step: a child, at the first step that names
-- it, or the workflow that undoes the steps, whose row comes last and has step_id NULL. A
-- workflow with very many steps is cut short, with a row that says so.
CREATE FUNCTION lockstep._explained_steps(p_workflow_id text)
RETURNS TABLE (step_id int, mark text, title text, detail text, child_id text)
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    v_max_count constant int := 1000;
BEGIN
    RETURN QUERY
    WITH step AS (
        SELECT
            o.*, lockstep._step_status(o) AS status,
            row_number() OVER (PARTITION BY o.child_workflow_id ORDER BY o.step_id % 65536, o.step_id) AS mention,
            row_number() OVER (ORDER BY o.step_id % 65536, o.step_id) AS place
        FROM lockstep.operation_outputs AS o
        WHERE o.workflow_id = p_workflow_id
    )

    SELECT
        s.step_id,
        CASE s.status WHEN 'SUCCESS' THEN '✓' WHEN 'RETRYING' THEN '⏳' WHEN 'WAITING' THEN '⏳' ELSE '✗' END,
        format('%s %s', s.step_id, lockstep._one_line(s.step_name)),
        concat_ws(
            ', ',
            lockstep._duration_text(s.completed_at - s.started_at),
            CASE WHEN s.status = 'TIMED_OUT' THEN 'timed out' END,
            CASE
                WHEN s.status = 'RETRYING' THEN format('attempt %s failed', s.attempts)
                WHEN s.attempts > 1 THEN format('%s attempts', s.attempts)
            END,
            CASE
                WHEN s.completed_at IS NULL THEN coalesce(
                    'waits until ' || to_char(s.available_at, 'YYYY-MM-DD HH24:MI:SS TZ'), 'waits'
                )
            END,
            CASE WHEN c.workflow_id IS NULL THEN 'workflow ' || lockstep._one_line(s.child_workflow_id) END,
            lockstep._one_line((s.error ->> 'type') || ': ' || (s.error ->> 'message'))
        ),
        c.workflow_id
    FROM step AS s
    LEFT JOIN lockstep.workflow_status AS c
        ON c.workflow_id = ANY (ARRAY[s.child_workflow_id])
        AND c.parent_workflow_id = p_workflow_id
        AND s.mention = 1
    WHERE s.place <= v_max_count
    ORDER BY s.place;

    RETURN QUERY
    SELECT NULL::int, '…', format('%s more steps', count(*) - v_max_count), '', NULL::text
    FROM lockstep.operation_outputs AS o
    WHERE o.workflow_id = p_workflow_id
    HAVING count(*) > v_max_count;

    RETURN QUERY
    SELECT NULL::int, '↩', 'undone by', '', w.workflow_id
    FROM lockstep.workflow_status AS w
    WHERE w.parent_workflow_id = p_workflow_id
        AND w.workflow_name = 'lockstep.compensate'
    ORDER BY w.created_at;
END
$$;
COMMENT ON FUNCTION lockstep._explained_steps(text) IS
    'Says for each recorded step of a workflow how it went.';

-- sql/30_internal/explained_workflow.sql

-- Says in a line where a workflow stands: its mark, its title and what is to be said.
CREATE FUNCTION lockstep._explained_workflow(
    p_workflow_id text,
    OUT mark text,
    OUT title text,
    OUT detail text
)
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    SELECT
        CASE w.status
            WHEN 'SUCCESS' THEN '✓'
            WHEN 'ENQUEUED' THEN '◌'
            WHEN 'PENDING' THEN '▶'
            WHEN 'DELAYED' THEN '⏳'
            WHEN 'WAITING' THEN '⏳'
            ELSE '✗'
        END,
        format('%s (%s)', lockstep._one_line(w.workflow_name), lockstep._one_line(w.workflow_id)),
        concat_ws(
            ', ', w.status,
            CASE
                WHEN w.status IN ('WAITING', 'DELAYED') AND w.failures > 0 AND w.waiting_for IS NULL
                    THEN format('try %s', w.failures + 1)
                WHEN w.status = 'WAITING' THEN 'for ' || lockstep._one_line(array_to_string(w.waiting_for, ' or '))
            END,
            CASE
                WHEN w.status IN ('WAITING', 'DELAYED')
                    THEN 'until ' || to_char(w.available_at, 'YYYY-MM-DD HH24:MI:SS TZ')
                WHEN w.status = 'ENQUEUED' THEN
                    format('in queue %s since %s', lockstep._one_line(w.queue_name), to_char(w.available_at, 'YYYY-MM-DD HH24:MI:SS TZ'))
                WHEN w.status = 'PENDING' THEN
                    format('since %s on %s', to_char(w.started_at, 'YYYY-MM-DD HH24:MI:SS TZ'), lockstep._one_line(w.executor_id))
            END,
            lockstep._duration_text(w.completed_at - w.started_at),
            CASE WHEN w.attempts > 1 THEN format('%s attempts', w.attempts) END,
            CASE WHEN w.forked_from IS NOT NULL THEN 'forked from ' || lockstep._one_line(w.forked_from) END,
            (
                SELECT lockstep._one_line(concat_ws(
                    ' ', 'at', (v.value ->> 'done') || coalesce('/' || (v.value ->> 'total'), ''), v.value ->> 'note'
                ))
                FROM lockstep.workflow_events AS v
                WHERE v.workflow_id = w.workflow_id
                    AND v.key = 'lockstep.progress'
                    AND w.completed_at IS NULL
            ),
            lockstep._one_line((w.error ->> 'type') || ': ' || (w.error ->> 'message'))
        )
    INTO mark, title, detail
    FROM lockstep.workflow_status AS w
    WHERE w.workflow_id = p_workflow_id;
END
$$;
COMMENT ON FUNCTION lockstep._explained_workflow(text) IS
    'Says in a line where a workflow stands.';

-- sql/30_internal/filter_problem.sql

-- Finds what is wrong with a filter of workflows: NULL, or message, detail and hint.
CREATE FUNCTION lockstep._filter_problem(p_filter jsonb)
RETURNS text[]
LANGUAGE plpgsql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_keys constant text[] := ARRAY[
        'status', 'workflow_name', 'queue_name', 'created_after', 'created_before',
        'parent_workflow_id', 'id_prefix', 'error_text', 'headers'
    ];
    v_statuses constant text[] := ARRAY[
        'ENQUEUED', 'DELAYED', 'PENDING', 'WAITING', 'SUCCESS', 'ERROR', 'CANCELLED',
        'MAX_RECOVERY_ATTEMPTS_EXCEEDED'
    ];
    v_detail text;
BEGIN
    IF p_filter IS NULL OR jsonb_typeof(p_filter) <> 'object' THEN
        RETURN ARRAY[
            'filter must be a JSON object',
            format('It is %s.', coalesce(jsonb_typeof(p_filter), 'null')),
            'Pass one key per condition, as {"status": "ERROR"}, and {} to mean all workflows.'
        ];
    END IF;

    SELECT CASE
        WHEN f.key <> ALL (v_keys) THEN format('"%s" is no key of a filter.', left(f.key, 40))
        WHEN f.key = 'headers' AND jsonb_typeof(f.value) <> 'object'
            THEN format('"headers" is %s, not an object.', jsonb_typeof(f.value))
        WHEN f.key = 'status' AND jsonb_typeof(f.value) = 'array' THEN (
            SELECT format('"%s" is no status.', left(s.status, 40))
            FROM jsonb_array_elements_text(f.value) AS s (status)
            WHERE s.status IS NULL OR s.status <> ALL (v_statuses)
            LIMIT 1
        )
        WHEN f.key <> 'headers' AND jsonb_typeof(f.value) <> 'string'
            THEN format('"%s" is %s, not a string.', f.key, jsonb_typeof(f.value))
        WHEN f.key = 'status' AND f.value #>> '{}' <> ALL (v_statuses)
            THEN format('"%s" is no status.', left(f.value #>> '{}', 40))
    END
    INTO v_detail
    FROM jsonb_each(p_filter) AS f
    ORDER BY 1 NULLS LAST
    LIMIT 1;

    RETURN CASE
        WHEN v_detail IS NOT NULL THEN ARRAY[
            'filter has a condition that cannot be tested', v_detail,
            format('Its keys are %s; a status is one of %s.', array_to_string(v_keys, ', '), array_to_string(v_statuses, ', '))
        ]
    END;
END
$$;
COMMENT ON FUNCTION lockstep._filter_problem(jsonb) IS
    'Finds what is wrong with a filter of workflows: NULL, or message, detail and hint.';

-- sql/30_internal/find_workflows.sql

-- Finds the newest workflows that meet a filter, of those statuses that are allowed.
--
-- Newest first by (created_at, workflow_id), after the workflow p_before_id if one is
-- given. The filter, which _checked_filter() has passed, has keys as list_workflows() has
-- parameters. Takes the shortest way to
-- candidates: the children of a parent; the ids with a prefix, if no more than 2000 have
-- it; else the newest by status, queue, name and time (_newest_workflows()). What that
-- way does not look at is tested on its candidates, in growing numbers of them until
-- p_count are found: an error text, headers, and the prefix if more ids have it.
CREATE FUNCTION lockstep._find_workflows(
    p_filter jsonb,
    p_statuses text[],
    p_before_id text,
    p_count int
)
RETURNS TABLE (workflow_id text, created_at timestamptz)
LANGUAGE plpgsql
STABLE
ROWS 100
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan
SET enable_seqscan = off
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    v_max_candidates constant int := 2000;
    v_statuses text[] := coalesce(p_statuses, ARRAY[
        'ENQUEUED', 'DELAYED', 'PENDING', 'WAITING', 'SUCCESS', 'ERROR', 'CANCELLED',
        'MAX_RECOVERY_ATTEMPTS_EXCEEDED'
    ]);
    v_queue_name constant text := p_filter ->> 'queue_name';
    v_workflow_name constant text := p_filter ->> 'workflow_name';
    v_parent_id constant text := p_filter ->> 'parent_workflow_id';
    v_error_text constant text := lower(p_filter ->> 'error_text');
    v_headers constant jsonb := p_filter -> 'headers';
    v_from constant timestamptz := coalesce((p_filter ->> 'created_after')::timestamptz, '-infinity');
    v_to constant timestamptz := coalesce((p_filter ->> 'created_before')::timestamptz, 'infinity');
    v_pattern constant text := regexp_replace(p_filter ->> 'id_prefix', E'([\\\\%_])', E'\\\\\\1', 'g') || '%';
    v_before_at timestamptz := timestamptz 'infinity';
    v_before_id text := coalesce(p_before_id, '');
    v_chunk int := greatest(p_count, 100);
    v_left int := p_count;
    v_row_count int;
    v_prefixed_ids text[];
    v_ids text[];
    v_times timestamptz[];
BEGIN
    IF jsonb_typeof(p_filter -> 'status') = 'array' THEN
        v_statuses := ARRAY(
            SELECT DISTINCT s.status
            FROM jsonb_array_elements_text(p_filter -> 'status') AS s (status)
            WHERE s.status = ANY (v_statuses)
        );
    ELSIF p_filter ? 'status' THEN
        v_statuses := ARRAY(
            SELECT s.status FROM unnest(v_statuses) AS s (status) WHERE s.status = p_filter ->> 'status'
        );
    END IF;

    IF v_error_text IS NOT NULL THEN
        v_statuses := array_remove(v_statuses, 'SUCCESS');
    END IF;

    IF p_before_id IS NOT NULL THEN
        SELECT w.created_at
        INTO v_before_at
        FROM lockstep.workflow_status AS w
        WHERE w.workflow_id = p_before_id;

        IF NOT FOUND THEN
            PERFORM lockstep._refuse_unknown_workflow(p_before_id);
        END IF;
    END IF;

    IF v_to <= v_before_at THEN
        v_before_at := v_to;
        v_before_id := '';  -- no id is smaller: created_before itself is left out
    END IF;

    IF v_parent_id IS NULL AND v_pattern IS NOT NULL THEN
        v_prefixed_ids := ARRAY(
            SELECT w.workflow_id
            FROM lockstep.workflow_status AS w
            WHERE (w.status <> 'PENDING') IS TRUE
                AND w.workflow_id LIKE v_pattern
            UNION ALL
            SELECT w.workflow_id
            FROM lockstep.workflow_status AS w
            WHERE w.status = 'PENDING'
                AND w.workflow_id LIKE v_pattern
            LIMIT v_max_candidates + 1
        );
    END IF;

    LOOP
        IF v_parent_id IS NOT NULL THEN
            SELECT array_agg(c.workflow_id), array_agg(c.created_at)
            INTO v_ids, v_times
            FROM (
                SELECT w.workflow_id, w.created_at
                FROM lockstep.workflow_status AS w
                WHERE w.parent_workflow_id = v_parent_id
                    AND w.created_at >= v_from
                    AND w.created_at <= v_before_at
                    AND (w.created_at, w.workflow_id) < (v_before_at, v_before_id)
                ORDER BY w.created_at DESC, w.workflow_id DESC
                LIMIT v_chunk
            ) AS c;
        ELSIF cardinality(v_prefixed_ids) <= v_max_candidates THEN
            v_ids := v_prefixed_ids;
            v_chunk := v_max_candidates + 1;
        ELSE
            SELECT array_agg(c.workflow_id), array_agg(c.created_at)
            INTO v_ids, v_times
            FROM lockstep._newest_workflows(
                v_statuses, v_queue_name, v_workflow_name, v_from, v_before_at, v_before_id, v_chunk
            ) AS c;
        END IF;

        EXIT WHEN v_ids IS NULL;

        RETURN QUERY
        SELECT w.workflow_id, w.created_at
        FROM lockstep.workflow_status AS w
        WHERE w.workflow_id = ANY (v_ids)
            AND w.status = ANY (v_statuses)
            AND w.created_at >= v_from
            AND (w.created_at, w.workflow_id) < (v_before_at, v_before_id)
            AND (v_queue_name IS NULL OR w.queue_name = v_queue_name)
            AND (v_workflow_name IS NULL OR w.workflow_name = v_workflow_name)
            AND (v_pattern IS NULL OR w.workflow_id LIKE v_pattern)
            AND (v_headers IS NULL OR w.headers @> v_headers)
            AND (
                v_error_text IS NULL
                OR strpos(lower(concat(w.error ->> 'type', ': ', w.error ->> 'message')), v_error_text) > 0
            )
        ORDER BY w.created_at DESC, w.workflow_id DESC
        LIMIT v_left;

        GET DIAGNOSTICS v_row_count = ROW_COUNT;
        v_left := v_left - v_row_count;
        EXIT WHEN v_left = 0 OR cardinality(v_ids) < v_chunk;

        v_before_at := v_times[cardinality(v_ids)];
        v_before_id := v_ids[cardinality(v_ids)];
        v_chunk := least(4 * v_chunk, greatest(v_chunk, 10000));
    END LOOP;
END
$$;
COMMENT ON FUNCTION lockstep._find_workflows(jsonb, text[], text, int) IS
    'Finds the newest workflows that meet a filter, of those statuses that are allowed.';

-- sql/30_internal/forget_failures.sql

-- Forgets the recorded failures that ended workflows, so that those steps run again.
--
-- A failure that the workflow caught is kept: replay must take the same way. What it
-- did not catch is what nothing came after: a step begun later than the failure was
-- recorded tells that the workflow went on, unless the step is that of a concurrent
-- branch; so the latest failure that is the workflow's own error is forgotten too.
CREATE FUNCTION lockstep._forget_failures(p_workflow_ids text[])
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
BEGIN
    DELETE FROM lockstep.operation_outputs AS o
    USING unnest(p_workflow_ids) AS f (workflow_id)
    WHERE o.workflow_id = ANY (ARRAY[f.workflow_id])
        AND o.error IS NOT NULL
        AND o.completed_at IS NOT NULL
        AND (
            NOT EXISTS (
                SELECT
                FROM lockstep.operation_outputs AS later
                WHERE later.workflow_id = ANY (ARRAY[f.workflow_id])
                    AND later.started_at > o.completed_at
            )
            OR o.step_id = (
                SELECT fatal.step_id
                FROM lockstep.workflow_status AS w
                INNER JOIN lockstep.operation_outputs AS fatal
                    ON fatal.workflow_id = ANY (ARRAY[w.workflow_id])
                WHERE w.workflow_id = ANY (ARRAY[f.workflow_id])
                    AND fatal.completed_at IS NOT NULL
                    AND (fatal.error ->> 'type', fatal.error ->> 'message')
                    = (w.error ->> 'type', w.error ->> 'message')
                ORDER BY fatal.completed_at DESC
                LIMIT 1
            )
        );
END
$$;
COMMENT ON FUNCTION lockstep._forget_failures(text[]) IS
    'Forgets the recorded failures that ended workflows, so that those steps run again.';

-- sql/30_internal/hold_executor.sql

-- Holds the caller's lease until its transaction ends.
--
-- Locks the executor row FOR KEY SHARE: a heartbeat does not wait for it, but
-- recover_workflows(), which needs the row FOR UPDATE, cannot declare the
-- executor dead while a write of it is under way. A failover declares it dead too
-- (_is_alive()). First lock of every
-- function that writes for an executor. The other lock tells _await_writes() that
-- a write is under way.
CREATE FUNCTION lockstep._hold_executor(p_executor_id text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtextextended('writes of ' || p_executor_id, 0));

    PERFORM
    FROM lockstep.executor AS e
    WHERE e.executor_id = p_executor_id
        AND lockstep._is_alive(e)
    FOR KEY SHARE;

    IF NOT FOUND THEN
        RAISE EXCEPTION 'executor "%" has lost its lease', p_executor_id
            USING ERRCODE = 'WF001',
                  DETAIL = CASE
                      WHEN EXISTS (
                          SELECT
                          FROM lockstep.executor AS e
                          WHERE e.executor_id = p_executor_id
                              AND e.expires_at > '-infinity'
                      ) THEN 'The server was promoted or restored since it registered.'
                      ELSE 'Its workflows belong to other executors now.'
                  END,
                  HINT = 'Drop what is running and call register_executor() again.';
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep._hold_executor(text) IS
    'Holds an executor''s lease until the transaction ends, or raises WF001.';

-- sql/30_internal/is_alive.sql

-- Tells whether an executor may write: nobody declared it dead, and the database is the one
-- where it registered, or has all that was committed there.
--
-- A promoted standby, a server restored to a moment, or a database restored from a dump may
-- lack the last commits that the executor knows of. What it runs has gone on from them: a later
-- step would be recorded, and its writes committed, without the earlier one. The first two are on
-- a timeline of their own; in the last the table is another one, or the server is. Which server
-- it is, is read once after each start of it. The planner inlines this.
CREATE FUNCTION lockstep._is_alive(p_executor lockstep.executor)
RETURNS boolean
LANGUAGE sql
VOLATILE
BEGIN ATOMIC
    SELECT p_executor.expires_at > '-infinity' -- noqa: LT01
        AND CASE
            WHEN p_executor.timeline IS NULL THEN true
            ELSE p_executor.timeline = lockstep._timeline()
        END
        AND CASE
            WHEN p_executor.table_id IS NULL THEN true
            ELSE p_executor.table_id = 'lockstep.executor'::regclass
        END
        AND CASE
            WHEN p_executor.system_id IS NULL THEN true
            WHEN p_executor.server_started_at = pg_postmaster_start_time() THEN true
            ELSE p_executor.system_id = lockstep._system_id()
        END;
END;
COMMENT ON FUNCTION lockstep._is_alive(lockstep.executor) IS
    'Tells whether an executor may write: not declared dead, and no failover or restore since it registered.';

-- sql/30_internal/is_announced.sql

-- Tells whether a value is being published at this moment; see _announce().
--
-- If not, nobody begins to before the caller's transaction ends.
CREATE FUNCTION lockstep._is_announced(p_awaited_id text, p_what text)
RETURNS boolean
LANGUAGE sql
VOLATILE
BEGIN ATOMIC
    SELECT NOT pg_try_advisory_xact_lock(hashtextextended(p_what || ' of ' || p_awaited_id, 0));
END;
COMMENT ON FUNCTION lockstep._is_announced(text, text) IS
    'Tells whether a value is being published at this moment.';

-- sql/30_internal/is_cancelled_here.sql

-- Tells whether the caller's own transaction cancelled a workflow while it ran.
--
-- Its executor cannot see that yet and goes on writing steps, so what it wrote cannot be
-- deleted before that transaction has committed.
CREATE FUNCTION lockstep._is_cancelled_here(p_workflow lockstep.workflow_status)
RETURNS boolean
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (p_workflow).status = 'CANCELLED'
        AND (p_workflow).executor_id IS NOT NULL
        AND (
            SELECT w.xmin = pg_current_xact_id()::xid
            FROM lockstep.workflow_status AS w
            WHERE w.workflow_id = (p_workflow).workflow_id
        );
END
$$;
COMMENT ON FUNCTION lockstep._is_cancelled_here(lockstep.workflow_status) IS
    'Tells whether the caller''s own transaction cancelled a workflow while it ran.';

-- sql/30_internal/is_held.sql

-- Tells whether an executor still runs this attempt of a workflow.
--
-- PL/pgSQL, because it keeps its plan: a LANGUAGE sql function that holds a
-- subquery is planned again by each statement that calls it. Here and wherever a
-- workflow is compared with its claim, IS NOT DISTINCT FROM keeps the planner at
-- the primary key: no other index fits it. Joins say workflow_id = ANY (ARRAY[…]) to
-- the same end: it can be looked up, but neither merged nor hashed, and a plan that
-- was made for an empty table and kept cannot go through a full one. That takes each
-- column of the key: one that is compared with = is enough to hash by.
CREATE FUNCTION lockstep._is_held(p_executor_id text, p_workflow_id text, p_attempt int)
RETURNS boolean
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN EXISTS (
        SELECT
        FROM lockstep.workflow_status AS w
        WHERE w.workflow_id = p_workflow_id
            AND (w.status, w.executor_id, w.attempts)
            IS NOT DISTINCT FROM ('PENDING', p_executor_id, p_attempt)
    );
END
$$;
COMMENT ON FUNCTION lockstep._is_held(text, text, int) IS
    'Tells whether an executor still runs this attempt of a workflow.';

-- sql/30_internal/is_open_entry.sql

-- Tells whether rows may be inserted in a state because the machine declares no way in.
CREATE FUNCTION lockstep._is_open_entry(
    p_machine_name text,
    p_version int,
    p_from_state text,
    p_to_state text
)
RETURNS boolean
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN p_from_state IS NULL AND (
        SELECT bool_or(p_to_state IN (t.from_state, t.to_state)) AND bool_and(t.from_state IS NOT NULL)
        FROM lockstep.state_transition AS t
        WHERE t.machine_name = p_machine_name
            AND t.version = p_version
    ) IS TRUE;
END
$$;
COMMENT ON FUNCTION lockstep._is_open_entry(text, int, text, text) IS
    'Tells whether rows may be inserted in a state because the machine declares no way in.';

-- sql/30_internal/is_open_to_caller.sql

-- Tells whether the caller may see what another role enqueued.
--
-- Everything, unless enable_tenant_isolation() was called. Then a tenant sees what a role
-- enqueued whose rights it has. Who may claim any workflow, or read all tables, is no
-- tenant. What was enqueued by a role that was dropped since is theirs alone to see.
--
-- PL/pgSQL, because it keeps its plan (_is_held()). Asked about others' workflows only.
CREATE FUNCTION lockstep._is_open_to_caller(p_enqueued_by text)
RETURNS boolean
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_caller constant name := lockstep._caller()::name;
BEGIN
    RETURN NOT EXISTS (SELECT FROM lockstep.tenant_isolation)
        OR coalesce(pg_has_role(v_caller, to_regrole(quote_ident(p_enqueued_by)), 'USAGE'), false)
        OR has_table_privilege(v_caller, 'lockstep.executor', 'SELECT')
        OR has_function_privilege(v_caller, 'lockstep.claim_workflows(text, int, jsonb)', 'EXECUTE');
END
$$;
COMMENT ON FUNCTION lockstep._is_open_to_caller(text) IS
    'Tells whether the caller may see what another role enqueued.';

-- sql/30_internal/is_too_large.sql

-- Tells whether a JSON value is larger than what callers may store, 16 MB.
--
-- Postgres holds up to 256 MB, but a claim hands many workflows over in one answer, which
-- ends at 1 GB, and a worker makes objects of ten times the size of them. The size is that of
-- jsonb; what comes compressed out of a table counts as that. The planner inlines it.
CREATE FUNCTION lockstep._is_too_large(p_value jsonb)
RETURNS boolean
LANGUAGE sql
STABLE
BEGIN ATOMIC
    SELECT pg_column_size(p_value) > 16777216;
END;
COMMENT ON FUNCTION lockstep._is_too_large(jsonb) IS
    'Tells whether a JSON value is larger than what callers may store, 16 MB.';

-- sql/30_internal/may_see.sql

-- Tells whether the caller may see a workflow that this role enqueued.
--
-- What one enqueued oneself is seen at once: the planner inlines this, and who asks for its
-- own workflows, as nearly everybody does, pays for a comparison.
CREATE FUNCTION lockstep._may_see(p_enqueued_by text)
RETURNS boolean
LANGUAGE sql
STABLE
BEGIN ATOMIC
    SELECT p_enqueued_by = lockstep._caller() OR lockstep._is_open_to_caller(p_enqueued_by);
END;
COMMENT ON FUNCTION lockstep._may_see(text) IS
    'Tells whether the caller may see a workflow that this role enqueued.';

-- sql/30_internal/may_start_suspect.sql

-- Tells whether the rate limits of its queues let an executor start a suspect within a lease.
--
-- Of each queue the first thousand suspects are looked at.
CREATE FUNCTION lockstep._may_start_suspect(p_executor lockstep.executor, p_now timestamptz)
RETURNS boolean
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_soon constant double precision := extract(EPOCH FROM p_executor.lease_duration)::double precision;
BEGIN
    RETURN EXISTS (
        SELECT
        FROM unnest(p_executor.queues) AS n (queue_name)
        LEFT JOIN lockstep.queue AS q ON q.queue_name = n.queue_name
        CROSS JOIN LATERAL (
            SELECT w.queue_partition_key
            FROM lockstep.workflow_status AS w
            WHERE (w.status = 'ENQUEUED') IS TRUE  -- as the index of suspects says it, and no other
                AND lockstep._is_suspect(w.attempts, w.max_attempts)
                AND w.queue_name = n.queue_name
                AND w.workflow_name = ANY (p_executor.workflow_names)
                AND (w.app_version IS NULL OR w.app_version = p_executor.app_version)
            ORDER BY w.priority, w.available_at
            LIMIT 1000
        ) AS suspect
        WHERE q.is_paused IS NOT TRUE
            AND (
                q.rate_limit IS NULL
                OR coalesce(
                    (lockstep._rate_room(q.queue_name, false, '', q.rate_limit, q.rate_period, p_now)).next_in, 0
                ) <= v_soon
            )
            AND (
                q.partition_rate_limit IS NULL
                OR coalesce(
                    (
                        lockstep._rate_room(
                            q.queue_name, true, coalesce(suspect.queue_partition_key, ''),
                            q.partition_rate_limit, q.partition_rate_period, p_now
                        )
                    ).next_in,
                    0
                ) <= v_soon
            )
    );
END
$$;
COMMENT ON FUNCTION lockstep._may_start_suspect(lockstep.executor, timestamptz) IS
    'Tells whether the rate limits of its queues let an executor start a suspect within a lease.';

-- sql/30_internal/mermaid_text.sql

-- Escapes a text for a quoted label of Mermaid, whose entities begin with a number sign.
CREATE FUNCTION lockstep._mermaid_text(p_text text)
RETURNS text
LANGUAGE sql
IMMUTABLE
BEGIN ATOMIC
    SELECT replace(replace(replace(replace(replace(replace(replace(
        p_text, '#', '#35;'), '&', '#amp;'), '"', '#quot;'), '<', '#lt;'), '>', '#gt;'), '`', '#96;'), E'\\', '#92;');
END;
COMMENT ON FUNCTION lockstep._mermaid_text(text) IS
    'Escapes a text for a quoted label of Mermaid.';

-- sql/30_internal/move_problem.sql

-- Says what is wrong with a move that a version of a state machine does not declare:
-- message, detail and hint.
CREATE FUNCTION lockstep._move_problem(
    p_table_name text,
    p_machine_name text,
    p_version int,
    p_key jsonb,
    p_from_state text,
    p_to_state text
)
RETURNS text[]
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_to_state constant text := coalesce('"' || p_to_state || '"', 'null');
    v_allowed text;
BEGIN
    SELECT string_agg(format('%s (to "%s")', t.event, t.to_state), ', ' ORDER BY t.event, t.to_state)
    INTO v_allowed
    FROM lockstep.state_transition AS t
    WHERE t.machine_name = p_machine_name
        AND t.version = p_version
        AND CASE WHEN p_from_state IS NULL THEN t.from_state IS NULL ELSE t.from_state = p_from_state END;

    RETURN ARRAY[
        CASE
            WHEN p_from_state IS NULL
                THEN format('no row may enter state machine "%s" in state %s', p_machine_name, v_to_state)
            ELSE format(
                'no event of state machine "%s" leads from "%s" to %s', p_machine_name, p_from_state, v_to_state
            )
        END,
        format('The row is %s of %s, which follows version %s.', p_key, p_table_name, p_version),
        CASE
            WHEN p_from_state IS NULL
                THEN coalesce('Rows enter by: ' || v_allowed || '.', 'Rows may enter in any state that has a transition.')
            ELSE coalesce(
                format('Events in "%s": ', p_from_state) || v_allowed || '.',
                format('No transition leaves "%s".', p_from_state)
            )
        END
    ];
END
$$;
COMMENT ON FUNCTION lockstep._move_problem(text, text, int, jsonb, text, text) IS
    'Says what is wrong with a move that a state machine does not declare: message, detail and hint.';

-- sql/30_internal/name_problem.sql

-- Says what is wrong with a name or id that is missing, blank or too long: message,
-- detail and hint of the error.
--
-- Public functions test their arguments inline and come here only to fail.
CREATE FUNCTION lockstep._name_problem(p_argument text, p_value text)
RETURNS text[]
LANGUAGE plpgsql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN ARRAY[
        format('%s must have 1 to 512 characters', p_argument),
        CASE
            WHEN p_value IS NULL THEN 'It is null.'
            WHEN btrim(p_value) = '' THEN 'It is empty or blank.'
            ELSE format('It has %s characters and begins with "%s".', length(p_value), left(p_value, 40))
        END,
        format('Pass a shorter or non-blank text as %s.', p_argument)
    ];
END
$$;
COMMENT ON FUNCTION lockstep._name_problem(text, text) IS
    'Says what is wrong with a name or id: message, detail and hint.';

-- sql/30_internal/newest_workflows.sql

-- Lists the newest workflows of some statuses, of a queue and a name if given.
--
-- Newest first by (created_at, workflow_id), from p_from on and before (p_before_at,
-- p_before_id). workflow_status_list_idx holds them by status, queue and name and only
-- then by time, because an index by time is read to its end for a rare status, queue or
-- name. So this finds which (status, queue, name) there are, hopping from one to the
-- next, and merges their newest: the newest few of each tell a time after which there
-- are p_count, and of each only what is newer is read. Costs a look or two into the index,
-- 10 µs each, for each (status, queue, name). What runs is read whole: it is only as much as
-- the workers have in flight, and to have it in the index would cost each claim an entry.
--
-- The plan is made for the values, so that what is not asked for is not in it. No other
-- query says (status <> 'PENDING') IS TRUE: the index is for this and for
-- purge_workflows() alone, and a claim whose statistics are old cannot be tempted to read
-- and sort it.
CREATE FUNCTION lockstep._newest_workflows(
    p_statuses text[],
    p_queue_name text,
    p_workflow_name text,
    p_from timestamptz,
    p_before_at timestamptz,
    p_before_id text,
    p_count int
)
RETURNS TABLE (workflow_id text, created_at timestamptz)
LANGUAGE plpgsql
STABLE
ROWS 100
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH RECURSIVE prefix AS (
        SELECT f.status, f.queue_name, f.workflow_name, f.created_at
        FROM unnest(array_remove(p_statuses, 'PENDING')) AS s (status)
        CROSS JOIN LATERAL (
            SELECT
                w.status, w.queue_name, coalesce(p_workflow_name, w.workflow_name) AS workflow_name,
                CASE WHEN p_workflow_name IS NULL THEN w.created_at ELSE 'infinity' END AS created_at
            FROM lockstep.workflow_status AS w
            WHERE (w.status <> 'PENDING') IS TRUE
                AND w.status = s.status
                AND (p_queue_name IS NULL OR w.queue_name = p_queue_name)
            ORDER BY w.status DESC, w.queue_name DESC, w.workflow_name DESC, w.created_at DESC
            LIMIT 1
        ) AS f
        UNION ALL
        SELECT n.status, n.queue_name, n.workflow_name, n.created_at
        FROM prefix AS p
        CROSS JOIN LATERAL (
            SELECT
                w.status, w.queue_name, coalesce(p_workflow_name, w.workflow_name) AS workflow_name,
                CASE WHEN p_workflow_name IS NULL THEN w.created_at ELSE 'infinity' END AS created_at
            FROM lockstep.workflow_status AS w
            WHERE (w.status <> 'PENDING') IS TRUE
                AND w.status = p.status
                AND (p_queue_name IS NULL OR w.queue_name = p_queue_name)
                AND CASE
                    WHEN p_workflow_name IS NULL
                        THEN (w.queue_name, w.workflow_name) < (p.queue_name, p.workflow_name)
                    ELSE w.queue_name < p.queue_name
                END
            ORDER BY w.status DESC, w.queue_name DESC, w.workflow_name DESC, w.created_at DESC
            LIMIT 1
        ) AS n
    ),

    -- the newest of each are p_count rows, or more: nothing older is on the page
    first_floor AS MATERIALIZED (
        SELECT greatest(p_from, CASE WHEN count(*) = p_count THEN min(p.created_at) END) AS created_at
        FROM (
            SELECT p.created_at
            FROM prefix AS p
            WHERE p.created_at < p_before_at
            ORDER BY p.created_at DESC
            LIMIT p_count
        ) AS p
    ),

    newest AS MATERIALIZED (
        SELECT p.status, p.queue_name, p.workflow_name, n.created_at
        FROM prefix AS p
        CROSS JOIN LATERAL (
            SELECT w.created_at
            FROM lockstep.workflow_status AS w
            WHERE (w.status <> 'PENDING') IS TRUE
                AND w.status = p.status
                AND w.queue_name = p.queue_name
                AND w.workflow_name = p.workflow_name
                AND w.created_at >= p_from
                AND w.created_at <= p_before_at
                AND (w.created_at, w.workflow_id) < (p_before_at, p_before_id)
            ORDER BY w.created_at DESC
            LIMIT (SELECT 1 + 3 * p_count / greatest(count(*), 1) FROM prefix)
        ) AS n
        WHERE p.created_at >= (SELECT f.created_at FROM first_floor AS f)
    ),

    floor AS MATERIALIZED (
        SELECT greatest(p_from, CASE WHEN count(*) = p_count THEN min(n.created_at) END) AS created_at
        FROM (SELECT n.created_at FROM newest AS n ORDER BY n.created_at DESC LIMIT p_count) AS n
    )

    SELECT f.workflow_id, f.created_at
    FROM (
        SELECT l.workflow_id, l.created_at
        FROM (
            SELECT n.status, n.queue_name, n.workflow_name
            FROM newest AS n
            CROSS JOIN floor AS f
            WHERE n.created_at >= f.created_at
            GROUP BY n.status, n.queue_name, n.workflow_name
        ) AS p
        CROSS JOIN LATERAL (
            SELECT w.workflow_id, w.created_at
            FROM lockstep.workflow_status AS w
            WHERE (w.status <> 'PENDING') IS TRUE
                AND w.status = p.status
                AND w.queue_name = p.queue_name
                AND w.workflow_name = p.workflow_name
                AND w.created_at >= (SELECT f.created_at FROM floor AS f)
                AND w.created_at <= p_before_at
                AND (w.created_at, w.workflow_id) < (p_before_at, p_before_id)
            ORDER BY w.created_at DESC, w.workflow_id DESC
            LIMIT p_count
        ) AS l
        UNION ALL
        SELECT w.workflow_id, w.created_at
        FROM lockstep.workflow_status AS w
        WHERE 'PENDING' = ANY (p_statuses)
            AND w.status = 'PENDING'
            AND (p_queue_name IS NULL OR w.queue_name = p_queue_name)
            AND (p_workflow_name IS NULL OR w.workflow_name = p_workflow_name)
            AND w.created_at >= (SELECT f.created_at FROM floor AS f)
            AND w.created_at <= p_before_at
            AND (w.created_at, w.workflow_id) < (p_before_at, p_before_id)
    ) AS f
    ORDER BY f.created_at DESC, f.workflow_id DESC
    LIMIT p_count;
END
$$;
COMMENT ON FUNCTION lockstep._newest_workflows(text[], text, text, timestamptz, timestamptz, text, int) IS
    'Lists the newest workflows of some statuses, of a queue and a name if given.';

-- sql/30_internal/one_line.sql

-- Makes one line of a text of any origin, shortened to p_length characters.
--
-- Control characters and the line separators of Unicode become blanks, so that a name or a
-- message cannot look like lines of ours.
CREATE FUNCTION lockstep._one_line(p_text text, p_length int DEFAULT 200)
RETURNS text
LANGUAGE sql
IMMUTABLE
BEGIN ATOMIC
    SELECT CASE
        WHEN length(t.line) > p_length THEN left(t.line, p_length - 1) || '…'
        ELSE t.line
    END
    FROM (
        SELECT regexp_replace(
            p_text, E'[\\u0001-\\u001f\\u007f-\\u009f\\u2028-\\u202e\\u2066-\\u2069]+', ' ', 'g'
        ) AS line
    ) AS t;
END;
COMMENT ON FUNCTION lockstep._one_line(text, int) IS
    'Makes one line of a text of any origin.';

-- sql/30_internal/ready.sql

-- Locks the workflows that an executor may start now, in the order of their queues.
--
-- Of several queues the one comes first whose first workflow comes first, so that none
-- starves behind the backlog of another; those without limits count as one. The rows of
-- limited queues are locked before the time is taken that counts for rate limits. A row
-- that is locked is not waited for but read as "nothing now": the client that changes the
-- queue in an open transaction must not stop a worker that serves others too.
--
-- Suspects are passed over, or, if p_is_alone, everything else is.
-- look_again_in as _claim() describes it.
CREATE FUNCTION lockstep._ready(
    p_executor lockstep.executor,
    p_max_count int,
    p_low_water jsonb,
    p_is_alone boolean,
    OUT ready tid[],
    OUT taken_at timestamptz,
    OUT look_again_in double precision
)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_limited text[];
    v_free text[];
    v_held lockstep.queue[];
    r_queue lockstep.queue;
    r_ready record;
BEGIN
    ready := ARRAY[]::tid[];
    taken_at := clock_timestamp();

    v_limited := ARRAY(
        SELECT q.queue_name
        FROM lockstep.queue AS q
        WHERE q.queue_name = ANY (p_executor.queues)
            AND (
                q.is_paused
                OR num_nonnulls(
                    q.concurrency, q.worker_concurrency, q.rate_limit,
                    q.partition_concurrency, q.partition_rate_limit
                ) > 0
            )
    );

    IF v_limited = '{}' THEN
        ready := lockstep._ready_in_queues(
            p_executor.queues, p_executor, p_max_count, p_low_water, p_is_alone
        );
    ELSE
        v_free := ARRAY(SELECT unnest(p_executor.queues) EXCEPT SELECT unnest(v_limited));
        v_held := ARRAY(
            SELECT q
            FROM lockstep.queue AS q
            WHERE q.queue_name = ANY (v_limited)
            ORDER BY q.queue_name
            FOR NO KEY UPDATE SKIP LOCKED
        );
        taken_at := clock_timestamp();
        -- counts in other isolation levels are as old as the snapshot: a row that has changed
        -- since fails the claim with 40001, where a row that was only locked would not
        IF current_setting('transaction_isolation') <> 'read committed' THEN
            UPDATE lockstep.queue AS q
            SET is_paused = q.is_paused
            WHERE q.queue_name IN (SELECT h.queue_name FROM unnest(v_held) AS h);
        END IF;
        IF cardinality(v_held) < cardinality(v_limited) THEN
            look_again_in := 0.02 + 0.04 * random();
        END IF;

        FOR r_queue IN
            SELECT q.*
            FROM unnest(v_held || NULL::lockstep.queue) AS q  -- NULL stands for all without limits
            LEFT JOIN LATERAL (
                SELECT w.priority, w.available_at
                FROM lockstep._stretches(
                    CASE WHEN q.queue_name IS NULL THEN v_free ELSE ARRAY[q.queue_name] END,
                    -- those with limits per partition are not claimed in order
                    CASE
                        WHEN num_nonnulls(q.partition_concurrency, q.partition_rate_limit) = 0 THEN p_low_water
                    END
                ) AS s
                CROSS JOIN LATERAL (
                    SELECT w.priority, w.available_at
                    FROM lockstep.workflow_status AS w
                    WHERE w.queue_name = s.queue_name
                        AND (w.priority, w.available_at) >= (s.from_priority, s.from_time)
                        AND w.priority <= s.to_priority
                        AND w.status = 'ENQUEUED'
                    ORDER BY w.priority, w.available_at
                    LIMIT 1
                ) AS w
                ORDER BY w.priority, w.available_at
                LIMIT 1
            ) AS head ON true
            WHERE q.is_paused IS NOT TRUE
            ORDER BY head.priority, head.available_at
        LOOP
            EXIT WHEN cardinality(ready) >= p_max_count;

            IF r_queue.queue_name IS NULL THEN
                ready := ready || lockstep._ready_in_queues(
                    v_free, p_executor, p_max_count - cardinality(ready), p_low_water, p_is_alone
                );
            ELSE
                r_ready := lockstep._ready_in_limited_queue(
                    r_queue, p_executor, p_max_count - cardinality(ready), taken_at, p_low_water,
                    p_is_alone
                );
                ready := ready || r_ready.ready;
                look_again_in := least(look_again_in, r_ready.look_again_in);
            END IF;
        END LOOP;
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep._ready(lockstep.executor, int, jsonb, boolean) IS
    'Locks the workflows that an executor may start now, in the order of their queues.';

-- sql/30_internal/ready_in_queues.sql

-- Locks the first workflows of some queues without limits, those that _ready() asks for.
--
-- p_low_water as claim_workflows() describes it. Reads the claim index from its head, or
-- the mark, and leaves it after n rows; suspects have an index of their own. Locks workflow
-- rows, skipping locked ones.
CREATE FUNCTION lockstep._ready_in_queues(
    p_queues text[],
    p_executor lockstep.executor,
    p_max_count int,
    p_low_water jsonb,
    p_is_alone boolean
)
RETURNS tid[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF p_is_alone THEN
        RETURN ARRAY(
            SELECT suspect.row_id
            FROM unnest(p_queues) AS q (queue_name)
            CROSS JOIN LATERAL (
                SELECT w.ctid AS row_id, w.priority, w.available_at
                FROM lockstep.workflow_status AS w
                WHERE (w.status = 'ENQUEUED') IS TRUE  -- as the index of suspects says it, and no other
                    AND lockstep._is_suspect(w.attempts, w.max_attempts)
                    AND w.queue_name = q.queue_name
                    AND w.workflow_name = ANY (p_executor.workflow_names)
                    AND (w.app_version IS NULL OR w.app_version = p_executor.app_version)
                ORDER BY w.priority, w.available_at
                LIMIT p_max_count
                FOR NO KEY UPDATE SKIP LOCKED
            ) AS suspect
            ORDER BY suspect.priority, suspect.available_at
            LIMIT p_max_count
        );
    END IF;

    RETURN ARRAY(
        SELECT ready.row_id
        FROM lockstep._stretches(p_queues, p_low_water) AS s
        CROSS JOIN LATERAL (
            SELECT w.ctid AS row_id, w.priority, w.available_at
            FROM lockstep.workflow_status AS w
            WHERE w.queue_name = s.queue_name
                AND (w.priority, w.available_at) >= (s.from_priority, s.from_time)
                AND w.priority <= s.to_priority
                AND w.status = 'ENQUEUED'
                AND w.workflow_name = ANY (p_executor.workflow_names)
                AND (w.app_version IS NULL OR w.app_version = p_executor.app_version)
                AND NOT lockstep._is_suspect(w.attempts, w.max_attempts)
            ORDER BY w.priority, w.available_at
            LIMIT p_max_count
            FOR NO KEY UPDATE SKIP LOCKED
        ) AS ready
        ORDER BY ready.priority, ready.available_at
        LIMIT p_max_count
    );
END
$$;
COMMENT ON FUNCTION lockstep._ready_in_queues(text[], lockstep.executor, int, jsonb, boolean) IS
    'Locks the first workflows of some queues without limits.';

-- sql/30_internal/recorded_steps.sql

-- Lists the recorded steps of a workflow as replay reads them.
--
-- Outputs and errors are JSON texts inside the JSON: jsonb holds what a
-- client's parser may refuse, and that must fail one workflow and not the reply.
-- A step that has not finished has "remaining", the seconds until it goes on, if it
-- waits for a moment, and "elapsed", the seconds since its first attempt, both by the
-- database's clock, the only clock that counts.
CREATE FUNCTION lockstep._recorded_steps(p_workflow_id text)
RETURNS json
LANGUAGE sql
STABLE
BEGIN ATOMIC
    SELECT json_agg(
        json_build_object(
            'step_id', o.step_id,
            'step_name', o.step_name,
            'output', o.output::text,
            'error', o.error::text,
            'attempts', o.attempts,
            'child_id', o.child_workflow_id,
            'is_finished', o.completed_at IS NOT NULL,
            'remaining', CASE
                WHEN o.completed_at IS NULL AND o.available_at IS NOT NULL
                    THEN greatest(extract(EPOCH FROM o.available_at - clock_timestamp()), 0)
            END,
            'elapsed', CASE
                WHEN o.completed_at IS NULL THEN extract(EPOCH FROM clock_timestamp() - o.started_at)
            END
        )
    )
    FROM lockstep.operation_outputs AS o
    WHERE o.workflow_id = p_workflow_id;
END;
COMMENT ON FUNCTION lockstep._recorded_steps(text) IS
    'Lists the recorded steps of a workflow as replay reads them.';

-- sql/30_internal/refuse_rival.sql

-- Raises the error for a deduplication id that an unfinished workflow has.
--
-- The hint is for a caller who may see that workflow. To another tenant it is not described.
CREATE FUNCTION lockstep._refuse_rival(
    p_queue_name text,
    p_deduplication_id text,
    p_rival_id text,
    p_hint text
)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_rival constant text := (
        SELECT format('It is workflow "%s", %s, and runs "%s".', w.workflow_id, w.status, w.workflow_name)
        FROM lockstep.workflow_status AS w
        WHERE w.workflow_id = p_rival_id
            AND lockstep._may_see(w.enqueued_by)
    );
BEGIN
    RAISE EXCEPTION 'queue "%" has an unfinished workflow with deduplication_id "%"',
        p_queue_name, p_deduplication_id
        USING ERRCODE = 'unique_violation',
              DETAIL = coalesce(v_rival, 'It is not visible to this role.'),
              HINT = CASE
                  WHEN v_rival IS NULL THEN 'Use another deduplication_id, or a queue of your own.'
                  ELSE p_hint
              END;
END
$$;
COMMENT ON FUNCTION lockstep._refuse_rival(text, text, text, text) IS
    'Raises the error for a deduplication id that an unfinished workflow has.';

-- sql/30_internal/refuse_state.sql

-- Raises the error for a workflow whose status does not allow what is asked.
--
-- p_change completes the sentence "workflow … is SUCCESS and …".
CREATE FUNCTION lockstep._refuse_state(
    p_workflow_id text,
    p_status text,
    p_change text,
    p_hint text
)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'workflow "%" is % and %', p_workflow_id, p_status, p_change
        USING ERRCODE = 'object_not_in_prerequisite_state', HINT = p_hint;
END
$$;
COMMENT ON FUNCTION lockstep._refuse_state(text, text, text, text) IS
    'Raises the error for a workflow whose status does not allow what is asked.';

-- sql/30_internal/refuse_unknown_workflow.sql

-- Raises the error for a workflow id that no workflow has.
CREATE FUNCTION lockstep._refuse_unknown_workflow(p_workflow_id text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'workflow "%" does not exist', left(p_workflow_id, 512)
        USING ERRCODE = 'no_data_found',
              HINT = 'Check the workflow id; a workflow enqueued by another transaction'
                  || ' exists once that transaction commits.';
END
$$;
COMMENT ON FUNCTION lockstep._refuse_unknown_workflow(text) IS
    'Raises the error for a workflow id that no workflow has.';

-- sql/30_internal/rerun_problem.sql

-- Finds what keeps an ended workflow from running again: NULL, or code, message,
-- detail and hint.
--
-- p_keeps_steps tells whether it would go on from its recorded steps. Then it must
-- not have been compensated, as those steps were undone; without them the
-- compensation must only have ended. A compensation from before the latest start is
-- that of a run which was restarted since.
CREATE FUNCTION lockstep._rerun_problem(
    p_workflow_id text,
    p_keeps_steps boolean
)
RETURNS text[]
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_undo_id text;
    v_rival_id text;
    r_workflow record;
BEGIN
    SELECT w.status, w.queue_name, w.deduplication_id, w.started_at
    INTO r_workflow
    FROM lockstep.workflow_status AS w
    WHERE w.workflow_id = p_workflow_id;

    SELECT u.workflow_id
    INTO v_undo_id
    FROM lockstep.workflow_status AS u
    WHERE u.parent_workflow_id = p_workflow_id
        AND u.workflow_name = 'lockstep.compensate'
        AND u.created_at >= r_workflow.started_at
        AND (p_keeps_steps OR u.completed_at IS NULL)
    LIMIT 1;

    IF FOUND THEN
        RETURN ARRAY[
            'object_not_in_prerequisite_state',
            format(
                'workflow "%s" %s: %s cannot become ENQUEUED', p_workflow_id,
                CASE WHEN p_keeps_steps THEN 'was compensated' ELSE 'is being compensated' END,
                r_workflow.status
            ),
            format('Workflow "%s" undoes its steps.', v_undo_id),
            CASE
                WHEN p_keeps_steps THEN 'restart_workflow() runs it again from its beginning.'
                ELSE 'Restart it when that one has ended.'
            END
        ];
    END IF;

    v_rival_id := lockstep._deduplication_rival(r_workflow.queue_name, r_workflow.deduplication_id);

    IF v_rival_id IS NOT NULL THEN
        RETURN ARRAY[
            'unique_violation',
            format(
                'queue "%s" has an unfinished workflow with deduplication_id "%s"',
                r_workflow.queue_name, r_workflow.deduplication_id
            ),
            format('It is workflow "%s".', v_rival_id),
            CASE
                WHEN p_keeps_steps THEN 'Resume this one when that one has ended.'
                ELSE 'Restart this one when that one has ended.'
            END
        ];
    END IF;

    RETURN NULL;
END
$$;
COMMENT ON FUNCTION lockstep._rerun_problem(text, boolean) IS
    'Finds what keeps an ended workflow from running again.';

-- sql/30_internal/restart.sql

-- Does what restart_workflow() says to a workflow that may be restarted.
--
-- The caller holds the workflow's row FOR UPDATE. Waits for writes that are under way
-- (_await_writes()), then locks its messages, steps, events and streams.
CREATE FUNCTION lockstep._restart(p_workflow_id text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    v_now constant timestamptz := clock_timestamp();
    v_queue_name text;
BEGIN
    PERFORM lockstep._await_writes(ARRAY[p_workflow_id]);

    UPDATE lockstep.notifications AS n
    SET consumed_at = NULL, consumed_by_step = NULL
    WHERE n.destination_id = p_workflow_id
        AND n.consumed_at IS NOT NULL;

    DELETE FROM lockstep.operation_outputs AS o
    WHERE o.workflow_id = p_workflow_id;

    DELETE FROM lockstep.workflow_events AS v
    WHERE v.workflow_id = p_workflow_id;

    DELETE FROM lockstep.workflow_streams AS s
    WHERE s.workflow_id = p_workflow_id;

    UPDATE lockstep.workflow_status AS w
    SET
        status = 'ENQUEUED',
        executor_id = NULL,
        output = NULL,
        error = NULL,
        failures = 0,
        started_at = NULL,
        completed_at = NULL,
        available_at = v_now,
        max_attempts = least(w.attempts::bigint + w.max_attempts, 2147483647),
        deadline_at = CASE WHEN w.timeout IS NULL AND w.deadline_at > v_now THEN w.deadline_at END
    WHERE w.workflow_id = p_workflow_id
    RETURNING w.queue_name INTO v_queue_name;

    PERFORM lockstep._ring_doorbell(ARRAY[v_queue_name]);
END
$$;
COMMENT ON FUNCTION lockstep._restart(text) IS
    'Enqueues an ended workflow again without anything that it recorded.';

-- sql/30_internal/retries_problem.sql

-- Finds what is wrong with a retry policy: NULL, or message, detail and hint.
CREATE FUNCTION lockstep._retries_problem(p_retries jsonb)
RETURNS text[]
LANGUAGE plpgsql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_detail text;
BEGIN
    IF jsonb_typeof(p_retries) <> 'object' THEN
        v_detail := format('It is %s.', jsonb_typeof(p_retries));
    ELSE
        SELECT CASE
            WHEN r.least_value IS NULL THEN format('"%s" is no key of a policy.', left(p.key, 40))
            WHEN jsonb_typeof(p.value) <> 'number' THEN format('"%s" is no number.', p.key)
            ELSE format('"%s" is %s, not between %s and %s.', p.key, left(p.value::text, 40), r.least_value, r.largest_value)
        END
        INTO v_detail
        FROM jsonb_each(p_retries) AS p
        LEFT JOIN (
            VALUES
            ('max_attempts', 1, 1000000),
            ('delay', 0, 31536000),
            ('backoff', 1, 1000),
            ('max_delay', 0, 31536000),
            ('jitter', 0, 1)
        ) AS r (key, least_value, largest_value) ON r.key = p.key
        WHERE NOT coalesce(
            CASE WHEN jsonb_typeof(p.value) = 'number' THEN p.value::numeric BETWEEN r.least_value AND r.largest_value END,
            false
        ) OR (p.key = 'max_attempts' AND p.value::numeric % 1 <> 0)
        ORDER BY p.key
        LIMIT 1;
    END IF;

    RETURN CASE WHEN v_detail IS NOT NULL THEN ARRAY[
        'retries must be a retry policy', v_detail,
        'Pass any of max_attempts, delay, backoff, max_delay and jitter, times in seconds, as {"max_attempts": 5}.'
    ] END;
END
$$;
COMMENT ON FUNCTION lockstep._retries_problem(jsonb) IS
    'Finds what is wrong with a retry policy: NULL, or message, detail and hint.';

-- sql/30_internal/retry_pause.sql

-- Tells how long a failed workflow waits for its next try; NULL if there is none.
--
-- p_policy is {"max_attempts", "delay", "backoff", "max_delay", "jitter"}, times in
-- seconds; what it leaves out is 3, 1, 2, an hour and 0. p_failures counts from 1. A
-- function's own policy was never checked: it is held to the limits of
-- _retries_problem(), because a failure must be recorded whatever is in it.
CREATE FUNCTION lockstep._retry_pause(p_policy jsonb, p_failures int)
RETURNS interval
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_delay constant double precision := coalesce((p_policy ->> 'delay')::double precision, 1);
    v_backoff constant double precision := coalesce((p_policy ->> 'backoff')::double precision, 2);
    v_max_delay constant double precision := coalesce((p_policy ->> 'max_delay')::double precision, 3600);
    v_jitter constant double precision := coalesce((p_policy ->> 'jitter')::double precision, 0);
    v_pause double precision;
BEGIN
    IF p_policy IS NULL OR p_failures >= coalesce((p_policy ->> 'max_attempts')::numeric, 3) THEN
        RETURN NULL;
    END IF;

    -- the exponent is bounded, because a double overflows with an error
    v_pause := least(v_delay, 31536000) * power(greatest(least(v_backoff, 1000), 1), least(p_failures - 1, 100));
    v_pause := v_pause * (1 + greatest(least(v_jitter, 1), 0) * (2 * random() - 1));
    RETURN make_interval(secs => greatest(least(v_pause, v_max_delay, 31536000), 0));
END
$$;
COMMENT ON FUNCTION lockstep._retry_pause(jsonb, int) IS
    'Tells how long a failed workflow waits for its next try; NULL if there is none.';

-- sql/30_internal/ring_doorbell.sql

-- Wakes the idle workers of some queues when the caller's transaction commits.
--
-- Notifies only if an executor says that it is idle: NOTIFY serialises commits,
-- so under load, when nobody is idle, enqueueing issues none. A worker that
-- goes idle at this moment is not missed for long: it polls again after it
-- said so. p_reason is 'due' if there is nothing to claim now but something that
-- falls due, so that sleepers need only look when.
CREATE FUNCTION lockstep._ring_doorbell(p_queues text[], p_reason text DEFAULT '')
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF EXISTS (
        SELECT
        FROM lockstep.executor AS e
        WHERE e.is_idle
            AND e.queues && p_queues
    ) THEN
        PERFORM pg_notify('lockstep', p_reason);
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep._ring_doorbell(text[], text) IS
    'Wakes the idle workers of some queues when the transaction commits.';

-- sql/30_internal/send_problem.sql

-- Says what send_message() cannot take: NULL, or message, detail and hint of the error.
CREATE FUNCTION lockstep._send_problem(
    p_destination_id text,
    p_message jsonb,
    p_topic text,
    p_idempotency_key text
)
RETURNS text[]
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF p_destination_id IS NULL OR btrim(p_destination_id) = '' OR length(p_destination_id) > 512 THEN
        RETURN lockstep._name_problem('destination_id', p_destination_id);
    ELSIF btrim(p_topic) = '' OR length(p_topic) > 512 THEN
        RETURN lockstep._name_problem('topic', p_topic);
    ELSIF btrim(p_idempotency_key) = '' OR length(p_idempotency_key) > 512 THEN
        RETURN lockstep._name_problem('idempotency_key', p_idempotency_key);
    ELSIF p_message IS NULL THEN
        RETURN ARRAY[
            'message must not be null', 'It is null.', 'Pass ''null''::jsonb to send a JSON null.'
        ];
    ELSIF lockstep._is_too_large(p_message) THEN
        RETURN lockstep._size_problem('message', p_message);
    END IF;

    RETURN NULL;
END
$$;
COMMENT ON FUNCTION lockstep._send_problem(text, jsonb, text, text) IS
    'Says what send_message() cannot take: NULL, or message, detail and hint of the error.';

-- sql/30_internal/settle_ended.sql

-- Does what the end of workflows means for others.
--
-- Every function that ends workflows calls it after it has written their rows, in
-- the same transaction. Frees places of limited queues, wakes who waits for the
-- workflows, and enqueues the compensation of p_failed_ids, those among them that
-- did not succeed. Lock order: waiter, then the rows of waiting workflows by id.
CREATE FUNCTION lockstep._settle_ended(p_workflow_ids text[], p_failed_ids text[])
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM lockstep._ring_for_free_places(p_workflow_ids);
    PERFORM lockstep._wake_waiters(p_workflow_ids);

    IF p_failed_ids <> '{}' THEN
        PERFORM lockstep._enqueue_compensations(p_failed_ids);
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep._settle_ended(text[], text[]) IS
    'Does what the end of workflows means for others.';

-- sql/30_internal/size_problem.sql

-- Says that a JSON value is too large: message, detail and hint of the error.
CREATE FUNCTION lockstep._size_problem(p_argument text, p_value jsonb)
RETURNS text[]
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN ARRAY[
        format('%s must not be larger than 16 MB', p_argument),
        format('It takes %s as jsonb.', pg_size_pretty(pg_column_size(p_value)::bigint)),
        'Keep large data where it is, in a table or an object store, and pass its key.'
    ];
END
$$;
COMMENT ON FUNCTION lockstep._size_problem(text, jsonb) IS
    'Says that a JSON value is too large: message, detail and hint of the error.';

-- sql/30_internal/state_machine_of.sql

-- Reads which state machine a trigger named lockstep_state_machine follows.
--
-- All are NULL if attach_state_machine() did not write it: whoever owns a table can create a
-- trigger of the name, and must not break the view for everybody. Hence the exception block.
CREATE FUNCTION lockstep._state_machine_of(
    p_function_id oid,
    p_arguments bytea,
    OUT machine_name text,
    OUT state_column text,
    OUT version_column text
)
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_settings jsonb;
BEGIN
    IF NOT EXISTS (
        SELECT
        FROM pg_proc AS p
        WHERE p.oid = p_function_id
            AND p.prosrc LIKE '%Written by lockstep.attach\_state\_machine()%'
    ) THEN
        RETURN;
    END IF;

    v_settings := convert_from(
        substr(p_arguments, 1, octet_length(p_arguments) - 1), getdatabaseencoding()
    )::jsonb;
    machine_name := v_settings ->> 'machine_name';
    state_column := v_settings ->> 'state_column';
    version_column := v_settings ->> 'version_column';
EXCEPTION
    WHEN data_exception THEN
        NULL;
END
$$;
COMMENT ON FUNCTION lockstep._state_machine_of(oid, bytea) IS
    'Reads which state machine a trigger follows; NULL if none.';

-- sql/30_internal/state_machine_version.sql

-- Finds a version of a state machine, the newest if none is named; raises if there is none.
CREATE FUNCTION lockstep._state_machine_version(p_machine_name text, p_version int DEFAULT NULL)
RETURNS int
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_newest int;
BEGIN
    SELECT max(m.version)
    INTO v_newest
    FROM lockstep.state_machine AS m
    WHERE m.machine_name = p_machine_name;

    IF v_newest IS NULL THEN
        RAISE EXCEPTION 'state machine "%" does not exist', coalesce(p_machine_name, '')
            USING ERRCODE = 'no_data_found',
                  HINT = 'Create it with create_state_machine().';
    ELSIF p_version NOT BETWEEN 1 AND v_newest THEN
        RAISE EXCEPTION 'state machine "%" has no version %', p_machine_name, p_version
            USING ERRCODE = 'no_data_found',
                  DETAIL = format('Its newest version is %s.', v_newest),
                  HINT = 'create_state_machine() creates the next one.';
    END IF;

    RETURN coalesce(p_version, v_newest);
END
$$;
COMMENT ON FUNCTION lockstep._state_machine_version(text, int) IS
    'Finds a version of a state machine, the newest if none is named; raises if there is none.';

-- sql/30_internal/step_status.sql

-- Names the state of a recorded step; list_steps() says what the words mean.
CREATE FUNCTION lockstep._step_status(p_step lockstep.operation_outputs)
RETURNS text
LANGUAGE sql
IMMUTABLE
BEGIN ATOMIC
    SELECT CASE
        WHEN (p_step).completed_at IS NULL AND (p_step).error IS NOT NULL THEN 'RETRYING'
        WHEN (p_step).completed_at IS NULL THEN 'WAITING'
        WHEN (p_step).error IS NOT NULL THEN 'ERROR'
        WHEN (p_step).attempts = 0 THEN 'TIMED_OUT'
        ELSE 'SUCCESS'
    END;
END;
COMMENT ON FUNCTION lockstep._step_status(lockstep.operation_outputs) IS
    'Names the state of a recorded step.';

-- sql/30_internal/stretches.sql

-- Returns where in the claim index workflows of some queues may stand that nobody has claimed.
--
-- Of each queue the whole, or, where p_low_water has a mark of it, what is more urgent than the
-- mark and what comes from the mark on: claim_workflows() says what a mark is. The planner
-- inlines this.
CREATE FUNCTION lockstep._stretches(p_queues text[], p_low_water jsonb)
RETURNS TABLE (queue_name text, from_priority int, from_time timestamptz, to_priority int)
LANGUAGE sql
STABLE
BEGIN ATOMIC
    WITH mark AS (
        SELECT m.queue_name, m.priority, m.available_at
        FROM jsonb_to_recordset(p_low_water)
            AS m (queue_name text, priority int, available_at timestamptz)
    )

    SELECT
        q.queue_name, 0 AS from_priority, timestamptz '-infinity' AS from_time,
        coalesce(m.priority - 1, 2147483647) AS to_priority
    FROM unnest(p_queues) AS q (queue_name)
    LEFT JOIN mark AS m ON q.queue_name = m.queue_name
    WHERE m.priority IS DISTINCT FROM 0
    UNION ALL
    SELECT m.queue_name, m.priority AS from_priority, m.available_at AS from_time, 2147483647 AS to_priority
    FROM unnest(p_queues) AS q (queue_name)
    INNER JOIN mark AS m ON q.queue_name = m.queue_name;
END;
COMMENT ON FUNCTION lockstep._stretches(text[], jsonb) IS
    'Returns where in the claim index workflows of some queues may stand that nobody has claimed.';

-- sql/30_internal/take_move.sql

-- Takes the note that a row may be on its way to another partition, if there is one.
--
-- If the row was inserted, it is: with the note goes the deletion, the latest, that was
-- recorded when it left. The plan is pinned: both tables may have been empty when it was made,
-- and hold thousands of such rows.
CREATE FUNCTION lockstep._take_move(
    p_table_name text,
    p_key jsonb,
    p_is_inserted boolean,
    OUT has_moved boolean,
    OUT from_state text
)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    v_previous_key jsonb;
BEGIN
    DELETE FROM lockstep.state_move AS m
    WHERE m.key = p_key
        AND m.table_name = p_table_name
        AND m.transaction_id = pg_current_xact_id()
    RETURNING m.previous_key
    INTO v_previous_key;

    has_moved := p_is_inserted AND FOUND;
    IF has_moved THEN
        DELETE FROM lockstep.state_history AS h
        WHERE h.transition_id = (
            SELECT max(d.transition_id)
            FROM lockstep.state_history AS d
            WHERE d.key = v_previous_key
                AND d.table_name = p_table_name
                AND d.to_state IS NULL
                AND d.transaction_id = pg_current_xact_id()
        )
        RETURNING h.from_state
        INTO from_state;
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep._take_move(text, jsonb, boolean) IS
    'Takes the note that a row may be on its way to another partition, if there is one.';

-- sql/30_internal/turn_of_suspects.sql

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
CREATE FUNCTION lockstep._turn_of_suspects(
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

-- sql/30_internal/wait_for_standby.sql

-- Makes the commit wait for a synchronous standby though the transaction writes nothing.
--
-- For who answers that something is there already. It may have been committed just before a crash
-- of the server, which cut off the wait for the standby: then it is visible, and not replicated.
-- Postgres waits only for transactions that wrote WAL, so this writes a message that nobody reads.
CREATE FUNCTION lockstep._wait_for_standby()
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pg_logical_emit_message(true, 'lockstep', '');
END
$$;
COMMENT ON FUNCTION lockstep._wait_for_standby() IS
    'Makes the commit wait for a synchronous standby though the transaction writes nothing.';

-- sql/30_internal/wake_waiters.sql

-- Wakes who waits for workflows: for anything of them, or for what is named.
--
-- Workflows become claimable, clients are notified on their channel with the id.
-- p_whats has one element per id, as waiter.awaited_what, or is NULL. Costs next to
-- nothing while nobody waits for any workflow, else a look into an index per id.
--
-- Lock order: waiter, then workflow rows by id.
CREATE FUNCTION lockstep._wake_waiters(p_awaited_ids text[], p_whats text[] DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_woken_ids text[];
    v_channels text[];
    v_notes text[];
BEGIN
    IF NOT EXISTS (SELECT FROM lockstep.waiter) THEN
        RETURN;
    END IF;

    WITH gone AS (
        DELETE FROM lockstep.waiter AS w
        USING unnest(p_awaited_ids, p_whats) AS a (awaited_id, what)
        WHERE w.awaited_id = ANY (ARRAY[a.awaited_id])
            AND (a.what IS NULL OR w.awaited_what = a.what)
        RETURNING w.awaited_id, w.is_client, w.waiter
    )

    SELECT
        array_agg(DISTINCT g.waiter) FILTER (WHERE NOT g.is_client),
        array_agg(g.waiter) FILTER (WHERE g.is_client),
        array_agg(g.awaited_id) FILTER (WHERE g.is_client)
    INTO v_woken_ids, v_channels, v_notes
    FROM gone AS g;

    IF v_channels IS NOT NULL THEN
        PERFORM pg_notify(c.channel, c.note)
        FROM unnest(v_channels, v_notes) AS c (channel, note);
    END IF;

    IF v_woken_ids IS NOT NULL THEN
        PERFORM lockstep._wake_workflows(v_woken_ids);
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep._wake_waiters(text[], text[]) IS
    'Wakes who waits for workflows: for anything of them, or for what is named.';

-- sql/30_internal/wake_workflows.sql

-- Makes waiting workflows claimable.
--
-- Locks their rows by id, so that two that wake the same ones do not deadlock, and none
-- but theirs: who stands in the list of waiters from a wait that is over may be running,
-- and its executor must not wait for who would wake it, nor the other way round.
CREATE FUNCTION lockstep._wake_workflows(p_workflow_ids text[])
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    v_queues text[];
BEGIN
    PERFORM
    FROM lockstep.workflow_status AS w
    WHERE w.workflow_id = ANY (p_workflow_ids)
        AND w.status = 'WAITING'
    ORDER BY w.workflow_id
    FOR NO KEY UPDATE;

    WITH woken AS (
        UPDATE lockstep.workflow_status AS w
        SET status = 'ENQUEUED', waiting_for = NULL, available_at = clock_timestamp()
        WHERE w.workflow_id = ANY (p_workflow_ids)
            AND w.status = 'WAITING'
        RETURNING w.queue_name
    )

    SELECT array_agg(DISTINCT w.queue_name)
    INTO v_queues
    FROM woken AS w;

    IF v_queues IS NOT NULL THEN
        PERFORM lockstep._ring_doorbell(v_queues);
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep._wake_workflows(text[]) IS
    'Makes waiting workflows claimable.';

-- sql/40_workflow/cancel_workflow.sql

-- Cancels a workflow that has not ended, and its children that have not.
--
-- A running one stops at its next step boundary: the executor's next write for
-- it is refused. Returns true; false if the workflow was cancelled already.
--
-- Locks the workflow row, then those of its descendants; a finish_workflows() that
-- came first wins and the call fails with 55000, so CANCELLED never becomes
-- SUCCESS, nor the reverse.
CREATE FUNCTION lockstep.cancel_workflow(workflow_id text)
RETURNS boolean
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    v_status text;
BEGIN
    SELECT w.status
    INTO v_status
    FROM lockstep.workflow_status AS w
    WHERE w.workflow_id = cancel_workflow.workflow_id
    FOR NO KEY UPDATE;

    IF NOT FOUND THEN
        PERFORM lockstep._refuse_unknown_workflow(cancel_workflow.workflow_id);
    ELSIF v_status = 'CANCELLED' THEN
        RETURN false;
    ELSIF v_status IN ('SUCCESS', 'ERROR', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED') THEN
        RAISE EXCEPTION 'workflow "%" is % and cannot become CANCELLED', cancel_workflow.workflow_id, v_status
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Only a workflow that has not ended can be cancelled.';
    END IF;

    PERFORM lockstep._cancel_tree(ARRAY[cancel_workflow.workflow_id]);
    RETURN true;
END
$$;
COMMENT ON FUNCTION lockstep.cancel_workflow(text) IS
    'Cancels a workflow that has not ended, and its children; false if it was cancelled already.';

-- sql/40_workflow/claim_workflows.sql

-- Claims up to max_count workflows for an executor, with all that replay needs,
-- and the seconds until their deadlines.
--
-- Takes from the executor's queues in (priority, available_at) order, only workflows
-- that it registered and of its app_version; one that an executor with pins_version
-- takes is left to that version from then on. Cost depends on max_count alone: the
-- claim index is read from its head and left after n rows.
--
-- low_water: [{"queue_name", "priority", "available_at"}, …] or NULL. Claimed rows
-- stay at the head of the index until vacuum takes them away, which a snapshot
-- somewhere may hold back. A caller that works off a backlog, or met a slow head,
-- passes where its last claim got to in each queue: rows of that priority are
-- looked at from there on. What commits below the mark is found by the next claim
-- without marks. So that this is seldom needed, the available_at that is returned is
-- half a second old at the least.
--
-- Lock order: the executor row (FOR KEY SHARE), the rows of limited queues by
-- name, then workflow rows, skipping locked ones, so it never waits for
-- another claim. FOR NO KEY UPDATE lets a send_message() in an open
-- transaction, which holds the row FOR KEY SHARE, not hide the workflow.
CREATE FUNCTION lockstep.claim_workflows(
    executor_id text,
    max_count int,
    low_water jsonb DEFAULT NULL
)
RETURNS TABLE (
    workflow_id text,
    workflow_name text,
    queue_name text,
    inputs jsonb,
    headers jsonb,
    attempt int,
    steps json,
    deadline_in double precision,
    priority int,
    available_at timestamptz
)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM lockstep._hold_executor(claim_workflows.executor_id);

    IF claim_workflows.max_count IS NULL OR claim_workflows.max_count < 1 THEN
        RETURN;  -- LIMIT NULL would claim everything
    END IF;

    RETURN QUERY
    SELECT
        w.workflow_id, w.workflow_name, w.queue_name, w.inputs::jsonb, w.headers::jsonb,
        w.attempt, w.steps, w.deadline_in, w.priority, w.available_at
    FROM lockstep._claim(
        claim_workflows.executor_id, claim_workflows.max_count, claim_workflows.low_water, true
    ) AS c
    CROSS JOIN LATERAL json_to_recordset(c.claimed) AS w (
        workflow_id text, workflow_name text, queue_name text, inputs text, headers text,
        attempt int, steps json, deadline_in double precision, priority int, available_at timestamptz
    );
END
$$;
COMMENT ON FUNCTION lockstep.claim_workflows(text, int, jsonb) IS
    'Claims up to max_count workflows for an executor, with their recorded steps.';

-- sql/40_workflow/enqueue_workflow.sql

-- Enqueues a workflow; durable when the caller's transaction commits.
--
-- workflow_id makes the call idempotent: a second call with the same id, name
-- and queue returns the id and changes nothing. deduplication_id allows one
-- unfinished workflow per queue. debounce delays the start until calls with the
-- deduplication_id have paused for so long, and the workflow runs with the
-- arguments of the last one (_debounce_workflows()); on_duplicate is for calls without.
--
-- Takes no lock beside the new row. A rival with the same workflow_id or
-- deduplication_id that has not committed yet is waited for inside the INSERT.
-- The loop runs again only if the rival vanished between the INSERT, which it
-- stopped, and the look at it.
CREATE FUNCTION lockstep.enqueue_workflow(
    workflow_name text,
    queue_name text,
    positional_args jsonb DEFAULT '[]',
    named_args jsonb DEFAULT '{}',
    workflow_id text DEFAULT NULL,
    deduplication_id text DEFAULT NULL,
    on_duplicate text DEFAULT 'raise',
    priority int DEFAULT 0,
    queue_partition_key text DEFAULT NULL,
    delay interval DEFAULT NULL,
    run_at timestamptz DEFAULT NULL,
    timeout interval DEFAULT NULL,
    deadline timestamptz DEFAULT NULL,
    max_attempts int DEFAULT NULL,
    app_version text DEFAULT NULL,
    headers jsonb DEFAULT NULL,
    retries jsonb DEFAULT NULL,
    debounce interval DEFAULT NULL,
    debounce_max_delay interval DEFAULT NULL
)
RETURNS text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_now constant timestamptz := clock_timestamp();
    v_available_at timestamptz;
    v_workflow_id text := enqueue_workflow.workflow_id;
    v_inputs jsonb;
    v_problem text[];
    v_is_awaited boolean;
    r_rival record;
BEGIN
    -- what to run, where and with what: most calls say no more, and pay for no more
    IF btrim(enqueue_workflow.workflow_name) <> '' AND length(enqueue_workflow.workflow_name) <= 512
        AND btrim(enqueue_workflow.queue_name) <> '' AND length(enqueue_workflow.queue_name) <= 512
        AND jsonb_typeof(enqueue_workflow.positional_args) = 'array'
        AND jsonb_typeof(enqueue_workflow.named_args) = 'object'
        AND NOT lockstep._is_too_large(enqueue_workflow.positional_args)
        AND NOT lockstep._is_too_large(enqueue_workflow.named_args)
        AND enqueue_workflow.on_duplicate = 'raise'
        AND enqueue_workflow.priority = 0
        AND num_nonnulls(
            enqueue_workflow.workflow_id, enqueue_workflow.deduplication_id,
            enqueue_workflow.queue_partition_key, enqueue_workflow.delay,
            enqueue_workflow.run_at, enqueue_workflow.timeout, enqueue_workflow.deadline,
            enqueue_workflow.max_attempts, enqueue_workflow.app_version, enqueue_workflow.headers,
            enqueue_workflow.retries, enqueue_workflow.debounce, enqueue_workflow.debounce_max_delay
        ) = 0
    THEN
        INSERT INTO lockstep.workflow_status (
            workflow_name, queue_name, created_at, available_at, inputs, enqueued_by
        )
        VALUES (
            enqueue_workflow.workflow_name, enqueue_workflow.queue_name, v_now, v_now,
            jsonb_build_object(
                'positionalArgs', enqueue_workflow.positional_args,
                'namedArgs', enqueue_workflow.named_args
            ),
            lockstep._caller()
        )
        RETURNING workflow_status.workflow_id, EXISTS (
            SELECT
            FROM lockstep.executor AS e
            WHERE e.is_idle
                AND enqueue_workflow.queue_name = ANY (e.queues)
        )
        INTO v_workflow_id, v_is_awaited;

        -- _ring_doorbell(), without a call and a statement of its own
        IF v_is_awaited THEN
            PERFORM pg_notify('lockstep', '');
        END IF;

        RETURN v_workflow_id;
    END IF;

    v_problem := lockstep._enqueue_problem(
        enqueue_workflow.workflow_name, enqueue_workflow.queue_name,
        enqueue_workflow.positional_args, enqueue_workflow.named_args,
        enqueue_workflow.workflow_id, enqueue_workflow.deduplication_id,
        enqueue_workflow.on_duplicate, enqueue_workflow.priority,
        enqueue_workflow.queue_partition_key, enqueue_workflow.delay,
        enqueue_workflow.run_at, enqueue_workflow.timeout, enqueue_workflow.deadline,
        enqueue_workflow.max_attempts, enqueue_workflow.app_version, enqueue_workflow.headers,
        enqueue_workflow.retries, enqueue_workflow.debounce, enqueue_workflow.debounce_max_delay
    );
    IF v_problem IS NOT NULL THEN
        RAISE EXCEPTION '%', v_problem[1]
            USING ERRCODE = 'invalid_parameter_value', DETAIL = v_problem[2], HINT = v_problem[3];
    END IF;

    v_inputs := jsonb_build_object(
        'positionalArgs', enqueue_workflow.positional_args, 'namedArgs', enqueue_workflow.named_args
    );

    IF enqueue_workflow.debounce IS NOT NULL THEN
        RETURN (lockstep._debounce_workflows(
            enqueue_workflow.workflow_name, enqueue_workflow.queue_name, ARRAY[v_inputs],
            CASE WHEN v_workflow_id IS NOT NULL THEN ARRAY[v_workflow_id] END,
            ARRAY[enqueue_workflow.deduplication_id], ARRAY[enqueue_workflow.queue_partition_key],
            enqueue_workflow.priority, enqueue_workflow.timeout, enqueue_workflow.deadline,
            enqueue_workflow.max_attempts, enqueue_workflow.app_version, enqueue_workflow.headers,
            enqueue_workflow.retries, enqueue_workflow.debounce, enqueue_workflow.debounce_max_delay
        ))[1];
    END IF;

    v_available_at := coalesce(
        enqueue_workflow.run_at, v_now + enqueue_workflow.delay, v_now
    );
    IF v_workflow_id IS NULL THEN
        v_workflow_id := lockstep._generate_id(v_now);
    END IF;

    LOOP
        INSERT INTO lockstep.workflow_status (
            workflow_id, workflow_name, queue_name, status, inputs, priority,
            deduplication_id, queue_partition_key, app_version, max_attempts,
            created_at, available_at, deadline_at, timeout, enqueued_by, headers,
            retries
        )
        VALUES (
            v_workflow_id, enqueue_workflow.workflow_name, enqueue_workflow.queue_name,
            CASE WHEN v_available_at > v_now THEN 'DELAYED' ELSE 'ENQUEUED' END,
            v_inputs, enqueue_workflow.priority, enqueue_workflow.deduplication_id,
            enqueue_workflow.queue_partition_key, enqueue_workflow.app_version,
            coalesce(enqueue_workflow.max_attempts, 50), v_now, v_available_at,
            enqueue_workflow.deadline, enqueue_workflow.timeout,
            lockstep._caller(),
            enqueue_workflow.headers, enqueue_workflow.retries
        )
        ON CONFLICT DO NOTHING;

        EXIT WHEN FOUND;

        SELECT w.workflow_name, w.queue_name, lockstep._may_see(w.enqueued_by) AS is_visible
        INTO r_rival
        FROM lockstep.workflow_status AS w
        WHERE w.workflow_id = v_workflow_id;

        IF FOUND THEN
            IF r_rival.is_visible
                AND r_rival.workflow_name = enqueue_workflow.workflow_name
                AND r_rival.queue_name = enqueue_workflow.queue_name
            THEN
                PERFORM lockstep._wait_for_standby();
                RETURN v_workflow_id;
            END IF;

            RAISE EXCEPTION 'workflow "%" exists already', v_workflow_id
                USING ERRCODE = 'unique_violation',
                      DETAIL = CASE
                          WHEN r_rival.is_visible
                              THEN format('It runs "%s" in queue "%s".', r_rival.workflow_name, r_rival.queue_name)
                          ELSE 'It is not visible to this role.'
                      END,
                      HINT = 'Use another workflow_id for another workflow or queue.';
        END IF;

        SELECT w.workflow_id, lockstep._may_see(w.enqueued_by) AS is_visible
        INTO r_rival
        FROM lockstep.workflow_status AS w
        WHERE w.queue_name = enqueue_workflow.queue_name
            AND w.deduplication_id = enqueue_workflow.deduplication_id
            AND w.completed_at IS NULL;

        IF FOUND THEN
            IF r_rival.is_visible AND enqueue_workflow.on_duplicate = 'return' THEN
                PERFORM lockstep._wait_for_standby();
                RETURN r_rival.workflow_id;
            END IF;

            PERFORM lockstep._refuse_rival(
                enqueue_workflow.queue_name, enqueue_workflow.deduplication_id, r_rival.workflow_id,
                'Pass on_duplicate => ''return'' to get its id instead of this error.'
            );
        END IF;
    END LOOP;

    PERFORM lockstep._ring_doorbell(
        ARRAY[enqueue_workflow.queue_name], CASE WHEN v_available_at > v_now THEN 'due' ELSE '' END
    );
    RETURN v_workflow_id;
END
$$;
COMMENT ON FUNCTION lockstep.enqueue_workflow(
    text, text, jsonb, jsonb, text, text, text, int, text,
    interval, timestamptz, interval, timestamptz, int, text, jsonb, jsonb, interval, interval
) IS
    'Enqueues a workflow and returns its id; durable when the transaction commits.';

-- sql/40_workflow/enqueue_workflows.sql

-- Enqueues many workflows of one name with one INSERT; returns their ids in order.
--
-- named_args has one element per workflow. Each other array has as many or is
-- NULL; a NULL in it means what leaving the argument out means. What is no
-- array holds for all of them. Each workflow is treated as enqueue_workflow()
-- treats it; one that it refuses refuses them all.
--
-- Takes no lock beside the new rows. Rivals with the same workflow_id or
-- deduplication_id are waited for inside the INSERT, in the order of the ids, so that
-- two calls for the same ids do not deadlock. What met a rival is handed to
-- enqueue_workflow(), which decides.
CREATE FUNCTION lockstep.enqueue_workflows(
    workflow_name text,
    queue_name text,
    named_args jsonb[],
    positional_args jsonb[] DEFAULT NULL,
    workflow_ids text[] DEFAULT NULL,
    deduplication_ids text[] DEFAULT NULL,
    on_duplicate text DEFAULT 'raise',
    priority int DEFAULT 0,
    queue_partition_keys text[] DEFAULT NULL,
    delay interval DEFAULT NULL,
    run_at timestamptz DEFAULT NULL,
    timeout interval DEFAULT NULL,
    deadline timestamptz DEFAULT NULL,
    max_attempts int DEFAULT NULL,
    app_version text DEFAULT NULL,
    headers jsonb DEFAULT NULL,
    retries jsonb DEFAULT NULL,
    debounce interval DEFAULT NULL,
    debounce_max_delay interval DEFAULT NULL
)
RETURNS SETOF text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_now constant timestamptz := clock_timestamp();
    v_available_at timestamptz;
    v_problem text[];
    v_ids text[];
    v_inserted text[];
    r_rest record;
BEGIN
    v_problem := lockstep._enqueue_problem(
        enqueue_workflows.workflow_name, enqueue_workflows.queue_name, '[]', '{}', NULL,
        'each has its own', enqueue_workflows.on_duplicate, enqueue_workflows.priority, NULL,
        enqueue_workflows.delay, enqueue_workflows.run_at, enqueue_workflows.timeout,
        enqueue_workflows.deadline, enqueue_workflows.max_attempts,
        enqueue_workflows.app_version, enqueue_workflows.headers, enqueue_workflows.retries,
        enqueue_workflows.debounce, enqueue_workflows.debounce_max_delay
    );
    IF v_problem IS NULL THEN
        v_problem := lockstep._enqueue_many_problem(
            enqueue_workflows.named_args, enqueue_workflows.positional_args,
            enqueue_workflows.workflow_ids, enqueue_workflows.deduplication_ids,
            enqueue_workflows.queue_partition_keys, enqueue_workflows.debounce
        );
    END IF;
    IF v_problem IS NOT NULL THEN
        RAISE EXCEPTION '%', v_problem[1]
            USING ERRCODE = 'invalid_parameter_value', DETAIL = v_problem[2], HINT = v_problem[3];
    END IF;

    IF enqueue_workflows.debounce IS NOT NULL THEN
        RETURN QUERY
        SELECT n.workflow_id
        FROM unnest(lockstep._debounce_workflows(
            enqueue_workflows.workflow_name, enqueue_workflows.queue_name,
            ARRAY(
                SELECT jsonb_build_object(
                    'positionalArgs', coalesce(n.positional_args, '[]'),
                    'namedArgs', coalesce(n.named_args, '{}')
                )
                FROM unnest(enqueue_workflows.named_args, enqueue_workflows.positional_args) WITH ORDINALITY
                    AS n (named_args, positional_args, place)
                ORDER BY n.place
            ),
            enqueue_workflows.workflow_ids, enqueue_workflows.deduplication_ids,
            enqueue_workflows.queue_partition_keys, enqueue_workflows.priority,
            enqueue_workflows.timeout, enqueue_workflows.deadline, enqueue_workflows.max_attempts,
            enqueue_workflows.app_version, enqueue_workflows.headers, enqueue_workflows.retries,
            enqueue_workflows.debounce, enqueue_workflows.debounce_max_delay
        )) AS n (workflow_id);
        RETURN;
    END IF;

    v_available_at := coalesce(
        enqueue_workflows.run_at, v_now + enqueue_workflows.delay, v_now
    );
    -- a microsecond apart, so that they sort, and start, in the order of the arrays
    v_ids := ARRAY(
        SELECT coalesce(n.workflow_id, lockstep._generate_id(v_now + n.place * interval '1 us'))
        FROM unnest(enqueue_workflows.named_args, enqueue_workflows.workflow_ids) WITH ORDINALITY
            AS n (named_args, workflow_id, place)
    );

    IF num_nonnulls(enqueue_workflows.workflow_ids, enqueue_workflows.deduplication_ids) = 0 THEN
        -- meets no rival, and need not look for one
        INSERT INTO lockstep.workflow_status (
            workflow_id, workflow_name, queue_name, status, inputs, priority, queue_partition_key,
            app_version, max_attempts, created_at, available_at, deadline_at, timeout, enqueued_by,
            headers, retries
        )
        SELECT
            n.workflow_id, enqueue_workflows.workflow_name, enqueue_workflows.queue_name,
            CASE WHEN v_available_at > v_now THEN 'DELAYED' ELSE 'ENQUEUED' END,
            jsonb_build_object(
                'positionalArgs', coalesce(n.positional_args, '[]'),
                'namedArgs', coalesce(n.named_args, '{}')
            ),
            enqueue_workflows.priority, n.queue_partition_key, enqueue_workflows.app_version,
            coalesce(enqueue_workflows.max_attempts, 50), v_now + n.place * interval '1 us',
            v_available_at + n.place * interval '1 us', enqueue_workflows.deadline,
            enqueue_workflows.timeout, lockstep._caller(), enqueue_workflows.headers, enqueue_workflows.retries
        FROM unnest(
            v_ids, enqueue_workflows.named_args, enqueue_workflows.positional_args,
            enqueue_workflows.queue_partition_keys
        ) WITH ORDINALITY
            AS n (workflow_id, named_args, positional_args, queue_partition_key, place);

        v_inserted := v_ids;
    ELSIF enqueue_workflows.workflow_ids IS NOT NULL
        AND (SELECT count(*) > count(DISTINCT i.workflow_id) FROM unnest(v_ids) AS i (workflow_id))
    THEN
        v_inserted := '{}';  -- where ids repeat, one after the other is decided
    ELSE
        WITH inserted AS (
            INSERT INTO lockstep.workflow_status (
                workflow_id, workflow_name, queue_name, status, inputs, priority,
                deduplication_id, queue_partition_key, app_version, max_attempts,
                created_at, available_at, deadline_at, timeout, enqueued_by, headers,
                retries
            )
            SELECT
                n.workflow_id, enqueue_workflows.workflow_name, enqueue_workflows.queue_name,
                CASE WHEN v_available_at > v_now THEN 'DELAYED' ELSE 'ENQUEUED' END,
                jsonb_build_object(
                    'positionalArgs', coalesce(n.positional_args, '[]'),
                    'namedArgs', coalesce(n.named_args, '{}')
                ),
                enqueue_workflows.priority, n.deduplication_id, n.queue_partition_key,
                enqueue_workflows.app_version, coalesce(enqueue_workflows.max_attempts, 50),
                v_now + n.place * interval '1 us', v_available_at + n.place * interval '1 us',
                enqueue_workflows.deadline, enqueue_workflows.timeout,
                lockstep._caller(),
                enqueue_workflows.headers, enqueue_workflows.retries
            FROM unnest(
                v_ids, enqueue_workflows.named_args, enqueue_workflows.positional_args,
                enqueue_workflows.deduplication_ids, enqueue_workflows.queue_partition_keys
            ) WITH ORDINALITY
                AS n (workflow_id, named_args, positional_args, deduplication_id, queue_partition_key, place)
            ORDER BY n.deduplication_id COLLATE "C", n.workflow_id COLLATE "C"
            ON CONFLICT DO NOTHING
            RETURNING workflow_status.workflow_id
        )

        SELECT coalesce(array_agg(i.workflow_id), '{}')
        INTO v_inserted
        FROM inserted AS i;
    END IF;

    IF cardinality(v_inserted) < cardinality(v_ids) THEN
        FOR r_rest IN
            SELECT n.*
            FROM unnest(
                v_ids, enqueue_workflows.named_args, enqueue_workflows.positional_args,
                enqueue_workflows.deduplication_ids, enqueue_workflows.queue_partition_keys
            ) WITH ORDINALITY
                AS n (workflow_id, named_args, positional_args, deduplication_id, queue_partition_key, place)
            WHERE n.workflow_id NOT IN (SELECT unnest(v_inserted))
            ORDER BY n.place
        LOOP
            v_ids[r_rest.place] := lockstep.enqueue_workflow(
                enqueue_workflows.workflow_name, enqueue_workflows.queue_name,
                coalesce(r_rest.positional_args, '[]'), coalesce(r_rest.named_args, '{}'),
                r_rest.workflow_id, r_rest.deduplication_id, enqueue_workflows.on_duplicate,
                enqueue_workflows.priority, r_rest.queue_partition_key,
                enqueue_workflows.delay, enqueue_workflows.run_at, enqueue_workflows.timeout,
                enqueue_workflows.deadline, enqueue_workflows.max_attempts,
                enqueue_workflows.app_version, enqueue_workflows.headers, enqueue_workflows.retries
            );
        END LOOP;
    END IF;

    PERFORM lockstep._ring_doorbell(
        ARRAY[enqueue_workflows.queue_name], CASE WHEN v_available_at > v_now THEN 'due' ELSE '' END
    );

    RETURN QUERY
    SELECT n.workflow_id
    FROM unnest(v_ids) AS n (workflow_id);
END
$$;
COMMENT ON FUNCTION lockstep.enqueue_workflows(
    text, text, jsonb[], jsonb[], text[], text[], text, int, text[],
    interval, timestamptz, interval, timestamptz, int, text, jsonb, jsonb, interval, interval
) IS
    'Enqueues many workflows of one name at once; returns their ids in order.';

-- sql/40_workflow/fail_too_large.sql

-- Fails the workflow that an executor would claim next if no answer can hold it.
--
-- A worker calls it when a claim of one workflow failed with 54000: what the steps of the
-- workflow recorded, or its inputs written out (a number of a few bytes may have 131,072 digits),
-- is more than the 1 GB of an answer. As the failed claim is rolled back, every next one would
-- meet it again. It ends in ERROR and has the type TooLarge; what it recorded stays. Takes
-- low_water as the claim did. Returns the ids of what it failed.
--
-- The limit is a quarter of an answer, as making one needs copies of it. The exception block is
-- for what cannot even be measured.
--
-- Lock order: as claim_workflows(), then as _settle_ended().
CREATE FUNCTION lockstep.fail_too_large(executor_id text, low_water jsonb DEFAULT NULL)
RETURNS SETOF text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $$
DECLARE
    v_is_alone boolean;
    v_size bigint;
    v_ended text[] := ARRAY[]::text[];
    r_executor lockstep.executor;
    r_workflow lockstep.workflow_status;
BEGIN
    PERFORM lockstep._hold_executor(fail_too_large.executor_id);

    SELECT e.*
    INTO r_executor
    FROM lockstep.executor AS e
    WHERE e.executor_id = fail_too_large.executor_id;

    -- the claim may have been one of a suspect
    FOREACH v_is_alone IN ARRAY '{t,f}'::boolean[]
    LOOP
        SELECT w.*
        INTO r_workflow
        FROM lockstep._ready(r_executor, 1, fail_too_large.low_water, v_is_alone) AS r
        INNER JOIN lockstep.workflow_status AS w ON w.ctid = r.ready[1];

        CONTINUE WHEN NOT FOUND;

        BEGIN
            v_size := (
                octet_length(r_workflow.inputs::text)::bigint
                + coalesce(octet_length(lockstep._recorded_steps(r_workflow.workflow_id)::text), 0)
            );
        EXCEPTION
            WHEN program_limit_exceeded THEN
                v_size := NULL;
        END;
        CONTINUE WHEN v_size < 268435456;

        UPDATE lockstep.workflow_status AS w
        SET
            status = 'ERROR',
            error = lockstep._error_document(
                'TooLarge',
                format(
                    'its inputs and what its steps recorded take %s as text, more than a worker can be given',
                    coalesce(pg_size_pretty(v_size), 'more than 1 GB')
                )
            ),
            failures = w.failures + 1,
            completed_at = clock_timestamp()
        WHERE w.workflow_id = r_workflow.workflow_id;
        v_ended := v_ended || r_workflow.workflow_id;
    END LOOP;

    PERFORM lockstep._settle_ended(v_ended, v_ended);

    RETURN QUERY
    SELECT unnest(v_ended);
END
$$;
COMMENT ON FUNCTION lockstep.fail_too_large(text, jsonb) IS
    'Fails the workflow that an executor would claim next if no answer can hold it.';

-- sql/40_workflow/finish_workflows.sql

-- Finishes workflows of an executor with their output or error.
--
-- outcomes: [{"workflow_id", "attempt", "output"} or {…, "error", "retries": the
-- function's own policy or null, "is_final"}, …]. An error that is not final is tried
-- again by the policy of the row, else by the function's: the workflow becomes
-- DELAYED, and the steps whose failure ended it run again. Returns the ids of
-- those that the executor had lost, which stay as they are; one that this very
-- attempt finished before is not lost, so a call whose answer was cut off can be
-- sent again.
--
-- Lock order: the executor row (FOR KEY SHARE), then workflow rows, then as
-- _settle_ended(). Gives up with 55P03 when a row stays locked, so that one client's
-- open transaction cannot hold up an executor's whole batch.
CREATE FUNCTION lockstep.finish_workflows(executor_id text, outcomes jsonb)
RETURNS SETOF text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '500ms'
AS $$
DECLARE
    v_now constant timestamptz := clock_timestamp();
    v_ended text[];
    v_failed text[];
    v_retried text[];
    v_queues text[];
BEGIN
    PERFORM lockstep._hold_executor(finish_workflows.executor_id);

    WITH ended AS (
        UPDATE lockstep.workflow_status AS w
        SET
            status = CASE WHEN f.error IS NULL THEN 'SUCCESS' ELSE 'ERROR' END,
            output = f.output,
            error = f.error,
            failures = w.failures + (f.error IS NOT NULL)::int,
            completed_at = v_now
        FROM jsonb_to_recordset(finish_workflows.outcomes) AS f (
            workflow_id text, attempt int, output jsonb, error jsonb, retries jsonb, is_final boolean
        )
        WHERE w.workflow_id = ANY (ARRAY[f.workflow_id])
            AND (w.status, w.executor_id, w.attempts)
            IS NOT DISTINCT FROM ('PENDING', finish_workflows.executor_id, f.attempt)
            AND (
                f.error IS NULL
                OR f.is_final
                OR lockstep._retry_pause(coalesce(w.retries, f.retries), w.failures + 1) IS NULL
            )
        RETURNING w.workflow_id, w.error IS NOT NULL AS is_failure
    )

    SELECT
        coalesce(array_agg(e.workflow_id), '{}'),
        coalesce(array_agg(e.workflow_id) FILTER (WHERE e.is_failure), '{}')
    INTO v_ended, v_failed
    FROM ended AS e;

    PERFORM lockstep._settle_ended(v_ended, v_failed);

    IF cardinality(v_ended) = jsonb_array_length(finish_workflows.outcomes) THEN
        RETURN;
    END IF;

    WITH retried AS (
        UPDATE lockstep.workflow_status AS w
        SET
            status = 'DELAYED',
            error = f.error,
            failures = w.failures + 1,
            executor_id = NULL,
            attempts = w.attempts - 1,
            available_at = v_now + lockstep._retry_pause(coalesce(w.retries, f.retries), w.failures + 1)
        FROM jsonb_to_recordset(finish_workflows.outcomes)
            AS f (workflow_id text, attempt int, error jsonb, retries jsonb)
        WHERE w.workflow_id = ANY (ARRAY[f.workflow_id])
            AND (w.status, w.executor_id, w.attempts)
            IS NOT DISTINCT FROM ('PENDING', finish_workflows.executor_id, f.attempt)
        RETURNING w.workflow_id, w.queue_name
    )

    SELECT array_agg(r.workflow_id), array_agg(DISTINCT r.queue_name)
    INTO v_retried, v_queues
    FROM retried AS r;

    IF v_retried IS NOT NULL THEN
        PERFORM lockstep._forget_failures(v_retried);
        PERFORM lockstep._ring_for_free_places(v_retried);
        PERFORM lockstep._ring_doorbell(v_queues, 'due');
    END IF;

    RETURN QUERY
    SELECT f.workflow_id
    FROM jsonb_to_recordset(finish_workflows.outcomes) AS f (workflow_id text, attempt int)
    WHERE f.workflow_id <> ALL (v_ended || v_retried)
        AND NOT EXISTS (
            SELECT
            FROM lockstep.workflow_status AS w
            WHERE w.workflow_id = ANY (ARRAY[f.workflow_id])
                AND w.status IN ('SUCCESS', 'ERROR')
                AND w.executor_id = finish_workflows.executor_id
                AND w.attempts = f.attempt
        );
END
$$;
COMMENT ON FUNCTION lockstep.finish_workflows(text, jsonb) IS
    'Finishes workflows of an executor; returns the ids of those that it had lost.';

-- sql/40_workflow/get_workflow.sql

-- Reads a workflow: all of its row, and how far it says that it has come.
CREATE FUNCTION lockstep.get_workflow(workflow_id text)
RETURNS TABLE (
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
LANGUAGE plpgsql
STABLE
SECURITY DEFINER
ROWS 1
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    SELECT
        w.workflow_name, w.queue_name, w.status, w.output, w.error, w.attempts,
        w.created_at, w.started_at, w.completed_at, w.inputs, w.priority,
        w.deduplication_id, w.queue_partition_key, w.app_version, w.executor_id,
        w.max_attempts, w.failures, w.available_at, w.deadline_at, w.waiting_for,
        w.parent_workflow_id, w.forked_from, w.enqueued_by, w.headers,
        (
            SELECT v.value
            FROM lockstep.workflow_events AS v
            WHERE v.workflow_id = get_workflow.workflow_id
                AND v.key = 'lockstep.progress'
        )
    FROM lockstep.workflow_status AS w
    WHERE w.workflow_id = get_workflow.workflow_id
        AND lockstep._may_see(w.enqueued_by);

    IF NOT FOUND THEN
        PERFORM lockstep._refuse_unknown_workflow(get_workflow.workflow_id);
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep.get_workflow(text) IS
    'Reads a workflow: its status, how it ended and how far it has come.';

-- sql/40_workflow/promote_due_workflows.sql

-- Makes workflows claimable whose moment has come and cancels overdue ones.
--
-- Workers call it when the next one falls due. Handles up to max_count at a
-- time and returns how many, with the seconds until the next falls due: 0 when
-- there is more to do now, NULL when nothing is scheduled.
--
-- A child has its parent's deadline, or an earlier one, so it is overdue by itself.
-- Lock order: workflow rows, skipping locked ones, and overdue ones that somebody waits
-- for whose row is locked; those are looked at again in a second.
CREATE FUNCTION lockstep.promote_due_workflows(
    max_count int DEFAULT 1000,
    OUT promoted_count int,
    OUT next_due_in double precision
)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
-- a plan that seqscans all the same costs so much on paper that it would be compiled
SET jit = off
AS $$
DECLARE
    v_now constant timestamptz := clock_timestamp();
    v_due tid[];
    v_overdue tid[];
    v_blocked text[];
    v_cancelled text[];
    v_queues text[];
BEGIN
    v_overdue := ARRAY(
        SELECT w.ctid
        FROM lockstep.workflow_status AS w
        WHERE w.deadline_at <= v_now
            AND w.completed_at IS NULL
        ORDER BY w.deadline_at
        LIMIT greatest(promote_due_workflows.max_count, 0)
        FOR NO KEY UPDATE SKIP LOCKED
    );

    v_blocked := lockstep._awaited_by_held(
        ARRAY(SELECT w.workflow_id FROM lockstep.workflow_status AS w WHERE w.ctid = ANY (v_overdue))
    );

    WITH cancelled AS (
        UPDATE lockstep.workflow_status AS w
        SET
            status = 'CANCELLED',
            error = lockstep._error_document(
                'DeadlineExceeded', format('the workflow had not ended at its deadline, %s', w.deadline_at)
            ),
            completed_at = v_now,
            waiting_for = NULL
        WHERE w.ctid = ANY (v_overdue)
            AND w.workflow_id <> ALL (v_blocked)
        RETURNING w.workflow_id
    )

    SELECT array_agg(c.workflow_id)
    INTO v_cancelled
    FROM cancelled AS c;

    IF v_cancelled IS NOT NULL THEN
        PERFORM lockstep._settle_ended(v_cancelled, v_cancelled);
    END IF;

    v_due := ARRAY(
        SELECT w.ctid
        FROM lockstep.workflow_status AS w
        WHERE w.status IN ('DELAYED', 'WAITING')
            AND w.available_at <= v_now
        ORDER BY w.available_at
        LIMIT greatest(promote_due_workflows.max_count, 0)
        FOR NO KEY UPDATE SKIP LOCKED
    );

    WITH promoted AS (
        UPDATE lockstep.workflow_status AS w
        SET status = 'ENQUEUED', waiting_for = NULL
        WHERE w.ctid = ANY (v_due)
        RETURNING w.queue_name
    )

    SELECT array_agg(DISTINCT p.queue_name)
    INTO v_queues
    FROM promoted AS p;

    IF v_queues IS NOT NULL THEN
        PERFORM lockstep._ring_doorbell(v_queues);
    END IF;

    promoted_count := cardinality(v_due) + cardinality(v_overdue) - cardinality(v_blocked);

    IF cardinality(v_due) = promote_due_workflows.max_count
        OR (cardinality(v_overdue) = promote_due_workflows.max_count AND v_blocked = '{}')
    THEN
        next_due_in := 0;
        RETURN;
    END IF;

    SELECT (extract(EPOCH FROM least(
        (
            SELECT min(w.available_at)
            FROM lockstep.workflow_status AS w
            WHERE w.status IN ('DELAYED', 'WAITING')
                AND w.available_at > v_now
        ),
        (
            SELECT min(w.deadline_at)
            FROM lockstep.workflow_status AS w
            WHERE w.deadline_at > v_now
                AND w.completed_at IS NULL
        ),
        -- what was skipped above is still due, and its holder may yet roll back
        CASE
            WHEN EXISTS (
                SELECT
                FROM lockstep.workflow_status AS w
                WHERE w.status IN ('DELAYED', 'WAITING')
                    AND w.available_at <= v_now
            ) OR EXISTS (
                SELECT
                FROM lockstep.workflow_status AS w
                WHERE w.deadline_at <= v_now
                    AND w.completed_at IS NULL
            ) THEN v_now + interval '1 s'
        END
    ) - v_now))::double precision
    INTO next_due_in;
END
$$;
COMMENT ON FUNCTION lockstep.promote_due_workflows(int) IS
    'Makes workflows claimable whose moment has come and cancels overdue ones.';

-- sql/40_workflow/resume_workflow.sql

-- Enqueues a workflow again that was cancelled, failed or in the dead letter.
--
-- It keeps its recorded steps and goes on after them; steps whose failure
-- ended the workflow run again. Attempts count on from where they were, with
-- room for as many more as before, failures count anew, and a deadline that has
-- passed is lifted. A workflow that has not ended is left alone: returns false. One
-- that was compensated cannot go on from steps that were undone: 55000.
--
-- Locks the workflow row. An attempt of a cancelled workflow that still runs
-- somewhere cannot write any more: the next claim counts one attempt higher.
CREATE FUNCTION lockstep.resume_workflow(workflow_id text)
RETURNS boolean
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    v_now constant timestamptz := clock_timestamp();
    v_problem text[];
    r_workflow record;
BEGIN
    SELECT w.status, w.queue_name
    INTO r_workflow
    FROM lockstep.workflow_status AS w
    WHERE w.workflow_id = resume_workflow.workflow_id
    FOR NO KEY UPDATE;

    IF NOT FOUND THEN
        PERFORM lockstep._refuse_unknown_workflow(resume_workflow.workflow_id);
    ELSIF r_workflow.status IN ('ENQUEUED', 'DELAYED', 'PENDING', 'WAITING') THEN
        RETURN false;
    ELSIF r_workflow.status = 'SUCCESS' THEN
        RAISE EXCEPTION 'workflow "%" is SUCCESS and cannot become ENQUEUED', resume_workflow.workflow_id
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'restart_workflow() runs it again from its beginning.';
    END IF;

    v_problem := lockstep._rerun_problem(resume_workflow.workflow_id, true);
    IF v_problem IS NOT NULL THEN
        RAISE EXCEPTION '%', v_problem[2]
            USING ERRCODE = v_problem[1], DETAIL = v_problem[3], HINT = v_problem[4];
    END IF;

    IF r_workflow.status = 'ERROR' THEN
        PERFORM lockstep._forget_failures(ARRAY[resume_workflow.workflow_id]);
    END IF;

    UPDATE lockstep.workflow_status AS w
    SET
        status = 'ENQUEUED',
        executor_id = NULL,
        error = NULL,
        failures = 0,
        completed_at = NULL,
        available_at = v_now,
        max_attempts = least(w.attempts::bigint + w.max_attempts, 2147483647),
        deadline_at = CASE WHEN w.deadline_at > v_now THEN w.deadline_at END
    WHERE w.workflow_id = resume_workflow.workflow_id;

    PERFORM lockstep._ring_doorbell(ARRAY[r_workflow.queue_name]);
    RETURN true;
END
$$;
COMMENT ON FUNCTION lockstep.resume_workflow(text) IS
    'Enqueues a workflow again that was cancelled, failed or in the dead letter.';

-- sql/40_workflow/suspend_workflows.sql

-- Suspends workflows of an executor until what they wait for comes, or a moment.
--
-- suspensions: [{"workflow_id", "attempt", "step_ids": [int, …], "topics":
-- [text, …], "awaits": [{"awaited_id", "key"}, …]}, …]. The workflow waits for the
-- earliest available_at of the named steps (DELAYED), or for a message of the
-- topics, the end of a workflow or an event of it (WAITING). Returns for each how it
-- went: "suspended"; "ready" when something of it is there already, "busy" when an
-- open transaction may be bringing it (both: keep it and try again); "lost".
--
-- The execution is not counted as an attempt, and a suspect that began it alone is forgiven one
-- death: it need not kill. Else a workflow that lives for months would be suspected at each
-- waking, once workers have died under it for other reasons.
--
-- Closes the races with those who wake it. send_message() locks the workflow row FOR
-- KEY SHARE before it inserts, this locks it FOR UPDATE before it looks; who ends an
-- awaited workflow has its row locked, this locks it FOR SHARE; who sets an event
-- has announced it (_announce()). So either what came is visible to the look, or
-- its bringer comes later and finds the row WAITING. What somebody holds is not
-- waited for, as two executors might wait for each other: "busy".
-- Lock order: the executor row (FOR KEY SHARE), then workflow rows, then waiter. The last
-- may be waited for, where somebody takes away the row of an earlier wait: gives up with
-- 55P03 when that takes long, as finish_workflows().
CREATE FUNCTION lockstep.suspend_workflows(executor_id text, suspensions jsonb)
RETURNS TABLE (workflow_id text, outcome text)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
SET lock_timeout = '500ms'
AS $$
#variable_conflict use_column
DECLARE
    v_suspect_id text;
    v_available_at timestamptz;
    v_suspended text[] := ARRAY[]::text[];
    r_suspension record;
BEGIN
    PERFORM lockstep._hold_executor(suspend_workflows.executor_id);

    SELECT e.suspect_id
    INTO v_suspect_id
    FROM lockstep.executor AS e
    WHERE e.executor_id = suspend_workflows.executor_id;

    FOR r_suspension IN
        SELECT
            s.workflow_id, s.attempt, s.step_ids, coalesce(s.topics, '{}') AS topics,
            coalesce(s.awaits, '[]') AS awaits,
            cardinality(s.topics) > 0 OR jsonb_array_length(s.awaits) > 0 AS is_waiting
        FROM jsonb_to_recordset(suspend_workflows.suspensions)
            AS s (workflow_id text, attempt int, step_ids int[], topics text[], awaits jsonb)
    LOOP
        workflow_id := r_suspension.workflow_id;

        PERFORM
        FROM lockstep.workflow_status AS w
        WHERE w.workflow_id = r_suspension.workflow_id
            AND (w.status, w.executor_id, w.attempts)
            IS NOT DISTINCT FROM ('PENDING', suspend_workflows.executor_id, r_suspension.attempt)
        FOR UPDATE SKIP LOCKED;

        IF NOT FOUND THEN
            outcome := CASE
                WHEN lockstep._is_held(suspend_workflows.executor_id, r_suspension.workflow_id, r_suspension.attempt)
                    THEN 'busy'
                ELSE 'lost'
            END;
            RETURN NEXT;
            CONTINUE;
        END IF;

        outcome := CASE
            WHEN EXISTS (
                SELECT
                FROM lockstep.notifications AS n
                WHERE n.destination_id = r_suspension.workflow_id
                    AND n.topic = ANY (r_suspension.topics)
                    AND n.consumed_at IS NULL
            ) THEN 'ready'
            WHEN r_suspension.awaits <> '[]'
                THEN lockstep._await(r_suspension.workflow_id, r_suspension.awaits)
        END;
        IF outcome IS NOT NULL THEN
            RETURN NEXT;
            CONTINUE;
        END IF;

        SELECT min(o.available_at)
        INTO v_available_at
        FROM lockstep.operation_outputs AS o
        WHERE o.workflow_id = r_suspension.workflow_id
            AND o.step_id = ANY (r_suspension.step_ids)
            AND o.completed_at IS NULL;

        UPDATE lockstep.workflow_status AS w
        SET
            status = CASE WHEN r_suspension.is_waiting THEN 'WAITING' ELSE 'DELAYED' END,
            waiting_for = CASE
                WHEN r_suspension.is_waiting THEN ARRAY(
                    SELECT 'message:' || t.topic
                    FROM unnest(r_suspension.topics) AS t (topic)
                    UNION ALL
                    SELECT CASE
                        WHEN a.key IS NULL THEN 'workflow:' || a.awaited_id
                        ELSE format('event:%s of workflow:%s', a.key, a.awaited_id)
                    END
                    FROM jsonb_to_recordset(r_suspension.awaits) AS a (awaited_id text, key text)
                )
            END,
            available_at = CASE
                WHEN r_suspension.is_waiting THEN v_available_at
                ELSE coalesce(v_available_at, clock_timestamp())
            END,
            executor_id = NULL,
            attempts = w.attempts - 1 - (w.workflow_id IS NOT DISTINCT FROM v_suspect_id)::int
        WHERE w.workflow_id = r_suspension.workflow_id;

        v_suspended := v_suspended || r_suspension.workflow_id;
        outcome := 'suspended';
        RETURN NEXT;
    END LOOP;

    PERFORM lockstep._ring_for_free_places(v_suspended);
END
$$;
COMMENT ON FUNCTION lockstep.suspend_workflows(text, jsonb) IS
    'Suspends workflows of an executor until what they wait for comes, or a moment.';

-- sql/42_manage/cancel_workflows.sql

-- Cancels up to max_count workflows that meet a filter, and their children.
--
-- Returns the ids of all that it cancelled, children included. The filter has keys as
-- list_workflows() has parameters; '{}' means all. Rows that somebody holds are skipped
-- (_change_workflows()): call it until it returns nothing.
CREATE FUNCTION lockstep.cancel_workflows(filter jsonb, max_count int DEFAULT 1000)
RETURNS SETOF text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    SELECT c.workflow_id
    FROM lockstep._change_workflows('cancel', cancel_workflows.filter, cancel_workflows.max_count) AS c (workflow_id);
END
$$;
COMMENT ON FUNCTION lockstep.cancel_workflows(jsonb, int) IS
    'Cancels workflows that meet a filter, and their children; returns their ids.';

-- sql/42_manage/explain_workflow.sql

-- Shows how a workflow came to where it is: its steps, their times, what it waits for.
--
-- format 'text' is a tree: ✓ succeeded, ✗ failed, timed out or was cancelled, ⏳ waits,
-- ▶ runs, ◌ is enqueued, ↩ is the workflow that undoes the steps. Children are below the
-- step that started them. 'mermaid' is a flowchart of the same. A step that runs now is
-- not recorded yet and is not shown. Times are in the session's time zone.
CREATE FUNCTION lockstep.explain_workflow(workflow_id text, format text DEFAULT 'text')
RETURNS text
LANGUAGE plpgsql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF explain_workflow.format IS NULL OR explain_workflow.format NOT IN ('text', 'mermaid') THEN
        RAISE EXCEPTION 'format must be ''text'' or ''mermaid'''
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = 'It is ' || quote_nullable(left(explain_workflow.format, 40)) || '.',
                  HINT = 'Leave it out for text.';
    ELSIF NOT EXISTS (
        SELECT
        FROM lockstep.workflow_status AS w
        WHERE w.workflow_id = explain_workflow.workflow_id
    ) THEN
        PERFORM lockstep._refuse_unknown_workflow(explain_workflow.workflow_id);
    END IF;

    IF explain_workflow.format = 'text' THEN
        RETURN (
            SELECT string_agg(e.line, E'\n' ORDER BY e.place)
            FROM lockstep._explain_as_text(explain_workflow.workflow_id)
                WITH ORDINALITY AS e (line, place)
        );
    END IF;

    RETURN (
        SELECT string_agg(e.line, E'\n' ORDER BY e.place)
        FROM (
            SELECT 'flowchart TD' AS line, 0 AS place
            UNION ALL
            SELECT m.line, m.place
            FROM lockstep._explain_as_mermaid(explain_workflow.workflow_id)
                WITH ORDINALITY AS m (line, place)
        ) AS e
    );
END
$$;
COMMENT ON FUNCTION lockstep.explain_workflow(text, text) IS
    'Shows how a workflow came to where it is, as a tree of text or a Mermaid flowchart.';

-- sql/42_manage/fast_forward.sql

-- Ends now what a workflow waits for: a start delay, a sleep, the pause before a retry, or
-- the wait for a message, an event or another workflow.
--
-- Without a payload time is over for all of it: a DELAYED workflow goes on, a WAITING one
-- finds that its waits have timed out, also those that had no timeout. With a payload a
-- workflow that waits for messages of one topic receives that as a message; of a
-- workflow that waits for several topics, send_message() says which is meant. Others
-- take no payload: what an event or a child returns is theirs alone to say.
--
-- Refuses with 55000 a workflow in any other status. Locks the workflow row, then its
-- steps: a promotion that came first has made it ENQUEUED and the call fails; an
-- executor writes steps only of workflows that run.
CREATE FUNCTION lockstep.fast_forward(workflow_id text, payload jsonb DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_now constant timestamptz := clock_timestamp();
    v_topics text[];
    r_workflow record;
BEGIN
    SELECT w.status, w.waiting_for, w.queue_name
    INTO r_workflow
    FROM lockstep.workflow_status AS w
    WHERE w.workflow_id = fast_forward.workflow_id
    FOR NO KEY UPDATE;

    IF NOT FOUND THEN
        PERFORM lockstep._refuse_unknown_workflow(fast_forward.workflow_id);
    ELSIF r_workflow.status NOT IN ('DELAYED', 'WAITING') THEN
        PERFORM lockstep._refuse_state(
            fast_forward.workflow_id, r_workflow.status, 'has no wait to end',
            'Only a workflow that is DELAYED or WAITING can be fast-forwarded to ENQUEUED.'
        );
    END IF;

    IF fast_forward.payload IS NOT NULL THEN
        v_topics := ARRAY(
            SELECT substr(f.what, length('message:') + 1)
            FROM unnest(r_workflow.waiting_for) AS f (what)
            WHERE starts_with(f.what, 'message:')
        );

        IF v_topics = '{}' THEN
            RAISE EXCEPTION 'workflow "%" waits for no message: it is %', fast_forward.workflow_id, r_workflow.status
                USING ERRCODE = 'object_not_in_prerequisite_state',
                      DETAIL = CASE
                          WHEN r_workflow.status = 'WAITING'
                              THEN format('It waits for %s.', array_to_string(r_workflow.waiting_for, ', '))
                          ELSE 'It waits for a moment.'
                      END,
                      HINT = 'Leave the payload out to end the wait.';
        ELSIF cardinality(v_topics) > 1 THEN
            RAISE EXCEPTION 'workflow "%" waits for messages of % topics', fast_forward.workflow_id, cardinality(v_topics)
                USING ERRCODE = 'invalid_parameter_value',
                      DETAIL = format('It waits for %s.', array_to_string(r_workflow.waiting_for, ', ')),
                      HINT = 'Name the topic: send_message(workflow_id, message, topic).';
        END IF;

        PERFORM lockstep.send_message(fast_forward.workflow_id, fast_forward.payload, nullif(v_topics[1], ''));
        RETURN;
    END IF;

    UPDATE lockstep.operation_outputs AS o
    SET available_at = v_now
    WHERE o.workflow_id = fast_forward.workflow_id
        AND o.completed_at IS NULL;

    UPDATE lockstep.workflow_status AS w
    SET status = 'ENQUEUED', waiting_for = NULL, available_at = v_now
    WHERE w.workflow_id = fast_forward.workflow_id;

    PERFORM lockstep._ring_doorbell(ARRAY[r_workflow.queue_name]);
END
$$;
COMMENT ON FUNCTION lockstep.fast_forward(text, jsonb) IS
    'Ends now what a workflow waits for, or delivers it as a message.';

-- sql/42_manage/fork_workflow.sql

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
CREATE FUNCTION lockstep.fork_workflow(
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

-- sql/42_manage/list_steps.sql

-- Lists the recorded steps of a workflow in the order of its code.
--
-- status is SUCCESS or ERROR for a step that has finished, TIMED_OUT for a wait that
-- ended with nothing; RETRYING for one that waits for its next attempt, WAITING for
-- one that waits for anything else: a moment, a message, an event, a child. A step
-- that runs has no row yet. A branch of concurrent steps comes right after the step
-- of the main branch at which it began: step_id % 65536 is that place.
CREATE FUNCTION lockstep.list_steps(workflow_id text)
RETURNS TABLE (
    step_id int,
    step_name text,
    status text,
    output jsonb,
    error jsonb,
    attempts int,
    started_at timestamptz,
    completed_at timestamptz,
    available_at timestamptz,
    child_workflow_id text
)
LANGUAGE plpgsql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT
        o.step_id, o.step_name, lockstep._step_status(o), o.output, o.error, o.attempts,
        o.started_at, o.completed_at, o.available_at, o.child_workflow_id
    FROM lockstep.operation_outputs AS o
    WHERE o.workflow_id = list_steps.workflow_id
    ORDER BY o.step_id % 65536, o.step_id;

    IF NOT FOUND AND NOT EXISTS (
        SELECT
        FROM lockstep.workflow_status AS w
        WHERE w.workflow_id = list_steps.workflow_id
    ) THEN
        PERFORM lockstep._refuse_unknown_workflow(list_steps.workflow_id);
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep.list_steps(text) IS
    'Lists the recorded steps of a workflow in the order of its code.';

-- sql/42_manage/list_workflows.sql

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
CREATE FUNCTION lockstep.list_workflows(
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

-- sql/42_manage/move_workflow.sql

-- Moves a workflow that waits to another queue.
--
-- It keeps its age, so it does not go to the end of the new queue. Returns true;
-- false if it is in that queue already. One that runs, or has ended, is refused with
-- 55000; one whose deduplication id is taken in the new queue with 23505.
--
-- Locks the workflow row: a claim that came first has made it PENDING and the call
-- fails; one that comes later skips the row. The unique index stops a rival that is
-- enqueued at this moment.
CREATE FUNCTION lockstep.move_workflow(workflow_id text, queue_name text)
RETURNS boolean
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_problem text[];
    v_rival_id text;
    r_workflow record;
BEGIN
    IF move_workflow.queue_name IS NULL
        OR btrim(move_workflow.queue_name) = '' OR length(move_workflow.queue_name) > 512
    THEN
        v_problem := lockstep._name_problem('queue_name', move_workflow.queue_name);
        RAISE EXCEPTION '%', v_problem[1]
            USING ERRCODE = 'invalid_parameter_value', DETAIL = v_problem[2], HINT = v_problem[3];
    END IF;

    SELECT w.status, w.queue_name, w.deduplication_id
    INTO r_workflow
    FROM lockstep.workflow_status AS w
    WHERE w.workflow_id = move_workflow.workflow_id
    FOR NO KEY UPDATE;

    IF NOT FOUND THEN
        PERFORM lockstep._refuse_unknown_workflow(move_workflow.workflow_id);
    ELSIF r_workflow.status NOT IN ('ENQUEUED', 'DELAYED', 'WAITING') THEN
        PERFORM lockstep._refuse_state(
            move_workflow.workflow_id, r_workflow.status, 'cannot move to another queue',
            'Only a workflow that is ENQUEUED, DELAYED or WAITING can move.'
        );
    ELSIF r_workflow.queue_name = move_workflow.queue_name THEN
        RETURN false;
    END IF;

    v_rival_id := lockstep._deduplication_rival(move_workflow.queue_name, r_workflow.deduplication_id);
    IF v_rival_id IS NOT NULL THEN
        PERFORM lockstep._refuse_rival(
            move_workflow.queue_name, r_workflow.deduplication_id, v_rival_id,
            'Move this one when that one has ended.'
        );
    END IF;

    UPDATE lockstep.workflow_status AS w
    SET queue_name = move_workflow.queue_name
    WHERE w.workflow_id = move_workflow.workflow_id;

    IF r_workflow.status = 'ENQUEUED' THEN
        PERFORM lockstep._ring_doorbell(ARRAY[move_workflow.queue_name]);
    END IF;

    RETURN true;
END
$$;
COMMENT ON FUNCTION lockstep.move_workflow(text, text) IS
    'Moves a workflow that waits to another queue; false if it is there already.';

-- sql/42_manage/move_workflows.sql

-- Moves up to max_count waiting workflows that meet a filter to another queue.
--
-- Returns the ids of those that were in another. What cannot be moved, because its
-- deduplication id is taken there, is passed over. The filter has keys as
-- list_workflows() has parameters; '{}' means all. Rows that somebody holds are skipped
-- (_change_workflows()): call it until it returns nothing.
CREATE FUNCTION lockstep.move_workflows(filter jsonb, queue_name text, max_count int DEFAULT 1000)
RETURNS SETOF text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_problem text[];
BEGIN
    IF move_workflows.queue_name IS NULL
        OR btrim(move_workflows.queue_name) = '' OR length(move_workflows.queue_name) > 512
    THEN
        v_problem := lockstep._name_problem('queue_name', move_workflows.queue_name);
        RAISE EXCEPTION '%', v_problem[1]
            USING ERRCODE = 'invalid_parameter_value', DETAIL = v_problem[2], HINT = v_problem[3];
    END IF;

    RETURN QUERY
    SELECT c.workflow_id
    FROM lockstep._change_workflows(
        'move', move_workflows.filter, move_workflows.max_count, move_workflows.queue_name
    ) AS c (workflow_id);
END
$$;
COMMENT ON FUNCTION lockstep.move_workflows(jsonb, text, int) IS
    'Moves waiting workflows that meet a filter to another queue; returns their ids.';

-- sql/42_manage/purge_workflows.sql

-- Deletes up to max_count workflows that ended longer ago than an interval.
--
-- With them go their steps, messages, events, streams and what is left of their waits.
-- Returns how many it deleted; call it until that is fewer than max_count, each time in
-- a transaction of its own, so that no call holds up vacuum or a restart. A child stays
-- while its parent, which may not have read its result yet, has not ended.
--
-- workflow_status_list_idx leads to them: of each status, queue and name the oldest first,
-- by the time they were enqueued, so that of those which ran for longer than the interval
-- more are looked at. Locks workflow rows FOR UPDATE, skipping locked ones, among them those
-- that record_step() in an open transaction holds (FOR KEY SHARE), and then waits for the
-- other writes of the executors that ran them (_await_writes()). So no step is left.
CREATE FUNCTION lockstep.purge_workflows(older_than interval, max_count int DEFAULT 1000)
RETURNS int
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $$
DECLARE
    v_ended_before timestamptz;
    v_ids text[] := ARRAY[]::text[];
    r_kind record;
BEGIN
    IF purge_workflows.older_than IS NULL
        OR purge_workflows.older_than NOT BETWEEN interval '0' AND interval '1000 years'
    THEN
        RAISE EXCEPTION 'older_than must not be negative, nor over 1000 years'
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = format('It is %s.', coalesce(purge_workflows.older_than::text, 'null')),
                  HINT = 'Pass how long workflows are kept after they ended, as interval ''30 days''.';
    END IF;
    PERFORM lockstep._checked_filter('{}', purge_workflows.max_count);
    v_ended_before := clock_timestamp() - purge_workflows.older_than;

    FOR r_kind IN
        WITH RECURSIVE kind AS (
            SELECT f.status, f.queue_name, f.workflow_name
            FROM unnest(ARRAY['SUCCESS', 'ERROR', 'CANCELLED', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED']) AS s (status)
            CROSS JOIN LATERAL (
                SELECT w.status, w.queue_name, w.workflow_name
                FROM lockstep.workflow_status AS w
                WHERE (w.status <> 'PENDING') IS TRUE
                    AND w.status = s.status
                ORDER BY w.status, w.queue_name, w.workflow_name
                LIMIT 1
            ) AS f
            UNION ALL
            SELECT n.status, n.queue_name, n.workflow_name
            FROM kind AS k
            CROSS JOIN LATERAL (
                SELECT w.status, w.queue_name, w.workflow_name
                FROM lockstep.workflow_status AS w
                WHERE (w.status <> 'PENDING') IS TRUE
                    AND w.status = k.status
                    AND (w.queue_name, w.workflow_name) > (k.queue_name, k.workflow_name)
                ORDER BY w.status, w.queue_name, w.workflow_name
                LIMIT 1
            ) AS n
        )

        SELECT k.status, k.queue_name, k.workflow_name
        FROM kind AS k
    LOOP
        v_ids := v_ids || ARRAY(
            SELECT w.workflow_id
            FROM lockstep.workflow_status AS w
            WHERE (w.status <> 'PENDING') IS TRUE
                AND w.status = r_kind.status
                AND w.queue_name = r_kind.queue_name
                AND w.workflow_name = r_kind.workflow_name
                AND w.created_at <= v_ended_before
                AND w.completed_at <= v_ended_before
                AND NOT EXISTS (
                    SELECT
                    FROM lockstep.workflow_status AS p
                    WHERE p.workflow_id = w.parent_workflow_id
                        AND p.completed_at IS NULL
                )
            ORDER BY w.created_at
            LIMIT purge_workflows.max_count - cardinality(v_ids)
            FOR UPDATE OF w SKIP LOCKED
        );
        EXIT WHEN cardinality(v_ids) = purge_workflows.max_count;
    END LOOP;

    PERFORM lockstep._await_writes(v_ids);

    -- a workflow that stopped waiting may have left its entry with what it waited for
    DELETE FROM lockstep.waiter AS e
    USING lockstep.operation_outputs AS o
    WHERE o.workflow_id = ANY (v_ids)
        AND o.child_workflow_id IS NOT NULL
        AND e.awaited_id = ANY (ARRAY[o.child_workflow_id])
        AND NOT e.is_client
        AND e.waiter = o.workflow_id;

    DELETE FROM lockstep.waiter AS e WHERE e.awaited_id = ANY (v_ids);
    DELETE FROM lockstep.operation_outputs AS o WHERE o.workflow_id = ANY (v_ids);
    DELETE FROM lockstep.workflow_events AS v WHERE v.workflow_id = ANY (v_ids);
    DELETE FROM lockstep.workflow_streams AS s WHERE s.workflow_id = ANY (v_ids);
    DELETE FROM lockstep.notifications AS n WHERE n.destination_id = ANY (v_ids) AND n.consumed_at IS NULL;
    DELETE FROM lockstep.notifications AS n WHERE n.destination_id = ANY (v_ids) AND n.consumed_at IS NOT NULL;
    DELETE FROM lockstep.workflow_status AS w WHERE w.workflow_id = ANY (v_ids);

    RETURN cardinality(v_ids);
END
$$;
COMMENT ON FUNCTION lockstep.purge_workflows(interval, int) IS
    'Deletes workflows that ended longer ago than an interval, with all that they recorded.';

-- sql/42_manage/restart_workflow.sql

-- Enqueues a workflow that has ended again, to run from its beginning.
--
-- It keeps its id, arguments and created_at. What it recorded is deleted: steps, events
-- and streams; the messages that it received are unread again, and come first. Attempts
-- count on from where they were, with room for as many more as before: they are part of
-- the fence, so an attempt that still runs somewhere cannot write any more. Failures count
-- anew; a timeout runs from the new start, and a deadline that has passed is lifted.
-- Children that were started under a generated id are started anew; those with an id
-- of their own are found, with the result they have.
--
-- Refuses with 55000 a workflow that has not ended, or whose compensation has not; with
-- 23505 one whose deduplication id is taken.
--
-- Locks the workflow row FOR UPDATE, which waits for record_step() (FOR KEY SHARE), and
-- then waits for the other writes of its executor (_await_writes()). So no step of the old
-- run appears after the steps were deleted.
CREATE FUNCTION lockstep.restart_workflow(workflow_id text)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_problem text[];
    r_workflow record;
BEGIN
    SELECT w.status, w.completed_at, lockstep._is_cancelled_here(w) AS is_cancelled_here
    INTO r_workflow
    FROM lockstep.workflow_status AS w
    WHERE w.workflow_id = restart_workflow.workflow_id
    FOR UPDATE;

    IF NOT FOUND THEN
        PERFORM lockstep._refuse_unknown_workflow(restart_workflow.workflow_id);
    ELSIF r_workflow.completed_at IS NULL THEN
        PERFORM lockstep._refuse_state(
            restart_workflow.workflow_id, r_workflow.status, 'cannot become ENQUEUED',
            'Only a workflow that has ended can be restarted; cancel it first.'
        );
    ELSIF r_workflow.is_cancelled_here THEN
        PERFORM lockstep._refuse_state(
            restart_workflow.workflow_id, r_workflow.status,
            'cannot become ENQUEUED in the transaction that cancelled it while it ran',
            'Commit, then restart it.'
        );
    END IF;

    v_problem := lockstep._rerun_problem(restart_workflow.workflow_id, false);
    IF v_problem IS NOT NULL THEN
        RAISE EXCEPTION '%', v_problem[2]
            USING ERRCODE = v_problem[1], DETAIL = v_problem[3], HINT = v_problem[4];
    END IF;

    PERFORM lockstep._restart(restart_workflow.workflow_id);
END
$$;
COMMENT ON FUNCTION lockstep.restart_workflow(text) IS
    'Enqueues a workflow that has ended again, to run from its beginning.';

-- sql/42_manage/restart_workflows.sql

-- Restarts up to max_count workflows that meet a filter, as restart_workflow() does.
--
-- Returns their ids. What cannot be restarted, because its compensation has not ended or
-- its deduplication id is taken, is passed over. The filter has keys as list_workflows()
-- has parameters; '{}' means all. Rows that somebody holds are skipped
-- (_change_workflows()): call it until it returns nothing.
CREATE FUNCTION lockstep.restart_workflows(filter jsonb, max_count int DEFAULT 1000)
RETURNS SETOF text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    SELECT c.workflow_id
    FROM lockstep._change_workflows('restart', restart_workflows.filter, restart_workflows.max_count) AS c (workflow_id);
END
$$;
COMMENT ON FUNCTION lockstep.restart_workflows(jsonb, int) IS
    'Restarts workflows that meet a filter; returns their ids.';

-- sql/42_manage/resume_workflows.sql

-- Resumes up to max_count workflows that meet a filter, as resume_workflow() does.
--
-- Returns their ids. What cannot be resumed, because it was compensated or its
-- deduplication id is taken, is passed over. The filter has keys as list_workflows() has
-- parameters; '{}' means all. Rows that somebody holds are skipped
-- (_change_workflows()): call it until it returns nothing.
CREATE FUNCTION lockstep.resume_workflows(filter jsonb, max_count int DEFAULT 1000)
RETURNS SETOF text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    SELECT c.workflow_id
    FROM lockstep._change_workflows('resume', resume_workflows.filter, resume_workflows.max_count) AS c (workflow_id);
END
$$;
COMMENT ON FUNCTION lockstep.resume_workflows(jsonb, int) IS
    'Resumes workflows that meet a filter; returns their ids.';

-- sql/42_manage/set_priorities.sql

-- Changes the priority of up to max_count waiting workflows that meet a filter.
--
-- Returns the ids of those that had another. The filter has keys as list_workflows() has
-- parameters; '{}' means all. Rows that somebody holds are skipped
-- (_change_workflows()): call it until it returns nothing.
CREATE FUNCTION lockstep.set_priorities(filter jsonb, priority int, max_count int DEFAULT 1000)
RETURNS SETOF text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF set_priorities.priority IS NULL OR set_priorities.priority < 0 THEN
        RAISE EXCEPTION 'priority must be 0 or greater'
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = format('It is %s.', coalesce(set_priorities.priority::text, 'null')),
                  HINT = '0 runs first, then 1, 2 and so on.';
    END IF;

    RETURN QUERY
    SELECT c.workflow_id
    FROM lockstep._change_workflows(
        'priority', set_priorities.filter, set_priorities.max_count, set_priorities.priority::text
    ) AS c (workflow_id);
END
$$;
COMMENT ON FUNCTION lockstep.set_priorities(jsonb, int, int) IS
    'Changes the priority of waiting workflows that meet a filter; returns their ids.';

-- sql/42_manage/set_priority.sql

-- Changes the priority of a workflow that waits: 0 runs first, then 1, 2 and so on.
--
-- Returns true; false if it has that priority already. One that runs, or has ended,
-- is refused with 55000.
--
-- Locks the workflow row: a claim that came first has made it PENDING and the call
-- fails; one that comes later skips the row and finds it at its new place.
CREATE FUNCTION lockstep.set_priority(workflow_id text, priority int)
RETURNS boolean
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r_workflow record;
BEGIN
    IF set_priority.priority IS NULL OR set_priority.priority < 0 THEN
        RAISE EXCEPTION 'priority must be 0 or greater'
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = format('It is %s.', coalesce(set_priority.priority::text, 'null')),
                  HINT = '0 runs first, then 1, 2 and so on.';
    END IF;

    SELECT w.status, w.priority
    INTO r_workflow
    FROM lockstep.workflow_status AS w
    WHERE w.workflow_id = set_priority.workflow_id
    FOR NO KEY UPDATE;

    IF NOT FOUND THEN
        PERFORM lockstep._refuse_unknown_workflow(set_priority.workflow_id);
    ELSIF r_workflow.status NOT IN ('ENQUEUED', 'DELAYED', 'WAITING') THEN
        PERFORM lockstep._refuse_state(
            set_priority.workflow_id, r_workflow.status, 'its priority cannot change',
            'Only a workflow that is ENQUEUED, DELAYED or WAITING can change its priority.'
        );
    ELSIF r_workflow.priority = set_priority.priority THEN
        RETURN false;
    END IF;

    UPDATE lockstep.workflow_status AS w
    SET priority = set_priority.priority
    WHERE w.workflow_id = set_priority.workflow_id;

    RETURN true;
END
$$;
COMMENT ON FUNCTION lockstep.set_priority(text, int) IS
    'Changes the priority of a workflow that waits; false if it has that priority already.';

-- sql/45_executor/heartbeat.sql

-- Extends an executor's lease and says whether it is idle.
--
-- An idle executor is notified of new work on channel "lockstep". Returns the
-- names of waiting workflows that no live executor of their queue can run,
-- looking at the first 100 of each of the executor's queues, so that a name
-- nobody registered does not wait unseen.
--
-- Updates no key column: writers, which hold the row FOR KEY SHARE, do not
-- wait for it. An ended lease that nobody took over yet is revived; one that
-- was declared dead, or has outlived a failover, raises WF001.
CREATE FUNCTION lockstep.heartbeat(
    executor_id text,
    is_idle boolean DEFAULT false,
    looks_for_unserved boolean DEFAULT true
)
RETURNS SETOF text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
-- a plan that seqscans all the same costs so much on paper that it would be compiled
SET jit = off
AS $$
DECLARE
    r_executor record;
BEGIN
    UPDATE lockstep.executor AS e
    SET
        expires_at = clock_timestamp() + e.lease_duration,
        is_idle = coalesce(heartbeat.is_idle, false),
        server_started_at = pg_postmaster_start_time()
    WHERE e.executor_id = heartbeat.executor_id
        AND lockstep._is_alive(e)
    RETURNING e.queues, e.workflow_names
    INTO r_executor;

    IF NOT FOUND THEN
        PERFORM lockstep._hold_executor(heartbeat.executor_id);
    END IF;

    IF NOT heartbeat.looks_for_unserved THEN
        RETURN;
    END IF;

    RETURN QUERY
    SELECT DISTINCT waiting.workflow_name
    FROM unnest(r_executor.queues) AS q (queue_name)
    CROSS JOIN LATERAL (
        SELECT w.workflow_name
        FROM lockstep.workflow_status AS w
        WHERE w.queue_name = q.queue_name
            AND w.status = 'ENQUEUED'
        ORDER BY w.priority, w.available_at
        LIMIT 100
    ) AS waiting
    WHERE waiting.workflow_name <> ALL (r_executor.workflow_names)
        AND NOT EXISTS (
            SELECT
            FROM lockstep.executor AS e
            WHERE q.queue_name = ANY (e.queues)
                AND waiting.workflow_name = ANY (e.workflow_names)
                AND e.expires_at > clock_timestamp()
        );
END
$$;
COMMENT ON FUNCTION lockstep.heartbeat(text, boolean, boolean) IS
    'Extends an executor''s lease; returns names of waiting workflows that nobody can run.';

-- sql/45_executor/reconcile_workflows.sql

-- Hands back what an executor holds and its worker does not run, after a lost connection.
--
-- A claim whose answer never arrived would be stuck else. keep_ids: what the worker runs;
-- connection_number: how many connections it has made. Returns the number handed back; their
-- attempt is not counted.
--
-- A request that was under way on an earlier connection may come late. It knows nothing of what
-- was claimed and recorded since, and its executor and attempt may be those of what runs now. From
-- this commit on it does nothing: neither a reconciliation, nor a call of advance_workflows(), which
-- holds the executor row before it looks at the number.
--
-- Lock order: as release_workflows(). FOR UPDATE comes before the UPDATE: a claim under way holds the
-- row FOR KEY SHARE, may update it as well, and would wait for a weaker lock that waits for it.
CREATE FUNCTION lockstep.reconcile_workflows(
    executor_id text,
    connection_number int,
    keep_ids text[] DEFAULT '{}'
)
RETURNS int
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '1s'
AS $$
BEGIN
    PERFORM
    FROM lockstep.executor AS e
    WHERE e.executor_id = reconcile_workflows.executor_id
        AND e.connection_number <= reconcile_workflows.connection_number
    FOR UPDATE;

    IF NOT FOUND THEN
        RETURN 0;
    END IF;

    UPDATE lockstep.executor AS e
    SET connection_number = reconcile_workflows.connection_number
    WHERE e.executor_id = reconcile_workflows.executor_id;

    RETURN lockstep.release_workflows(reconcile_workflows.executor_id, reconcile_workflows.keep_ids);
END
$$;
COMMENT ON FUNCTION lockstep.reconcile_workflows(text, int, text[]) IS
    'Hands back what an executor holds and its worker does not run, after a lost connection.';

-- sql/45_executor/recover_workflows.sql

-- Puts back what dead executors held; any worker may call it at any time.
--
-- Returns how many workflows it put back, with the seconds until the next
-- lease ends, NULL when there is none. A workflow whose executor died under it
-- max_attempts times goes to the dead letter; from the fourth death on it also
-- waits before it runs again, 1 s, 2 s, 4 s and so on up to a minute, so that
-- a workflow which kills its worker cannot spin. An executor from before a failover or a
-- restore is ended at once (_is_alive()), and no death is counted: nothing that it ran did that.
--
-- A lease that ends later than its length from now was given before the clock was set
-- back. It is cut to that length, or a dead executor's would last until the clock is there
-- again. And who was not heard since the server started has the length of its lease from then:
-- after an outage longer than all leases, whoever came back first would declare the others dead.
--
-- First the lease is ended for good: -infinity, under FOR UPDATE, which no
-- write of the executor survives (_hold_executor). Its workflows follow; one
-- that a client holds locked is skipped and found again by a later call, as the
-- executor row goes only when it holds nothing, and so is one that goes to the dead
-- letter while the row of who waits for it is locked. Lock order: executor rows, then
-- workflow rows, skipping locked ones of both.
CREATE FUNCTION lockstep.recover_workflows(
    OUT recovered_count int,
    OUT next_expiry_in double precision
)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    v_now constant timestamptz := clock_timestamp();
    v_moved_count int;
    v_dead text[];
    v_queues text[];
    v_held text[];
    v_given_up text[];
    v_blocked text[];
BEGIN
    -- more than a second, because heartbeats come after v_now
    UPDATE lockstep.executor AS e
    SET expires_at = v_now + e.lease_duration
    WHERE e.executor_id = ANY (
        ARRAY(
            SELECT l.executor_id
            FROM lockstep.executor AS l
            WHERE l.expires_at > v_now + l.lease_duration + interval '1 s'
            FOR NO KEY UPDATE SKIP LOCKED
        )
    );

    SELECT sum(lockstep.unregister_executor(m.executor_id))::int
    INTO v_moved_count
    FROM (
        SELECT e.executor_id
        FROM lockstep.executor AS e
        WHERE e.expires_at > '-infinity'
            AND NOT lockstep._is_alive(e)
        FOR UPDATE SKIP LOCKED
    ) AS m;

    v_dead := ARRAY(
        SELECT e.executor_id
        FROM lockstep.executor AS e
        WHERE e.expires_at <= v_now
            AND (
                e.expires_at = '-infinity'
                OR coalesce(e.server_started_at = pg_postmaster_start_time(), true)
                OR v_now - pg_postmaster_start_time() NOT BETWEEN interval '0' AND e.lease_duration
            )
        FOR UPDATE SKIP LOCKED
    );

    IF cardinality(v_dead) > 0 THEN
        UPDATE lockstep.executor AS e
        SET expires_at = '-infinity', is_idle = false
        WHERE e.executor_id = ANY (v_dead)
            AND e.expires_at > '-infinity';

        SELECT
            array_agg(h.workflow_id),
            coalesce(array_agg(h.workflow_id) FILTER (WHERE h.is_last_attempt), '{}')
        INTO v_held, v_given_up
        FROM (
            SELECT w.workflow_id, w.attempts >= w.max_attempts AS is_last_attempt
            FROM lockstep.workflow_status AS w
            WHERE w.status = 'PENDING'
                AND w.executor_id = ANY (v_dead)
            FOR NO KEY UPDATE SKIP LOCKED
        ) AS h;

        v_blocked := lockstep._awaited_by_held(v_given_up);

        WITH recovered AS (
            UPDATE lockstep.workflow_status AS w
            SET
                status = CASE
                    WHEN w.attempts >= w.max_attempts THEN 'MAX_RECOVERY_ATTEMPTS_EXCEEDED'
                    WHEN w.attempts > 3 THEN 'DELAYED'
                    ELSE 'ENQUEUED'
                END,
                error = CASE
                    WHEN w.attempts >= w.max_attempts
                        THEN lockstep._error_document(
                            'MaxRecoveryAttemptsExceeded',
                            format('its executor died under each of its %s attempts', w.attempts)
                        )
                    ELSE w.error
                END,
                completed_at = CASE WHEN w.attempts >= w.max_attempts THEN v_now END,
                available_at = CASE
                    WHEN w.attempts > 3
                        THEN v_now + least(interval '1 s' * 2 ^ least(w.attempts - 4, 10), interval '1 min')
                    ELSE v_now
                END,
                executor_id = CASE WHEN w.attempts >= w.max_attempts THEN w.executor_id END
            FROM unnest(v_held) AS h (workflow_id)
            WHERE w.workflow_id = ANY (ARRAY[h.workflow_id])
                AND w.workflow_id <> ALL (v_blocked)
            RETURNING w.workflow_id, w.queue_name, w.completed_at IS NOT NULL AS is_given_up
        )

        SELECT
            count(*)::int, array_agg(DISTINCT r.queue_name),
            array_agg(r.workflow_id) FILTER (WHERE r.is_given_up)
        INTO recovered_count, v_queues, v_given_up
        FROM recovered AS r;

        DELETE FROM lockstep.executor AS e
        WHERE e.executor_id = ANY (v_dead)
            AND NOT EXISTS (
                SELECT
                FROM lockstep.workflow_status AS w
                WHERE w.status = 'PENDING'
                    AND w.executor_id = e.executor_id
            );

        IF v_given_up IS NOT NULL THEN
            PERFORM lockstep._settle_ended(v_given_up, v_given_up);
        END IF;

        IF v_queues IS NOT NULL THEN
            PERFORM lockstep._ring_doorbell(v_queues);
        END IF;
    END IF;

    recovered_count := coalesce(recovered_count, 0) + coalesce(v_moved_count, 0);

    -- an executor that could not be dealt with now is looked at again in a second
    SELECT extract(EPOCH FROM min(greatest(e.expires_at, v_now + interval '1 s')) - v_now)::double precision
    INTO next_expiry_in
    FROM lockstep.executor AS e;
END
$$;
COMMENT ON FUNCTION lockstep.recover_workflows() IS
    'Puts back what dead executors held.';

-- sql/45_executor/register_executor.sql

-- Registers a worker process and returns its executor id.
--
-- The id is new at each call: a worker whose lease ended registers again and
-- starts with nothing.
CREATE FUNCTION lockstep.register_executor(
    queues text[],
    workflow_names text[],
    lease_duration interval DEFAULT '30 seconds',
    app_version text DEFAULT NULL,
    host text DEFAULT NULL,
    pid int DEFAULT NULL,
    client_version text DEFAULT NULL,
    pins_version boolean DEFAULT false
)
RETURNS text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_executor_id constant text := lockstep._generate_id();
    v_timeline int;
    v_system_id bigint;
BEGIN
    IF coalesce(cardinality(register_executor.queues), 0) = 0 THEN
        RAISE EXCEPTION 'queues must name at least one queue'
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Pass the queues that the worker claims from.';
    ELSIF register_executor.lease_duration IS NULL
        OR register_executor.lease_duration NOT BETWEEN interval '1 s' AND interval '1 day'
    THEN
        RAISE EXCEPTION 'lease_duration must be between 1 second and 1 day, not %',
            coalesce(register_executor.lease_duration::text, 'null')
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'A dead worker''s workflows run elsewhere when its lease has ended.';
    ELSIF register_executor.pins_version AND register_executor.app_version IS NULL THEN
        RAISE EXCEPTION 'pins_version needs an app_version'
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Pass the version that started workflows shall stay with.';
    END IF;

    IF EXISTS (SELECT FROM lockstep.tenant_isolation)
        AND NOT (SELECT c.relrowsecurity FROM pg_class AS c WHERE c.oid = 'lockstep.workflow_status'::regclass)
    THEN
        PERFORM lockstep._switch_row_security(true);  -- after a restore
    END IF;

    -- a server whose storage is not Postgres' own, such as Aurora, does not tell, or only with
    -- wal_level = logical; its failover loses no commit
    BEGIN
        v_timeline := lockstep._timeline();
    EXCEPTION
        WHEN feature_not_supported OR object_not_in_prerequisite_state THEN
            v_timeline := NULL;
    END;

    BEGIN
        v_system_id := lockstep._system_id();
    EXCEPTION
        WHEN feature_not_supported OR insufficient_privilege THEN
            v_system_id := NULL;
    END;

    INSERT INTO lockstep.executor (
        executor_id, queues, workflow_names, app_version, pins_version, host, pid, client_version,
        lease_duration, expires_at, timeline, table_id, system_id, server_started_at
    )
    VALUES (
        v_executor_id,
        ARRAY(SELECT DISTINCT q.queue_name FROM unnest(register_executor.queues) AS q (queue_name)),
        coalesce(register_executor.workflow_names, '{}'), register_executor.app_version,
        coalesce(register_executor.pins_version, false),
        register_executor.host, register_executor.pid, register_executor.client_version,
        register_executor.lease_duration,
        clock_timestamp() + register_executor.lease_duration,
        v_timeline,
        'lockstep.executor'::regclass,
        v_system_id,
        pg_postmaster_start_time()
    );

    RETURN v_executor_id;
END
$$;
COMMENT ON FUNCTION lockstep.register_executor(text[], text[], interval, text, text, int, text, boolean) IS
    'Registers a worker process and returns its executor id.';

-- sql/45_executor/release_workflows.sql

-- Hands back the workflows of an executor, except those that it keeps.
--
-- A clean stop keeps none, and other workers go on at once; for a lost connection there is
-- reconcile_workflows(). Returns the number handed back; their attempt is not counted.
--
-- Lock order: the executor row (FOR UPDATE: waits for a claim under way on a
-- dead connection, for up to a second), then workflow rows, skipping locked
-- ones: what a client holds stays with the executor.
CREATE FUNCTION lockstep.release_workflows(executor_id text, keep_ids text[] DEFAULT '{}')
RETURNS int
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
SET lock_timeout = '1s'
AS $$
DECLARE
    v_now constant timestamptz := clock_timestamp();
    v_released_count int;
    v_queues text[];
BEGIN
    PERFORM
    FROM lockstep.executor AS e
    WHERE e.executor_id = release_workflows.executor_id
    FOR UPDATE;

    WITH held AS MATERIALIZED (
        SELECT w.workflow_id
        FROM lockstep.workflow_status AS w
        WHERE w.status = 'PENDING'
            AND w.executor_id = release_workflows.executor_id
            AND w.workflow_id <> ALL (release_workflows.keep_ids)
        FOR NO KEY UPDATE SKIP LOCKED
    ),

    released AS (
        UPDATE lockstep.workflow_status AS w
        SET
            status = 'ENQUEUED',
            executor_id = NULL,
            attempts = w.attempts - 1,
            available_at = v_now
        FROM held AS h
        WHERE w.workflow_id = ANY (ARRAY[h.workflow_id])
        RETURNING w.queue_name
    )

    SELECT count(*)::int, array_agg(DISTINCT r.queue_name)
    INTO v_released_count, v_queues
    FROM released AS r;

    IF v_released_count > 0 THEN
        PERFORM lockstep._ring_doorbell(v_queues);
    END IF;

    RETURN v_released_count;
END
$$;
COMMENT ON FUNCTION lockstep.release_workflows(text, text[]) IS
    'Hands back the workflows of an executor, except those that it keeps.';

-- sql/45_executor/unregister_executor.sql

-- Ends an executor: hands back what it still holds and removes it.
--
-- What a client holds locked at this moment is left to recover_workflows(), for
-- which the lease is ended. Lock order: as release_workflows().
CREATE FUNCTION lockstep.unregister_executor(executor_id text)
RETURNS int
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_released_count int;
BEGIN
    v_released_count := lockstep.release_workflows(unregister_executor.executor_id);

    DELETE FROM lockstep.executor AS e
    WHERE e.executor_id = unregister_executor.executor_id
        AND NOT EXISTS (
            SELECT
            FROM lockstep.workflow_status AS w
            WHERE w.status = 'PENDING'
                AND w.executor_id = e.executor_id
        );

    UPDATE lockstep.executor AS e
    SET expires_at = '-infinity', is_idle = false
    WHERE e.executor_id = unregister_executor.executor_id;

    RETURN v_released_count;
END
$$;
COMMENT ON FUNCTION lockstep.unregister_executor(text) IS
    'Ends an executor; returns how many workflows it handed back.';

-- sql/50_step/await_workflows.sql

-- Looks for what steps wait for: the end of a workflow, or an event of it.
--
-- awaits: [{"workflow_id", "attempt", "step_id", "step_name", "awaited_id", "key": of
-- the event, or null for the end, "timeout": seconds or null}, …]. Returns for
-- each step one of
--   ended      the workflow's output or error, or the event's value, is recorded as the
--              step's; an error has "workflow_id" and "status" beside "type" and "message";
--   timed_out  it did not come in time, or the workflow ended without the event,
--              recorded as no output and 0 attempts;
--   waiting    not yet; remaining has the seconds left, NULL for no timeout;
--   unknown    there is no such workflow; nothing is recorded;
--   lost       the executor had lost the workflow that waits.
-- The timeout runs from the first call, whatever crashes in between; a call sent
-- twice returns the outcome of the first.
--
-- Lock order: the executor row (FOR KEY SHARE).
CREATE FUNCTION lockstep.await_workflows(executor_id text, awaits jsonb)
RETURNS TABLE (
    workflow_id text,
    step_id int,
    outcome text,
    output jsonb,
    error jsonb,
    remaining double precision
)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
SET lock_timeout = '500ms'
AS $$
#variable_conflict use_column
DECLARE
    v_now constant timestamptz := clock_timestamp();
BEGIN
    PERFORM lockstep._hold_executor(await_workflows.executor_id);

    RETURN QUERY
    WITH call AS MATERIALIZED (
        SELECT
            a.workflow_id, a.attempt, a.step_id, a.step_name, a.awaited_id, a.timeout,
            w.workflow_id IS NOT NULL AS is_known,
            lockstep._is_held(await_workflows.executor_id, a.workflow_id, a.attempt) AS is_held,
            CASE WHEN a.key IS NULL THEN w.completed_at IS NOT NULL ELSE v.workflow_id IS NOT NULL END AS has_come,
            w.completed_at IS NOT NULL OR a.timeout <= 0 AS is_over,
            CASE WHEN a.key IS NULL THEN w.output ELSE v.value END AS output,
            CASE
                WHEN a.key IS NULL AND w.completed_at IS NOT NULL AND w.status <> 'SUCCESS'
                    THEN jsonb_build_object(
                        'type', coalesce(w.error ->> 'type', ''), 'message', coalesce(w.error ->> 'message', ''),
                        'workflow_id', w.workflow_id, 'status', w.status
                    )
            END AS error
        FROM jsonb_to_recordset(await_workflows.awaits) AS a (
            workflow_id text, attempt int, step_id int, step_name text, awaited_id text, key text,
            timeout double precision
        )
        LEFT JOIN lockstep.workflow_status AS w ON w.workflow_id = ANY (ARRAY[a.awaited_id])
        LEFT JOIN lockstep.workflow_events AS v
            ON v.workflow_id = ANY (ARRAY[a.awaited_id])
            AND v.key = ANY (ARRAY[a.key])
    ),

    recorded AS (
        INSERT INTO lockstep.operation_outputs AS o (
            workflow_id, step_id, step_name, output, error, attempts, started_at, completed_at,
            available_at, child_workflow_id
        )
        SELECT
            c.workflow_id, c.step_id, c.step_name, CASE WHEN c.error IS NULL THEN c.output END, c.error,
            CASE WHEN c.has_come THEN 1 ELSE 0 END, v_now,
            CASE WHEN c.has_come OR c.is_over THEN v_now END,
            v_now + make_interval(secs => c.timeout), c.awaited_id
        FROM call AS c
        WHERE c.is_held AND c.is_known
        ON CONFLICT (workflow_id, step_id) DO UPDATE
        SET
            output = excluded.output,
            error = excluded.error,
            attempts = excluded.attempts,
            available_at = coalesce(o.available_at, excluded.available_at),
            completed_at = CASE
                WHEN excluded.completed_at IS NOT NULL OR o.available_at <= v_now THEN v_now
            END
        WHERE o.completed_at IS NULL
            AND (
                excluded.completed_at IS NOT NULL
                OR o.available_at <= v_now
                OR (o.available_at IS NULL AND excluded.available_at IS NOT NULL)
            )
        RETURNING o.workflow_id, o.step_id, o.output, o.error, o.attempts, o.completed_at, o.available_at
    ),

    -- as it was before the call, where the call changed nothing
    unchanged AS (
        SELECT o.workflow_id, o.step_id, o.output, o.error, o.attempts, o.completed_at, o.available_at
        FROM call AS c
        INNER JOIN lockstep.operation_outputs AS o
            ON o.workflow_id = ANY (ARRAY[c.workflow_id])
            AND o.step_id = ANY (ARRAY[c.step_id])
        WHERE NOT EXISTS (
            SELECT
            FROM recorded AS r
            WHERE r.workflow_id = o.workflow_id AND r.step_id = o.step_id
        )
    )

    SELECT
        c.workflow_id, c.step_id,
        CASE
            WHEN NOT c.is_held THEN 'lost'
            WHEN s.completed_at IS NOT NULL THEN CASE WHEN s.attempts > 0 THEN 'ended' ELSE 'timed_out' END
            WHEN NOT c.is_known THEN 'unknown'
            ELSE 'waiting'
        END,
        s.output, s.error,
        CASE
            -- greatest() passes over NULL, which is no limit and not none left
            WHEN s.completed_at IS NULL AND s.available_at IS NOT NULL
                THEN greatest(extract(EPOCH FROM s.available_at - v_now), 0)::double precision
        END
    FROM call AS c
    LEFT JOIN (
        SELECT r.* FROM recorded AS r
        UNION ALL
        SELECT u.* FROM unchanged AS u
    ) AS s ON s.workflow_id = c.workflow_id AND s.step_id = c.step_id;
END
$$;
COMMENT ON FUNCTION lockstep.await_workflows(text, jsonb) IS
    'Looks for what steps wait for: the end of a workflow, or an event of it.';

-- sql/50_step/get_step.sql

-- Reads the recorded outcome of a step, for a worker that cannot know whether
-- its own COMMIT arrived. No row while the step is not finished.
CREATE FUNCTION lockstep.get_step(
    workflow_id text,
    step_id int,
    OUT step_name text,
    OUT output jsonb,
    OUT error jsonb
)
RETURNS SETOF record
LANGUAGE sql
STABLE
SECURITY DEFINER
BEGIN ATOMIC
    SELECT o.step_name, o.output, o.error
    FROM lockstep.operation_outputs AS o
    WHERE o.workflow_id = get_step.workflow_id
        AND o.step_id = get_step.step_id
        AND o.completed_at IS NOT NULL;
END;
COMMENT ON FUNCTION lockstep.get_step(text, int) IS
    'Reads the recorded outcome of a step.';

-- sql/50_step/record_step.sql

-- Records the outcome of one step inside the transaction that did its work.
--
-- The writes of the step and its checkpoint commit together: exactly once,
-- whatever crashes when. Call it last, just before COMMIT. Raises WF001 when
-- the workflow is another executor's now, WF002 when it was cancelled, and
-- WF004 when the step is recorded already (read it with get_step()); each of
-- them rolls the step's writes back.
--
-- Locks the new row, and the workflow row FOR KEY SHARE, which only restart_workflow()
-- and purge_workflows() wait for or skip: they delete steps, and must not miss one. So a
-- client that stops before its COMMIT does not hold up recovery, and lets the server
-- end the transaction when the COMMIT does not come within five seconds. The primary
-- key closes the race with a successor: of two transactions that record one step, the
-- second waits here for the first and then fails.
CREATE FUNCTION lockstep.record_step(
    executor_id text,
    workflow_id text,
    attempt int,
    step_id int,
    step_name text,
    output jsonb DEFAULT NULL,
    attempts int DEFAULT 1,
    duration double precision DEFAULT 0
)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- the plan must stay at the primary keys, also if it was made when the tables were empty
SET enable_seqscan = off
SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    v_now constant timestamptz := clock_timestamp();
    v_status text;
BEGIN
    -- only COMMIT follows: a client that stops before it must not hold up its successor
    PERFORM set_config('idle_in_transaction_session_timeout', '5s', true);

    INSERT INTO lockstep.operation_outputs AS o (
        workflow_id, step_id, step_name, output, attempts, started_at, completed_at
    )
    SELECT
        w.workflow_id, record_step.step_id, record_step.step_name, record_step.output,
        record_step.attempts, v_now - make_interval(secs => record_step.duration), v_now
    FROM lockstep.workflow_status AS w
    INNER JOIN lockstep.executor AS e ON e.executor_id = w.executor_id
    WHERE w.workflow_id = record_step.workflow_id
        AND (w.status, w.executor_id, w.attempts)
        IS NOT DISTINCT FROM ('PENDING', record_step.executor_id, record_step.attempt)
        AND lockstep._is_alive(e)
    FOR KEY SHARE OF w
    ON CONFLICT (workflow_id, step_id) DO UPDATE
    SET
        output = excluded.output,
        error = NULL,
        attempts = excluded.attempts,
        started_at = excluded.started_at,
        completed_at = excluded.completed_at
    WHERE o.completed_at IS NULL;

    IF FOUND THEN
        RETURN;
    END IF;

    IF lockstep._is_held(record_step.executor_id, record_step.workflow_id, record_step.attempt)
        AND EXISTS (
            SELECT
            FROM lockstep.executor AS e
            WHERE e.executor_id = record_step.executor_id
                AND lockstep._is_alive(e)
        )
    THEN
        RAISE EXCEPTION 'step % of workflow "%" is recorded already', record_step.step_id, record_step.workflow_id
            USING ERRCODE = 'WF004',
                  HINT = 'Roll back and take the recorded outcome from get_step().';
    END IF;

    SELECT w.status
    INTO v_status
    FROM lockstep.workflow_status AS w
    WHERE w.workflow_id = record_step.workflow_id;

    IF v_status = 'CANCELLED' THEN
        RAISE EXCEPTION 'workflow "%" was cancelled', record_step.workflow_id
            USING ERRCODE = 'WF002', HINT = 'Roll back and drop the workflow.';
    END IF;

    RAISE EXCEPTION 'executor "%" has lost workflow "%"', record_step.executor_id, record_step.workflow_id
        USING ERRCODE = 'WF001',
              DETAIL = format('The workflow is %s.', coalesce(v_status, 'gone')),
              HINT = 'Roll back and drop the workflow.';
END
$$;
COMMENT ON FUNCTION lockstep.record_step(text, text, int, int, text, jsonb, int, double precision) IS
    'Records the outcome of one step inside the transaction that did its work.';

-- sql/50_step/record_steps.sql

-- Records the outcomes of steps, in one statement however many there are.
--
-- steps: [{"workflow_id", "attempt", "step_id", "step_name", "output" or
-- "error", "attempts", "duration": seconds}, …]. Returns the ids of workflows
-- that the executor had lost, whose steps are not recorded. A step recorded
-- before stays as it is, so a call whose answer was cut off can be sent again.
--
-- Lock order: the executor row (FOR KEY SHARE). The workflow rows are read, not
-- locked: the executor's lease keeps takeovers out, and a cancellation that
-- commits at the same moment is met at the next step. Not so where an undo step is
-- registered: the cancellation must come before, and the record fails, or after, and
-- find what to undo (_enqueue_compensations()). There the rows are locked FOR SHARE.
CREATE FUNCTION lockstep.record_steps(executor_id text, steps jsonb)
RETURNS SETOF text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '500ms'
AS $$
#variable_conflict use_column
DECLARE
    v_now constant timestamptz := clock_timestamp();
    v_recorded_count int;
BEGIN
    PERFORM lockstep._hold_executor(record_steps.executor_id);

    IF record_steps.steps @> '[{"step_name": "compensate"}]' THEN
        PERFORM
        FROM lockstep.workflow_status AS w
        WHERE w.workflow_id = ANY (
            ARRAY(
                SELECT s.workflow_id
                FROM jsonb_to_recordset(record_steps.steps) AS s (workflow_id text, step_name text)
                WHERE s.step_name = 'compensate'
            )
        )
        ORDER BY w.workflow_id
        FOR SHARE;
    END IF;

    INSERT INTO lockstep.operation_outputs AS o (
        workflow_id, step_id, step_name, output, error, attempts, started_at, completed_at
    )
    SELECT
        s.workflow_id, s.step_id, s.step_name, s.output, s.error, coalesce(s.attempts, 1),
        v_now - make_interval(secs => coalesce(s.duration, 0)), v_now
    FROM jsonb_to_recordset(record_steps.steps) AS s (
        workflow_id text, attempt int, step_id int, step_name text,
        output jsonb, error jsonb, attempts int, duration double precision
    )
    INNER JOIN lockstep.workflow_status AS w ON w.workflow_id = ANY (ARRAY[s.workflow_id])
    WHERE (w.status, w.executor_id, w.attempts)
        IS NOT DISTINCT FROM ('PENDING', record_steps.executor_id, s.attempt)
    ON CONFLICT (workflow_id, step_id) DO UPDATE
    SET
        output = excluded.output,
        error = excluded.error,
        attempts = excluded.attempts,
        -- a sleep began with its timer, which made no attempt
        started_at = CASE WHEN o.attempts = 0 THEN o.started_at ELSE excluded.started_at END,
        completed_at = excluded.completed_at
    WHERE o.completed_at IS NULL;

    GET DIAGNOSTICS v_recorded_count = ROW_COUNT;

    IF v_recorded_count < jsonb_array_length(record_steps.steps) THEN
        RETURN QUERY
        SELECT DISTINCT s.workflow_id
        FROM jsonb_to_recordset(record_steps.steps) AS s (workflow_id text, attempt int)
        WHERE NOT lockstep._is_held(record_steps.executor_id, s.workflow_id, s.attempt);
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep.record_steps(text, jsonb) IS
    'Records the outcomes of steps; returns the ids of workflows that the executor had lost.';

-- sql/50_step/start_children.sql

-- Starts workflows as children of others, each recorded as a step of its parent.
--
-- children: [{"workflow_id", "attempt", "step_id", "step_name", "workflow_name",
-- "queue_name", "inputs", "is_awaited", and any of "child_id", "priority",
-- "queue_partition_key", "delay": seconds, "run_at", "timeout": seconds, "deadline",
-- "app_version", "max_attempts", "headers", "retries"}, …]. Returns the id of each child; none for
-- workflows that the executor had lost. The step and the child's row commit
-- together, so a replay, and a call sent twice, starts none again. With is_awaited
-- the step stays open for the child's result, which await_workflows() records. A
-- child_id that a workflow of the same name and queue has means that workflow. A
-- child has its parent's deadline, unless its own comes first.
--
-- Lock order: the executor row (FOR KEY SHARE), then the parents' rows by id, FOR
-- SHARE: a cancellation of the parent comes before, and the start fails, or after,
-- and finds the child.
CREATE FUNCTION lockstep.start_children(executor_id text, children jsonb)
RETURNS TABLE (workflow_id text, step_id int, child_id text)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '500ms'
AS $$
#variable_conflict use_column
DECLARE
    v_now constant timestamptz := clock_timestamp();
    v_problem text[];
    v_queues text[];
    r_rival record;
BEGIN
    PERFORM lockstep._hold_executor(start_children.executor_id);

    PERFORM
    FROM lockstep.workflow_status AS w
    WHERE w.workflow_id = ANY (
        ARRAY(SELECT c.workflow_id FROM jsonb_to_recordset(start_children.children) AS c (workflow_id text))
    )
    ORDER BY w.workflow_id
    FOR SHARE;

    SELECT p.problem
    INTO v_problem
    FROM jsonb_to_recordset(start_children.children) AS c (
        workflow_name text, queue_name text, child_id text, priority int, queue_partition_key text,
        delay double precision, run_at timestamptz, timeout double precision, deadline timestamptz,
        max_attempts int, app_version text, headers jsonb, retries jsonb
    )
    CROSS JOIN LATERAL (
        SELECT lockstep._enqueue_problem(
            c.workflow_name, c.queue_name, '[]', '{}', c.child_id, NULL, 'raise',
            coalesce(c.priority, 0), c.queue_partition_key, make_interval(secs => c.delay), c.run_at,
            make_interval(secs => c.timeout), c.deadline, c.max_attempts, c.app_version, c.headers, c.retries
        ) AS problem
    ) AS p
    WHERE p.problem IS NOT NULL
    LIMIT 1;

    IF FOUND THEN
        RAISE EXCEPTION '%', v_problem[1]
            USING ERRCODE = 'invalid_parameter_value', DETAIL = v_problem[2], HINT = v_problem[3];
    END IF;

    WITH child AS MATERIALIZED (
        SELECT
            c.workflow_id AS parent_id, c.step_id, c.step_name, c.workflow_name, c.queue_name, c.inputs,
            coalesce(c.is_awaited, false) AS is_awaited,
            coalesce(c.child_id, lockstep._generate_id(v_now + c.place * interval '1 us')) AS child_id,
            c.priority, c.queue_partition_key, c.app_version, c.max_attempts, c.headers, c.retries,
            make_interval(secs => c.timeout) AS timeout,
            v_now + c.place * interval '1 us' AS created_at,
            coalesce(c.run_at, v_now + make_interval(secs => c.delay)) AS starts_at,
            least(w.deadline_at, c.deadline) AS deadline_at, w.enqueued_by
        FROM ROWS FROM (
            jsonb_to_recordset(start_children.children) AS (
                workflow_id text, attempt int, step_id int, step_name text, workflow_name text,
                queue_name text, inputs jsonb, is_awaited boolean, child_id text, priority int,
                queue_partition_key text, delay double precision, run_at timestamptz,
                timeout double precision, deadline timestamptz, max_attempts int, app_version text,
                headers jsonb, retries jsonb
            )
        ) WITH ORDINALITY AS c (
            workflow_id, attempt, step_id, step_name, workflow_name, queue_name, inputs, is_awaited,
            child_id, priority, queue_partition_key, delay, run_at, timeout, deadline, max_attempts,
            app_version, headers, retries, place
        )
        INNER JOIN lockstep.workflow_status AS w ON w.workflow_id = ANY (ARRAY[c.workflow_id])
        WHERE (w.status, w.executor_id, w.attempts)
            IS NOT DISTINCT FROM ('PENDING', start_children.executor_id, c.attempt)
    ),

    recorded AS (
        INSERT INTO lockstep.operation_outputs AS o (
            workflow_id, step_id, step_name, output, attempts, started_at, completed_at, child_workflow_id
        )
        SELECT
            c.parent_id, c.step_id, c.step_name, CASE WHEN NOT c.is_awaited THEN to_jsonb(c.child_id) END,
            CASE WHEN c.is_awaited THEN 0 ELSE 1 END, v_now,
            CASE WHEN NOT c.is_awaited THEN v_now END, c.child_id
        FROM child AS c
        ON CONFLICT (workflow_id, step_id) DO NOTHING
        RETURNING o.child_workflow_id
    ),

    enqueued AS (
        INSERT INTO lockstep.workflow_status AS w (
            workflow_id, workflow_name, queue_name, status, inputs, priority, queue_partition_key,
            app_version, max_attempts, created_at, available_at, deadline_at, timeout,
            parent_workflow_id, enqueued_by, headers, retries
        )
        SELECT
            c.child_id, c.workflow_name, c.queue_name,
            CASE WHEN c.starts_at > v_now THEN 'DELAYED' ELSE 'ENQUEUED' END,
            c.inputs, coalesce(c.priority, 0), c.queue_partition_key,
            c.app_version, coalesce(c.max_attempts, 50), c.created_at,
            coalesce(c.starts_at, c.created_at), c.deadline_at, c.timeout,
            c.parent_id, c.enqueued_by, c.headers, c.retries
        FROM child AS c
        WHERE c.child_id IN (SELECT r.child_workflow_id FROM recorded AS r)
        ON CONFLICT (workflow_id) DO NOTHING
        RETURNING w.queue_name
    )

    SELECT array_agg(DISTINCT e.queue_name)
    INTO v_queues
    FROM enqueued AS e;

    IF v_queues IS NOT NULL THEN
        PERFORM lockstep._ring_doorbell(v_queues);
    END IF;

    SELECT w.workflow_id, w.workflow_name, w.queue_name
    INTO r_rival
    FROM jsonb_to_recordset(start_children.children)
        AS c (child_id text, workflow_name text, queue_name text)
    INNER JOIN lockstep.workflow_status AS w ON w.workflow_id = ANY (ARRAY[c.child_id])
    WHERE (w.workflow_name, w.queue_name) IS DISTINCT FROM (c.workflow_name, c.queue_name)
    LIMIT 1;

    IF FOUND THEN
        RAISE EXCEPTION 'workflow "%" exists already', r_rival.workflow_id
            USING ERRCODE = 'unique_violation',
                  DETAIL = format('It runs "%s" in queue "%s".', r_rival.workflow_name, r_rival.queue_name),
                  HINT = 'Use another workflow_id for another workflow or queue.';
    END IF;

    RETURN QUERY
    SELECT c.workflow_id, c.step_id, o.child_workflow_id
    FROM jsonb_to_recordset(start_children.children) AS c (workflow_id text, attempt int, step_id int)
    INNER JOIN lockstep.operation_outputs AS o
        ON o.workflow_id = ANY (ARRAY[c.workflow_id])
        AND o.step_id = ANY (ARRAY[c.step_id])
    WHERE lockstep._is_held(start_children.executor_id, c.workflow_id, c.attempt);
END
$$;
COMMENT ON FUNCTION lockstep.start_children(text, jsonb) IS
    'Starts workflows as children of others, each recorded as a step of its parent.';

-- sql/50_step/start_timers.sql

-- Starts the durable timers of steps: a sleep, or the pause before a retry.
--
-- timers: [{"workflow_id", "attempt", "step_id", "step_name",
-- "delay": seconds, "attempts": failed attempts so far, "error": the last
-- one's}, …]. Returns the seconds that each still runs. A timer that runs
-- already for the same attempts goes on unchanged, so neither a crash nor a
-- call sent twice restarts it. Workflows that the executor had lost are left
-- out of the answer.
--
-- Lock order: the executor row (FOR KEY SHARE).
CREATE FUNCTION lockstep.start_timers(executor_id text, timers jsonb)
RETURNS TABLE (workflow_id text, step_id int, remaining double precision)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '500ms'
AS $$
#variable_conflict use_column
DECLARE
    v_now constant timestamptz := clock_timestamp();
BEGIN
    PERFORM lockstep._hold_executor(start_timers.executor_id);

    RETURN QUERY
    WITH started AS (
        INSERT INTO lockstep.operation_outputs AS o (
            workflow_id, step_id, step_name, error, attempts, started_at, available_at
        )
        SELECT
            t.workflow_id, t.step_id, t.step_name, t.error, coalesce(t.attempts, 0),
            v_now, v_now + make_interval(secs => t.delay)
        FROM jsonb_to_recordset(start_timers.timers) AS t (
            workflow_id text, attempt int, step_id int, step_name text,
            delay double precision, attempts int, error jsonb
        )
        INNER JOIN lockstep.workflow_status AS w ON w.workflow_id = ANY (ARRAY[t.workflow_id])
        WHERE (w.status, w.executor_id, w.attempts)
            IS NOT DISTINCT FROM ('PENDING', start_timers.executor_id, t.attempt)
        ON CONFLICT (workflow_id, step_id) DO UPDATE
        SET
            error = excluded.error,
            attempts = excluded.attempts,
            available_at = CASE
                WHEN o.attempts < excluded.attempts THEN excluded.available_at
                ELSE o.available_at
            END
        WHERE o.completed_at IS NULL
        RETURNING o.workflow_id, o.step_id, o.available_at
    )

    SELECT s.workflow_id, s.step_id, greatest(extract(EPOCH FROM s.available_at - v_now), 0)::double precision
    FROM started AS s;
END
$$;
COMMENT ON FUNCTION lockstep.start_timers(text, jsonb) IS
    'Starts the durable timers of steps; returns the seconds that each still runs.';

-- sql/60_message/get_event.sql

-- Reads the value that a workflow published last under a key; NULL before that.
CREATE FUNCTION lockstep.get_event(workflow_id text, key text)
RETURNS jsonb
LANGUAGE plpgsql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    v_value jsonb;
BEGIN
    SELECT v.value
    INTO v_value
    FROM lockstep.workflow_status AS w
    LEFT JOIN lockstep.workflow_events AS v
        ON v.workflow_id = get_event.workflow_id
        AND v.key = get_event.key
    WHERE w.workflow_id = get_event.workflow_id
        AND lockstep._may_see(w.enqueued_by);

    IF NOT FOUND THEN
        PERFORM lockstep._refuse_unknown_workflow(get_event.workflow_id);
    END IF;

    RETURN v_value;
END
$$;
COMMENT ON FUNCTION lockstep.get_event(text, text) IS
    'Reads the value that a workflow published last under a key.';

-- sql/60_message/read_stream.sql

-- Reads values of a stream in their order, from an offset on.
--
-- Returns up to max_count rows; the row with is_end, without a value, is the last
-- of a stream that was closed. A workflow that ended writes no more, closed or not.
CREATE FUNCTION lockstep.read_stream(
    workflow_id text,
    key text,
    from_offset bigint DEFAULT 0,
    max_count int DEFAULT 1000
)
RETURNS TABLE (value_offset bigint, value jsonb, is_end boolean, written_at timestamptz)
LANGUAGE plpgsql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
#variable_conflict use_column
BEGIN
    IF read_stream.max_count < 0 THEN
        RAISE EXCEPTION 'max_count must not be negative'
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = format('It is %s.', read_stream.max_count),
                  HINT = 'Pass null to read all of the stream.';
    END IF;

    PERFORM
    FROM lockstep.workflow_status AS w
    WHERE w.workflow_id = read_stream.workflow_id
        AND lockstep._may_see(w.enqueued_by);

    IF NOT FOUND THEN
        PERFORM lockstep._refuse_unknown_workflow(read_stream.workflow_id);
    END IF;

    RETURN QUERY
    SELECT s."offset", s.value, s.is_end, s.written_at
    FROM lockstep.workflow_streams AS s
    WHERE s.workflow_id = read_stream.workflow_id
        AND s.key = read_stream.key
        AND s."offset" >= read_stream.from_offset
    ORDER BY s."offset"
    LIMIT read_stream.max_count;
END
$$;
COMMENT ON FUNCTION lockstep.read_stream(text, text, bigint, int) IS
    'Reads values of a stream in their order, from an offset on.';

-- sql/60_message/receive_messages.sql

-- Receives messages for steps: the oldest one waiting for each step's topic.
--
-- receives: [{"workflow_id", "attempt", "step_id", "topic", "timeout": seconds
-- or null}, …]. Returns for each step one of
--   received   the message, consumed and recorded as the step's output;
--   timed_out  nothing came in time, recorded as no output and 0 attempts;
--   waiting    nothing yet; remaining has the seconds left, NULL for no timeout;
--   lost       the executor had lost the workflow.
-- The timeout runs from the first call, whatever crashes in between; a call
-- sent twice returns the outcome of the first.
--
-- Lock order: the executor row (FOR KEY SHARE), then notifications. Two steps
-- cannot take one message: only the attempt that holds the workflow receives,
-- and its receives run one after the other.
CREATE FUNCTION lockstep.receive_messages(executor_id text, receives jsonb)
RETURNS TABLE (
    workflow_id text,
    step_id int,
    outcome text,
    message jsonb,
    remaining double precision
)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '500ms'
AS $$
#variable_conflict use_column
DECLARE
    v_now constant timestamptz := clock_timestamp();
    r_receive record;
    r_step record;
BEGIN
    PERFORM lockstep._hold_executor(receive_messages.executor_id);

    FOR r_receive IN
        SELECT r.workflow_id, r.attempt, r.step_id, coalesce(r.topic, '') AS topic, r.timeout
        FROM jsonb_to_recordset(receive_messages.receives) AS r (
            workflow_id text, attempt int, step_id int, topic text, timeout double precision
        )
    LOOP
        workflow_id := r_receive.workflow_id;
        step_id := r_receive.step_id;
        message := NULL;
        remaining := NULL;

        IF NOT lockstep._is_held(receive_messages.executor_id, r_receive.workflow_id, r_receive.attempt) THEN
            outcome := 'lost';
            RETURN NEXT;
            CONTINUE;
        END IF;

        SELECT o.output, o.attempts, o.started_at, o.completed_at, o.available_at
        INTO r_step
        FROM lockstep.operation_outputs AS o
        WHERE o.workflow_id = r_receive.workflow_id
            AND o.step_id = r_receive.step_id;

        IF r_step.completed_at IS NOT NULL THEN
            outcome := CASE WHEN r_step.attempts = 0 THEN 'timed_out' ELSE 'received' END;
            message := r_step.output;
            RETURN NEXT;
            CONTINUE;
        END IF;

        UPDATE lockstep.notifications AS n
        SET consumed_at = v_now, consumed_by_step = r_receive.step_id
        WHERE n.message_id = (
            SELECT oldest.message_id
            FROM lockstep.notifications AS oldest
            WHERE oldest.destination_id = r_receive.workflow_id
                AND oldest.topic = r_receive.topic
                AND oldest.consumed_at IS NULL
            ORDER BY oldest.created_at, oldest.message_id
            LIMIT 1
        )
        RETURNING n.message INTO message;

        IF FOUND THEN
            outcome := 'received';
        ELSIF r_step.available_at <= v_now OR r_receive.timeout <= 0 THEN
            outcome := 'timed_out';
        ELSE
            outcome := 'waiting';
            IF r_step.started_at IS NULL THEN
                INSERT INTO lockstep.operation_outputs AS o (
                    workflow_id, step_id, step_name, attempts, started_at, available_at
                )
                VALUES (
                    r_receive.workflow_id, r_receive.step_id, 'receive', 0,
                    v_now, v_now + make_interval(secs => r_receive.timeout)
                );
            END IF;
            remaining := coalesce(extract(EPOCH FROM r_step.available_at - v_now), r_receive.timeout);
            RETURN NEXT;
            CONTINUE;
        END IF;

        INSERT INTO lockstep.operation_outputs AS o (
            workflow_id, step_id, step_name, output, attempts, started_at, completed_at
        )
        VALUES (
            r_receive.workflow_id, r_receive.step_id, 'receive', message,
            CASE WHEN outcome = 'received' THEN 1 ELSE 0 END,
            coalesce(r_step.started_at, v_now), v_now
        )
        ON CONFLICT (workflow_id, step_id) DO UPDATE
        SET output = excluded.output, attempts = excluded.attempts, completed_at = excluded.completed_at;
        RETURN NEXT;
    END LOOP;
END
$$;
COMMENT ON FUNCTION lockstep.receive_messages(text, jsonb) IS
    'Receives messages for steps: the oldest one waiting for each step''s topic.';

-- sql/60_message/send_message.sql

-- Sends a message to a workflow; durable when the caller's transaction commits.
--
-- idempotency_key makes the call idempotent per destination: a second message
-- with the same key is not sent, and the id of the first is returned. A
-- workflow that waits for the topic becomes claimable; one that has ended keeps
-- the message unread, because a sender in a trigger cannot know that it ended.
--
-- Lock order: the workflow row (FOR KEY SHARE), then notifications, then the
-- workflow row again if it waits. The first lock closes the race with
-- suspend_workflows(): that function does not suspend a workflow while a sender
-- holds its row, and a sender that comes later finds it WAITING.
CREATE FUNCTION lockstep.send_message(
    destination_id text,
    message jsonb,
    topic text DEFAULT NULL,
    idempotency_key text DEFAULT NULL
)
RETURNS text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    v_message_id text;
    v_topic constant text := coalesce(send_message.topic, '');
    v_problem text[];
    r_workflow record;
BEGIN
    IF send_message.destination_id IS NULL
        OR btrim(send_message.destination_id) = '' OR length(send_message.destination_id) > 512
        OR btrim(send_message.topic) = '' OR length(send_message.topic) > 512
        OR btrim(send_message.idempotency_key) = '' OR length(send_message.idempotency_key) > 512
        OR send_message.message IS NULL
        OR lockstep._is_too_large(send_message.message)
    THEN
        v_problem := lockstep._send_problem(
            send_message.destination_id, send_message.message, send_message.topic,
            send_message.idempotency_key
        );
        RAISE EXCEPTION '%', v_problem[1]
            USING ERRCODE = 'invalid_parameter_value', DETAIL = v_problem[2], HINT = v_problem[3];
    END IF;

    SELECT w.queue_name, w.waiting_for
    INTO r_workflow
    FROM lockstep.workflow_status AS w
    WHERE w.workflow_id = send_message.destination_id
        AND lockstep._may_see(w.enqueued_by)
    FOR KEY SHARE;

    IF NOT FOUND THEN
        PERFORM lockstep._refuse_unknown_workflow(send_message.destination_id);
    END IF;

    INSERT INTO lockstep.notifications (destination_id, topic, message, idempotency_key)
    VALUES (send_message.destination_id, v_topic, send_message.message, send_message.idempotency_key)
    ON CONFLICT (destination_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
    RETURNING message_id INTO v_message_id;

    IF v_message_id IS NULL THEN
        SELECT n.message_id
        INTO v_message_id
        FROM lockstep.notifications AS n
        WHERE n.destination_id = send_message.destination_id
            AND n.idempotency_key = send_message.idempotency_key;
        RETURN v_message_id;
    END IF;

    IF 'message:' || v_topic = ANY (r_workflow.waiting_for) THEN
        UPDATE lockstep.workflow_status AS w
        SET status = 'ENQUEUED', waiting_for = NULL, available_at = clock_timestamp()
        WHERE w.workflow_id = send_message.destination_id
            AND w.status = 'WAITING';

        PERFORM lockstep._ring_doorbell(ARRAY[r_workflow.queue_name]);
    END IF;

    RETURN v_message_id;
END
$$;
COMMENT ON FUNCTION lockstep.send_message(text, jsonb, text, text) IS
    'Sends a message to a workflow and returns its id; durable when the transaction commits.';

-- sql/60_message/send_messages.sql

-- Sends many messages with one INSERT; returns their ids in order.
--
-- destination_ids and messages have one element per message, idempotency_keys as many or
-- is NULL; topic is that of all. Each message is treated as send_message() treats it; one
-- that it refuses refuses them all. Those for one workflow are received in the order
-- of the arrays.
--
-- Lock order: the workflow rows by id (FOR KEY SHARE), then notifications by destination
-- and key, then the rows of those that wait, by id: two calls for the same workflows do
-- not deadlock. Who holds a row FOR UPDATE, such as a restart, is waited for, and so is
-- another sender of the same key.
CREATE FUNCTION lockstep.send_messages(
    destination_ids text[],
    messages jsonb[],
    topic text DEFAULT NULL,
    idempotency_keys text[] DEFAULT NULL
)
RETURNS SETOF text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    v_now constant timestamptz := clock_timestamp();
    v_topic constant text := coalesce(send_messages.topic, '');
    v_counts constant int[] := ARRAY[
        cardinality(send_messages.messages), cardinality(send_messages.idempotency_keys)
    ];
    v_problem text[];
    v_known text[];
    v_waiting text[];
    v_unknown text;
    v_ids text[];
    v_reached text[];
BEGIN
    IF send_messages.destination_ids IS NULL OR send_messages.messages IS NULL
        OR cardinality(send_messages.destination_ids) <> ANY (v_counts)
    THEN
        v_problem := ARRAY[
            'destination_ids and messages must have one element per message, and idempotency_keys if it is given',
            format(
                'destination_ids has %s, messages and idempotency_keys have %s.',
                coalesce(cardinality(send_messages.destination_ids)::text, 'none'),
                array_to_string(v_counts, ', ', 'none')
            ),
            'Repeat the id of a workflow that several messages are for.'
        ];
    ELSE
        SELECT lockstep._send_problem(n.destination_id, n.message, send_messages.topic, n.idempotency_key)
        INTO v_problem
        FROM unnest(send_messages.destination_ids, send_messages.messages, send_messages.idempotency_keys)
            WITH ORDINALITY AS n (destination_id, message, idempotency_key, place)
        WHERE n.destination_id IS NULL OR btrim(n.destination_id) = '' OR length(n.destination_id) > 512
            OR btrim(send_messages.topic) = '' OR length(send_messages.topic) > 512
            OR btrim(n.idempotency_key) = '' OR length(n.idempotency_key) > 512
            OR n.message IS NULL OR lockstep._is_too_large(n.message)
        ORDER BY n.place
        LIMIT 1;
    END IF;
    IF v_problem IS NOT NULL THEN
        RAISE EXCEPTION '%', v_problem[1]
            USING ERRCODE = 'invalid_parameter_value', DETAIL = v_problem[2], HINT = v_problem[3];
    END IF;

    WITH held AS (
        SELECT w.workflow_id, w.waiting_for
        FROM lockstep.workflow_status AS w
        WHERE w.workflow_id = ANY (send_messages.destination_ids)
            AND lockstep._may_see(w.enqueued_by)
        ORDER BY w.workflow_id
        FOR KEY SHARE
    )

    SELECT
        array_agg(h.workflow_id),
        array_agg(h.workflow_id) FILTER (WHERE 'message:' || v_topic = ANY (h.waiting_for))
    INTO v_known, v_waiting
    FROM held AS h;

    SELECT n.destination_id
    INTO v_unknown
    FROM unnest(send_messages.destination_ids) WITH ORDINALITY AS n (destination_id, place)
    WHERE n.destination_id NOT IN (SELECT unnest(v_known))
    ORDER BY n.place
    LIMIT 1;

    IF FOUND THEN
        PERFORM lockstep._refuse_unknown_workflow(v_unknown);
    END IF;

    -- created_at is the same for all: they are received in the order of their ids
    v_ids := ARRAY(
        SELECT lockstep._generate_id(v_now + n.place * interval '1 us')
        FROM unnest(send_messages.destination_ids) WITH ORDINALITY AS n (destination_id, place)
        ORDER BY n.place
    );

    WITH inserted AS (
        INSERT INTO lockstep.notifications AS m (
            message_id, destination_id, topic, message, idempotency_key, created_at
        )
        SELECT
            n.message_id, n.destination_id, v_topic, n.message, n.idempotency_key, v_now
        FROM unnest(v_ids, send_messages.destination_ids, send_messages.messages, send_messages.idempotency_keys)
            WITH ORDINALITY AS n (message_id, destination_id, message, idempotency_key, place)
        ORDER BY n.destination_id COLLATE "C", n.idempotency_key COLLATE "C", n.place
        ON CONFLICT (destination_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
        RETURNING m.destination_id
    )

    SELECT array_agg(i.destination_id)
    INTO v_reached
    FROM inserted AS i;

    IF v_waiting IS NOT NULL THEN
        PERFORM lockstep._wake_workflows(ARRAY(
            SELECT r.workflow_id FROM unnest(v_reached) AS r (workflow_id)
            INTERSECT
            SELECT w.workflow_id FROM unnest(v_waiting) AS w (workflow_id)
        ));
    END IF;

    IF cardinality(v_reached) IS DISTINCT FROM cardinality(v_ids) THEN
        RETURN QUERY
        SELECT coalesce(m.message_id, n.message_id)
        FROM unnest(v_ids, send_messages.destination_ids, send_messages.idempotency_keys)
            WITH ORDINALITY AS n (message_id, destination_id, idempotency_key, place)
        LEFT JOIN lockstep.notifications AS m
            ON m.destination_id = n.destination_id
            AND m.idempotency_key = n.idempotency_key
        ORDER BY n.place;
    ELSE
        RETURN QUERY
        SELECT n.message_id
        FROM unnest(v_ids) AS n (message_id);
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep.send_messages(text[], jsonb[], text, text[]) IS
    'Sends many messages at once; returns their ids in order.';

-- sql/60_message/send_step_messages.sql

-- Sends messages from steps of workflows, each recorded as its step's outcome.
--
-- messages: [{"workflow_id", "attempt", "step_id", "destination_id", "topic",
-- "message", "idempotency_key"}, …]. Returns the steps whose destination does
-- not exist, which are not recorded, and those of workflows that the executor
-- had lost. A step recorded before sends nothing again.
--
-- Lock order: the executor row (FOR KEY SHARE), then as send_message(). Gives
-- up with 55P03 when a row stays locked, as finish_workflows().
CREATE FUNCTION lockstep.send_step_messages(executor_id text, messages jsonb)
RETURNS TABLE (workflow_id text, step_id int, outcome text)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '500ms'
AS $$
#variable_conflict use_column
DECLARE
    v_now constant timestamptz := clock_timestamp();
    r_message record;
BEGIN
    PERFORM lockstep._hold_executor(send_step_messages.executor_id);

    FOR r_message IN
        SELECT m.*
        FROM jsonb_to_recordset(send_step_messages.messages) AS m (
            workflow_id text, attempt int, step_id int, destination_id text, topic text,
            message jsonb, idempotency_key text
        )
    LOOP
        workflow_id := r_message.workflow_id;
        step_id := r_message.step_id;

        IF NOT lockstep._is_held(send_step_messages.executor_id, r_message.workflow_id, r_message.attempt) THEN
            outcome := 'lost';
            RETURN NEXT;
            CONTINUE;
        ELSIF NOT EXISTS (
            SELECT
            FROM lockstep.workflow_status AS w
            WHERE w.workflow_id = r_message.destination_id
        ) THEN
            outcome := 'unknown_destination';
            RETURN NEXT;
            CONTINUE;
        END IF;

        INSERT INTO lockstep.operation_outputs AS o (
            workflow_id, step_id, step_name, started_at, completed_at
        )
        VALUES (r_message.workflow_id, r_message.step_id, 'send', v_now, v_now)
        ON CONFLICT (workflow_id, step_id) DO NOTHING;

        IF FOUND THEN
            PERFORM lockstep.send_message(
                r_message.destination_id, coalesce(r_message.message, 'null'),
                r_message.topic, r_message.idempotency_key
            );
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION lockstep.send_step_messages(text, jsonb) IS
    'Sends messages from steps of workflows, each recorded as its step''s outcome.';

-- sql/60_message/set_events.sql

-- Publishes values of workflows under their keys, each recorded as a step.
--
-- events: [{"workflow_id", "attempt", "step_id", "key", "value"}, …]. Returns
-- the ids of workflows that the executor had lost. A step recorded before
-- publishes nothing again, so a call sent twice cannot undo a later value. Of
-- two values for one key in one call that of the later step wins. Who waits for
-- an event is woken.
--
-- Lock order: the executor row (FOR KEY SHARE), the locks of _announce(), then
-- workflow_events, then as _wake_waiters().
CREATE FUNCTION lockstep.set_events(executor_id text, events jsonb)
RETURNS SETOF text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '500ms'
AS $$
#variable_conflict use_column
DECLARE
    v_now constant timestamptz := clock_timestamp();
    v_ids text[];
    v_whats text[];
BEGIN
    PERFORM lockstep._hold_executor(set_events.executor_id);

    SELECT array_agg(v.workflow_id), array_agg('event:' || v.key)
    INTO v_ids, v_whats
    FROM jsonb_to_recordset(set_events.events) AS v (workflow_id text, key text);

    PERFORM lockstep._announce(v_ids, v_whats);

    WITH event AS (
        SELECT v.workflow_id, v.step_id, v.key, v.value
        FROM jsonb_to_recordset(set_events.events) AS v (
            workflow_id text, attempt int, step_id int, key text, value jsonb
        )
        WHERE lockstep._is_held(set_events.executor_id, v.workflow_id, v.attempt)
    ),

    recorded AS (
        INSERT INTO lockstep.operation_outputs AS o (
            workflow_id, step_id, step_name, started_at, completed_at
        )
        SELECT e.workflow_id, e.step_id, 'set_event', v_now, v_now
        FROM event AS e
        ON CONFLICT (workflow_id, step_id) DO NOTHING
        RETURNING o.workflow_id, o.step_id
    )

    INSERT INTO lockstep.workflow_events (workflow_id, key, value, updated_at)
    SELECT DISTINCT ON (e.workflow_id, e.key) e.workflow_id, e.key, coalesce(e.value, 'null'), v_now
    FROM event AS e
    INNER JOIN recorded AS r ON r.workflow_id = e.workflow_id AND r.step_id = e.step_id
    ORDER BY e.workflow_id, e.key, e.step_id DESC
    ON CONFLICT (workflow_id, key) DO UPDATE
    SET value = excluded.value, updated_at = excluded.updated_at;

    PERFORM lockstep._wake_waiters(v_ids, v_whats);

    RETURN QUERY
    SELECT DISTINCT v.workflow_id
    FROM jsonb_to_recordset(set_events.events) AS v (workflow_id text, attempt int)
    WHERE NOT lockstep._is_held(set_events.executor_id, v.workflow_id, v.attempt);
END
$$;
COMMENT ON FUNCTION lockstep.set_events(text, jsonb) IS
    'Publishes values of workflows under their keys, each recorded as a step.';

-- sql/60_message/set_progress.sql

-- Notes how far workflows have come, for people who look at them.
--
-- progress: [{"workflow_id", "attempt", "done", "total", "note"}, …]. No step: what
-- is noted last counts, and noting it costs no history. It is the event
-- "lockstep.progress" of the workflow. What a lost workflow notes is dropped.
--
-- Lock order: the executor row (FOR KEY SHARE), then workflow_events.
CREATE FUNCTION lockstep.set_progress(executor_id text, progress jsonb)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '500ms'
AS $$
BEGIN
    PERFORM lockstep._hold_executor(set_progress.executor_id);

    INSERT INTO lockstep.workflow_events (workflow_id, key, value)
    SELECT DISTINCT ON (p.workflow_id)
        p.workflow_id, 'lockstep.progress',
        jsonb_build_object('done', p.done, 'total', p.total, 'note', p.note)
    FROM ROWS FROM (
        jsonb_to_recordset(set_progress.progress)
            AS (workflow_id text, attempt int, done numeric, total numeric, note text)
    ) WITH ORDINALITY AS p (workflow_id, attempt, done, total, note, place)
    WHERE lockstep._is_held(set_progress.executor_id, p.workflow_id, p.attempt)
    ORDER BY p.workflow_id, p.place DESC
    ON CONFLICT ON CONSTRAINT workflow_events_pkey DO UPDATE
    SET value = excluded.value, updated_at = excluded.updated_at;
END
$$;
COMMENT ON FUNCTION lockstep.set_progress(text, jsonb) IS
    'Notes how far workflows have come, for people who look at them.';

-- sql/60_message/write_streams.sql

-- Appends values to streams of workflows, or closes streams.
--
-- writes: [{"workflow_id", "attempt", "step_id", "key", "value"} or {…, "is_end":
-- true}, …]. With a step_id the value is recorded as that step and written once;
-- without, as from inside of a step, it is written whenever it is sent. Returns for
-- each that was not written, because the stream is closed ("closed") or the
-- executor had lost the workflow ("lost"). Who follows a stream is notified.
--
-- Lock order: the executor row (FOR KEY SHARE), the locks of _announce(), then as
-- _wake_waiters(). Offsets need no lock: only the attempt that holds the workflow
-- writes, and its writes come one after the other.
CREATE FUNCTION lockstep.write_streams(executor_id text, writes jsonb)
RETURNS TABLE (workflow_id text, step_id int, outcome text)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '500ms'
AS $$
#variable_conflict use_column
DECLARE
    v_now constant timestamptz := clock_timestamp();
    v_ids text[];
    v_whats text[];
    v_next bigint;
    v_is_closed boolean;
    r_value record;
BEGIN
    PERFORM lockstep._hold_executor(write_streams.executor_id);

    SELECT array_agg(v.workflow_id), array_agg('stream:' || v.key)
    INTO v_ids, v_whats
    FROM jsonb_to_recordset(write_streams.writes) AS v (workflow_id text, key text);

    PERFORM lockstep._announce(v_ids, v_whats);

    FOR r_value IN
        SELECT v.*
        FROM jsonb_to_recordset(write_streams.writes) AS v (
            workflow_id text, attempt int, step_id int, key text, value jsonb, is_end boolean
        )
    LOOP
        workflow_id := r_value.workflow_id;
        step_id := r_value.step_id;

        IF NOT lockstep._is_held(write_streams.executor_id, r_value.workflow_id, r_value.attempt) THEN
            outcome := 'lost';
            RETURN NEXT;
            CONTINUE;
        END IF;

        IF r_value.step_id > 0 THEN
            CONTINUE WHEN EXISTS (
                SELECT
                FROM lockstep.operation_outputs AS o
                WHERE o.workflow_id = r_value.workflow_id
                    AND o.step_id = r_value.step_id
            );
        END IF;

        SELECT s."offset" + 1, s.is_end
        INTO v_next, v_is_closed
        FROM lockstep.workflow_streams AS s
        WHERE s.workflow_id = r_value.workflow_id
            AND s.key = r_value.key
        ORDER BY s."offset" DESC
        LIMIT 1;

        IF v_is_closed AND NOT coalesce(r_value.is_end, false) THEN
            outcome := 'closed';
            RETURN NEXT;
            CONTINUE;
        END IF;

        IF r_value.step_id > 0 THEN
            INSERT INTO lockstep.operation_outputs AS o (
                workflow_id, step_id, step_name, started_at, completed_at
            )
            VALUES (
                r_value.workflow_id, r_value.step_id,
                CASE WHEN r_value.is_end THEN 'close_stream' ELSE 'write_stream' END, v_now, v_now
            );
        END IF;

        IF v_is_closed IS NOT TRUE THEN
            INSERT INTO lockstep.workflow_streams (workflow_id, key, "offset", value, is_end)
            VALUES (
                r_value.workflow_id, r_value.key, coalesce(v_next, 0),
                CASE WHEN r_value.is_end IS NOT TRUE THEN coalesce(r_value.value, 'null') END,
                coalesce(r_value.is_end, false)
            );
        END IF;
    END LOOP;

    PERFORM lockstep._wake_waiters(v_ids, v_whats);
END
$$;
COMMENT ON FUNCTION lockstep.write_streams(text, jsonb) IS
    'Appends values to streams of workflows, or closes streams.';

-- sql/65_watch/check_watches.sql

-- Looks for what a client waits for, however many watches there are.
--
-- watches: as for watch_workflows(), where one of a stream may have "from_offset". Returns
-- a row, with the place of the watch in the array from 1, for each that is
--   published  the event is set, and output is its value; or the stream has values from
--              the offset on, for read_stream();
--   ended      nothing more will be published: the workflow has ended with status, and,
--              where the end itself is watched, with output or error; or the stream is
--              closed before the offset;
--   unknown    there is no such workflow, or it is another tenant's;
--   busy       it may be coming at this moment: look again soon (only with tells_busy).
-- Of the others nothing has come, and with tells_busy nothing that comes later is
-- missed by a watch that was committed before this call.
--
-- The reason: who ends a workflow, or publishes, looks for watches. If that look came
-- before the watch was committed, then what it did to the workflow's row, or the lock of
-- _announce(), was there before too, and is found here, unless it is committed or rolled
-- back by now, which the last statement sees. A lock left by one who is gone looks like one
-- of somebody at work, so such rows are locked FOR SHARE for a moment, skipping those that
-- are held: this function never waits. Rows without any are not touched, or a claim,
-- which skips locked rows, would pass over the workflows that are awaited most. Joins
-- and subqueries are written so that they can only look rows up (_is_held()).
CREATE FUNCTION lockstep.check_watches(watches jsonb, tells_busy boolean DEFAULT false)
RETURNS TABLE (place int, outcome text, status text, output jsonb, error jsonb)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    v_changing text[] := ARRAY[]::text[];
    v_settled text[] := ARRAY[]::text[];
    v_announced int[] := ARRAY[]::int[];
BEGIN
    IF check_watches.tells_busy THEN
        v_changing := ARRAY(
            SELECT w.workflow_id
            FROM jsonb_to_recordset(check_watches.watches) AS a (workflow_id text)
            INNER JOIN lockstep.workflow_status AS w ON w.workflow_id = ANY (ARRAY[a.workflow_id])
            WHERE w.completed_at IS NULL
                AND w.xmax <> 0
                AND lockstep._may_see(w.enqueued_by)
        );

        IF v_changing <> '{}' THEN
            v_settled := ARRAY(
                SELECT w.workflow_id
                FROM lockstep.workflow_status AS w
                WHERE w.workflow_id = ANY (v_changing)
                FOR SHARE SKIP LOCKED
            );
        END IF;

        v_announced := ARRAY(
            WITH missing AS MATERIALIZED (
                SELECT
                    a.place, a.workflow_id,
                    coalesce('event:' || a.event_key, 'stream:' || a.stream_key) AS what
                FROM ROWS FROM (
                    jsonb_to_recordset(check_watches.watches)
                        AS (workflow_id text, event_key text, stream_key text, from_offset bigint)
                ) WITH ORDINALITY AS a (workflow_id, event_key, stream_key, from_offset, place)
                WHERE num_nonnulls(a.event_key, a.stream_key) > 0
                    AND (
                        SELECT lockstep._may_see(w.enqueued_by)
                        FROM lockstep.workflow_status AS w
                        WHERE w.workflow_id = a.workflow_id
                    )
                    AND (
                        SELECT true
                        FROM lockstep.workflow_events AS v
                        WHERE v.workflow_id = a.workflow_id
                            AND v.key = a.event_key
                    ) IS NULL
                    AND (
                        SELECT true
                        FROM lockstep.workflow_streams AS s
                        WHERE s.workflow_id = a.workflow_id
                            AND s.key = a.stream_key
                            AND s."offset" >= coalesce(a.from_offset, 0)
                        LIMIT 1
                    ) IS NULL
            )

            SELECT m.place
            FROM missing AS m
            WHERE lockstep._is_announced(m.workflow_id, m.what)
        );
    END IF;

    RETURN QUERY
    WITH seen AS (
        SELECT
            a.place::int AS place, w.workflow_id, w.status, w.completed_at,
            a.event_key IS NULL AND a.stream_key IS NULL AS is_of_end,
            v.workflow_id IS NOT NULL OR (
                SELECT true
                FROM lockstep.workflow_streams AS s
                WHERE s.workflow_id = w.workflow_id
                    AND s.key = a.stream_key
                    AND s."offset" >= coalesce(a.from_offset, 0)
                LIMIT 1
            ) IS NOT NULL AS is_published,
            w.completed_at IS NOT NULL OR coalesce((
                SELECT s.is_end
                FROM lockstep.workflow_streams AS s
                WHERE s.workflow_id = w.workflow_id
                    AND s.key = a.stream_key
                ORDER BY s."offset" DESC
                LIMIT 1
            ), false) AS is_over,
            v.value, w.output, w.error
        FROM ROWS FROM (
            jsonb_to_recordset(check_watches.watches)
                AS (workflow_id text, event_key text, stream_key text, from_offset bigint)
        ) WITH ORDINALITY AS a (workflow_id, event_key, stream_key, from_offset, place)
        LEFT JOIN lockstep.workflow_status AS w
            ON w.workflow_id = ANY (ARRAY[a.workflow_id])
            AND lockstep._may_see(w.enqueued_by)
        LEFT JOIN lockstep.workflow_events AS v
            ON v.workflow_id = ANY (ARRAY[w.workflow_id])
            AND v.key = ANY (ARRAY[a.event_key])
    )

    SELECT
        s.place,
        CASE
            WHEN s.workflow_id IS NULL THEN 'unknown'
            WHEN s.is_published THEN 'published'
            WHEN s.is_over THEN 'ended'
            ELSE 'busy'
        END,
        s.status,
        CASE WHEN s.is_of_end THEN s.output ELSE s.value END,
        CASE WHEN s.is_of_end AND s.completed_at IS NOT NULL THEN s.error END
    FROM seen AS s
    WHERE s.workflow_id IS NULL
        OR s.is_published
        OR s.is_over
        OR s.place = ANY (v_announced)
        OR (s.workflow_id = ANY (v_changing) AND s.workflow_id <> ALL (v_settled));
END
$$;
COMMENT ON FUNCTION lockstep.check_watches(jsonb, boolean) IS
    'Looks for what a client waits for: ends, events and streams of workflows.';

-- sql/65_watch/watch_workflows.sql

-- Enters a client as waiting for workflows: it is notified on its channel.
--
-- watches: [{"workflow_id"} for its end, {"workflow_id", "event_key"} for an event or
-- {"workflow_id", "stream_key"} for values of a stream, …]. When it comes, or the
-- workflow ends, channel is notified once, with the workflow's id, and the watch is
-- gone. given_up lists watches that are not wanted any more. The channel's name must be
-- "lockstep_" and 32 hexadecimal digits, so that nobody can be made to ring elsewhere.
--
-- What came before the call commits is not notified: a client commits, then looks with
-- check_watches(watches, tells_busy => true), which says why none is missed. Waits for
-- nobody: a watch whose removal is under way is left alone, and reported as busy. Joins and
-- subqueries are written so that they can only look rows up, as _is_held() explains.
CREATE FUNCTION lockstep.watch_workflows(
    channel text,
    watches jsonb,
    given_up jsonb DEFAULT '[]'
)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
BEGIN
    IF watch_workflows.channel IS NULL OR watch_workflows.channel !~ '^lockstep_[0-9a-f]{32}$' THEN
        RAISE EXCEPTION 'channel must be "lockstep_" and 32 hexadecimal digits'
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = format('It is %s.', quote_nullable(left(watch_workflows.channel, 64))),
                  HINT = 'Take a random one, such as ''lockstep_'' || replace(gen_random_uuid()::text, ''-'', '''').';
    END IF;

    DELETE FROM lockstep.waiter AS gone
    WHERE gone.ctid = ANY (
        ARRAY(
            SELECT held.ctid
            FROM jsonb_to_recordset(watch_workflows.given_up)
                AS g (workflow_id text, event_key text, stream_key text)
            INNER JOIN lockstep.waiter AS held ON held.awaited_id = ANY (ARRAY[g.workflow_id])
            WHERE (held.awaited_what, held.is_client, held.waiter) IS NOT DISTINCT FROM (
                coalesce('event:' || g.event_key, 'stream:' || g.stream_key, ''), true, watch_workflows.channel
            )
            FOR UPDATE OF held SKIP LOCKED
        )
    );

    INSERT INTO lockstep.waiter (awaited_id, awaited_what, is_client, waiter)
    SELECT DISTINCT w.workflow_id, a.what, true, watch_workflows.channel
    FROM (
        SELECT r.workflow_id, coalesce('event:' || r.event_key, 'stream:' || r.stream_key, '') AS what
        FROM jsonb_to_recordset(watch_workflows.watches)
            AS r (workflow_id text, event_key text, stream_key text)
    ) AS a
    INNER JOIN lockstep.workflow_status AS w ON w.workflow_id = ANY (ARRAY[a.workflow_id])
    WHERE w.completed_at IS NULL
        AND lockstep._may_see(w.enqueued_by)
        AND (
            SELECT true
            FROM lockstep.waiter AS known
            WHERE known.awaited_id = a.workflow_id
                AND known.awaited_what = a.what
                AND known.is_client
                AND known.waiter = watch_workflows.channel
        ) IS NULL
    ON CONFLICT DO NOTHING;
END
$$;
COMMENT ON FUNCTION lockstep.watch_workflows(text, jsonb, jsonb) IS
    'Enters a client as waiting for workflows: it is notified on its channel.';

-- sql/70_queue/alter_queue.sql

-- Changes limits of a queue and leaves the others as they are.
--
-- A limit that is given is set; one that reset names is removed:
-- alter_queue('mail', concurrency => 20, reset => '{rate_limit}'). A rate limit goes with
-- its period. Workers heed the change at their next claim, within a second.
--
-- Lock order: the queue row, so that of two changes at once the second sees the first.
CREATE FUNCTION lockstep.alter_queue(
    queue_name text,
    concurrency int DEFAULT NULL,
    worker_concurrency int DEFAULT NULL,
    rate_limit int DEFAULT NULL,
    rate_period interval DEFAULT NULL,
    partition_concurrency int DEFAULT NULL,
    partition_rate_limit int DEFAULT NULL,
    partition_rate_period interval DEFAULT NULL,
    reset text[] DEFAULT '{}'
)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_given constant jsonb := jsonb_strip_nulls(jsonb_build_object(
        'concurrency', alter_queue.concurrency,
        'worker_concurrency', alter_queue.worker_concurrency,
        'rate_limit', alter_queue.rate_limit,
        'rate_period', alter_queue.rate_period,
        'partition_concurrency', alter_queue.partition_concurrency,
        'partition_rate_limit', alter_queue.partition_rate_limit,
        'partition_rate_period', alter_queue.partition_rate_period
    ));
    v_limits constant text[] := ARRAY[
        'concurrency', 'worker_concurrency', 'rate_limit', 'partition_concurrency', 'partition_rate_limit'
    ];
    v_wrong text;
    r_queue lockstep.queue;
BEGIN
    SELECT q.*
    INTO r_queue
    FROM lockstep.queue AS q
    WHERE q.queue_name = alter_queue.queue_name
    FOR NO KEY UPDATE;

    IF NOT FOUND THEN
        PERFORM lockstep._refuse_unknown_queue(alter_queue.queue_name);
    END IF;

    v_wrong := (
        SELECT coalesce(l.name, 'null')
        FROM unnest(alter_queue.reset) AS l (name)
        WHERE l.name IS NULL OR l.name <> ALL (v_limits)
            OR v_given ?| ARRAY[l.name, replace(l.name, '_limit', '_period')]
        LIMIT 1
    );
    IF v_wrong IS NOT NULL THEN
        RAISE EXCEPTION 'cannot reset "%"', v_wrong
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = CASE WHEN v_wrong = ANY (v_limits) THEN 'A value is given for it too.' ELSE 'It is no limit.' END,
                  HINT = format('Limits are %s.', array_to_string(v_limits, ', '));
    END IF;

    r_queue := jsonb_populate_record(r_queue, v_given);
    r_queue := jsonb_populate_record(r_queue, (
        SELECT jsonb_object_agg(n.name, NULL::text)
        FROM unnest(alter_queue.reset || ARRAY(
            SELECT replace(l.name, '_limit', '_period')
            FROM unnest(alter_queue.reset) AS l (name)
        )) AS n (name)
    ));
    PERFORM lockstep._write_queue(r_queue);
END
$$;
COMMENT ON FUNCTION lockstep.alter_queue(text, int, int, int, interval, int, int, interval, text[]) IS
    'Changes limits of a queue and leaves the others as they are.';

-- sql/70_queue/create_queue.sql

-- Creates a queue with limits, or replaces the limits of one that exists.
--
-- A queue needs no row to be used: without one it is unlimited. What is left out is no
-- limit; alter_queue() changes some and leaves the others. A paused queue stays paused.
--
-- concurrency: workflows that run at once, over all workers; worker_concurrency: in one
-- worker; rate_limit and rate_period: executions that begin in any window of that
-- length, where a month has 30 days and a day 24 hours; the partition limits: the same
-- for the workflows of one queue_partition_key.
-- Limits hold from the claims that begin after the commit; what runs goes on.
--
-- Lock order: as _write_queue().
CREATE FUNCTION lockstep.create_queue(
    queue_name text,
    concurrency int DEFAULT NULL,
    worker_concurrency int DEFAULT NULL,
    rate_limit int DEFAULT NULL,
    rate_period interval DEFAULT NULL,
    partition_concurrency int DEFAULT NULL,
    partition_rate_limit int DEFAULT NULL,
    partition_rate_period interval DEFAULT NULL
)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM lockstep._write_queue(jsonb_populate_record(NULL::lockstep.queue, jsonb_build_object(
        'queue_name', create_queue.queue_name,
        'concurrency', create_queue.concurrency,
        'worker_concurrency', create_queue.worker_concurrency,
        'rate_limit', create_queue.rate_limit,
        'rate_period', create_queue.rate_period,
        'partition_concurrency', create_queue.partition_concurrency,
        'partition_rate_limit', create_queue.partition_rate_limit,
        'partition_rate_period', create_queue.partition_rate_period
    )));
END
$$;
COMMENT ON FUNCTION lockstep.create_queue(text, int, int, int, interval, int, int, interval) IS
    'Creates a queue with limits, or replaces the limits of one that exists.';

-- sql/70_queue/declare_queue.sql

-- Creates a queue that an application declares, unless it exists; returns in what the
-- database says otherwise.
--
-- Workers call it when they start. Of a queue that has a row, the row holds: somebody may
-- have changed its limits since, for a reason that the code does not know. The
-- differences are returned, for the worker to log. With overwrite => true the declaration
-- holds. A paused queue stays paused.
--
-- Lock order: writes only what differs, then as _write_queue(), so that workers that start
-- do not wait for claims. Of two that create a queue at once the second waits and compares.
CREATE FUNCTION lockstep.declare_queue(
    queue_name text,
    concurrency int DEFAULT NULL,
    worker_concurrency int DEFAULT NULL,
    rate_limit int DEFAULT NULL,
    rate_period interval DEFAULT NULL,
    partition_concurrency int DEFAULT NULL,
    partition_rate_limit int DEFAULT NULL,
    partition_rate_period interval DEFAULT NULL,
    overwrite boolean DEFAULT false
)
RETURNS TABLE (limit_name text, declared text, actual text)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    -- json keeps the order, in which a worker logs what differs
    v_limits constant json := json_build_object(
        'concurrency', declare_queue.concurrency,
        'worker_concurrency', declare_queue.worker_concurrency,
        'rate_limit', declare_queue.rate_limit,
        'rate_period', declare_queue.rate_period,
        'partition_concurrency', declare_queue.partition_concurrency,
        'partition_rate_limit', declare_queue.partition_rate_limit,
        'partition_rate_period', declare_queue.partition_rate_period
    );
    v_declared constant lockstep.queue := jsonb_populate_record(
        NULL::lockstep.queue, v_limits::jsonb || jsonb_build_object('queue_name', declare_queue.queue_name)
    );
    v_problem constant text[] := lockstep._queue_problem(v_declared);
    v_actual jsonb;
BEGIN
    IF v_problem IS NOT NULL THEN
        RAISE EXCEPTION '%', v_problem[1]
            USING ERRCODE = 'invalid_parameter_value', DETAIL = v_problem[2], HINT = v_problem[3];
    END IF;

    INSERT INTO lockstep.queue (queue_name)
    VALUES (declare_queue.queue_name)
    ON CONFLICT (queue_name) DO NOTHING;

    IF FOUND THEN
        PERFORM lockstep._write_queue(v_declared);
        RETURN;
    END IF;

    SELECT to_jsonb(q)
    INTO v_actual
    FROM lockstep.queue AS q
    WHERE q.queue_name = declare_queue.queue_name;

    FOR limit_name, declared, actual IN
        SELECT l.key, l.value, v_actual ->> l.key
        FROM json_each_text(v_limits) AS l
        WHERE CASE
            -- a day is 24 hours
            WHEN l.key LIKE '%period' THEN l.value::interval IS DISTINCT FROM (v_actual ->> l.key)::interval
            ELSE l.value IS DISTINCT FROM v_actual ->> l.key
        END
    LOOP
        IF declare_queue.overwrite THEN
            PERFORM lockstep._write_queue(v_declared);
            RETURN;
        END IF;
        RETURN NEXT;
    END LOOP;
END
$$;
COMMENT ON FUNCTION lockstep.declare_queue(text, int, int, int, interval, int, int, interval, boolean) IS
    'Creates a queue that an application declares, unless it exists; returns in what it differs.';

-- sql/70_queue/drop_queue.sql

-- Removes the limits of a queue.
--
-- Refused with 55000 while the queue has unfinished workflows, which would run
-- without limits from then on; force => true says that they shall.
--
-- Locks the queue row, so claims of the moment come before or after. A workflow that is
-- enqueued in a transaction that has not committed yet is not seen.
CREATE FUNCTION lockstep.drop_queue(queue_name text, force boolean DEFAULT false)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_workflow_id text;
BEGIN
    PERFORM
    FROM lockstep.queue AS q
    WHERE q.queue_name = drop_queue.queue_name
    FOR UPDATE;

    IF NOT FOUND THEN
        PERFORM lockstep._refuse_unknown_queue(drop_queue.queue_name);
    END IF;

    IF drop_queue.force IS NOT TRUE THEN
        SELECT u.workflow_id
        INTO v_workflow_id
        FROM (
            SELECT w.workflow_id
            FROM lockstep.workflow_status AS w
            WHERE w.status = 'PENDING'
                AND w.queue_name = drop_queue.queue_name
            UNION ALL
            SELECT w.workflow_id
            FROM lockstep.workflow_status AS w
            WHERE (w.status <> 'PENDING') IS TRUE
                AND w.status IN ('ENQUEUED', 'DELAYED', 'WAITING')
                AND w.queue_name = drop_queue.queue_name
        ) AS u
        LIMIT 1;

        IF FOUND THEN
            RAISE EXCEPTION 'queue "%" has unfinished workflows', drop_queue.queue_name
                USING ERRCODE = 'object_not_in_prerequisite_state',
                      DETAIL = format('One of them is workflow "%s".', v_workflow_id),
                      HINT = 'Move or cancel them, or pass force => true to let them run without limits.';
        END IF;
    END IF;

    DELETE FROM lockstep.queue AS q
    WHERE q.queue_name = drop_queue.queue_name;

    DELETE FROM lockstep.queue_start AS s
    WHERE s.queue_name = drop_queue.queue_name;

    PERFORM lockstep._ring_doorbell(ARRAY[drop_queue.queue_name]);
END
$$;
COMMENT ON FUNCTION lockstep.drop_queue(text, boolean) IS
    'Removes the limits of a queue.';

-- sql/70_queue/list_queues.sql

-- Lists the queues that have limits, workers or unfinished workflows.
--
-- worker_count: live workers that serve it. Counts every unfinished workflow, so
-- it takes a while when millions wait.
CREATE FUNCTION lockstep.list_queues()
RETURNS TABLE (
    queue_name text,
    is_paused boolean,
    concurrency int,
    worker_concurrency int,
    rate_limit int,
    rate_period interval,
    partition_concurrency int,
    partition_rate_limit int,
    partition_rate_period interval,
    enqueued_count bigint,
    delayed_count bigint,
    waiting_count bigint,
    pending_count bigint,
    worker_count bigint
)
LANGUAGE plpgsql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH workflow_count AS (
        SELECT w.queue_name, w.status, count(*) AS of_status
        FROM lockstep.workflow_status AS w
        WHERE (w.status <> 'PENDING') IS TRUE
            AND w.status IN ('ENQUEUED', 'DELAYED', 'WAITING')
        GROUP BY w.queue_name, w.status
        UNION ALL
        SELECT w.queue_name, 'PENDING', count(*)
        FROM lockstep.workflow_status AS w
        WHERE w.status = 'PENDING'
        GROUP BY w.queue_name
    ),

    worker AS (
        SELECT s.queue_name, count(*) AS worker_count
        FROM lockstep.executor AS e
        CROSS JOIN LATERAL unnest(e.queues) AS s (queue_name)
        WHERE e.expires_at > clock_timestamp()
        GROUP BY s.queue_name
    ),

    known AS (
        SELECT q.queue_name FROM lockstep.queue AS q
        UNION
        SELECT c.queue_name FROM workflow_count AS c
        UNION
        SELECT s.queue_name FROM worker AS s
    )

    SELECT
        k.queue_name, coalesce(q.is_paused, false), q.concurrency, q.worker_concurrency,
        q.rate_limit, q.rate_period, q.partition_concurrency, q.partition_rate_limit, q.partition_rate_period,
        c.enqueued, c.delayed, c.waiting, c.pending, coalesce(s.worker_count, 0)
    FROM known AS k
    LEFT JOIN lockstep.queue AS q ON q.queue_name = k.queue_name
    LEFT JOIN worker AS s ON s.queue_name = k.queue_name
    CROSS JOIN LATERAL (
        SELECT
            coalesce(sum(n.of_status) FILTER (WHERE n.status = 'ENQUEUED'), 0)::bigint AS enqueued,
            coalesce(sum(n.of_status) FILTER (WHERE n.status = 'DELAYED'), 0)::bigint AS delayed,
            coalesce(sum(n.of_status) FILTER (WHERE n.status = 'WAITING'), 0)::bigint AS waiting,
            coalesce(sum(n.of_status) FILTER (WHERE n.status = 'PENDING'), 0)::bigint AS pending
        FROM workflow_count AS n
        WHERE n.queue_name = k.queue_name
    ) AS c
    ORDER BY k.queue_name;
END
$$;
COMMENT ON FUNCTION lockstep.list_queues() IS
    'Lists the queues that have limits, workers or unfinished workflows.';

-- sql/70_queue/log_starts.sql

-- Adds to queue_start what a claim starts in a queue, or in partitions of it.
--
-- The caller holds the queue row, so the counts run on without a gap. A clock that was
-- set back cannot put a start before an earlier one.
CREATE FUNCTION lockstep._log_starts(
    p_queue_name text,
    p_is_partition boolean,
    p_partition_keys text[],
    p_counts int[],
    p_period interval,
    p_now timestamptz
)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO lockstep.queue_start (
        queue_name, is_partition, partition_key, started_at, count_before, count_after
    )
    SELECT
        p_queue_name, p_is_partition, n.partition_key,
        greatest(p_now, last.started_at + interval '1 us'),
        coalesce(last.count_after, 0), coalesce(last.count_after, 0) + n.start_count
    FROM unnest(p_partition_keys, p_counts) AS n (partition_key, start_count)
    LEFT JOIN LATERAL (
        SELECT s.started_at, s.count_after
        FROM lockstep.queue_start AS s
        WHERE s.queue_name = p_queue_name
            AND s.is_partition = p_is_partition
            -- not "=": this order only the primary key has
            AND s.partition_key BETWEEN n.partition_key AND n.partition_key
        ORDER BY s.partition_key DESC, s.started_at DESC
        LIMIT 1
    ) AS last ON true
    WHERE n.start_count > 0;

    DELETE FROM lockstep.queue_start AS s
    WHERE s.queue_name = p_queue_name
        AND s.is_partition = p_is_partition
        AND s.started_at <= p_now - p_period;
END
$$;
COMMENT ON FUNCTION lockstep._log_starts(text, boolean, text[], int[], interval, timestamptz) IS
    'Adds to queue_start what a claim starts in a queue, or in partitions of it.';

-- sql/70_queue/next_partition_in.sql

-- Finds in how many seconds the rate of some partition may let the next workflow start.
--
-- NULL if nothing waits in the queue. What waits may be kept back by another partition's
-- limit than the one that is first to have room, so this may be too early, never too late.
CREATE FUNCTION lockstep._next_partition_in(p_queue lockstep.queue, p_now timestamptz)
RETURNS double precision
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (
        SELECT greatest(extract(EPOCH FROM s.started_at + p_queue.partition_rate_period - p_now), 0.005)::double precision
        FROM lockstep.queue_start AS s
        WHERE s.queue_name = p_queue.queue_name
            AND s.is_partition
            AND s.started_at > p_now - p_queue.partition_rate_period
            AND EXISTS (
                SELECT
                FROM lockstep.workflow_status AS w
                WHERE w.queue_name = p_queue.queue_name
                    AND w.status = 'ENQUEUED'
            )
        ORDER BY s.started_at
        LIMIT 1
    );
END
$$;
COMMENT ON FUNCTION lockstep._next_partition_in(lockstep.queue, timestamptz) IS
    'Finds in how many seconds the rate of some partition may let the next workflow start.';

-- sql/70_queue/pause_queue.sql

-- Stops workers from claiming out of a queue; what runs goes on.
CREATE FUNCTION lockstep.pause_queue(queue_name text)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    v_problem text[];
BEGIN
    IF pause_queue.queue_name IS NULL
        OR btrim(pause_queue.queue_name) = '' OR length(pause_queue.queue_name) > 512
    THEN
        v_problem := lockstep._name_problem('queue_name', pause_queue.queue_name);
        RAISE EXCEPTION '%', v_problem[1]
            USING ERRCODE = 'invalid_parameter_value', DETAIL = v_problem[2], HINT = v_problem[3];
    END IF;

    INSERT INTO lockstep.queue (queue_name, is_paused)
    VALUES (pause_queue.queue_name, true)
    ON CONFLICT (queue_name) DO UPDATE
    SET is_paused = true;
END
$$;
COMMENT ON FUNCTION lockstep.pause_queue(text) IS
    'Stops workers from claiming out of a queue; what runs goes on.';

-- sql/70_queue/pull_back_starts.sql

-- Moves what a queue started in the future to now: the clock was set back since.
--
-- Else a rate limit would count these starts, and start nothing more, until the clock has
-- come to them. They become one row: as if all had started now, so that they are counted
-- for one period more at the most. The caller holds the queue row.
CREATE FUNCTION lockstep._pull_back_starts(p_queue_name text, p_now timestamptz)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- _log_starts() itself puts starts some microseconds after each other
    IF NOT EXISTS (
        SELECT
        FROM lockstep.queue_start AS s
        WHERE s.queue_name = p_queue_name
            AND s.is_partition = ANY ('{t,f}')
            AND s.started_at > p_now + interval '1 s'
    ) THEN
        RETURN;
    END IF;

    WITH removed AS (
        DELETE FROM lockstep.queue_start AS s
        WHERE s.queue_name = p_queue_name
            AND s.started_at > p_now
        RETURNING s.is_partition, s.partition_key, s.count_before, s.count_after
    )

    INSERT INTO lockstep.queue_start (
        queue_name, is_partition, partition_key, started_at, count_before, count_after
    )
    SELECT
        p_queue_name, r.is_partition, r.partition_key, p_now, min(r.count_before), max(r.count_after)
    FROM removed AS r
    GROUP BY r.is_partition, r.partition_key;
END
$$;
COMMENT ON FUNCTION lockstep._pull_back_starts(text, timestamptz) IS
    'Moves what a queue started in the future to now: the clock was set back since.';

-- sql/70_queue/queue_problem.sql

-- Finds what is wrong with the limits of a queue: NULL, or message, detail and hint.
CREATE FUNCTION lockstep._queue_problem(p_queue lockstep.queue)
RETURNS text[]
LANGUAGE plpgsql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r_limit record;
BEGIN
    IF p_queue.queue_name IS NULL OR btrim(p_queue.queue_name) = '' OR length(p_queue.queue_name) > 512 THEN
        RETURN lockstep._name_problem('queue_name', p_queue.queue_name);
    END IF;

    SELECT l.*
    INTO r_limit
    FROM (
        VALUES
            ('concurrency', p_queue.concurrency),
            ('worker_concurrency', p_queue.worker_concurrency),
            ('rate_limit', p_queue.rate_limit),
            ('partition_concurrency', p_queue.partition_concurrency),
            ('partition_rate_limit', p_queue.partition_rate_limit)
    ) AS l (name, value)
    WHERE l.value < 1
    LIMIT 1;

    IF FOUND THEN
        RETURN ARRAY[
            format('%s must be 1 or greater', r_limit.name),
            format('It is %s.', r_limit.value),
            'Leave a limit out for none; pause_queue() stops a queue.'
        ];
    END IF;

    SELECT l.*
    INTO r_limit
    FROM (
        VALUES
            ('rate_limit', p_queue.rate_limit, 'rate_period', p_queue.rate_period),
            (
                'partition_rate_limit', p_queue.partition_rate_limit,
                'partition_rate_period', p_queue.partition_rate_period
            )
    ) AS l (name, value, period_name, period)
    WHERE (l.value IS NULL) <> (l.period IS NULL)
        OR l.period NOT BETWEEN interval '1 us' AND interval '1000 years'
    LIMIT 1;

    IF NOT FOUND THEN
        RETURN NULL;
    ELSIF (r_limit.value IS NULL) <> (r_limit.period IS NULL) THEN
        RETURN ARRAY[
            format('%s and %s belong together', r_limit.name, r_limit.period_name),
            format('They are %s and %s.', coalesce(r_limit.value::text, 'null'), coalesce(r_limit.period::text, 'null')),
            'Say how many workflows may start, and in which time.'
        ];
    END IF;

    RETURN ARRAY[
        format('%s must be positive, and at most 1000 years', r_limit.period_name),
        format('It is %s.', r_limit.period),
        'Say how many workflows may start, and in which time.'
    ];
END
$$;
COMMENT ON FUNCTION lockstep._queue_problem(lockstep.queue) IS
    'Finds what is wrong with the limits of a queue: NULL, or message, detail and hint.';

-- sql/70_queue/rate_room.sql

-- Finds how many workflows may start now by a rate limit, and if none, in how many
-- seconds the next.
--
-- Exact for every window of the period: what began within the last one is the last count
-- that queue_start has less the count before the first row in the window, so two looks
-- into its primary key tell, whatever the limit. The caller holds the queue row.
CREATE FUNCTION lockstep._rate_room(
    p_queue_name text,
    p_is_partition boolean,
    p_partition_key text,
    p_limit int,
    p_period interval,
    p_now timestamptz,
    OUT room int,
    OUT next_in double precision
)
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_count bigint;
    r_first record;
BEGIN
    SELECT s.count_before, s.started_at
    INTO r_first
    FROM lockstep.queue_start AS s
    WHERE s.queue_name = p_queue_name
        AND s.is_partition = p_is_partition
        -- not "=": this order only the primary key has
        AND s.partition_key BETWEEN p_partition_key AND p_partition_key
        AND s.started_at > p_now - p_period
    ORDER BY s.partition_key, s.started_at
    LIMIT 1;

    IF NOT FOUND THEN
        room := p_limit;
        RETURN;
    END IF;

    SELECT s.count_after - r_first.count_before
    INTO v_count
    FROM lockstep.queue_start AS s
    WHERE s.queue_name = p_queue_name
        AND s.is_partition = p_is_partition
        AND s.partition_key BETWEEN p_partition_key AND p_partition_key
    ORDER BY s.partition_key DESC, s.started_at DESC
    LIMIT 1;

    room := greatest(p_limit - v_count, 0)::int;
    IF room = 0 THEN
        next_in := extract(EPOCH FROM r_first.started_at + p_period - p_now)::double precision;
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep._rate_room(text, boolean, text, int, interval, timestamptz) IS
    'Finds how many workflows may start now by a rate limit, or when the next may.';

-- sql/70_queue/ready_in_limited_queue.sql

-- Locks the workflows of a limited queue that may start now.
--
-- The caller holds the queue's row until the claim commits, so the counts that it starts
-- from stay true: what runs can only become less meanwhile. Claims of one limited queue
-- follow each other, other queues do not notice. look_again_in: seconds until a rate
-- limit lets the next start, if one keeps workflows back.
--
-- Every execution that begins counts for a rate: the first, and each that follows a
-- wait, a retry or a recovery, for each may call what the limit protects.
--
-- Locks workflow rows, skipping locked ones.
CREATE FUNCTION lockstep._ready_in_limited_queue(
    p_queue lockstep.queue,
    p_executor lockstep.executor,
    p_max_count int,
    p_now timestamptz,
    p_low_water jsonb,
    p_is_alone boolean,
    OUT ready tid[],
    OUT look_again_in double precision
)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_room int := p_max_count;
    r_running record;
    r_rate record;
BEGIN
    ready := ARRAY[]::tid[];

    -- A window has one length, with months of 30 days and days of 24 hours. By the calendar a
    -- start of January 31st would be waited for until February 28th, and count until March 1st.
    p_queue.rate_period := make_interval(secs => extract(EPOCH FROM p_queue.rate_period)::double precision);
    p_queue.partition_rate_period := make_interval(
        secs => extract(EPOCH FROM p_queue.partition_rate_period)::double precision
    );

    IF num_nonnulls(p_queue.rate_limit, p_queue.partition_rate_limit) > 0 THEN
        PERFORM lockstep._pull_back_starts(p_queue.queue_name, p_now);
    END IF;

    IF p_queue.concurrency IS NOT NULL OR p_queue.worker_concurrency IS NOT NULL THEN
        SELECT count(*) AS of_all, count(*) FILTER (WHERE w.executor_id = p_executor.executor_id) AS of_this
        INTO r_running
        FROM lockstep.workflow_status AS w
        WHERE w.status = 'PENDING'
            AND w.queue_name = p_queue.queue_name;

        v_room := least(
            v_room, p_queue.concurrency - r_running.of_all, p_queue.worker_concurrency - r_running.of_this
        )::int;
    END IF;

    IF p_queue.rate_limit IS NOT NULL THEN
        r_rate := lockstep._rate_room(
            p_queue.queue_name, false, '', p_queue.rate_limit, p_queue.rate_period, p_now
        );
        v_room := least(v_room, r_rate.room);
        look_again_in := r_rate.next_in;
    END IF;

    IF v_room <= 0 THEN
        RETURN;
    ELSIF p_is_alone
        AND num_nonnulls(p_queue.partition_concurrency, p_queue.partition_rate_limit) > 0
    THEN
        ready := lockstep._ready_suspect_in_partitions(p_queue, p_executor, p_now);
    ELSIF p_queue.partition_concurrency IS NOT NULL OR p_queue.partition_rate_limit IS NOT NULL THEN
        SELECT r.ready, r.look_again_in
        INTO ready, look_again_in
        FROM lockstep._ready_in_partitions(p_queue, p_executor, v_room, p_now) AS r;
    ELSE
        ready := lockstep._ready_in_queues(ARRAY[p_queue.queue_name], p_executor, v_room, p_low_water, p_is_alone);
    END IF;

    IF p_queue.rate_limit IS NOT NULL AND cardinality(ready) > 0 THEN
        PERFORM lockstep._log_starts(
            p_queue.queue_name, false, ARRAY[''], ARRAY[cardinality(ready)], p_queue.rate_period, p_now
        );
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep._ready_in_limited_queue(
    lockstep.queue, lockstep.executor, int, timestamptz, jsonb, boolean
) IS
    'Locks the workflows of a limited queue that may start now.';

-- sql/70_queue/ready_in_partition.sql

-- Locks the first workflows of one partition, beside those that are taken already.
--
-- p_partition_key NULL: those without a key. They have no index of their own, so only
-- the first thousand that wait in the queue are looked at for them. Suspects are passed over.
--
-- Locks workflow rows, skipping locked ones.
CREATE FUNCTION lockstep._ready_in_partition(
    p_queue_name text,
    p_partition_key text,
    p_executor lockstep.executor,
    p_max_count int,
    p_taken tid[]
)
RETURNS tid[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_candidates tid[];
BEGIN
    IF p_partition_key IS NOT NULL THEN
        RETURN ARRAY(
            SELECT w.ctid
            FROM lockstep.workflow_status AS w
            WHERE w.queue_name = p_queue_name
                -- not "=": this order only the index by partitions has
                AND w.queue_partition_key BETWEEN p_partition_key AND p_partition_key
                AND w.status = 'ENQUEUED'
                AND w.workflow_name = ANY (p_executor.workflow_names)
                AND (w.app_version IS NULL OR w.app_version = p_executor.app_version)
                AND NOT lockstep._is_suspect(w.attempts, w.max_attempts)
                AND w.ctid <> ALL (p_taken)
            ORDER BY w.queue_partition_key, w.priority, w.available_at
            LIMIT p_max_count
            FOR NO KEY UPDATE SKIP LOCKED
        );
    END IF;

    v_candidates := ARRAY(
        SELECT h.row_id
        FROM (
            SELECT
                w.ctid AS row_id, w.queue_partition_key, w.workflow_name, w.app_version,
                lockstep._is_suspect(w.attempts, w.max_attempts) AS is_suspect
            FROM lockstep.workflow_status AS w
            WHERE w.queue_name = p_queue_name
                AND w.status = 'ENQUEUED'
            ORDER BY w.priority, w.available_at
            LIMIT 1000
        ) AS h
        WHERE h.queue_partition_key IS NULL
            AND h.workflow_name = ANY (p_executor.workflow_names)
            AND (h.app_version IS NULL OR h.app_version = p_executor.app_version)
            AND NOT h.is_suspect
            AND h.row_id <> ALL (p_taken)
        LIMIT p_max_count
    );

    RETURN ARRAY(
        SELECT w.ctid
        FROM lockstep.workflow_status AS w
        WHERE w.ctid = ANY (v_candidates)
            AND w.status = 'ENQUEUED'
            AND w.queue_name = p_queue_name  -- or it was moved meanwhile
        FOR NO KEY UPDATE SKIP LOCKED
    );
END
$$;
COMMENT ON FUNCTION lockstep._ready_in_partition(text, text, lockstep.executor, int, tid[]) IS
    'Locks the first workflows of one partition, beside those that are taken already.';

-- sql/70_queue/ready_in_partitions.sql

-- Locks the workflows of a queue with limits per partition that may start now.
--
-- The partitions take turns: one workflow of each that has work and room, from behind
-- the one that had the last turn on, and, if all have had theirs, two of each, four and
-- so on. So a partition with one workflow waits for one round, however many wait in
-- others. Priority counts within a partition. Workflows without a key are one too.
--
-- Cost: a look into an index for each partition with work that is passed, at most a
-- thousand in vain in a call; the next call goes on behind them.
--
-- The caller holds the queue row. Locks workflow rows, skipping locked ones.
CREATE FUNCTION lockstep._ready_in_partitions(
    p_queue lockstep.queue,
    p_executor lockstep.executor,
    p_max_count int,
    p_now timestamptz,
    OUT ready tid[],
    OUT look_again_in double precision
)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
-- the order of partitions is to be read from their index and nowhere else
SET enable_sort = off
AS $$
DECLARE
    v_start constant text := coalesce(p_queue.partition_cursor, '');
    v_last_depth constant int := p_max_count + 1000;
    v_running jsonb;
    v_keys text[];
    v_rooms int[];
    v_counts int[];
    v_open int[];
    v_still_open int[];
    v_portion int := 1;
    v_room int;
    v_place int;
    v_taken tid[];
BEGIN
    v_running := (
        SELECT coalesce(jsonb_object_agg(r.partition_key, r.running_count), '{}')
        FROM (
            SELECT coalesce(w.queue_partition_key, '') AS partition_key, count(*) AS running_count
            FROM lockstep.workflow_status AS w
            WHERE w.status = 'PENDING'
                AND w.queue_name = p_queue.queue_name
            GROUP BY 1
        ) AS r
    );

    -- The first round. The partitions follow each other as in a ring, where '' stands for the
    -- workflows without a key. Where the ring is cut short, a row without a workflow names the
    -- partition behind which the next call goes on.
    WITH RECURSIVE ring AS (
        SELECT v_start AS partition_key, NULL AS previous_key, 0 AS depth, false AS is_second_lap
        UNION ALL
        SELECT n.partition_key, r.partition_key, r.depth + 1, n.is_second_lap
        FROM ring AS r
        CROSS JOIN LATERAL (
            SELECT
                r.is_second_lap OR (r.partition_key = '' AND r.depth > 0) AS is_second_lap,
                coalesce((
                    SELECT w.queue_partition_key
                    FROM lockstep.workflow_status AS w
                    WHERE w.queue_name = p_queue.queue_name
                        AND w.queue_partition_key > r.partition_key
                        AND w.status = 'ENQUEUED'
                    ORDER BY w.queue_partition_key
                    LIMIT 1
                ), '') AS partition_key
        ) AS n
        WHERE r.depth < v_last_depth
            AND NOT (n.is_second_lap AND (n.partition_key = '' OR n.partition_key > v_start))
    ),

    turn AS (
        SELECT
            r.depth, head.row_id,
            CASE WHEN r.depth = v_last_depth THEN r.previous_key ELSE r.partition_key END AS partition_key,
            CASE WHEN r.depth < v_last_depth THEN room.room - (head.row_id IS NOT NULL)::int END AS room
        FROM ring AS r
        CROSS JOIN LATERAL (
            SELECT least(
                p_queue.partition_concurrency - coalesce((v_running ->> r.partition_key)::int, 0),
                CASE
                    WHEN p_queue.partition_rate_limit IS NOT NULL
                        THEN (lockstep._rate_room(
                            p_queue.queue_name, true, r.partition_key, p_queue.partition_rate_limit,
                            p_queue.partition_rate_period, p_now
                        )).room
                END
            ) AS room
            OFFSET 0  -- else the planner puts all this wherever the room is mentioned
        ) AS room
        CROSS JOIN LATERAL (
            -- what _ready_in_partition() says, whose call would cost 8 us for each partition
            SELECT one.row_id
            FROM (
                SELECT w.ctid AS row_id
                FROM lockstep.workflow_status AS w
                WHERE room.room > 0
                    AND r.depth < v_last_depth
                    AND w.queue_name = p_queue.queue_name
                    -- not "=": this order only the index by partitions has
                    AND w.queue_partition_key BETWEEN r.partition_key AND r.partition_key
                    AND w.status = 'ENQUEUED'
                    AND w.workflow_name = ANY (p_executor.workflow_names)
                    AND (w.app_version IS NULL OR w.app_version = p_executor.app_version)
                    AND NOT lockstep._is_suspect(w.attempts, w.max_attempts)
                ORDER BY w.queue_partition_key, w.priority, w.available_at
                LIMIT 1
                FOR NO KEY UPDATE SKIP LOCKED
            ) AS one
            UNION ALL
            SELECT keyless.row_id
            FROM unnest(
                CASE
                    WHEN room.room > 0 AND r.partition_key = '' AND r.depth < v_last_depth
                        THEN lockstep._ready_in_partition(p_queue.queue_name, NULL, p_executor, 1, '{}')
                END
            ) AS keyless (row_id)
            UNION ALL
            SELECT NULL
            WHERE r.depth = v_last_depth
        ) AS head
        WHERE r.depth > 0
        LIMIT p_max_count
    )

    SELECT
        coalesce(array_agg(t.row_id) FILTER (WHERE t.row_id IS NOT NULL), '{}'),
        array_agg(t.partition_key ORDER BY t.depth), array_agg(t.room ORDER BY t.depth),
        array_agg((t.row_id IS NOT NULL)::int ORDER BY t.depth)
    INTO ready, v_keys, v_rooms, v_counts
    FROM turn AS t;

    IF v_keys IS NOT NULL THEN
        UPDATE lockstep.queue AS q
        SET partition_cursor = v_keys[cardinality(v_keys)]
        WHERE q.queue_name = p_queue.queue_name
            AND q.partition_cursor IS DISTINCT FROM v_keys[cardinality(v_keys)];
    END IF;

    v_open := ARRAY(
        SELECT p.place
        FROM unnest(v_keys, v_rooms) WITH ORDINALITY AS p (partition_key, room, place)
        WHERE p.room > 0
        ORDER BY p.place
    );
    WHILE cardinality(ready) < p_max_count AND cardinality(v_open) > 0 LOOP
        v_portion := v_portion * 2;
        v_still_open := ARRAY[]::int[];
        FOREACH v_place IN ARRAY v_open LOOP
            v_room := least(v_portion, v_rooms[v_place], p_max_count - cardinality(ready));
            CONTINUE WHEN v_room <= 0;

            v_taken := lockstep._ready_in_partition(
                p_queue.queue_name, nullif(v_keys[v_place], ''), p_executor, v_room, ready
            );
            ready := ready || v_taken;
            v_counts[v_place] := v_counts[v_place] + cardinality(v_taken);
            v_rooms[v_place] := v_rooms[v_place] - cardinality(v_taken);
            IF cardinality(v_taken) = v_room THEN
                v_still_open := v_still_open || v_place;
            END IF;
        END LOOP;
        v_open := v_still_open;
    END LOOP;

    IF p_queue.partition_rate_limit IS NOT NULL THEN
        PERFORM lockstep._log_starts(
            p_queue.queue_name, true, v_keys, v_counts, p_queue.partition_rate_period, p_now
        );
    END IF;

    IF cardinality(ready) < p_max_count THEN
        look_again_in := CASE
            WHEN cardinality(v_keys) > 0 AND v_rooms[cardinality(v_keys)] IS NULL  -- cut short
                THEN CASE WHEN ready = '{}' THEN 0.05 ELSE 0.01 END
            ELSE lockstep._next_partition_in(p_queue, p_now)
        END;
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep._ready_in_partitions(lockstep.queue, lockstep.executor, int, timestamptz) IS
    'Locks the workflows of a queue with limits per partition that may start now.';

-- sql/70_queue/ready_suspect_in_partitions.sql

-- Locks the first suspect of a queue with limits per partition that may start now.
--
-- Partitions do not take turns here: of the suspects the first is first, of those among the
-- first thousand whose partition has room.
--
-- The caller holds the queue row. Locks a workflow row, skipping locked ones.
CREATE FUNCTION lockstep._ready_suspect_in_partitions(
    p_queue lockstep.queue,
    p_executor lockstep.executor,
    p_now timestamptz
)
RETURNS tid[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_running constant jsonb := (
        SELECT coalesce(jsonb_object_agg(r.partition_key, r.running_count), '{}')
        FROM (
            SELECT coalesce(w.queue_partition_key, '') AS partition_key, count(*) AS running_count
            FROM lockstep.workflow_status AS w
            WHERE w.status = 'PENDING'
                AND w.queue_name = p_queue.queue_name
            GROUP BY 1
        ) AS r
    );
    r_suspect record;
BEGIN
    FOR r_suspect IN
        SELECT w.ctid AS row_id, coalesce(w.queue_partition_key, '') AS partition_key
        FROM lockstep.workflow_status AS w
        WHERE (w.status = 'ENQUEUED') IS TRUE  -- as the index of suspects says it, and no other
            AND lockstep._is_suspect(w.attempts, w.max_attempts)
            AND w.queue_name = p_queue.queue_name
            AND w.workflow_name = ANY (p_executor.workflow_names)
            AND (w.app_version IS NULL OR w.app_version = p_executor.app_version)
        ORDER BY w.priority, w.available_at
        LIMIT 1000
    LOOP
        CONTINUE WHEN (v_running ->> r_suspect.partition_key)::int >= p_queue.partition_concurrency;
        CONTINUE WHEN p_queue.partition_rate_limit IS NOT NULL AND (
            lockstep._rate_room(
                p_queue.queue_name, true, r_suspect.partition_key, p_queue.partition_rate_limit,
                p_queue.partition_rate_period, p_now
            )
        ).room = 0;

        PERFORM
        FROM lockstep.workflow_status AS w
        WHERE w.ctid = r_suspect.row_id
            AND w.status = 'ENQUEUED'
            AND w.queue_name = p_queue.queue_name  -- or it was moved meanwhile
        FOR NO KEY UPDATE SKIP LOCKED;
        CONTINUE WHEN NOT FOUND;

        IF p_queue.partition_rate_limit IS NOT NULL THEN
            PERFORM lockstep._log_starts(
                p_queue.queue_name, true, ARRAY[r_suspect.partition_key], ARRAY[1],
                p_queue.partition_rate_period, p_now
            );
        END IF;
        RETURN ARRAY[r_suspect.row_id];
    END LOOP;

    RETURN ARRAY[]::tid[];
END
$$;
COMMENT ON FUNCTION lockstep._ready_suspect_in_partitions(lockstep.queue, lockstep.executor, timestamptz) IS
    'Locks the first suspect of a queue with limits per partition that may start now.';

-- sql/70_queue/refuse_unknown_queue.sql

-- Raises the error for a queue that has no row.
CREATE FUNCTION lockstep._refuse_unknown_queue(p_queue_name text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'queue "%" has no limits and is not paused', p_queue_name
        USING ERRCODE = 'no_data_found',
              TABLE = 'queue',
              HINT = 'Check the name; create_queue() gives a queue limits.';
END
$$;
COMMENT ON FUNCTION lockstep._refuse_unknown_queue(text) IS
    'Raises the error for a queue that has no row.';

-- sql/70_queue/ring_for_free_places.sql

-- Wakes idle workers after workflows gave up their places in limited queues.
--
-- What keeps a workflow of such a queue waiting is the limit and not the lack
-- of an enqueue, so its end must ring as an enqueue does. A place in one worker is
-- that worker's to fill: it claims as it gives it up, and is told only of what others
-- cancel. Does nothing while no queue has a limit.
CREATE FUNCTION lockstep._ring_for_free_places(p_workflow_ids text[])
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_limited text[];
    v_shared text[];
    v_queues text[];
BEGIN
    SELECT
        array_agg(q.queue_name),
        array_agg(q.queue_name) FILTER (WHERE num_nonnulls(q.concurrency, q.partition_concurrency) > 0)
    INTO v_limited, v_shared
    FROM lockstep.queue AS q
    WHERE num_nonnulls(q.concurrency, q.worker_concurrency, q.partition_concurrency) > 0;

    IF v_limited IS NOT NULL THEN
        v_queues := ARRAY(
            SELECT DISTINCT w.queue_name
            FROM lockstep.workflow_status AS w
            INNER JOIN unnest(p_workflow_ids) AS f (workflow_id)
                ON w.workflow_id = ANY (ARRAY[f.workflow_id])
            WHERE w.queue_name = ANY (v_limited)
                AND (w.queue_name = ANY (v_shared) OR w.status = 'CANCELLED')
        );
    END IF;

    IF cardinality(v_queues) > 0 THEN
        PERFORM lockstep._ring_doorbell(v_queues);
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep._ring_for_free_places(text[]) IS
    'Wakes idle workers after workflows gave up their places in limited queues.';

-- sql/70_queue/unpause_queue.sql

-- Lets workers claim out of a paused queue again.
CREATE FUNCTION lockstep.unpause_queue(queue_name text)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE lockstep.queue AS q
    SET is_paused = false
    WHERE q.queue_name = unpause_queue.queue_name;

    IF NOT FOUND THEN
        PERFORM lockstep._refuse_unknown_queue(unpause_queue.queue_name);
    END IF;

    PERFORM lockstep._ring_doorbell(ARRAY[unpause_queue.queue_name]);
END
$$;
COMMENT ON FUNCTION lockstep.unpause_queue(text) IS
    'Lets workers claim out of a paused queue again.';

-- sql/70_queue/write_queue.sql

-- Writes the limits that create_queue(), alter_queue() or declare_queue() was given.
--
-- Locks the queue row, as every claim from a limited queue does, so it waits for claims
-- under way. Wakes idle workers: what a limit kept back may start now.
CREATE FUNCTION lockstep._write_queue(p_queue lockstep.queue)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_problem constant text[] := lockstep._queue_problem(p_queue);
BEGIN
    IF v_problem IS NOT NULL THEN
        RAISE EXCEPTION '%', v_problem[1]
            USING ERRCODE = 'invalid_parameter_value', DETAIL = v_problem[2], HINT = v_problem[3];
    END IF;

    INSERT INTO lockstep.queue AS q (
        queue_name, concurrency, worker_concurrency, rate_limit, rate_period,
        partition_concurrency, partition_rate_limit, partition_rate_period
    )
    VALUES (
        p_queue.queue_name, p_queue.concurrency, p_queue.worker_concurrency,
        p_queue.rate_limit, p_queue.rate_period, p_queue.partition_concurrency,
        p_queue.partition_rate_limit, p_queue.partition_rate_period
    )
    ON CONFLICT (queue_name) DO UPDATE
    SET
        concurrency = excluded.concurrency,
        worker_concurrency = excluded.worker_concurrency,
        rate_limit = excluded.rate_limit,
        rate_period = excluded.rate_period,
        partition_concurrency = excluded.partition_concurrency,
        partition_rate_limit = excluded.partition_rate_limit,
        partition_rate_period = excluded.partition_rate_period;

    DELETE FROM lockstep.queue_start AS s
    WHERE s.queue_name = p_queue.queue_name
        AND CASE WHEN s.is_partition THEN p_queue.partition_rate_limit ELSE p_queue.rate_limit END IS NULL;

    PERFORM lockstep._ring_doorbell(ARRAY[p_queue.queue_name]);
END
$$;
COMMENT ON FUNCTION lockstep._write_queue(lockstep.queue) IS
    'Writes the limits that create_queue(), alter_queue() or declare_queue() was given.';

-- sql/72_trigger/attach_workflow.sql

-- Attaches a workflow to a table: each row of a statement enqueues one.
--
-- condition, named_args, workflow_id, deduplication_id and queue_partition_key are SQL
-- expressions over the row as new and, as it was, old; with columns, an UPDATE counts that
-- changes one of them. Without named_args the arguments are the columns of the primary key.
--
-- Creates one AFTER … FOR EACH STATEMENT trigger per event, with transition tables, that
-- calls enqueue_rows(), and returns their names. Attached again with the same settings it
-- adds only what is missing, for partitions that came later; with other settings it
-- replaces them, and says so.
--
-- SECURITY INVOKER, like what it calls: it takes the right to create triggers on the
-- table, and parses expressions with no more rights than the caller has. The default of
-- search_path is evaluated by the caller: it is the one in which they were written.
--
-- Locks: those of _place_triggers().
CREATE FUNCTION lockstep.attach_workflow(
    table_name regclass,
    workflow_name text,
    queue_name text,
    events text[] DEFAULT '{INSERT}',
    columns text[] DEFAULT NULL,
    condition text DEFAULT NULL,
    named_args text DEFAULT NULL,
    workflow_id text DEFAULT NULL,
    deduplication_id text DEFAULT NULL,
    on_duplicate text DEFAULT 'return',
    priority int DEFAULT 0,
    queue_partition_key text DEFAULT NULL,
    debounce interval DEFAULT NULL,
    debounce_max_delay interval DEFAULT NULL,
    search_path name[] DEFAULT pg_catalog.current_schemas(false)
)
RETURNS text[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_events constant text[] := upper(attach_workflow.events::text)::text[];
    v_search_path constant text := concat_ws(', ', (
        SELECT string_agg(quote_ident(s.name), ', ' ORDER BY s.place)
        FROM unnest(attach_workflow.search_path) WITH ORDINALITY AS s (name, place)
        WHERE s.name NOT LIKE 'pg\_temp%'
    ), 'pg_temp');
    v_primary_key text[];
    v_problem text[];
    v_arguments text[];
    r_triggers record;
BEGIN
    -- enqueues nothing, and refuses what it would refuse later
    PERFORM lockstep.enqueue_workflows(
        attach_workflow.workflow_name, attach_workflow.queue_name, '{}',
        on_duplicate => attach_workflow.on_duplicate, priority => attach_workflow.priority,
        debounce => attach_workflow.debounce, debounce_max_delay => attach_workflow.debounce_max_delay
    );
    IF attach_workflow.debounce IS NOT NULL AND attach_workflow.deduplication_id IS NULL THEN
        RAISE EXCEPTION 'debounce needs a deduplication_id'
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = format('debounce is %s, deduplication_id is null.', attach_workflow.debounce),
                  HINT = 'Rows with the same queue and deduplication_id become one workflow.';
    END IF;

    v_problem := lockstep._attachment_problem(
        attach_workflow.table_name, v_events, attach_workflow.columns, attach_workflow.condition,
        attach_workflow.named_args, attach_workflow.workflow_id, attach_workflow.deduplication_id,
        attach_workflow.queue_partition_key, v_search_path
    );
    IF v_problem IS NOT NULL THEN
        RAISE EXCEPTION '%', v_problem[1]
            USING ERRCODE = 'invalid_parameter_value', DETAIL = v_problem[2], HINT = v_problem[3];
    END IF;

    IF attach_workflow.named_args IS NULL THEN
        v_primary_key := (
            SELECT array_agg(a.attname::text ORDER BY array_position(x.indkey::int2[], a.attnum))
            FROM pg_index AS x
            INNER JOIN pg_attribute AS a ON a.attrelid = x.indrelid AND a.attnum = ANY ((x.indkey::int2[])[0:x.indnkeyatts - 1])
            WHERE x.indrelid = attach_workflow.table_name
                AND x.indisprimary
        );
    END IF;

    -- what has its default is left out, for the sake of who reads \d
    SELECT array_agg(p.text ORDER BY a.place, p.place)
    INTO v_arguments
    FROM (
        VALUES
            (1, 'workflow_name', attach_workflow.workflow_name),
            (2, 'queue_name', attach_workflow.queue_name),
            (3, 'columns', attach_workflow.columns::text),
            (4, 'condition', attach_workflow.condition),
            (5, 'primary_key', v_primary_key::text),
            (6, 'named_args', attach_workflow.named_args),
            (7, 'workflow_id', attach_workflow.workflow_id),
            (8, 'deduplication_id', attach_workflow.deduplication_id),
            (9, 'on_duplicate', nullif(attach_workflow.on_duplicate, 'return')),
            (10, 'priority', nullif(attach_workflow.priority, 0)::text),
            (11, 'queue_partition_key', attach_workflow.queue_partition_key),
            (12, 'debounce', attach_workflow.debounce::text),
            (13, 'debounce_max_delay', attach_workflow.debounce_max_delay::text),
            (14, 'search_path', v_search_path)
    ) AS a (place, key, value)
    CROSS JOIN LATERAL (VALUES (1, a.key), (2, a.value)) AS p (place, text)
    WHERE a.value IS NOT NULL;

    SELECT t.*
    INTO r_triggers
    FROM lockstep._place_triggers(attach_workflow.table_name, v_events, v_arguments) AS t;

    IF r_triggers.changed_count > 0 THEN
        RAISE NOTICE 'workflow "%" was attached to % with other settings, which are replaced',
            attach_workflow.workflow_name, attach_workflow.table_name;
    END IF;

    RETURN r_triggers.trigger_names;
END
$$;
COMMENT ON FUNCTION lockstep.attach_workflow(
    regclass, text, text, text[], text[], text, text, text, text, text, int, text, interval, interval, name[]
) IS
    'Attaches a workflow to a table: each row of a statement enqueues one; returns the triggers.';

-- sql/72_trigger/attachment_problem.sql

-- Finds what attach_workflow() cannot take: NULL, or message, detail and hint.
--
-- Expressions are parsed, and LIMIT 0 evaluates none of them, with the caller's rights
-- and the search_path that they will have. The cursor of the loop takes no second
-- statement, WHERE neither aggregates nor sets, and what fits between parentheses and
-- between THEN and END is one expression and no more. The exception block is for their
-- errors. INTERSECT refuses the types that enqueue_rows() cannot compare.
CREATE FUNCTION lockstep._attachment_problem(
    p_table regclass,
    p_events text[],
    p_columns text[],
    p_condition text,
    p_named_args text,
    p_workflow_id text,
    p_deduplication_id text,
    p_queue_partition_key text,
    p_search_path text
)
RETURNS text[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_table text;
    v_kind "char";
    v_source text;
    v_statement text;
    v_hint text;
    r_expression record;
    r_nothing record;
BEGIN
    SELECT format('%I.%I', n.nspname, c.relname), c.relkind
    INTO v_table, v_kind
    FROM pg_class AS c
    INNER JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.oid = p_table;

    IF v_kind IS NULL OR v_kind NOT IN ('r', 'p') THEN
        RETURN ARRAY[
            'table_name must be a table', coalesce(v_table || ' is none.', 'It is null.'),
            'Postgres collects the rows of a statement for tables and partitioned tables only.'
        ];
    ELSIF (p_events <> '{}' AND p_events <@ ARRAY['INSERT', 'UPDATE', 'DELETE']) IS NOT TRUE THEN
        RETURN ARRAY[
            'events must be some of INSERT, UPDATE and DELETE',
            format('They are %s.', coalesce(p_events::text, 'null')),
            'Pass for example ''{INSERT,UPDATE}''. Postgres collects no rows for TRUNCATE.'
        ];
    ELSIF p_columns = '{}' OR array_position(p_columns, NULL) IS NOT NULL
        OR (p_columns IS NOT NULL AND NOT 'UPDATE' = ANY (p_events))
    THEN
        RETURN ARRAY[
            'columns must name columns, and UPDATE must be an event',
            format('They are %s, and the events %s.', p_columns, p_events),
            'Leave columns out, or pass events => ''{UPDATE}''.'
        ];
    ELSIF p_named_args IS NULL
        AND NOT EXISTS (SELECT FROM pg_index AS x WHERE x.indrelid = p_table AND x.indisprimary)
    THEN
        RETURN ARRAY[
            format('%s has no primary key, so named_args is needed', v_table),
            'Without named_args a workflow gets the columns of the primary key.',
            'Pass an expression, for example named_args => ''to_jsonb(new)''.'
        ];
    END IF;

    v_source := format(concat_ws(
        ' CROSS JOIN ',
        CASE WHEN p_events && ARRAY['INSERT', 'UPDATE'] THEN '(SELECT * FROM pg_catalog.unnest(NULL::%1$s[])) AS new' END,
        CASE WHEN p_events && ARRAY['UPDATE', 'DELETE'] THEN '(SELECT * FROM pg_catalog.unnest(NULL::%1$s[])) AS old' END
    ), v_table);

    FOR r_expression IN
        SELECT e.argument, e.text, e.suffix
        FROM (
            VALUES
                ('columns', (
                    SELECT string_agg(format('EXISTS (SELECT new.%1$I INTERSECT SELECT old.%1$I)', c.name), ' OR ')
                    FROM unnest(p_columns) AS c (name)
                ), ''),
                ('condition', p_condition, ''),
                ('named_args', p_named_args, '::jsonb IS NULL'),
                ('workflow_id', p_workflow_id, '::text IS NULL'),
                ('deduplication_id', p_deduplication_id, '::text IS NULL'),
                ('queue_partition_key', p_queue_partition_key, '::text IS NULL')
        ) AS e (argument, text, suffix)
        WHERE e.text IS NOT NULL
    LOOP
        BEGIN
            v_statement := format(
                E'SELECT FROM %1$s WHERE (\n%2$s\n)%3$s AND CASE WHEN true THEN\n%2$s\nEND%3$s LIMIT 0',
                v_source, r_expression.text, r_expression.suffix
            );
            PERFORM set_config('search_path', p_search_path, true);
            FOR r_nothing IN EXECUTE v_statement LOOP
                NULL;
            END LOOP;
            PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
        EXCEPTION
            WHEN syntax_error_or_access_rule_violation OR data_exception OR feature_not_supported THEN
                GET STACKED DIAGNOSTICS v_hint = PG_EXCEPTION_HINT;

                RETURN ARRAY[
                    format('%s cannot be evaluated', r_expression.argument), SQLERRM,
                    CASE
                        WHEN r_expression.argument = 'columns'
                            THEN 'Name columns of types that have an equality operator; compare others in condition.'
                        WHEN v_hint <> '' THEN v_hint
                        ELSE 'Pass one SQL expression over new (of INSERT, UPDATE) and old (of UPDATE, DELETE).'
                    END
                ];
        END;
    END LOOP;

    RETURN NULL;
END
$$;
COMMENT ON FUNCTION lockstep._attachment_problem(
    regclass, text[], text[], text, text, text, text, text, text
) IS
    'Finds what attach_workflow() cannot take: NULL, or message, detail and hint.';

-- sql/72_trigger/detach_workflow.sql

-- Detaches a workflow from a table, its partitions and children: true if it was attached.
--
-- What is enqueued stays. SECURITY INVOKER: dropping a trigger takes the table's owner.
-- Locks: those of _place_triggers().
CREATE FUNCTION lockstep.detach_workflow(table_name regclass, workflow_name text)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (
        SELECT t.changed_count > 0
        FROM lockstep._place_triggers(
            detach_workflow.table_name, '{}', ARRAY['workflow_name', detach_workflow.workflow_name]
        ) AS t
    );
END
$$;
COMMENT ON FUNCTION lockstep.detach_workflow(regclass, text) IS
    'Detaches a workflow from a table, its partitions and children: true if it was attached.';

-- sql/72_trigger/enqueue_rows.sql

-- The trigger function of attach_workflow(): enqueues a workflow for each row of a statement.
--
-- The arguments of the trigger are keys and values, so that \d of the table says what
-- happens: what attach_workflow() was given, primary_key where it was given no
-- named_args, and the search_path of the expressions. Expressions see the row as new, and
-- as it was as old; a row that the event does not have is one of nulls.
--
-- SECURITY INVOKER: expressions run with the rights of who writes the rows, as triggers
-- do. Their search_path may hold a schema in which others create functions and operators
-- that fit better than those of Postgres, so what is written here names pg_catalog, and
-- columns are compared as records, by the equality of their types. No type is named: who
-- writes through a view may not know the schema of the table.
--
-- The statement that evaluates them is planned anew each time, because a plan made for few
-- rows would join the transition tables of a large UPDATE with a nested loop.
--
-- Postgres fills both transition tables of an UPDATE row by row, so the n-th old row
-- belongs to the n-th new one. Only a trigger of a partition that suppresses a row
-- which was moved there leaves an old row alone. IS TRUE keeps the planner from turning
-- a condition into a join, so that rows keep their order.
CREATE FUNCTION lockstep.enqueue_rows()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_settings constant jsonb := jsonb_object(TG_ARGV);
    v_row constant text := CASE WHEN TG_OP = 'DELETE' THEN 'old' ELSE 'new' END;
    v_absent constant text := CASE WHEN TG_OP = 'DELETE' THEN 'new' ELSE 'old' END;
    v_named_args text := v_settings ->> 'named_args';
    v_workflow_id constant text := v_settings ->> 'workflow_id';
    v_deduplication_id constant text := v_settings ->> 'deduplication_id';
    v_partition_key constant text := v_settings ->> 'queue_partition_key';
    v_condition text := E'(\n' || (v_settings ->> 'condition') || E'\n)';
    v_columns constant text[] := CASE WHEN TG_OP = 'UPDATE' THEN (v_settings ->> 'columns')::text[] END;
    v_uses_absent constant boolean := v_columns IS NOT NULL OR concat_ws(
        ' ', v_named_args, v_workflow_id, v_deduplication_id, v_partition_key, v_condition
    ) ~* format(E'\\m%s\\M', v_absent);
    v_source text := format('%1$s_rows AS %1$s', v_row);
    v_statement text;
    v_new_count bigint;
    v_old_count bigint;
    v_all_named_args jsonb[];
    v_workflow_ids text[];
    v_deduplication_ids text[];
    v_partition_keys text[];
BEGIN
    IF TG_OP = 'UPDATE' AND v_uses_absent THEN
        v_new_count := (SELECT count(*) FROM new_rows);
        v_old_count := (SELECT count(*) FROM old_rows);

        IF v_old_count = 0 THEN
            RETURN NULL;
        ELSIF v_new_count <> v_old_count THEN
            RAISE EXCEPTION 'cannot tell which old row of "%" belongs to which new one', TG_TABLE_NAME
                USING ERRCODE = 'object_not_in_prerequisite_state',
                      DETAIL = format('The UPDATE has %s old rows and %s new ones.', v_old_count, v_new_count),
                      HINT = 'A trigger of a partition suppressed a row that was moved there. '
                          'Let it raise instead, or attach the workflow without columns and without old.';
        END IF;

        -- pairing by place costs 100 us of planning, which a statement of one row can do without;
        -- of a subquery a whole row has no dropped columns
        v_source := CASE WHEN v_new_count = 1 THEN 'new_rows AS new CROSS JOIN old_rows AS old' ELSE '(
                SELECT n.new_row, o.old_row
                FROM (
                    SELECT pg_catalog.row_number() OVER () AS place, r.*::record AS new_row
                    FROM (SELECT * FROM new_rows) AS r
                ) AS n
                INNER JOIN (
                    SELECT pg_catalog.row_number() OVER () AS place, r.*::record AS old_row
                    FROM (SELECT * FROM old_rows) AS r
                ) AS o ON o.place OPERATOR(pg_catalog.=) n.place
                ORDER BY n.place
            ) AS pair
            CROSS JOIN LATERAL (SELECT (pair.new_row).*) AS new
            CROSS JOIN LATERAL (SELECT (pair.old_row).*) AS old'
        END;
    ELSIF v_uses_absent THEN
        v_source := format('%1$s LEFT JOIN %2$s_rows AS %3$s ON false', v_source, v_row, v_absent);
    END IF;

    IF v_columns IS NOT NULL THEN
        SELECT concat_ws(
            ' AND ', format(
                'ROW(%s)::record OPERATOR(pg_catalog.<>) ROW(%s)::record',
                string_agg(format('new.%I', c.name), ', '), string_agg(format('old.%I', c.name), ', ')
            ),
            v_condition
        )
        INTO v_condition
        FROM unnest(v_columns) AS c (name);
    END IF;

    IF v_named_args IS NULL THEN
        SELECT format('pg_catalog.jsonb_build_object(%s)', string_agg(format('%L, %s.%I', c.name, v_row, c.name), ', '))
        INTO v_named_args
        FROM unnest((v_settings ->> 'primary_key')::text[]) AS c (name);
    END IF;

    -- an expression may end with a comment; the first line is for who reads an error;
    -- enqueue_workflows() would take a null for no arguments
    v_statement := format(
        E'-- workflow %s\nSELECT %s, %s, %s, %s\nFROM %s%s',
        v_settings -> 'workflow_name',
        E'pg_catalog.array_agg(coalesce((\n' || v_named_args || E'\n)::pg_catalog.jsonb, ''null''))',
        coalesce(E'pg_catalog.array_agg((\n' || v_workflow_id || E'\n)::pg_catalog.text)', 'NULL::text[]'),
        coalesce(E'pg_catalog.array_agg((\n' || v_deduplication_id || E'\n)::pg_catalog.text)', 'NULL::text[]'),
        coalesce(E'pg_catalog.array_agg((\n' || v_partition_key || E'\n)::pg_catalog.text)', 'NULL::text[]'),
        v_source, E'\nWHERE (' || v_condition || ') IS TRUE'
    );
    PERFORM set_config('search_path', v_settings ->> 'search_path', true);
    EXECUTE v_statement INTO v_all_named_args, v_workflow_ids, v_deduplication_ids, v_partition_keys;
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);

    IF v_all_named_args IS NOT NULL THEN
        PERFORM lockstep.enqueue_workflows(
            v_settings ->> 'workflow_name', v_settings ->> 'queue_name', v_all_named_args,
            workflow_ids => v_workflow_ids, deduplication_ids => v_deduplication_ids,
            on_duplicate => coalesce(v_settings ->> 'on_duplicate', 'return'),
            priority => coalesce((v_settings ->> 'priority')::int, 0),
            queue_partition_keys => v_partition_keys,
            debounce => (v_settings ->> 'debounce')::interval,
            debounce_max_delay => (v_settings ->> 'debounce_max_delay')::interval
        );
    END IF;

    RETURN NULL;
END
$$;
COMMENT ON FUNCTION lockstep.enqueue_rows() IS
    'The trigger function of attach_workflow(): enqueues a workflow for each row of a statement.';

-- sql/72_trigger/place_triggers.sql

-- Gives a table, its partitions and children the triggers of an attachment, and no others.
--
-- A statement trigger fires for the table that the statement names, and its transition
-- tables hold the rows of partitions and children too: with one on each of these tables
-- every row meets exactly one. p_arguments are those of enqueue_rows(), the first two are
-- 'workflow_name' and the name. A trigger that has them already stays as it is, another
-- one of the workflow is replaced, or dropped if its event is not wanted; changed_count
-- counts those two. trigger_names are those of the given table.
--
-- Locks: an advisory lock of the table, so that of two calls the second sees what the
-- first created; SHARE ROW EXCLUSIVE on each table that lacks a trigger, the given one
-- first, then by oid; ACCESS EXCLUSIVE where one is dropped.
CREATE FUNCTION lockstep._place_triggers(
    p_table regclass,
    p_events text[],
    p_arguments text[],
    OUT trigger_names text[],
    OUT changed_count int
)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- as CREATE TRIGGER takes them, and as pg_trigger keeps them
    v_arguments text;
    v_tgargs bytea;
    v_workflow_tgargs bytea;
    v_name text;
    v_statement text;
    r_trigger record;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('attachments of ' || p_table::oid, 0));

    SELECT
        string_agg(quote_literal(a.text), ', ' ORDER BY a.place),
        string_agg(convert_to(a.text, getdatabaseencoding()) || decode('00', 'hex'), '' ORDER BY a.place),
        string_agg(convert_to(a.text, getdatabaseencoding()) || decode('00', 'hex'), '' ORDER BY a.place) FILTER (WHERE a.place <= 2)
    INTO v_arguments, v_tgargs, v_workflow_tgargs
    FROM unnest(p_arguments) WITH ORDINALITY AS a (text, place);

    trigger_names := '{}';
    changed_count := 0;

    FOR r_trigger IN
        WITH RECURSIVE family AS (
            SELECT p_table::oid AS oid
            UNION
            SELECT i.inhrelid
            FROM family AS f
            INNER JOIN pg_inherits AS i ON i.inhparent = f.oid
        )

        SELECT
            c.oid, c.relkind, n.nspname, c.relname,
            e.event, e.transition_tables, t.tgname::text, t.tgargs
        FROM family AS f
        INNER JOIN pg_class AS c ON c.oid = f.oid
        INNER JOIN pg_namespace AS n ON n.oid = c.relnamespace
        CROSS JOIN (
            VALUES
                (1, 'INSERT', 4, 'NEW TABLE AS new_rows'),
                (2, 'UPDATE', 16, 'OLD TABLE AS old_rows NEW TABLE AS new_rows'),
                (3, 'DELETE', 8, 'OLD TABLE AS old_rows')
        ) AS e (place, event, tgtype, transition_tables)
        LEFT JOIN pg_trigger AS t
            ON t.tgrelid = c.oid
            AND t.tgfoid = 'lockstep.enqueue_rows()'::regprocedure
            AND t.tgtype & e.tgtype <> 0
            AND substr(t.tgargs, 1, length(v_workflow_tgargs)) = v_workflow_tgargs
        WHERE e.event = ANY (p_events)
            OR t.oid IS NOT NULL
        ORDER BY c.oid <> p_table, c.oid, e.place
    LOOP
        v_name := coalesce(r_trigger.tgname, 'lockstep_' || lower(r_trigger.event) || '_' || p_arguments[2]);
        IF octet_length(v_name) > 63 THEN
            v_name := left(v_name, 16) || left(md5(p_arguments[2]), 8) || '_' || p_arguments[2];
            v_name := v_name::name::text;
        END IF;

        IF r_trigger.event <> ALL (p_events) THEN
            EXECUTE format('DROP TRIGGER %I ON %I.%I', v_name, r_trigger.nspname, r_trigger.relname);
        ELSIF r_trigger.relkind = 'f' THEN
            RAISE EXCEPTION 'table_name must be a table without foreign tables as partitions or children'
                USING ERRCODE = 'invalid_parameter_value',
                      DETAIL = format('"%s" is a foreign table, whose rows Postgres does not collect.', r_trigger.relname),
                      HINT = 'Attach the workflow to the other partitions, one by one.';
        ELSIF r_trigger.tgargs IS DISTINCT FROM v_tgargs THEN
            v_statement := format(
                'CREATE %s TRIGGER %I AFTER %s ON %I.%I REFERENCING %s FOR EACH STATEMENT '
                'EXECUTE FUNCTION lockstep.enqueue_rows(%s)',
                CASE WHEN r_trigger.tgname IS NOT NULL THEN 'OR REPLACE' END, v_name, r_trigger.event,
                r_trigger.nspname, r_trigger.relname, r_trigger.transition_tables, v_arguments
            );
            EXECUTE v_statement;
        END IF;

        IF r_trigger.event = ANY (p_events) AND r_trigger.oid = p_table THEN
            trigger_names := trigger_names || v_name;
        END IF;
        IF r_trigger.tgname IS NOT NULL
            AND (r_trigger.event <> ALL (p_events) OR r_trigger.tgargs <> v_tgargs)
        THEN
            changed_count := changed_count + 1;
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION lockstep._place_triggers(regclass, text[], text[]) IS
    'Gives a table, its partitions and children the triggers of an attachment, and no others.';

-- sql/74_schedule/adjust_cron_job.sql

-- Makes pg_cron have a job for a schedule, or none, as the schedule wants it.
--
-- The job belongs to the owner of Lockstep. Dynamic SQL, because pg_cron need not be
-- there; was it dropped, its jobs are gone with it. In pg_cron 1.4 a job's name ends
-- after 63 bytes, and a second job of a name replaces the first: long names are hashed.
CREATE FUNCTION lockstep._adjust_cron_job(p_schedule lockstep.schedule)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_refusal constant text := lockstep._pg_cron_refusal(p_schedule.cron, p_schedule.time_zone);
    v_cron constant text := btrim(p_schedule.cron, E' \t');
    v_job_name constant text := 'lockstep: ' || p_schedule.schedule_name;
    v_job_id bigint;
BEGIN
    IF NOT p_schedule.is_paused AND p_schedule.engine IS DISTINCT FROM 'workers' AND v_refusal IS NULL THEN
        -- a job that is as it should be is left alone: each change makes pg_cron read them all
        EXECUTE format(
            'SELECT coalesce('
            '(SELECT j.jobid FROM %1$I.job AS j WHERE j.jobid = $4 AND (j.schedule, j.command) = ($2, $3)), '
            '%1$I.schedule($1, $2, $3))',
            'cron'
        )
            INTO v_job_id
            USING
                CASE WHEN octet_length(v_job_name) < 64 THEN v_job_name ELSE 'lockstep: ' || md5(v_job_name) END,
                -- it knows an alias in lower case only
                CASE WHEN v_cron LIKE '@%' THEN lower(v_cron) ELSE v_cron END,
                lockstep._cron_job_command(p_schedule.schedule_name),
                p_schedule.cron_job_id;
    END IF;

    IF p_schedule.cron_job_id IS DISTINCT FROM v_job_id THEN
        PERFORM lockstep._drop_cron_job(p_schedule.schedule_name, p_schedule.cron_job_id);

        UPDATE lockstep.schedule AS s
        SET cron_job_id = v_job_id
        WHERE s.schedule_name = p_schedule.schedule_name;
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep._adjust_cron_job(lockstep.schedule) IS
    'Makes pg_cron have a job for a schedule, or none, as the schedule wants it.';

-- sql/74_schedule/backfill_schedule.sql

-- Starts the workflows of past ticks, from from_time up to, but not including, to_time.
--
-- Enqueues a workflow "lockstep.backfill", which every worker knows and which computes
-- the ticks and starts them in batches; returns its id, to wait for. Its result is the
-- number of workflows that it started: a tick that was started before is left alone. A
-- paused schedule is filled, too.
CREATE FUNCTION lockstep.backfill_schedule(
    schedule_name text,
    from_time timestamptz,
    to_time timestamptz
)
RETURNS text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_now constant timestamptz := clock_timestamp();
    v_problem text[];
    v_schedule lockstep.schedule;
BEGIN
    IF backfill_schedule.from_time IS NULL OR backfill_schedule.to_time IS NULL
        OR NOT isfinite(backfill_schedule.from_time) OR NOT isfinite(backfill_schedule.to_time)
        OR backfill_schedule.from_time > backfill_schedule.to_time
        OR backfill_schedule.from_time < '1970-01-01'
    THEN
        v_problem := ARRAY[
            'from_time and to_time must be moments since 1970, the earlier first',
            'Pass the moment of the first tick and one after the last.'
        ];
    ELSIF backfill_schedule.to_time > v_now THEN
        v_problem := ARRAY[
            'to_time must not be in the future', 'The schedule starts the ticks to come by itself.'
        ];
    END IF;

    IF v_problem IS NOT NULL THEN
        RAISE EXCEPTION '%', v_problem[1]
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = format(
                      'They are %s and %s.', coalesce(backfill_schedule.from_time::text, 'null'),
                      coalesce(backfill_schedule.to_time::text, 'null')
                  ),
                  HINT = v_problem[2];
    END IF;

    SELECT s.*
    INTO v_schedule
    FROM lockstep.schedule AS s
    WHERE s.schedule_name = backfill_schedule.schedule_name;

    IF NOT FOUND THEN
        PERFORM lockstep._refuse_unknown_schedule(backfill_schedule.schedule_name);
    END IF;

    RETURN lockstep.enqueue_workflow(
        'lockstep.backfill',
        v_schedule.queue_name,
        named_args => jsonb_build_object(
            'schedule_name', v_schedule.schedule_name,
            'cron', v_schedule.cron,
            'time_zone', v_schedule.time_zone,
            'from_time', backfill_schedule.from_time,
            'to_time', backfill_schedule.to_time
        ),
        priority => v_schedule.priority,
        queue_partition_key => v_schedule.queue_partition_key,
        app_version => v_schedule.app_version,
        headers => jsonb_build_object('schedule_name', v_schedule.schedule_name)
    );
END
$$;
COMMENT ON FUNCTION lockstep.backfill_schedule(text, timestamptz, timestamptz) IS
    'Starts the workflows of past ticks; returns the id of the workflow that does it.';

-- sql/74_schedule/cron_job_command.sql

-- Returns what the job of a schedule runs; it is also how a job is known to be its own.
CREATE FUNCTION lockstep._cron_job_command(p_schedule_name text)
RETURNS text
LANGUAGE sql
IMMUTABLE
BEGIN ATOMIC
    SELECT 'SELECT lockstep._start_tick_of_job(' || quote_literal(p_schedule_name) || ')';
END;
COMMENT ON FUNCTION lockstep._cron_job_command(text) IS
    'Returns what the job of a schedule runs.';

-- sql/74_schedule/cron_problem.sql

-- Finds what is wrong with a cron expression: NULL, or message, detail and hint.
--
-- Takes what the library takes that computes the ticks, and nothing else. That leaves
-- out dates that no month has, as the 30th of February, where only the day of the
-- month decides; what else never comes is only found when a worker looks for it.
CREATE FUNCTION lockstep._cron_problem(p_cron text)
RETURNS text[]
LANGUAGE plpgsql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_cron constant text := btrim(upper(p_cron COLLATE "C"), E' \t');
    v_names constant text[] := ARRAY[
        'second', 'minute', 'hour', 'day of month', 'month', 'day of week'
    ];
    v_field_count constant int := cardinality(regexp_split_to_array(v_cron, E'[ \t]+'));
    v_detail text;
    v_first_day numeric;
BEGIN
    IF v_cron IN ('@YEARLY', '@ANNUALLY', '@MONTHLY', '@WEEKLY', '@DAILY', '@MIDNIGHT', '@HOURLY') THEN
        RETURN NULL;
    ELSIF p_cron IS NULL THEN
        v_detail := 'It is null.';
    ELSIF length(p_cron) > 512 THEN
        v_detail := format('It has %s characters, more than 512.', length(p_cron));
    ELSIF v_field_count NOT IN (5, 6) THEN
        v_detail := format('It has %s fields.', CASE WHEN v_cron = '' THEN 0 ELSE v_field_count END);
    ELSE
        SELECT format('The field for the %s has "%s".', v_names[t.field + 1], left(t.term, 40))
        INTO v_detail
        FROM lockstep._cron_terms(p_cron) AS t
        WHERE NOT t.is_good
        ORDER BY t.field
        LIMIT 1;

        -- a day of the week that begins with a star leaves the days to the day of the month
        IF v_detail IS NULL AND v_cron ~ E'[ \t][*][^ \t]*$' THEN
            SELECT min(coalesce(t.low, 1))
            INTO v_first_day
            FROM lockstep._cron_terms(p_cron) AS t
            WHERE t.field = 3;

            IF v_first_day > 29 THEN
                SELECT format('None of its months has %s days.', v_first_day)
                INTO v_detail
                FROM lockstep._cron_terms(p_cron) AS t
                CROSS JOIN LATERAL generate_series(t.low, t.high, coalesce(t.step, 1)) AS m (month)
                WHERE t.field = 4
                HAVING max(CASE WHEN m.month = 2 THEN 29 WHEN m.month IN (4, 6, 9, 11) THEN 30 ELSE 31 END)
                    < v_first_day;
            END IF;
        END IF;
    END IF;

    RETURN CASE
        WHEN v_detail IS NOT NULL THEN ARRAY[
            format('cron expression %s is not valid', coalesce('"' || left(p_cron, 100) || '"', 'null')),
            v_detail,
            'Write five fields (minute, hour, day of month, month, day of week), six with the seconds'
            || ' first, or @hourly, @daily, @weekly, @monthly or @yearly.'
        ]
    END;
END
$$;
COMMENT ON FUNCTION lockstep._cron_problem(text) IS
    'Finds what is wrong with a cron expression: NULL, or message, detail and hint.';

-- sql/74_schedule/cron_terms.sql

-- Takes a cron expression apart into the terms of its fields.
--
-- Field 0 holds the seconds; an expression of five fields begins with field 1. is_good
-- tells whether the library that computes the ticks takes the term: a test compares
-- the two. low, high and step are the range that the term names, in numbers; a term for
-- last or nth days has none. No moment is computed here.
CREATE FUNCTION lockstep._cron_terms(p_cron text)
RETURNS TABLE (field int, term text, low numeric, high numeric, step numeric, is_good boolean)
LANGUAGE plpgsql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_texts constant text[] := regexp_split_to_array(btrim(upper(p_cron COLLATE "C"), E' \t'), '[ \t]+');
    v_first constant int := (cardinality(v_texts) <> 6)::int;
    v_lowest constant int[] := ARRAY[0, 0, 0, 1, 1, 0];
    v_highest constant int[] := ARRAY[59, 59, 23, 31, 12, 7];
    v_months constant text[] := ARRAY[
        'JAN', 'FEB', 'MAR', 'APR', 'MAY', 'JUN', 'JUL', 'AUG', 'SEP', 'OCT', 'NOV', 'DEC'
    ];
    v_days constant text[] := ARRAY['SUN', 'MON', 'TUE', 'WED', 'THU', 'FRI', 'SAT'];
BEGIN
    RETURN QUERY
    WITH terms AS (
        SELECT
            (f.place - 1)::int + v_first AS field,
            t.term,
            -- star, last day, from, to, step
            regexp_match(t.term, '^(?:([*])|(LW?)|([0-9]+|[A-Z]{3})(?:-([0-9]+|[A-Z]{3}))?)(?:/([0-9]+))?$') AS parts
        FROM unnest(v_texts) WITH ORDINALITY AS f (text, place)
        CROSS JOIN LATERAL regexp_split_to_table(f.text, ',') AS t (term)
    ),

    numbered AS (
        SELECT
            t.*,
            CASE
                WHEN t.parts[3] ~ '^[0-9]' THEN t.parts[3]::numeric
                WHEN t.field = 4 THEN array_position(v_months, t.parts[3])
                WHEN t.field = 5 THEN array_position(v_days, t.parts[3]) - 1
            END AS first,
            CASE
                WHEN t.parts[4] ~ '^[0-9]' THEN t.parts[4]::numeric
                WHEN t.field = 4 THEN array_position(v_months, t.parts[4])
                WHEN t.field = 5 THEN array_position(v_days, t.parts[4]) - 1
            END AS last,
            t.parts[5]::numeric AS step
        FROM terms AS t
    )

    SELECT
        n.field,
        n.term,
        CASE WHEN n.parts[1] IS NULL THEN n.first ELSE v_lowest[n.field + 1] END,
        CASE
            WHEN n.parts[1] IS NOT NULL THEN v_highest[n.field + 1]
            -- the library steps from a single number to the end of the field
            WHEN n.step IS NOT NULL AND (n.parts[4] IS NULL OR n.last = n.first) THEN v_highest[n.field + 1]
            WHEN n.parts[4] IS NULL THEN n.first
            ELSE n.last
        END,
        n.step,
        CASE
            WHEN n.field = 5 AND n.term ~ '^(0*[0-7]L|(0*[0-7]|SUN|MON|TUE|WED|THU|FRI|SAT)#0*[1-5])$' THEN true
            WHEN n.parts IS NULL OR n.step = 0 THEN false
            WHEN n.parts[1] IS NOT NULL THEN true
            WHEN n.parts[2] IS NOT NULL THEN n.field = 3
            ELSE coalesce(n.first BETWEEN v_lowest[n.field + 1] AND v_highest[n.field + 1], false)
                AND (n.parts[4] IS NULL OR coalesce(n.last BETWEEN n.first AND v_highest[n.field + 1], false))
        END
    FROM numbered AS n;
END
$$;
COMMENT ON FUNCTION lockstep._cron_terms(text) IS
    'Takes a cron expression apart into the terms of its fields.';

-- sql/74_schedule/declare_schedules.sql

-- Creates or changes the schedules that a worker's code declares.
--
-- schedules: [{"schedule_name", "cron", "workflow_name", "queue_name" and, where they
-- are not the default, other arguments of schedule_workflow()}, …]. What is declared no
-- longer stays: another app, or a worker of another release, may declare it.
CREATE FUNCTION lockstep.declare_schedules(schedules jsonb)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM lockstep.schedule_workflow(
        d.schedule_name, d.cron, d.workflow_name, d.queue_name,
        named_args => coalesce(d.named_args, '{}'),
        time_zone => coalesce(d.time_zone, 'UTC'),
        on_missed => coalesce(d.on_missed, 'skip'),
        engine => d.engine,
        time_arg => d.time_arg,
        priority => coalesce(d.priority, 0),
        deduplication_id => d.deduplication_id,
        queue_partition_key => d.queue_partition_key,
        timeout => d.timeout,
        max_attempts => d.max_attempts,
        app_version => d.app_version,
        headers => d.headers,
        retries => d.retries
    )
    FROM (
        SELECT r.*
        FROM jsonb_populate_recordset(NULL::lockstep.schedule, declare_schedules.schedules) AS r
        -- two workers that declare the same ones take the rows in the same order
        ORDER BY r.schedule_name
    ) AS d;
END
$$;
COMMENT ON FUNCTION lockstep.declare_schedules(jsonb) IS
    'Creates or changes the schedules that a worker''s code declares.';

-- sql/74_schedule/drop_cron_job.sql

-- Removes a schedule's job of pg_cron, if there is one and pg_cron still has it.
--
-- One that cannot be removed any more does no harm: it finds nothing to start. After a
-- restore without pg_cron's tables the id may be that of somebody else's job, also of
-- another schedule's.
CREATE FUNCTION lockstep._drop_cron_job(p_schedule_name text, p_job_id bigint)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_is_there boolean;
BEGIN
    IF p_job_id IS NULL OR lockstep._may_use_pg_cron() IS NOT TRUE THEN
        RETURN;
    END IF;

    EXECUTE format('SELECT EXISTS (SELECT FROM %I.job AS j WHERE j.jobid = $1 AND j.command = $2)', 'cron')
        INTO v_is_there
        USING p_job_id, lockstep._cron_job_command(p_schedule_name);

    IF v_is_there THEN
        EXECUTE format('SELECT %I.unschedule($1)', 'cron') USING p_job_id;
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep._drop_cron_job(text, bigint) IS
    'Removes a schedule''s job of pg_cron, if there is one and pg_cron still has it.';

-- sql/74_schedule/due_schedules.sql

-- Lists schedules that want a worker now: a tick fell due, or the next is to be computed.
--
-- asked_at is the time of the database, by which alone the worker goes. Nothing is locked
-- while it computes, so a worker that stops here stops nobody: others find the same
-- schedules, and start_ticks() takes what the first of them sends.
--
-- New schedules come first, then the latest tick: or ticks on time would wait, and be
-- missed themselves, while many schedules make up for those that they missed.
CREATE FUNCTION lockstep.due_schedules(max_count int DEFAULT 100)
RETURNS TABLE (
    schedule_name text,
    revision bigint,
    cron text,
    time_zone text,
    on_missed text,
    handled_until timestamptz,
    asked_at timestamptz
)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    v_now constant timestamptz := clock_timestamp();
BEGIN
    RETURN QUERY
    SELECT s.schedule_name, s.revision, s.cron, s.time_zone, s.on_missed, s.handled_until, v_now
    FROM lockstep.schedule AS s
    WHERE NOT s.is_paused
        AND s.next_tick_at <= v_now
    ORDER BY s.next_tick_at = '-infinity' DESC, s.next_tick_at DESC
    LIMIT greatest(due_schedules.max_count, 0);
END
$$;
COMMENT ON FUNCTION lockstep.due_schedules(int) IS
    'Lists schedules that want a worker now, with what it needs to compute their ticks.';

-- sql/74_schedule/list_schedules.sql

-- Lists schedules by name.
--
-- engine is the one that starts the ticks: pg_cron, beside the workers, or the workers
-- alone. next_tick_at is NULL if the schedule is paused, if there is none, and until a
-- worker has computed it.
CREATE FUNCTION lockstep.list_schedules()
RETURNS TABLE (
    schedule_name text,
    cron text,
    time_zone text,
    workflow_name text,
    queue_name text,
    named_args jsonb,
    time_arg text,
    on_missed text,
    engine text,
    is_paused boolean,
    priority int,
    deduplication_id text,
    queue_partition_key text,
    timeout interval,
    max_attempts int,
    app_version text,
    headers jsonb,
    retries jsonb,
    last_tick_at timestamptz,
    next_tick_at timestamptz,
    problem text,
    created_at timestamptz,
    created_by text
)
LANGUAGE plpgsql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- if it was dropped, its jobs are gone with it
    v_has_pg_cron constant boolean := lockstep._may_use_pg_cron() IS NOT NULL;
BEGIN
    RETURN QUERY
    SELECT
        s.schedule_name, s.cron, s.time_zone, s.workflow_name, s.queue_name, s.named_args,
        s.time_arg, s.on_missed,
        CASE WHEN v_has_pg_cron AND s.cron_job_id IS NOT NULL THEN 'pg_cron' ELSE 'workers' END,
        s.is_paused, s.priority, s.deduplication_id, s.queue_partition_key, s.timeout,
        s.max_attempts, s.app_version, s.headers, s.retries, s.last_tick_at,
        CASE WHEN isfinite(s.next_tick_at) AND NOT s.is_paused AND s.problem IS NULL THEN s.next_tick_at END,
        s.problem, s.created_at, s.created_by
    FROM lockstep.schedule AS s
    ORDER BY s.schedule_name;
END
$$;
COMMENT ON FUNCTION lockstep.list_schedules() IS
    'Lists schedules by name.';

-- sql/74_schedule/may_use_pg_cron.sql

-- Tells whether the caller may make jobs of pg_cron; NULL if it is not there.
--
-- Looks into the catalog: a name in a schema that one may not use cannot be asked for.
CREATE FUNCTION lockstep._may_use_pg_cron()
RETURNS boolean
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (
        SELECT
            CASE WHEN count(*) = 2
                THEN bool_and(has_schema_privilege(n.oid, 'USAGE') AND has_function_privilege(p.oid, 'EXECUTE'))
            END
        FROM pg_namespace AS n
        INNER JOIN pg_proc AS p ON p.pronamespace = n.oid
        WHERE n.nspname = 'cron'
            AND (p.proname, oidvectortypes(p.proargtypes))
            IN (('schedule', 'text, text, text'), ('unschedule', 'bigint'))
    );
END
$$;
COMMENT ON FUNCTION lockstep._may_use_pg_cron() IS
    'Tells whether the caller may make jobs of pg_cron; NULL if it is not there.';

-- sql/74_schedule/next_tick_in.sql

-- Tells in how many seconds a schedule wants a worker: 0 if one does now, NULL if none will.
CREATE FUNCTION lockstep._next_tick_in()
RETURNS double precision
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    v_now constant timestamptz := clock_timestamp();
    v_next_tick_at constant timestamptz := (
        SELECT min(s.next_tick_at)
        FROM lockstep.schedule AS s
        WHERE NOT s.is_paused
    );
BEGIN
    RETURN CASE
        WHEN v_next_tick_at <= v_now THEN 0::double precision
        WHEN v_next_tick_at < 'infinity' THEN extract(EPOCH FROM v_next_tick_at - v_now)::double precision
    END;
END
$$;
COMMENT ON FUNCTION lockstep._next_tick_in() IS
    'Tells in how many seconds a schedule wants a worker: 0 if now, NULL if never.';

-- sql/74_schedule/pause_schedule.sql

-- Leaves out the ticks of a schedule until unpause_schedule().
--
-- They are not missed ones: whatever on_missed says, none of them is started later.
CREATE FUNCTION lockstep.pause_schedule(schedule_name text)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_job_id bigint;
BEGIN
    SELECT s.cron_job_id
    INTO v_job_id
    FROM lockstep.schedule AS s
    WHERE s.schedule_name = pause_schedule.schedule_name
    FOR NO KEY UPDATE;

    IF NOT FOUND THEN
        PERFORM lockstep._refuse_unknown_schedule(pause_schedule.schedule_name);
    END IF;

    UPDATE lockstep.schedule AS s
    SET is_paused = true, cron_job_id = NULL, revision = s.revision + 1
    WHERE s.schedule_name = pause_schedule.schedule_name
        AND NOT s.is_paused;

    PERFORM lockstep._drop_cron_job(pause_schedule.schedule_name, v_job_id);
END
$$;
COMMENT ON FUNCTION lockstep.pause_schedule(text) IS
    'Leaves out the ticks of a schedule until unpause_schedule().';

-- sql/74_schedule/pg_cron_refusal.sql

-- Says why pg_cron cannot start a schedule's ticks; NULL if it can.
--
-- Called as the owner of Lockstep, whose job it would be. pg_cron is looked for anew each
-- time: it may be installed or dropped while schedules exist. It is given what its
-- parser and the library that computes the ticks read alike, and no more.
CREATE FUNCTION lockstep._pg_cron_refusal(p_cron text, p_time_zone text)
RETURNS text
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_may_use constant boolean := lockstep._may_use_pg_cron();
    v_utc constant text[] := ARRAY['UTC', 'GMT', 'UCT', 'Zulu', 'Etc/UTC', 'Etc/GMT', 'Etc/UCT', 'Etc/Zulu'];
    v_its_zone constant text := coalesce(nullif(current_setting('cron.timezone', true), ''), 'GMT');
    v_term text;
BEGIN
    IF v_may_use IS NULL THEN
        RETURN 'The extension pg_cron, 1.4 or newer, is not in this database.';
    ELSIF NOT v_may_use THEN
        RETURN format('Role "%s", which owns Lockstep, may not use pg_cron.', current_user);
    ELSIF p_time_zone <> v_its_zone
        AND NOT (p_time_zone = ANY (v_utc) AND v_its_zone = ANY (v_utc))
    THEN
        RETURN format('pg_cron runs in time zone %s, the schedule in %s.', v_its_zone, p_time_zone);
    ELSIF btrim(p_cron, E' \t') LIKE '@%' THEN
        RETURN NULL;
    ELSIF EXISTS (SELECT FROM lockstep._cron_terms(p_cron) AS t WHERE t.field = 0) THEN
        RETURN 'The expression has seconds, which pg_cron does not know.';
    END IF;

    SELECT t.term
    INTO v_term
    FROM lockstep._cron_terms(p_cron) AS t
    WHERE t.term !~ '^([*](/[0-9]{1,2})?|([0-9]{1,2}|[A-Z]{3})(-([0-9]{1,2}|[A-Z]{3}))?|[0-9]{1,2}-[0-9]{1,2}/[0-9]{1,2})$'
        -- "50-50/5" is 50 for pg_cron, 50 and 55 for the library
        OR t.term ~ E'^0*([0-9]*)-0*\\1/'
    LIMIT 1;

    RETURN 'The expression has "' || v_term || '", which pg_cron does not know.';
END
$$;
COMMENT ON FUNCTION lockstep._pg_cron_refusal(text, text) IS
    'Says why pg_cron cannot start a schedule''s ticks; NULL if it can.';

-- sql/74_schedule/refuse_unknown_schedule.sql

-- Raises the error for a name that no schedule has.
CREATE FUNCTION lockstep._refuse_unknown_schedule(p_schedule_name text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'schedule "%" does not exist', left(p_schedule_name, 400)
        USING ERRCODE = 'no_data_found',
              TABLE = 'schedule',
              HINT = 'list_schedules() lists those that do.';
END
$$;
COMMENT ON FUNCTION lockstep._refuse_unknown_schedule(text) IS
    'Raises the error for a name that no schedule has.';

-- sql/74_schedule/ring_for_schedules.sql

-- Wakes idle workers when the caller's transaction commits: a schedule was changed.
--
-- Any worker may start the ticks of any schedule, so all of them look when the next is.
CREATE FUNCTION lockstep._ring_for_schedules()
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF EXISTS (SELECT FROM lockstep.executor AS e WHERE e.is_idle) THEN
        PERFORM pg_notify('lockstep', 'due');
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep._ring_for_schedules() IS
    'Wakes idle workers when the transaction commits: a schedule was changed.';

-- sql/74_schedule/schedule_problem.sql

-- Finds what schedule_workflow() cannot take: NULL, or message, detail and hint.
CREATE FUNCTION lockstep._schedule_problem(p_schedule lockstep.schedule)
RETURNS text[]
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_name constant text := p_schedule.schedule_name;
    v_problem text[] := lockstep._cron_problem(p_schedule.cron);
    v_refusal text;
BEGIN
    IF v_name IS NULL OR btrim(v_name) = '' OR length(v_name) > 400 THEN
        RETURN ARRAY['schedule_name must have 1 to 400 characters'] || (lockstep._name_problem('schedule_name', v_name))[2:];
    ELSIF v_problem IS NOT NULL THEN
        RETURN v_problem;
    ELSIF p_schedule.on_missed IS NULL OR p_schedule.on_missed NOT IN ('skip', 'latest', 'all') THEN
        RETURN ARRAY[
            'on_missed must be ''skip'', ''latest'' or ''all''',
            format('It is %s.', quote_nullable(left(p_schedule.on_missed, 40))),
            'It says which of the ticks that nobody started in time are started late.'
        ];
    ELSIF p_schedule.engine NOT IN ('pg_cron', 'workers') THEN
        RETURN ARRAY[
            'engine must be ''pg_cron'', ''workers'' or null',
            format('It is %s.', quote_nullable(left(p_schedule.engine, 40))),
            'Leave it out to use pg_cron where it can start the ticks.'
        ];
    ELSIF p_schedule.time_zone IS NULL OR (
        p_schedule.time_zone <> 'UTC'
        AND (
            -- names of the operating system that the library need not have
            p_schedule.time_zone ~ '^(posix/|right/|posixrules$|localtime$|Factory$)'
            OR NOT EXISTS (SELECT FROM pg_timezone_names AS z WHERE z.name = p_schedule.time_zone)
        )
        -- the view reads the files of all zones, 30 ms, and each worker declares its schedules
        AND NOT EXISTS (SELECT FROM lockstep.schedule AS s WHERE s.time_zone = p_schedule.time_zone)
    ) THEN
        RETURN ARRAY[
            format('time zone %s does not exist', coalesce('"' || left(p_schedule.time_zone, 100) || '"', 'null')),
            'It is no name that pg_timezone_names lists, to the letter.',
            'Pass a name such as Europe/Berlin.'
        ];
    END IF;

    v_problem := lockstep._enqueue_problem(
        p_schedule.workflow_name, p_schedule.queue_name, '[]', p_schedule.named_args, NULL,
        p_schedule.deduplication_id, 'return', p_schedule.priority,
        p_schedule.queue_partition_key, NULL, NULL, p_schedule.timeout, NULL,
        p_schedule.max_attempts, p_schedule.app_version, p_schedule.headers, p_schedule.retries
    );
    IF v_problem IS NOT NULL THEN
        RETURN v_problem;
    ELSIF p_schedule.time_arg = '' OR p_schedule.named_args ? p_schedule.time_arg THEN
        RETURN ARRAY[
            'time_arg must name an argument that named_args does not',
            format('It is %s.', quote_literal(left(p_schedule.time_arg, 40))),
            'Each tick passes its time as this argument; pass null if the workflow does not take it.'
        ];
    ELSIF p_schedule.engine = 'pg_cron' THEN
        v_refusal := lockstep._pg_cron_refusal(p_schedule.cron, p_schedule.time_zone);
        IF v_refusal IS NOT NULL THEN
            RETURN ARRAY[
                'pg_cron cannot start the ticks of this schedule', v_refusal,
                'Leave engine out, or pass ''workers'': the workers start the ticks then.'
            ];
        END IF;
    END IF;

    RETURN NULL;
END
$$;
COMMENT ON FUNCTION lockstep._schedule_problem(lockstep.schedule) IS
    'Finds what schedule_workflow() cannot take: NULL, or message, detail and hint.';

-- sql/74_schedule/schedule_workflow.sql

-- Creates a schedule, or replaces one: a workflow is started at each tick.
--
-- What an expression means a library says that the workers have: due_schedules() tells a
-- worker which schedules are due, it computes their ticks, and start_ticks() starts the
-- workflows. Where pg_cron is, a job of the schedule calls _start_tick_of_job() as well.
-- _start_tick() derives the id of the workflow from the tick, so that who is first wins.
--
-- The ticks after this moment count; an expression or time zone that changes forgets
-- what was missed under the old one. A call that changes nothing writes nothing, so that
-- each worker may declare its schedules when it starts. A paused schedule stays paused.
--
-- Lock order: the schedule row, then pg_cron's. The loop runs again only if the schedule
-- was removed between the INSERT, which it stopped, and the look at it.
CREATE FUNCTION lockstep.schedule_workflow(
    schedule_name text,
    cron text,
    workflow_name text,
    queue_name text,
    named_args jsonb DEFAULT '{}',
    time_zone text DEFAULT 'UTC',
    on_missed text DEFAULT 'skip',
    engine text DEFAULT NULL,
    time_arg text DEFAULT 'scheduled_at',
    priority int DEFAULT 0,
    deduplication_id text DEFAULT NULL,
    queue_partition_key text DEFAULT NULL,
    timeout interval DEFAULT NULL,
    max_attempts int DEFAULT NULL,
    app_version text DEFAULT NULL,
    headers jsonb DEFAULT NULL,
    retries jsonb DEFAULT NULL
)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_now constant timestamptz := clock_timestamp();
    v_kept constant text[] := ARRAY[
        'cron_job_id', 'is_paused', 'revision', 'handled_until', 'last_tick_at', 'next_tick_at',
        'problem', 'created_at', 'created_by'
    ];
    v_problem text[];
    v_new lockstep.schedule;
    v_old lockstep.schedule;
BEGIN
    v_new := jsonb_populate_record(NULL::lockstep.schedule, jsonb_build_object(
        'schedule_name', schedule_workflow.schedule_name,
        'cron', schedule_workflow.cron,
        'time_zone', schedule_workflow.time_zone,
        'workflow_name', schedule_workflow.workflow_name,
        'queue_name', schedule_workflow.queue_name,
        'named_args', schedule_workflow.named_args,
        'time_arg', schedule_workflow.time_arg,
        'on_missed', schedule_workflow.on_missed,
        'engine', schedule_workflow.engine,
        'priority', schedule_workflow.priority,
        'deduplication_id', schedule_workflow.deduplication_id,
        'queue_partition_key', schedule_workflow.queue_partition_key,
        'timeout', schedule_workflow.timeout,
        'max_attempts', schedule_workflow.max_attempts,
        'app_version', schedule_workflow.app_version,
        'headers', schedule_workflow.headers,
        'retries', schedule_workflow.retries,
        'is_paused', false, 'revision', 1, 'handled_until', v_now, 'next_tick_at', '-infinity',
        'created_at', v_now, 'created_by', lockstep._caller()
    ));

    v_problem := lockstep._schedule_problem(v_new);
    IF v_problem IS NOT NULL THEN
        RAISE EXCEPTION '%', v_problem[1]
            USING ERRCODE = 'invalid_parameter_value', DETAIL = v_problem[2], HINT = v_problem[3];
    END IF;

    LOOP
        INSERT INTO lockstep.schedule
        SELECT v_new.*
        ON CONFLICT ON CONSTRAINT schedule_pkey DO NOTHING;

        EXIT WHEN FOUND;

        SELECT s.*
        INTO v_old
        FROM lockstep.schedule AS s
        WHERE s.schedule_name = v_new.schedule_name
        FOR NO KEY UPDATE;

        CONTINUE WHEN NOT FOUND;

        IF to_jsonb(v_new) - v_kept = to_jsonb(v_old) - v_kept THEN
            PERFORM lockstep._adjust_cron_job(v_old);
            RETURN;
        END IF;

        UPDATE lockstep.schedule AS s
        SET
            cron = v_new.cron,
            time_zone = v_new.time_zone,
            workflow_name = v_new.workflow_name,
            queue_name = v_new.queue_name,
            named_args = v_new.named_args,
            time_arg = v_new.time_arg,
            on_missed = v_new.on_missed,
            engine = v_new.engine,
            priority = v_new.priority,
            deduplication_id = v_new.deduplication_id,
            queue_partition_key = v_new.queue_partition_key,
            timeout = v_new.timeout,
            max_attempts = v_new.max_attempts,
            app_version = v_new.app_version,
            headers = v_new.headers,
            retries = v_new.retries,
            revision = s.revision + 1,
            handled_until = CASE
                WHEN (s.cron, s.time_zone) = (v_new.cron, v_new.time_zone) THEN s.handled_until
                ELSE greatest(s.handled_until, v_now)
            END,
            next_tick_at = '-infinity',
            problem = NULL
        WHERE s.schedule_name = v_new.schedule_name
        RETURNING s.*
        INTO v_new;

        EXIT;
    END LOOP;

    PERFORM lockstep._adjust_cron_job(v_new);
    PERFORM lockstep._ring_for_schedules();
END
$$;
COMMENT ON FUNCTION lockstep.schedule_workflow(
    text, text, text, text, jsonb, text, text, text, text,
    int, text, text, interval, int, text, jsonb, jsonb
) IS
    'Creates or replaces a schedule: a workflow is started at each tick.';

-- sql/74_schedule/start_backfill.sql

-- Starts the workflows of some past ticks of a schedule; returns how many it started.
--
-- The worker that runs "lockstep.backfill" calls it, a batch at a time. Locks nothing of
-- the schedule: the ids of the workflows see to it that none is started twice. They have
-- the backfill's id as a header, by which a worker that comes after one that died counts
-- those of the batch that it did not record.
CREATE FUNCTION lockstep.start_backfill(
    schedule_name text,
    ticks timestamptz[],
    backfill_id text
)
RETURNS int
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_schedule lockstep.schedule;
BEGIN
    SELECT marked.*
    INTO v_schedule
    FROM lockstep.schedule AS s
    CROSS JOIN LATERAL jsonb_populate_record(s, jsonb_build_object(
        'headers', coalesce(s.headers, '{}') || jsonb_build_object('backfill_id', start_backfill.backfill_id)
    )) AS marked
    WHERE s.schedule_name = start_backfill.schedule_name;

    IF NOT FOUND THEN
        PERFORM lockstep._refuse_unknown_schedule(start_backfill.schedule_name);
    END IF;

    PERFORM lockstep._start_tick(v_schedule, t.tick)
    FROM unnest(start_backfill.ticks) AS t (tick);

    RETURN (
        SELECT count(*)::int
        FROM unnest(start_backfill.ticks) AS t (tick)
        INNER JOIN lockstep.workflow_status AS w ON w.workflow_id = lockstep._tick_id(v_schedule.schedule_name, t.tick)
        WHERE w.headers ->> 'backfill_id' = start_backfill.backfill_id
    );
END
$$;
COMMENT ON FUNCTION lockstep.start_backfill(text, timestamptz[], text) IS
    'Starts the workflows of some past ticks of a schedule.';

-- sql/74_schedule/start_tick.sql

-- Starts the workflow of a tick unless it exists; tells whether it did.
--
-- The id is derived from the schedule and the tick, so whoever starts a tick a second
-- time, at the same moment or a year later, finds the first. A workflow of that id
-- that somebody else enqueued, whatever it is, counts as started, or it would stop the
-- schedule for good. p_workflow_id is for a start that is no tick.
CREATE FUNCTION lockstep._start_tick(
    p_schedule lockstep.schedule,
    p_tick timestamptz,
    p_workflow_id text DEFAULT NULL
)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_tick_text constant text := lockstep._tick_text(p_tick);
    v_workflow_id constant text := coalesce(p_workflow_id, lockstep._tick_id(p_schedule.schedule_name, p_tick));
BEGIN
    IF EXISTS (SELECT FROM lockstep.workflow_status AS w WHERE w.workflow_id = v_workflow_id) THEN
        RETURN false;
    END IF;

    RETURN v_workflow_id = lockstep.enqueue_workflow(
        p_schedule.workflow_name,
        p_schedule.queue_name,
        named_args => p_schedule.named_args || CASE
            WHEN p_schedule.time_arg IS NULL THEN '{}'
            ELSE jsonb_build_object(p_schedule.time_arg, v_tick_text)
        END,
        workflow_id => v_workflow_id,
        deduplication_id => p_schedule.deduplication_id,
        on_duplicate => 'return',
        priority => p_schedule.priority,
        queue_partition_key => p_schedule.queue_partition_key,
        timeout => p_schedule.timeout,
        max_attempts => p_schedule.max_attempts,
        app_version => p_schedule.app_version,
        headers => coalesce(p_schedule.headers, '{}') || jsonb_build_object(
            'schedule_name', p_schedule.schedule_name, 'scheduled_at', v_tick_text
        ),
        retries => p_schedule.retries
    );
END
$$;
COMMENT ON FUNCTION lockstep._start_tick(lockstep.schedule, timestamptz, text) IS
    'Starts the workflow of a tick unless it exists; tells whether it did.';

-- sql/74_schedule/start_tick_of_job.sql

-- Starts the current tick of a schedule; a job of pg_cron calls it at each tick.
--
-- Workers start ticks too, so this matters when none is alive. If one computed the tick
-- that falls due now, that is it. If the next one is still to come, pg_cron is late and
-- a worker was faster. Otherwise nobody has computed since the last tick, and pg_cron's
-- word is taken: this minute. handled_until then stays where it is, so that the worker
-- that comes back finds what was missed meanwhile, and what was started by its id.
CREATE FUNCTION lockstep._start_tick_of_job(p_schedule_name text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_minute timestamptz;
    v_schedule lockstep.schedule;
BEGIN
    SELECT s.*
    INTO v_schedule
    FROM lockstep.schedule AS s
    WHERE s.schedule_name = p_schedule_name
        AND NOT s.is_paused
    FOR NO KEY UPDATE;

    v_minute := date_trunc('minute', clock_timestamp());
    IF NOT FOUND OR v_schedule.next_tick_at > v_minute OR v_schedule.handled_until >= v_minute THEN
        RETURN;
    END IF;

    PERFORM lockstep._start_tick(v_schedule, v_minute);

    UPDATE lockstep.schedule AS s
    SET
        revision = s.revision + 1,
        last_tick_at = v_minute,
        handled_until = CASE WHEN s.next_tick_at = v_minute THEN v_minute ELSE s.handled_until END,
        next_tick_at = CASE WHEN s.next_tick_at = v_minute THEN '-infinity' ELSE s.next_tick_at END
    WHERE s.schedule_name = p_schedule_name;

    PERFORM lockstep._ring_for_schedules();
END
$$;
COMMENT ON FUNCTION lockstep._start_tick_of_job(text) IS
    'Starts the current tick of a schedule; a job of pg_cron calls it at each tick.';

-- sql/74_schedule/start_ticks.sql

-- Starts ticks that a worker computed and notes the next one of each schedule.
--
-- changes: [{"schedule_name", "revision", "ticks": […], "handled_until", "next_tick_at",
-- "problem"}, …]. What was computed from another revision is dropped: another worker was
-- faster, or the schedule was changed. A schedule that somebody holds is passed over, and
-- still due. A problem is tried again in a minute. Returns how many workflows it
-- started, and the seconds until a schedule wants a worker, or NULL.
--
-- Lock order: schedule rows by name, skipping locked ones; new workflow rows.
CREATE FUNCTION lockstep.start_ticks(
    changes jsonb,
    OUT started_count int,
    OUT next_tick_in double precision
)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    r_change record;
    v_schedule lockstep.schedule;
BEGIN
    started_count := 0;

    FOR r_change IN
        SELECT c.*
        FROM jsonb_to_recordset(start_ticks.changes) AS c (
            schedule_name text, revision bigint, ticks timestamptz[], handled_until timestamptz,
            next_tick_at timestamptz, problem text
        )
        ORDER BY c.schedule_name
    LOOP
        SELECT s.*
        INTO v_schedule
        FROM lockstep.schedule AS s
        WHERE s.schedule_name = r_change.schedule_name
            AND s.revision = r_change.revision
            AND NOT s.is_paused
        FOR NO KEY UPDATE SKIP LOCKED;

        CONTINUE WHEN NOT FOUND;

        started_count := started_count + (
            SELECT count(*) FILTER (WHERE lockstep._start_tick(v_schedule, t.tick))::int
            FROM unnest(r_change.ticks) AS t (tick)
        );

        UPDATE lockstep.schedule AS s
        SET
            revision = s.revision + 1,
            handled_until = greatest(s.handled_until, r_change.handled_until),
            last_tick_at = coalesce((SELECT max(t.tick) FROM unnest(r_change.ticks) AS t (tick)), s.last_tick_at),
            next_tick_at = coalesce(
                r_change.next_tick_at,
                CASE WHEN r_change.problem IS NULL THEN 'infinity' ELSE clock_timestamp() + interval '1 minute' END
            ),
            problem = r_change.problem
        WHERE s.schedule_name = r_change.schedule_name;
    END LOOP;

    next_tick_in := lockstep._next_tick_in();
END
$$;
COMMENT ON FUNCTION lockstep.start_ticks(jsonb) IS
    'Starts ticks that a worker computed and notes the next one of each schedule.';

-- sql/74_schedule/tick_id.sql

-- Derives the id of a tick's workflow: the same one, whoever starts the tick.
CREATE FUNCTION lockstep._tick_id(p_schedule_name text, p_tick timestamptz)
RETURNS text
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN p_schedule_name || ':' || lockstep._tick_text(p_tick);
END
$$;
COMMENT ON FUNCTION lockstep._tick_id(text, timestamptz) IS
    'Derives the id of a tick''s workflow.';

-- sql/74_schedule/tick_text.sql

-- Writes a tick as ids and arguments of workflows have it: in UTC, to the second.
CREATE FUNCTION lockstep._tick_text(p_tick timestamptz)
RETURNS text
LANGUAGE sql
STABLE
BEGIN ATOMIC
    SELECT to_char(p_tick AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"');
END;
COMMENT ON FUNCTION lockstep._tick_text(timestamptz) IS
    'Writes a tick as ids and arguments of workflows have it.';

-- sql/74_schedule/trigger_schedule.sql

-- Starts a schedule's workflow now, beside its ticks; also of one that is paused.
--
-- The start is no tick: its id is a new one each time, and no tick is left out for it.
CREATE FUNCTION lockstep.trigger_schedule(schedule_name text)
RETURNS text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_workflow_id constant text := trigger_schedule.schedule_name || ':' || lockstep._generate_id();
    v_schedule lockstep.schedule;
BEGIN
    SELECT s.*
    INTO v_schedule
    FROM lockstep.schedule AS s
    WHERE s.schedule_name = trigger_schedule.schedule_name;

    IF NOT FOUND THEN
        PERFORM lockstep._refuse_unknown_schedule(trigger_schedule.schedule_name);
    END IF;

    IF NOT lockstep._start_tick(v_schedule, clock_timestamp(), v_workflow_id) THEN
        PERFORM lockstep._refuse_rival(
            v_schedule.queue_name, v_schedule.deduplication_id,
            (
                SELECT w.workflow_id
                FROM lockstep.workflow_status AS w
                WHERE w.queue_name = v_schedule.queue_name
                    AND w.deduplication_id = v_schedule.deduplication_id
                    AND w.completed_at IS NULL
            ),
            'Wait for its end, or cancel it.'
        );
    END IF;

    RETURN v_workflow_id;
END
$$;
COMMENT ON FUNCTION lockstep.trigger_schedule(text) IS
    'Starts a schedule''s workflow now, beside its ticks; returns its id.';

-- sql/74_schedule/unpause_schedule.sql

-- Lets a paused schedule go on with its next tick; those of the pause are left out.
CREATE FUNCTION lockstep.unpause_schedule(schedule_name text)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_schedule lockstep.schedule;
BEGIN
    UPDATE lockstep.schedule AS s
    SET
        is_paused = false,
        revision = s.revision + 1,
        handled_until = greatest(clock_timestamp(), s.handled_until),
        next_tick_at = '-infinity'
    WHERE s.schedule_name = unpause_schedule.schedule_name
        AND s.is_paused
    RETURNING s.*
    INTO v_schedule;

    IF FOUND THEN
        PERFORM lockstep._adjust_cron_job(v_schedule);
        PERFORM lockstep._ring_for_schedules();
    ELSIF NOT EXISTS (
        SELECT
        FROM lockstep.schedule AS s
        WHERE s.schedule_name = unpause_schedule.schedule_name
    ) THEN
        PERFORM lockstep._refuse_unknown_schedule(unpause_schedule.schedule_name);
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep.unpause_schedule(text) IS
    'Lets a paused schedule go on with its next tick.';

-- sql/74_schedule/unschedule_workflow.sql

-- Removes a schedule; workflows that it started go on.
CREATE FUNCTION lockstep.unschedule_workflow(schedule_name text)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_job_id bigint;
BEGIN
    DELETE FROM lockstep.schedule AS s
    WHERE s.schedule_name = unschedule_workflow.schedule_name
    RETURNING s.cron_job_id
    INTO v_job_id;

    IF NOT FOUND THEN
        PERFORM lockstep._refuse_unknown_schedule(unschedule_workflow.schedule_name);
    END IF;

    PERFORM lockstep._drop_cron_job(unschedule_workflow.schedule_name, v_job_id);
END
$$;
COMMENT ON FUNCTION lockstep.unschedule_workflow(text) IS
    'Removes a schedule; workflows that it started go on.';

-- sql/75_worker/advance_workflows.sql

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
CREATE FUNCTION lockstep.advance_workflows(
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

-- sql/75_worker/pulse.sql

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
CREATE FUNCTION lockstep.pulse(
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

-- sql/76_state_machine/add_transition.sql

-- Adds a transition to the newest version of a state machine, and returns that version.
--
-- A row in from_state moves to to_state when the event happens to it; without from_state,
-- rows may be inserted in to_state. workflow_name is the workflow that each such move
-- starts. A state is what occurs in a transition, a final one what no transition leaves.
CREATE FUNCTION lockstep.add_transition(
    machine_name text,
    from_state text,
    event text,
    to_state text,
    workflow_name text DEFAULT NULL,
    queue_name text DEFAULT 'default'
)
RETURNS int
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_version constant int := lockstep._state_machine_version(add_transition.machine_name);
    v_problem text[];
    r_rival record;
BEGIN
    SELECT lockstep._name_problem(n.argument, n.value)
    INTO v_problem
    FROM (
        VALUES
            ('from_state', add_transition.from_state, true),
            ('event', add_transition.event, false),
            ('to_state', add_transition.to_state, false),
            ('workflow_name', add_transition.workflow_name, true),
            ('queue_name', add_transition.queue_name, add_transition.workflow_name IS NULL)
    ) AS n (argument, value, is_optional)
    WHERE btrim(n.value) = '' OR length(n.value) > 512 OR (n.value IS NULL AND NOT n.is_optional)
    LIMIT 1;

    IF v_problem IS NULL AND add_transition.from_state = add_transition.to_state THEN
        v_problem := ARRAY[
            'from_state and to_state must differ',
            format('Both are "%s".', add_transition.to_state),
            'What leaves the state as it is needs no transition; enqueue_workflow() starts a workflow without one.'
        ];
    END IF;
    IF v_problem IS NOT NULL THEN
        RAISE EXCEPTION '%', v_problem[1]
            USING ERRCODE = 'invalid_parameter_value', DETAIL = v_problem[2], HINT = v_problem[3];
    END IF;

    INSERT INTO lockstep.state_transition (
        machine_name, version, from_state, event, to_state, workflow_name, queue_name
    )
    VALUES (
        add_transition.machine_name, v_version, add_transition.from_state, add_transition.event,
        add_transition.to_state, add_transition.workflow_name,
        CASE WHEN add_transition.workflow_name IS NOT NULL THEN add_transition.queue_name END
    )
    ON CONFLICT DO NOTHING;

    IF FOUND THEN
        RETURN v_version;
    END IF;

    SELECT t.event, t.to_state
    INTO r_rival
    FROM lockstep.state_transition AS t
    WHERE t.machine_name = add_transition.machine_name
        AND t.version = v_version
        AND CASE
            WHEN add_transition.from_state IS NULL THEN t.from_state IS NULL AND t.to_state = add_transition.to_state
            ELSE t.from_state = add_transition.from_state AND t.event = add_transition.event
        END;

    IF add_transition.from_state IS NULL THEN
        RAISE EXCEPTION 'rows enter state "%" of state machine "%" already', r_rival.to_state, add_transition.machine_name
            USING ERRCODE = 'unique_violation',
                  DETAIL = format('They do by event "%s".', r_rival.event),
                  HINT = 'One event leads into a state; an insertion could not tell two apart.';
    END IF;
    RAISE EXCEPTION 'event "%" leaves state "%" of state machine "%" already',
        add_transition.event, add_transition.from_state, add_transition.machine_name
        USING ERRCODE = 'unique_violation',
              DETAIL = format('It leads to "%s".', r_rival.to_state),
              HINT = 'Name another event, or define a new version with create_state_machine().';
END
$$;
COMMENT ON FUNCTION lockstep.add_transition(text, text, text, text, text, text) IS
    'Adds a transition to the newest version of a state machine, and returns that version.';

-- sql/76_state_machine/attach_state_machine.sql

-- Lets the rows of a table move only as a state machine allows.
--
-- Executes what state_machine_triggers() writes. The triggers are what is attached: dumps
-- and renames of the table keep them. They name columns, so attach again after renaming one.
--
-- Runs with the rights of the caller, who must own the table. So must, later, the owner of the
-- table be able to record: the trigger function runs with that role's rights.
--
-- Locks the table in SHARE ROW EXCLUSIVE, as a new trigger needs it, before it looks at its rows.
CREATE FUNCTION lockstep.attach_state_machine(
    table_name regclass,
    state_column name,
    machine_name text,
    version_column name DEFAULT NULL,
    check_existing boolean DEFAULT true
)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
-- names are quoted, or regclass: @plpgsql_check_options: security_warnings = off
DECLARE
    v_newest constant int := lockstep.newest_machine_version(attach_state_machine.machine_name);
    v_look constant text := $look$
SELECT string_agg(format('%%s (%%s)', coalesce(to_json(r.state)::text, 'null'), r.row_count), ', ' ORDER BY r.state)
FROM (SELECT t.%1$I::text AS state, %2$s AS version, count(*) AS row_count FROM %3$s AS t GROUP BY 1, 2) AS r
WHERE NOT EXISTS (
    SELECT
    FROM lockstep.state_transition AS d
    WHERE d.machine_name = %4$L AND d.version = r.version AND r.state IN (d.from_state, d.to_state)
)
$look$;
    v_strangers text;
    v_problem text[];
    r_table record;
    r_statement record;
BEGIN
    SELECT
        c.relowner::regrole AS owner,
        format(CASE c.relkind WHEN 'p' THEN '%s' ELSE 'ONLY %s' END, c.oid::regclass) AS scanned,
        has_schema_privilege(c.relowner, 'lockstep', 'USAGE') AND has_function_privilege(
            c.relowner, 'lockstep.record_transition(regclass, text, text, int, jsonb, text, text)', 'EXECUTE'
        ) AS may_record,
        EXISTS (
            SELECT
            FROM pg_trigger AS t
            WHERE t.tgrelid = c.oid
                AND t.tgname = 'lockstep_state_machine'
        ) AS is_attached,
        EXISTS (
            SELECT
            FROM pg_attribute AS a
            WHERE a.attrelid = c.oid
                AND a.attname = attach_state_machine.version_column
                AND (a.atthasdef OR NOT a.attnotnull)
        ) AS has_other_version
    INTO r_table
    FROM pg_class AS c
    WHERE c.oid = attach_state_machine.table_name;

    v_problem := CASE
        WHEN r_table.is_attached THEN ARRAY[
            'object_not_in_prerequisite_state',
            format('%s follows a state machine already', attach_state_machine.table_name),
            'A table follows one at most.', 'Call detach_state_machine() first.'
        ]
        WHEN r_table.has_other_version THEN ARRAY[
            'object_not_in_prerequisite_state',
            format(
                'column "%s" of %s must be NOT NULL and have no default',
                attach_state_machine.version_column, attach_state_machine.table_name
            ),
            'A row that is inserted without a version gets the newest one.',
            'Fill it for the rows that exist, then use SET NOT NULL and DROP DEFAULT.'
        ]
        WHEN NOT r_table.may_record THEN ARRAY[
            'insufficient_privilege',
            format('role %s may not record transitions', r_table.owner),
            format('It owns %s, and the trigger function will run with its rights.', attach_state_machine.table_name),
            format('Call grant_usage(%L, ''admin'').', r_table.owner)
        ]
    END;
    IF v_problem IS NOT NULL THEN
        RAISE EXCEPTION '%', v_problem[2]
            USING ERRCODE = v_problem[1], DETAIL = v_problem[3], HINT = v_problem[4];
    END IF;

    FOR r_statement IN
        SELECT s.statement
        FROM lockstep.state_machine_triggers(
            attach_state_machine.table_name, attach_state_machine.state_column,
            attach_state_machine.machine_name, attach_state_machine.version_column
        ) AS s
    LOOP
        EXECUTE r_statement.statement;
    END LOOP;

    IF attach_state_machine.check_existing THEN
        EXECUTE format(
            v_look, attach_state_machine.state_column,
            coalesce('t.' || quote_ident(attach_state_machine.version_column), v_newest::text),
            r_table.scanned, attach_state_machine.machine_name
        )
        INTO v_strangers;
    END IF;
    IF v_strangers IS NOT NULL THEN
        RAISE EXCEPTION '% has rows in states that state machine "%" does not know',
            attach_state_machine.table_name, attach_state_machine.machine_name
            USING ERRCODE = 'check_violation',
                  DETAIL = format('The states, and how many rows are in each: %s.', v_strangers),
                  HINT = 'Add the states, or pass check_existing => false to leave such rows as they are.';
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep.attach_state_machine(regclass, name, text, name, boolean) IS
    'Lets the rows of a table move only as a state machine allows.';

-- sql/76_state_machine/create_state_machine.sql

-- Creates a state machine, or the next version of one that exists; returns the version.
--
-- add_transition() says what it allows. attach_state_machine() gives a table triggers that
-- hand each change of a row to record_transition(), which refuses, or records it and starts
-- its workflow. fire_event() is an UPDATE of the state by the name of an event.
--
-- A version begins empty and is defined as a whole with add_transition(), usually in the
-- same transaction: rows follow the newest version from its commit on, unless their table
-- has a version column. Of two sessions that create the same version at once one fails.
CREATE FUNCTION lockstep.create_state_machine(machine_name text)
RETURNS int
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_version int;
    v_problem text[];
BEGIN
    IF create_state_machine.machine_name IS NULL
        OR btrim(create_state_machine.machine_name) = '' OR length(create_state_machine.machine_name) > 512
    THEN
        v_problem := lockstep._name_problem('machine_name', create_state_machine.machine_name);
        RAISE EXCEPTION '%', v_problem[1]
            USING ERRCODE = 'invalid_parameter_value', DETAIL = v_problem[2], HINT = v_problem[3];
    END IF;

    INSERT INTO lockstep.state_machine AS n (machine_name, version, created_by)
    SELECT create_state_machine.machine_name, coalesce(max(m.version), 0) + 1, lockstep._caller()
    FROM lockstep.state_machine AS m
    WHERE m.machine_name = create_state_machine.machine_name
    RETURNING n.version
    INTO v_version;

    RETURN v_version;
END
$$;
COMMENT ON FUNCTION lockstep.create_state_machine(text) IS
    'Creates a state machine, or the next version of one that exists; returns the version.';

-- sql/76_state_machine/detach_state_machine.sql

-- Takes the state machine from a table: its triggers, and the function that they call.
--
-- The history stays. Returns whether there was one. Locks the table as DROP TRIGGER does.
CREATE FUNCTION lockstep.detach_state_machine(table_name regclass)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
-- all that it changes is dynamic: @plpgsql_check_options: performance_warnings = off
DECLARE
    v_function regprocedure;
    r_trigger record;
BEGIN
    FOR r_trigger IN
        SELECT t.tgname, t.tgfoid
        FROM pg_trigger AS t
        INNER JOIN pg_proc AS p ON p.oid = t.tgfoid
        WHERE t.tgrelid = detach_state_machine.table_name
            AND t.tgname IN (
                'lockstep_state_machine', 'lockstep_state_machine_ends',
                'lockstep_state_machine_version', 'zzz_lockstep_state_machine_move'
            )
            AND p.prosrc LIKE '%Written by lockstep.attach\_state\_machine()%'
    LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', r_trigger.tgname, detach_state_machine.table_name);
        v_function := r_trigger.tgfoid;
    END LOOP;

    IF v_function IS NOT NULL THEN
        EXECUTE format('DROP FUNCTION %s', v_function);
    END IF;

    RETURN v_function IS NOT NULL;
END
$$;
COMMENT ON FUNCTION lockstep.detach_state_machine(regclass) IS
    'Takes the state machine from a table: its triggers, and the function that they call.';

-- sql/76_state_machine/fire_event.sql

-- Lets an event happen to a row: moves it as its state machine says, and returns the new state.
--
-- Refused with 23514 if the event does not leave the state of the row, with P0002 if the
-- machine does not know it or the row is gone, with 55000 if the table has no machine.
--
-- Called as SELECT lockstep.fire_event(o, 'pay') FROM orders AS o WHERE …: the type of the
-- row names the table, its primary key the row. The row is locked (FOR NO KEY UPDATE) and
-- read again, so of two calls at once the second sees what the first one did.
--
-- Everything here runs with the rights of the caller, and what the row's table calls, its
-- triggers and policies, with the caller's search_path, as in an UPDATE: the default of the
-- parameter is evaluated by the caller.
CREATE FUNCTION lockstep.fire_event(
    record anyelement,
    event text,
    search_path text DEFAULT pg_catalog.current_setting('search_path')
)
RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
-- names are quoted, or regclass: @plpgsql_check_options: security_warnings = off
DECLARE
    v_table constant regclass := (
        SELECT t.typrelid::regclass
        FROM pg_type AS t
        WHERE t.oid = pg_typeof(fire_event.record)
            AND t.typrelid <> 0
    );
    v_earlier_event constant text := coalesce(current_setting('lockstep.event', true), '');
    v_is_row text;
    v_key text;
    v_state text;
    v_quoted_state text;
    v_version int;
    v_to_state text;
    v_is_there boolean;
    v_problem text[];
    r_machine record;
BEGIN
    SELECT m.machine_name, m.state_column, m.version_column, format_type(a.atttypid, -1) AS state_type
    INTO r_machine
    FROM pg_trigger AS t
    CROSS JOIN LATERAL lockstep._state_machine_of(t.tgfoid, t.tgargs) AS m
    INNER JOIN pg_attribute AS a ON a.attrelid = t.tgrelid AND a.attname = m.state_column
    WHERE t.tgrelid = v_table
        AND t.tgname = 'lockstep_state_machine';
    IF NOT FOUND THEN
        RAISE EXCEPTION '% follows no state machine', coalesce(v_table::text, pg_typeof(fire_event.record)::text)
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Pass a row of a table with one: SELECT lockstep.fire_event(o, ''pay'') FROM orders AS o.';
    END IF;

    -- with the operators of the key's index, which may be those of an extension
    SELECT
        string_agg(format('t.%1$I OPERATOR(%2$I.%3$s) ($1).%1$I', a.attname, n.nspname, o.oprname), ' AND '),
        string_agg(format('%1$L, ($1).%1$I', a.attname), ', ' ORDER BY k.place)
    INTO STRICT v_is_row, v_key
    FROM pg_index AS i
    CROSS JOIN LATERAL unnest(i.indkey::int2[], i.indclass::oid[]) WITH ORDINALITY AS k (attnum, opclass, place)
    INNER JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
    INNER JOIN pg_opclass AS c ON c.oid = k.opclass
    INNER JOIN pg_amop AS p
        ON p.amopfamily = c.opcfamily AND p.amoplefttype = c.opcintype AND p.amoprighttype = c.opcintype
        AND p.amopstrategy = 3
    INNER JOIN pg_operator AS o ON o.oid = p.amopopr
    INNER JOIN pg_namespace AS n ON n.oid = o.oprnamespace
    WHERE i.indrelid = v_table
        AND i.indisprimary
        AND k.place <= i.indnkeyatts;

    PERFORM set_config('search_path', fire_event.search_path, true);
    EXECUTE pg_catalog.format(
        'SELECT t.%I::pg_catalog.text, %s, true FROM %s AS t WHERE %s FOR NO KEY UPDATE',
        r_machine.state_column, coalesce(pg_catalog.quote_ident(r_machine.version_column), 'NULL'), v_table, v_is_row
    )
    INTO v_state, v_version, v_is_there
    USING fire_event.record;
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);

    SELECT l.to_state
    INTO v_to_state
    FROM lockstep.list_transitions(r_machine.machine_name, v_state, v_version) AS l
    WHERE l.from_state = v_state
        AND l.event = fire_event.event;

    IF NOT FOUND THEN
        v_quoted_state := coalesce('"' || v_state || '"', 'null');
        EXECUTE format('SELECT format(''Row %%s of %%s'', jsonb_build_object(%s), $2)', v_key)
        INTO v_key
        USING fire_event.record, v_table;

        SELECT CASE
            WHEN v_is_there IS NULL THEN ARRAY[
                'no_data_found', format('row of %s does not exist', v_table), v_key || '.',
                'It was deleted, or your role does not see it.'
            ]
            WHEN count(*) FILTER (WHERE l.event = fire_event.event) = 0 THEN ARRAY[
                'no_data_found',
                format('state machine "%s" has no event "%s"', r_machine.machine_name, fire_event.event),
                format('%s is in state %s.', v_key, v_quoted_state),
                coalesce(
                    'Its events are ' || string_agg(DISTINCT format('"%s"', l.event), ', ') || '.',
                    'Add transitions with add_transition(); none leaves a state.'
                )
            ]
            ELSE ARRAY[
                'check_violation',
                format(
                    'event "%s" of state machine "%s" leads %s, not from %s',
                    fire_event.event, r_machine.machine_name,
                    string_agg(
                        format('from "%s" to "%s"', l.from_state, l.to_state), ' and ' ORDER BY l.from_state
                    ) FILTER (WHERE l.event = fire_event.event),
                    v_quoted_state
                ),
                format('%s is in state %s.', v_key, v_quoted_state),
                coalesce(
                    format('Events in %s: ', v_quoted_state)
                    || string_agg(format('%s (to "%s")', l.event, l.to_state), ', ')
                        FILTER (WHERE l.from_state = v_state)
                    || '.',
                    format('No transition leaves %s.', v_quoted_state)
                )
            ]
        END
        INTO v_problem
        FROM lockstep.list_transitions(r_machine.machine_name, NULL, v_version) AS l
        WHERE l.from_state IS NOT NULL;

        RAISE EXCEPTION '%', v_problem[2]
            USING ERRCODE = v_problem[1], DETAIL = v_problem[3], HINT = v_problem[4];
    END IF;

    PERFORM
        set_config('lockstep.event', fire_event.event, true),
        set_config('search_path', fire_event.search_path, true);
    EXECUTE pg_catalog.format(
        'UPDATE %1$s AS t SET %2$I = $2::%3$s WHERE %4$s RETURNING t.%2$I::pg_catalog.text',
        v_table, r_machine.state_column, r_machine.state_type, v_is_row
    )
    INTO v_to_state
    USING fire_event.record, v_to_state;
    PERFORM
        pg_catalog.set_config('lockstep.event', v_earlier_event, true),
        pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);

    IF v_to_state IS NULL THEN
        RAISE EXCEPTION 'a trigger of % kept its row in state "%"', v_table, v_state
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'A BEFORE UPDATE trigger returned NULL.';
    END IF;
    RETURN v_to_state;
END
$$;
COMMENT ON FUNCTION lockstep.fire_event(anyelement, text, text) IS
    'Lets an event happen to a row: moves it as its state machine says, and returns the new state.';

-- sql/76_state_machine/list_transitions.sql

-- Lists the transitions of a state machine, or those that leave one state.
--
-- Of the newest version, unless one is named. A transition without from_state is a way in.
CREATE FUNCTION lockstep.list_transitions(
    machine_name text,
    state text DEFAULT NULL,
    version int DEFAULT NULL
)
RETURNS TABLE (from_state text, event text, to_state text, workflow_name text, queue_name text)
LANGUAGE plpgsql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_version constant int := lockstep._state_machine_version(list_transitions.machine_name, list_transitions.version);
BEGIN
    RETURN QUERY
    SELECT t.from_state, t.event, t.to_state, t.workflow_name, t.queue_name
    FROM lockstep.state_transition AS t
    WHERE t.machine_name = list_transitions.machine_name
        AND t.version = v_version
        AND (list_transitions.state IS NULL OR t.from_state = list_transitions.state)
    ORDER BY t.from_state NULLS FIRST, t.event, t.to_state;
END
$$;
COMMENT ON FUNCTION lockstep.list_transitions(text, text, int) IS
    'Lists the transitions of a state machine, or those that leave one state.';

-- sql/76_state_machine/newest_machine_version.sql

-- Tells the newest version of a state machine, which new rows get.
CREATE FUNCTION lockstep.newest_machine_version(machine_name text)
RETURNS int
LANGUAGE plpgsql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN lockstep._state_machine_version(newest_machine_version.machine_name);
END
$$;
COMMENT ON FUNCTION lockstep.newest_machine_version(text) IS
    'Tells the newest version of a state machine, which new rows get.';

-- sql/76_state_machine/purge_state_history.sql

-- Deletes up to max_count of the oldest moves that are older than an interval.
--
-- Returns how many; call it until that is fewer than max_count. Ids of moves are ordered
-- by time, so the primary key leads to the oldest. There are none of before 1970, and an id
-- of such a time would be greater than all others.
CREATE FUNCTION lockstep.purge_state_history(older_than interval, max_count int DEFAULT 10000)
RETURNS int
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_count int;
BEGIN
    IF purge_state_history.older_than IS NULL
        OR purge_state_history.older_than NOT BETWEEN interval '0' AND interval '6000 years'
    THEN
        RAISE EXCEPTION 'older_than must not be negative, nor over 6000 years'
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = format('It is %s.', coalesce(purge_state_history.older_than::text, 'null')),
                  HINT = 'Pass how long moves are kept, as interval ''1 year''.';
    ELSIF purge_state_history.max_count IS NULL OR purge_state_history.max_count < 1 THEN
        RAISE EXCEPTION 'max_count must be 1 or greater'
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = format('It is %s.', coalesce(purge_state_history.max_count::text, 'null')),
                  HINT = 'It bounds how long the call takes.';
    END IF;

    DELETE FROM lockstep.state_history AS h
    WHERE h.transition_id = ANY (ARRAY(
        SELECT o.transition_id
        FROM lockstep.state_history AS o
        WHERE o.transition_id < lockstep._generate_id(
            greatest(clock_timestamp() - purge_state_history.older_than, 'epoch'::timestamptz)
        )
        ORDER BY o.transition_id
        LIMIT purge_state_history.max_count
        FOR UPDATE SKIP LOCKED
    ));
    GET DIAGNOSTICS v_count = ROW_COUNT;
    RETURN v_count;
END
$$;
COMMENT ON FUNCTION lockstep.purge_state_history(interval, int) IS
    'Deletes the oldest moves of the history, up to max_count that are older than an interval.';

-- sql/76_state_machine/record_move.sql

-- Notes that an UPDATE changes the key of a row of a partitioned table.
--
-- If that takes the row to another partition, Postgres tells triggers of a deletion and of an
-- insertion, and no more of the update. record_transition(), which the same statement calls
-- after either, then knows them for one row, and takes the note away.
CREATE FUNCTION lockstep.record_move(table_name regclass, previous_key jsonb, key jsonb)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO lockstep.state_move (table_name, previous_key, key)
    VALUES (pg_partition_root(record_move.table_name)::text, record_move.previous_key, record_move.key);
END
$$;
COMMENT ON FUNCTION lockstep.record_move(regclass, jsonb, jsonb) IS
    'Notes that an UPDATE changes the key of a row of a partitioned table.';

-- sql/76_state_machine/record_transition.sql

-- Checks a change of a row against its state machine, records it, starts its workflow.
--
-- The trigger function that attach_state_machine() writes calls it after each INSERT and
-- DELETE, and after each UPDATE of the state or the version. operation is that word. The
-- trigger function belongs to the table's owner and hands over texts, so that nothing of
-- the user's runs with the rights of this function.
--
-- A transition is known by its states. If several events lead from one state to another,
-- the setting lockstep.event, which fire_event() sets, tells which it was.
--
-- A row that moved to another partition was deleted and inserted: see record_move().
CREATE FUNCTION lockstep.record_transition(
    table_name regclass,
    operation text,
    machine_name text,
    version int,
    key jsonb,
    from_state text,
    to_state text
)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    v_root constant regclass := pg_partition_root(record_transition.table_name);
    v_table constant text := coalesce(v_root, record_transition.table_name)::text;
    v_version constant int := coalesce(
        record_transition.version, lockstep._state_machine_version(record_transition.machine_name)
    );
    v_id constant text := lockstep._generate_id();
    v_operation text := record_transition.operation;
    v_from_state text := record_transition.from_state;
    v_problem text[];
    r_move record;
    r_transition record;
BEGIN
    IF v_root IS NOT NULL AND v_operation <> 'DELETE' THEN
        SELECT m.has_moved, m.from_state
        INTO STRICT r_move
        FROM lockstep._take_move(v_table, record_transition.key, v_operation = 'INSERT') AS m;

        IF r_move.has_moved THEN
            v_operation := 'UPDATE';
            v_from_state := r_move.from_state;
        END IF;
    END IF;

    IF v_operation = 'DELETE' THEN
        IF v_from_state IS NULL THEN
            RETURN;
        END IF;

        INSERT INTO lockstep.state_history (
            transition_id, table_name, key, machine_name, version, from_state, changed_by
        )
        VALUES (
            v_id, v_table, record_transition.key, record_transition.machine_name, v_version,
            v_from_state, lockstep._caller()
        );
        RETURN;
    ELSIF v_operation = 'UPDATE' AND v_from_state = record_transition.to_state THEN
        -- a new version, or a new partition, and nothing else
        IF NOT EXISTS (
            SELECT
            FROM lockstep.state_transition AS t
            WHERE t.machine_name = record_transition.machine_name
                AND t.version = v_version
                AND record_transition.to_state IN (t.from_state, t.to_state)
        ) THEN
            RAISE EXCEPTION 'version % of state machine "%" has no state "%"',
                v_version, record_transition.machine_name, record_transition.to_state
                USING ERRCODE = 'check_violation',
                      DETAIL = format('It is the state of row %s of %s.', record_transition.key, v_table),
                      HINT = 'Move the row to a state of both versions first, or add the state to that version.';
        END IF;
        RETURN;
    END IF;

    -- of one, the least is itself: cheaper than to order them
    SELECT count(*) AS rivals, min(t.event) AS event, min(t.workflow_name) AS workflow_name, min(t.queue_name) AS queue_name
    INTO STRICT r_transition
    FROM lockstep.state_transition AS t
    WHERE t.machine_name = record_transition.machine_name
        AND t.version = v_version
        AND t.to_state = record_transition.to_state
        AND (t.from_state = v_from_state OR (t.from_state IS NULL AND v_from_state IS NULL));

    IF r_transition.rivals > 1 THEN
        SELECT 1 AS rivals, t.event, t.workflow_name, t.queue_name
        INTO r_transition
        FROM lockstep.state_transition AS t
        WHERE t.machine_name = record_transition.machine_name
            AND t.version = v_version
            AND t.to_state = record_transition.to_state
            AND t.from_state = v_from_state
            AND t.event = current_setting('lockstep.event', true);

        IF NOT FOUND THEN
            RAISE EXCEPTION 'several events of state machine "%" lead from "%" to "%"',
                record_transition.machine_name, v_from_state, record_transition.to_state
                USING ERRCODE = 'check_violation',
                      DETAIL = format('The row is %s of %s.', record_transition.key, v_table),
                      HINT = 'Use fire_event(), or say which before the update: SET LOCAL lockstep.event = ''…''.';
        END IF;
    ELSIF r_transition.rivals = 0 AND NOT lockstep._is_open_entry(
        record_transition.machine_name, v_version, v_from_state, record_transition.to_state
    ) THEN
        v_problem := lockstep._move_problem(
            v_table, record_transition.machine_name, v_version, record_transition.key,
            v_from_state, record_transition.to_state
        );
        RAISE EXCEPTION '%', v_problem[1]
            USING ERRCODE = 'check_violation', DETAIL = v_problem[2], HINT = v_problem[3];
    END IF;

    INSERT INTO lockstep.state_history (
        transition_id, table_name, key, machine_name, version, from_state, event, to_state,
        changed_by, workflow_id
    )
    VALUES (
        v_id, v_table, record_transition.key, record_transition.machine_name, v_version, v_from_state,
        r_transition.event, record_transition.to_state, lockstep._caller(),
        CASE WHEN r_transition.workflow_name IS NOT NULL THEN v_id END
    );

    IF r_transition.workflow_name IS NOT NULL THEN
        PERFORM lockstep.enqueue_workflow(
            r_transition.workflow_name, r_transition.queue_name,
            named_args => record_transition.key,
            workflow_id => v_id,
            headers => jsonb_build_object(
                'table_name', v_table, 'from_state', v_from_state, 'event', r_transition.event,
                'to_state', record_transition.to_state
            )
        );
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep.record_transition(regclass, text, text, int, jsonb, text, text) IS
    'Checks a change of a row against its state machine, records it, starts its workflow.';

-- sql/76_state_machine/state_machine_diagram.sql

-- Draws a state machine as a Mermaid state diagram, the newest version unless one is named.
--
-- States have short names of their own, since Mermaid reserves words and quotes nothing but
-- a description. An arrow says the event, and after a slash the workflow that it starts.
CREATE FUNCTION lockstep.state_machine_diagram(machine_name text, version int DEFAULT NULL)
RETURNS text
LANGUAGE plpgsql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_version constant int := lockstep._state_machine_version(
        state_machine_diagram.machine_name, state_machine_diagram.version
    );
    v_lines text;
BEGIN
    WITH transition AS (
        SELECT t.*
        FROM lockstep.state_transition AS t
        WHERE t.machine_name = state_machine_diagram.machine_name
            AND t.version = v_version
    ),

    state AS (
        SELECT s.state, row_number() OVER (ORDER BY s.state COLLATE "C") AS number
        FROM (
            SELECT t.from_state AS state FROM transition AS t WHERE t.from_state IS NOT NULL
            UNION
            SELECT t.to_state FROM transition AS t
        ) AS s
    ),

    line AS (
        SELECT 1 AS part, s.number, '' AS label, format('state "%%s" as s%s', s.number) AS form, s.state AS text
        FROM state AS s
        UNION ALL
        SELECT
            2, coalesce(f.number, 0), t.event,
            format('%s --> s%s: %%s', coalesce('s' || f.number, '[*]'), g.number),
            concat_ws(' / ', t.event, t.workflow_name)
        FROM transition AS t
        LEFT JOIN state AS f ON f.state = t.from_state
        INNER JOIN state AS g ON g.state = t.to_state
        UNION ALL
        SELECT 3, s.number, '', format('s%s --> [*]', s.number), ''
        FROM state AS s
        WHERE NOT EXISTS (SELECT FROM transition AS t WHERE t.from_state = s.state)
    )

    SELECT string_agg('    ' || format(l.form, e.text), E'\n' ORDER BY l.part, l.number, l.label COLLATE "C", l.form)
    INTO v_lines
    FROM line AS l
    -- a semicolon would end the label, and the entities of the rest end with one
    CROSS JOIN LATERAL replace(lockstep._one_line(l.text, 512), ';', chr(1)) AS o (text)
    CROSS JOIN LATERAL replace(replace(replace(
        lockstep._mermaid_text(o.text), chr(1), '#59;'), ':', '#58;'), '%', '#37;'
    ) AS e (text);

    RETURN concat_ws(E'\n', 'stateDiagram-v2', v_lines);
END
$$;
COMMENT ON FUNCTION lockstep.state_machine_diagram(text, int) IS
    'Draws a state machine as a Mermaid state diagram.';

-- sql/76_state_machine/state_machine_triggers.sql

-- Writes the statements by which attach_state_machine() attaches a state machine to a table.
--
-- A trigger function, <table>_state_machine, beside the table, and the row-level triggers
-- that call it. Rows, because only such triggers see the writes to partitions, those of the
-- future too, and a row's old and new state together; they are not called for updates that
-- leave the state alone. The function belongs to the owner of the table and runs with that
-- role's rights: what the owner's types and casts execute must not run with those of
-- Lockstep's owner. The triggers' argument is what the catalog knows about the machine.
--
-- The key that is recorded leaves the state out, should it be part of the primary key.
CREATE FUNCTION lockstep.state_machine_triggers(
    table_name regclass,
    state_column name,
    machine_name text,
    version_column name DEFAULT NULL
)
RETURNS TABLE (statement text)
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_body constant text := $body$
-- Written by lockstep.attach_state_machine(); lockstep.detach_state_machine() drops it.
BEGIN
%1$s%2$s    PERFORM lockstep.record_transition(
        TG_RELID, TG_OP, %3$L, %4$s,
        jsonb_build_object(%5$s),
        OLD.%6$I::text, NEW.%6$I::text
    );
    RETURN NULL;
END
$body$;
    v_fill constant text := $fill$    IF TG_WHEN = 'BEFORE' AND TG_OP = 'INSERT' THEN
        NEW.%1$I := lockstep.newest_machine_version(%2$L);
        RETURN NEW;
    END IF;

$fill$;
    v_move constant text := $move$    IF TG_WHEN = 'BEFORE' AND TG_OP = 'UPDATE' THEN
        PERFORM lockstep.record_move(TG_RELID, jsonb_build_object(%1$s), jsonb_build_object(%2$s));
        RETURN NEW;
    END IF;

$move$;
    v_argument constant text := json_build_object(
        'machine_name', state_machine_triggers.machine_name,
        'state_column', state_machine_triggers.state_column,
        'version_column', state_machine_triggers.version_column
    )::text;
    v_problem text[];
    v_by_default text;
    r_table record;
    r_key record;
BEGIN
    SELECT
        c.relowner::regrole AS owner, c.relkind = 'p' AS is_partitioned, c.relkind IN ('r', 'p') AS is_table,
        format('%I.%I', n.nspname, (c.relname || '_state_machine')::name) AS function_name,
        ARRAY(
            SELECT a.attname FROM pg_attribute AS a
            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
            ORDER BY a.attnum
        ) AS columns
    INTO r_table
    FROM pg_class AS c
    INNER JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.oid = state_machine_triggers.table_name;

    IF r_table.is_table IS NOT TRUE THEN
        v_problem := ARRAY[
            'table_name must be a table',
            coalesce(state_machine_triggers.table_name || ' is none.', 'It is null.'),
            'Pass a table or a partitioned table; its rows are what moves.'
        ];
    ELSE
        SELECT ARRAY[
            format('%s must be a column of %s', c.argument, state_machine_triggers.table_name),
            coalesce('It is "' || c.name || '".', 'It is null.'),
            format('Its columns are "%s".', array_to_string(r_table.columns, '", "'))
        ]
        INTO v_problem
        FROM (
            VALUES
                ('state_column', state_machine_triggers.state_column, false),
                ('version_column', state_machine_triggers.version_column, true)
        ) AS c (argument, name, is_optional)
        WHERE coalesce(c.name <> ALL (r_table.columns), NOT c.is_optional)
        LIMIT 1;
    END IF;
    IF v_problem IS NOT NULL THEN
        RAISE EXCEPTION '%', v_problem[1]
            USING ERRCODE = 'invalid_parameter_value', DETAIL = v_problem[2], HINT = v_problem[3];
    END IF;

    SELECT
        string_agg(format('%1$L, OLD.%1$I', k.name), ', ' ORDER BY k.place) FILTER (WHERE k.is_recorded) AS old,
        string_agg(format('%1$L, NEW.%1$I', k.name), ', ' ORDER BY k.place) FILTER (WHERE k.is_recorded) AS new,
        string_agg(format('%1$L, coalesce(NEW.%1$I, OLD.%1$I)', k.name), ', ' ORDER BY k.place)
        FILTER (WHERE k.is_recorded) AS either,
        string_agg(
            format('OLD.%1$I::text IS DISTINCT FROM NEW.%1$I::text', k.name), ' OR ' ORDER BY k.place
        ) AS is_changed
    INTO STRICT r_key
    FROM (
        SELECT a.attname AS name, u.place, a.attname <> state_machine_triggers.state_column AS is_recorded
        FROM pg_index AS i
        CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS u (attnum, place)
        INNER JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = u.attnum
        WHERE i.indrelid = state_machine_triggers.table_name
            AND i.indisprimary
            AND u.place <= i.indnkeyatts
    ) AS k;
    IF r_key.new IS NULL THEN
        RAISE EXCEPTION '% has no primary key%', state_machine_triggers.table_name,
            CASE WHEN r_key.is_changed IS NOT NULL THEN ' apart from its state' ELSE '' END
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = 'The history names rows by it, and fire_event() finds them by it.',
                  HINT = 'Add a primary key.';
    END IF;

    -- a function that a dropped table left behind, with what was granted on it, and no other
    IF EXISTS (
        SELECT
        FROM pg_proc AS p
        WHERE p.oid = to_regprocedure(r_table.function_name || '()')
            AND p.prosrc LIKE '%Written by lockstep.attach\_state\_machine()%'
            AND NOT EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgfoid = p.oid)
    ) THEN
        statement := format('DROP FUNCTION %s()', r_table.function_name);
        RETURN NEXT;
    END IF;

    statement := format(
        'CREATE FUNCTION %s() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER '
        'SET search_path = pg_catalog, pg_temp AS %L',
        r_table.function_name,
        format(
            v_body,
            CASE
                WHEN state_machine_triggers.version_column IS NOT NULL
                    THEN format(v_fill, state_machine_triggers.version_column, state_machine_triggers.machine_name)
            END,
            CASE WHEN r_table.is_partitioned THEN format(v_move, r_key.old, r_key.new) END,
            state_machine_triggers.machine_name,
            CASE
                WHEN state_machine_triggers.version_column IS NULL THEN 'NULL'
                ELSE format('coalesce(NEW.%1$I, OLD.%1$I)::int', state_machine_triggers.version_column)
            END,
            r_key.either, state_machine_triggers.state_column
        )
    );
    RETURN NEXT;

    FOR statement IN
        SELECT format(
            'CREATE TRIGGER %s ON %s FOR EACH ROW WHEN (%s) EXECUTE FUNCTION %s(%L)',
            t.event, state_machine_triggers.table_name, t.condition, r_table.function_name, v_argument
        )
        FROM (
            VALUES
                (
                    'lockstep_state_machine AFTER UPDATE', true, concat_ws(
                        ' OR ',
                        format('OLD.%1$I::text IS DISTINCT FROM NEW.%1$I::text', state_machine_triggers.state_column),
                        CASE
                            WHEN state_machine_triggers.version_column IS NOT NULL
                                THEN format('OLD.%1$I IS DISTINCT FROM NEW.%1$I', state_machine_triggers.version_column)
                        END,
                        CASE WHEN r_table.is_partitioned THEN r_key.is_changed END
                    )
                ),
                ('lockstep_state_machine_ends AFTER INSERT OR DELETE', true, 'true'),
                (
                    'lockstep_state_machine_version BEFORE INSERT', state_machine_triggers.version_column IS NOT NULL,
                    'NEW.' || quote_ident(state_machine_triggers.version_column) || ' IS NULL'
                ),
                -- called last: other triggers may change the key, or suppress the update
                ('zzz_lockstep_state_machine_move BEFORE UPDATE', r_table.is_partitioned, r_key.is_changed)
        ) AS t (event, is_needed, condition)
        WHERE t.is_needed
    LOOP
        RETURN NEXT;
    END LOOP;

    -- whoever may execute the function can make triggers that record what never happened
    SELECT string_agg(DISTINCT quote_ident(r.rolname), ', ')
    INTO v_by_default
    FROM pg_default_acl AS d
    CROSS JOIN LATERAL aclexplode(d.defaclacl) AS a
    INNER JOIN pg_roles AS r ON r.oid = a.grantee
    WHERE d.defaclobjtype = 'f'
        AND d.defaclrole = current_user::regrole
        AND a.grantee <> d.defaclrole;

    FOREACH statement IN ARRAY ARRAY[
        format('REVOKE ALL ON FUNCTION %s() FROM %s', r_table.function_name, concat_ws(', ', 'public', v_by_default)),
        format('ALTER FUNCTION %s() OWNER TO %s', r_table.function_name, r_table.owner)
    ]
    LOOP
        RETURN NEXT;
    END LOOP;
    IF EXISTS (SELECT FROM pg_extension AS e WHERE e.extname = 'lockstep') THEN
        statement := format('ALTER FUNCTION %s() DEPENDS ON EXTENSION lockstep', r_table.function_name);
        RETURN NEXT;
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep.state_machine_triggers(regclass, name, text, name) IS
    'Writes the statements by which attach_state_machine() attaches a state machine to a table.';

-- sql/80_admin/10_version.sql

-- Tells the version of Lockstep in this database, also without the extension.
-- The column has a name, so that a restored function reads as the dumped one.
CREATE FUNCTION lockstep.version()
RETURNS text
LANGUAGE sql
IMMUTABLE
PARALLEL SAFE
BEGIN ATOMIC
    SELECT '0.2.0' AS version;
END;
COMMENT ON FUNCTION lockstep.version() IS
    'Tells the version of Lockstep in this database.';

-- sql/80_admin/20_unserved_workflows.sql

-- Waiting workflows that no live worker can run: nobody serves their queue, knows
-- their name, or has their app_version.
CREATE VIEW lockstep.unserved_workflows AS
SELECT
    w.queue_name,
    w.workflow_name,
    w.app_version,
    count(*) AS workflow_count,
    min(w.available_at) AS waiting_since
FROM lockstep.workflow_status AS w
WHERE w.status = 'ENQUEUED'
    AND NOT EXISTS (
        SELECT
        FROM lockstep.executor AS e
        WHERE e.queues @> ARRAY[w.queue_name]
            AND e.workflow_names @> ARRAY[w.workflow_name]
            AND (w.app_version IS NULL OR w.app_version = e.app_version)
            AND e.expires_at > clock_timestamp()
    )
GROUP BY w.queue_name, w.workflow_name, w.app_version;
COMMENT ON VIEW lockstep.unserved_workflows IS
    'Waiting workflows that no live worker can run, by queue, name and version.';
COMMENT ON COLUMN lockstep.unserved_workflows.queue_name IS 'Queue in which they wait.';
COMMENT ON COLUMN lockstep.unserved_workflows.workflow_name IS 'Name that they were enqueued under.';
COMMENT ON COLUMN lockstep.unserved_workflows.app_version IS 'Version that they ask for, if any.';
COMMENT ON COLUMN lockstep.unserved_workflows.workflow_count IS 'How many there are.';
COMMENT ON COLUMN lockstep.unserved_workflows.waiting_since IS 'When the oldest became claimable.';

-- sql/80_admin/22_attachments.sql

-- The attached workflows, read from the triggers: there is no second place that could
-- say otherwise. A trigger that somebody wrote by hand is left out if it cannot be read.
CREATE VIEW lockstep.attachments AS
SELECT
    t.tgrelid::regclass AS table_name,
    s.settings ->> 'workflow_name' AS workflow_name,
    s.settings ->> 'queue_name' AS queue_name,
    array_agg(e.event ORDER BY e.place) AS events,
    s.columns,
    s.settings ->> 'condition' AS condition,
    s.primary_key,
    s.settings ->> 'named_args' AS named_args,
    s.settings ->> 'workflow_id' AS workflow_id,
    s.settings ->> 'deduplication_id' AS deduplication_id,
    coalesce(s.settings ->> 'on_duplicate', 'return') AS on_duplicate,
    s.priority,
    s.settings ->> 'queue_partition_key' AS queue_partition_key,
    s.debounce,
    s.debounce_max_delay,
    s.settings ->> 'search_path' AS search_path,
    bool_and(t.tgenabled IN ('O', 'A')) AS is_enabled
FROM pg_catalog.pg_trigger AS t
INNER JOIN (VALUES (1, 'INSERT', 4), (2, 'UPDATE', 16), (3, 'DELETE', 8)) AS e (place, event, tgtype)
    ON t.tgtype & e.tgtype <> 0
CROSS JOIN LATERAL lockstep._attachment_of(t.tgargs) AS s
WHERE t.tgfoid = 'lockstep.enqueue_rows()'::regprocedure
    AND s.settings IS NOT NULL
GROUP BY t.tgrelid, s.settings, s.columns, s.primary_key, s.priority, s.debounce, s.debounce_max_delay;
COMMENT ON VIEW lockstep.attachments IS
    'The workflows that are attached to tables, with a row for each partition and child.';
COMMENT ON COLUMN lockstep.attachments.table_name IS 'Table whose rows enqueue workflows.';
COMMENT ON COLUMN lockstep.attachments.workflow_name IS 'Workflow that each row enqueues.';
COMMENT ON COLUMN lockstep.attachments.queue_name IS 'Queue in which it waits.';
COMMENT ON COLUMN lockstep.attachments.events IS 'Statements that enqueue: INSERT, UPDATE, DELETE.';
COMMENT ON COLUMN lockstep.attachments.columns IS 'Columns of which an UPDATE must change one; NULL: any UPDATE.';
COMMENT ON COLUMN lockstep.attachments.condition IS 'Expression that must be true of a row.';
COMMENT ON COLUMN lockstep.attachments.primary_key IS 'Columns that are the arguments where no expression is.';
COMMENT ON COLUMN lockstep.attachments.named_args IS 'Expression for the arguments.';
COMMENT ON COLUMN lockstep.attachments.workflow_id IS 'Expression for the workflow_id.';
COMMENT ON COLUMN lockstep.attachments.deduplication_id IS 'Expression for the deduplication_id.';
COMMENT ON COLUMN lockstep.attachments.on_duplicate IS 'What a duplicate does: return or raise.';
COMMENT ON COLUMN lockstep.attachments.priority IS 'Priority of the workflows.';
COMMENT ON COLUMN lockstep.attachments.queue_partition_key IS 'Expression for the queue_partition_key.';
COMMENT ON COLUMN lockstep.attachments.debounce IS 'Pause after the last row, after which the workflow starts.';
COMMENT ON COLUMN lockstep.attachments.debounce_max_delay IS 'Longest time that further rows can put it off.';
COMMENT ON COLUMN lockstep.attachments.search_path IS 'Where the expressions find what they name.';
COMMENT ON COLUMN lockstep.attachments.is_enabled IS 'Whether the triggers fire for ordinary sessions.';

-- sql/80_admin/24_attached_state_machines.sql

-- The tables that follow a state machine, as their triggers say.
CREATE VIEW lockstep.attached_state_machines AS
SELECT
    t.tgrelid::regclass AS table_name,
    a.machine_name,
    a.state_column,
    a.version_column,
    t.tgenabled <> 'D' AS is_enabled
FROM pg_catalog.pg_trigger AS t
CROSS JOIN LATERAL lockstep._state_machine_of(t.tgfoid, t.tgargs) AS a
WHERE t.tgname = 'lockstep_state_machine'
    AND t.tgparentid = 0
    AND a.machine_name IS NOT NULL;
COMMENT ON VIEW lockstep.attached_state_machines IS
    'The tables that follow a state machine, as their triggers say.';
COMMENT ON COLUMN lockstep.attached_state_machines.table_name IS 'Table whose rows follow it.';
COMMENT ON COLUMN lockstep.attached_state_machines.machine_name IS 'State machine that they follow.';
COMMENT ON COLUMN lockstep.attached_state_machines.state_column IS 'Column that holds the state.';
COMMENT ON COLUMN lockstep.attached_state_machines.version_column IS
    'Column that holds the version that a row follows; without one it is the newest.';
COMMENT ON COLUMN lockstep.attached_state_machines.is_enabled IS
    'Whether the trigger is enabled; a disabled one checks and records nothing.';

-- sql/80_admin/30_capabilities.sql

-- The privilege matrix: which functions each capability may execute.
--
-- worker includes client, admin includes both; viewer reads the tables. One
-- page, so that a new function without a line here is noticed: a test compares
-- it with the catalog.
CREATE FUNCTION lockstep._capabilities()
RETURNS TABLE (capability text, function_name text)
LANGUAGE sql
IMMUTABLE
BEGIN ATOMIC
    SELECT c.capability, c.function_name
    FROM (
        VALUES
            ('client', 'enqueue_workflow'),
            ('client', 'enqueue_workflows'),
            ('client', 'attach_workflow'),
            ('client', 'detach_workflow'),
            ('client', 'enqueue_rows'),
            ('client', '_attachment_problem'),
            ('client', '_place_triggers'),
            ('client', '_state_machine_of'),
            ('viewer', '_state_machine_of'),
            ('viewer', '_attachment_of'),
            ('client', 'send_message'),
            ('client', 'send_messages'),
            ('client', 'get_event'),
            ('client', 'get_workflow'),
            ('client', 'read_stream'),
            ('client', 'watch_workflows'),
            ('client', 'check_watches'),
            ('client', 'fire_event'),
            ('client', 'list_transitions'),
            ('client', 'newest_machine_version'),
            ('client', 'version'),
            ('worker', 'declare_queue'),
            ('worker', 'register_executor'),
            ('worker', 'unregister_executor'),
            ('worker', 'heartbeat'),
            ('worker', 'claim_workflows'),
            ('worker', 'fail_too_large'),
            ('worker', 'record_step'),
            ('worker', 'record_steps'),
            ('worker', 'get_step'),
            ('worker', 'start_timers'),
            ('worker', 'start_children'),
            ('worker', 'await_workflows'),
            ('worker', 'set_events'),
            ('worker', 'write_streams'),
            ('worker', 'set_progress'),
            ('worker', 'send_step_messages'),
            ('worker', 'receive_messages'),
            ('worker', 'suspend_workflows'),
            ('worker', 'finish_workflows'),
            ('worker', 'advance_workflows'),
            ('worker', 'pulse'),
            ('worker', 'release_workflows'),
            ('worker', 'reconcile_workflows'),
            ('worker', 'recover_workflows'),
            ('worker', 'promote_due_workflows'),
            ('worker', 'declare_schedules'),
            ('worker', 'due_schedules'),
            ('worker', 'start_ticks'),
            ('worker', 'start_backfill'),
            ('admin', 'list_workflows'),
            ('admin', 'list_steps'),
            ('admin', 'explain_workflow'),
            ('admin', 'cancel_workflow'),
            ('admin', 'cancel_workflows'),
            ('admin', 'resume_workflow'),
            ('admin', 'resume_workflows'),
            ('admin', 'restart_workflow'),
            ('admin', 'restart_workflows'),
            ('admin', 'fork_workflow'),
            ('admin', 'set_priority'),
            ('admin', 'set_priorities'),
            ('admin', 'move_workflow'),
            ('admin', 'move_workflows'),
            ('admin', 'fast_forward'),
            ('admin', 'purge_workflows'),
            ('admin', 'list_queues'),
            ('admin', 'create_queue'),
            ('admin', 'alter_queue'),
            ('admin', 'drop_queue'),
            ('admin', 'pause_queue'),
            ('admin', 'unpause_queue'),
            ('admin', 'create_state_machine'),
            ('admin', 'add_transition'),
            ('admin', 'attach_state_machine'),
            ('admin', 'detach_state_machine'),
            ('admin', 'state_machine_triggers'),
            ('admin', 'record_move'),
            ('admin', 'record_transition'),
            ('admin', 'state_machine_diagram'),
            ('admin', 'purge_state_history'),
            ('admin', 'schedule_workflow'),
            ('admin', 'unschedule_workflow'),
            ('admin', 'pause_schedule'),
            ('admin', 'unpause_schedule'),
            ('admin', 'list_schedules'),
            ('admin', 'trigger_schedule'),
            ('admin', 'backfill_schedule'),
            ('admin', 'enable_tenant_isolation'),
            ('admin', 'disable_tenant_isolation'),
            ('admin', 'grant_usage')
    ) AS c (capability, function_name);
END;
COMMENT ON FUNCTION lockstep._capabilities() IS
    'The privilege matrix: which functions each capability may execute.';

-- sql/80_admin/40_grant_usage.sql

-- Grants a role one of the capabilities client, worker, viewer and admin.
--
-- client enqueues, sends and reads results through functions, and touches no
-- table; worker is client plus the worker protocol; viewer may SELECT from
-- every table and view; admin is all of it, and may grant it on. The grants are
-- the owner's: a SECURITY DEFINER function, whose only texts are a role that
-- exists, quoted, and the names of our own functions.
CREATE FUNCTION lockstep.grant_usage(role name, capability text)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_included constant text[] := CASE grant_usage.capability
        WHEN 'client' THEN ARRAY['client']
        WHEN 'worker' THEN ARRAY['client', 'worker']
        WHEN 'viewer' THEN ARRAY['viewer']
        WHEN 'admin' THEN ARRAY['client', 'worker', 'viewer', 'admin']
    END;
    v_function regprocedure;
BEGIN
    IF v_included IS NULL THEN
        RAISE EXCEPTION 'capability must be client, worker, viewer or admin, not %',
            coalesce(quote_literal(grant_usage.capability), 'null')
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'client enqueues, worker executes, viewer reads, admin does all of it.';
    ELSIF grant_usage.role IS NULL
        OR NOT EXISTS (SELECT FROM pg_roles AS r WHERE r.rolname = grant_usage.role)
    THEN
        RAISE EXCEPTION 'role "%" does not exist', coalesce(grant_usage.role, '')
            USING ERRCODE = 'undefined_object',
                  HINT = 'Create the role first.';
    END IF;

    EXECUTE format('GRANT USAGE ON SCHEMA lockstep TO %I', grant_usage.role);

    FOR v_function IN
        SELECT p.oid::regprocedure
        FROM lockstep._capabilities() AS c
        INNER JOIN pg_proc AS p ON p.proname = c.function_name
        WHERE c.capability = ANY (v_included)
            AND p.pronamespace = 'lockstep'::regnamespace
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', v_function, grant_usage.role);
    END LOOP;

    IF 'viewer' = ANY (v_included) THEN
        EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA lockstep TO %I', grant_usage.role);
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep.grant_usage(name, text) IS
    'Grants a role one of the capabilities client, worker, viewer and admin.';

-- sql/80_admin/45_tenant_policies.sql

-- Which rows a role may read that has SELECT on tables, but is no viewer, where tenants are
-- isolated: its own workflows, and those of roles whose rights it has.
--
-- grant_usage() grants SELECT to viewers and admins, on all tables, and they read all rows. The
-- owner of Lockstep, as whom functions run, is not subject to policies.
--
-- The policies are in the install script, because pg_dump does not save those of an extension's
-- tables; enable_tenant_isolation() turns them on.
CREATE POLICY workflow_status_tenant_policy ON lockstep.workflow_status FOR SELECT USING (
    (SELECT has_table_privilege('lockstep.executor', 'SELECT'))
    OR enqueued_by = current_user
    OR pg_has_role(to_regrole(quote_ident(enqueued_by)), 'USAGE')
);

-- who was granted INSERT enqueues by hand, in its own name
CREATE POLICY workflow_status_tenant_insert_policy ON lockstep.workflow_status FOR INSERT WITH CHECK (
    enqueued_by = current_user
    OR pg_has_role(to_regrole(quote_ident(enqueued_by)), 'USAGE')
);

-- of the workflows that the first policy lets one see; a viewer, who sees all, is spared the look
CREATE POLICY operation_outputs_tenant_policy ON lockstep.operation_outputs FOR SELECT USING (
    (SELECT has_table_privilege('lockstep.executor', 'SELECT'))
    OR EXISTS (SELECT FROM lockstep.workflow_status AS w WHERE w.workflow_id = operation_outputs.workflow_id)
);

CREATE POLICY notifications_tenant_policy ON lockstep.notifications FOR SELECT USING (
    (SELECT has_table_privilege('lockstep.executor', 'SELECT'))
    OR EXISTS (SELECT FROM lockstep.workflow_status AS w WHERE w.workflow_id = notifications.destination_id)
);

CREATE POLICY workflow_events_tenant_policy ON lockstep.workflow_events FOR SELECT USING (
    (SELECT has_table_privilege('lockstep.executor', 'SELECT'))
    OR EXISTS (SELECT FROM lockstep.workflow_status AS w WHERE w.workflow_id = workflow_events.workflow_id)
);

CREATE POLICY workflow_streams_tenant_policy ON lockstep.workflow_streams FOR SELECT USING (
    (SELECT has_table_privilege('lockstep.executor', 'SELECT'))
    OR EXISTS (SELECT FROM lockstep.workflow_status AS w WHERE w.workflow_id = workflow_streams.workflow_id)
);

-- sql/80_admin/47_switch_row_security.sql

-- Turns row-level security on or off for the tables that have a policy for tenants.
--
-- Locks the tables in ACCESS EXCLUSIVE, in the order of the list, until the commit.
CREATE FUNCTION lockstep._switch_row_security(p_is_on boolean)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_table regclass;
BEGIN
    FOREACH v_table IN ARRAY ARRAY[
        'lockstep.workflow_status', 'lockstep.operation_outputs', 'lockstep.notifications',
        'lockstep.workflow_events', 'lockstep.workflow_streams'
    ]::regclass[]
    LOOP
        EXECUTE format(
            'ALTER TABLE %s %s ROW LEVEL SECURITY', v_table, CASE WHEN p_is_on THEN 'ENABLE' ELSE 'DISABLE' END
        );
    END LOOP;
END
$$;
COMMENT ON FUNCTION lockstep._switch_row_security(boolean) IS
    'Turns row-level security on or off for the tables that have a policy for tenants.';

-- sql/80_admin/50_enable_tenant_isolation.sql

-- Shows each client the workflows that it enqueued, and no others.
--
-- A tenant is a role. It sees a workflow if the role that enqueued it is its own, or one whose
-- rights it has, and with the workflow its children, forks, messages, events and streams.
-- Any other workflow does not exist for it: functions that a client may call answer for
-- both alike (_may_see()). An id or deduplication id of another's is refused as taken. Workers,
-- viewers and admins see everything, as before.
--
-- Row-level security is turned on for who was granted SELECT on tables by hand. Functions go
-- by the row of tenant_isolation, which a dump brings back; it does not bring back whether
-- row-level security of an extension's table is on: register_executor() turns it on again.
--
-- Locks as _switch_row_security().
CREATE FUNCTION lockstep.enable_tenant_isolation()
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO lockstep.tenant_isolation (enabled_by)
    VALUES (lockstep._caller())
    ON CONFLICT DO NOTHING;

    PERFORM lockstep._switch_row_security(true);
END
$$;
COMMENT ON FUNCTION lockstep.enable_tenant_isolation() IS
    'Shows each client the workflows that it enqueued, and no others.';

-- sql/80_admin/50_grant_at_commit.sql

-- Executes a pending grant, when the transaction of an update commits.
--
-- A deferred trigger is what runs after the script of the extension and in its transaction.
-- It grants as the owner, whoever commits. Nobody else can write to the table, and it is
-- empty when a dump is restored.
CREATE FUNCTION lockstep._grant_at_commit()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE new.grant_statement;

    DELETE FROM lockstep.pending_grant AS g
    WHERE g.grant_statement = new.grant_statement;

    RETURN NULL;
END
$$;
COMMENT ON FUNCTION lockstep._grant_at_commit() IS
    'Executes a pending grant, when the transaction of an update commits.';

-- sql/80_admin/52_disable_tenant_isolation.sql

-- Shows each client all workflows again, as it is without enable_tenant_isolation().
--
-- Locks as _switch_row_security().
CREATE FUNCTION lockstep.disable_tenant_isolation()
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM lockstep.tenant_isolation;

    PERFORM lockstep._switch_row_security(false);
END
$$;
COMMENT ON FUNCTION lockstep.disable_tenant_isolation() IS
    'Shows each client all workflows, as it is without enable_tenant_isolation().';

-- sql/80_admin/52_pending_grant_trigger.sql

-- The only trigger on a table of Lockstep: the table is empty outside of updates.
CREATE CONSTRAINT TRIGGER pending_grant_at_commit
AFTER INSERT ON lockstep.pending_grant
DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW
EXECUTE FUNCTION lockstep._grant_at_commit();
COMMENT ON TRIGGER pending_grant_at_commit ON lockstep.pending_grant IS
    'Grants when the transaction of the update commits.';

-- sql/80_admin/90_revoke.sql

-- Nothing is PUBLIC's, nor anybody's for whom the installing role has default privileges
-- (ALTER DEFAULT PRIVILEGES … GRANT): grant_usage() is the only way in.
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA lockstep FROM public;
REVOKE ALL ON ALL TABLES IN SCHEMA lockstep FROM public;

DO $$
DECLARE
    v_grantee name;
BEGIN
    FOR v_grantee IN
        SELECT r.rolname
        FROM pg_catalog.pg_proc AS p
        CROSS JOIN LATERAL aclexplode(p.proacl) AS a
        INNER JOIN pg_catalog.pg_roles AS r ON r.oid = a.grantee
        WHERE p.pronamespace = 'lockstep'::regnamespace
            AND a.grantee <> p.proowner
        UNION
        SELECT r.rolname
        FROM pg_catalog.pg_class AS c
        CROSS JOIN LATERAL aclexplode(c.relacl) AS a
        INNER JOIN pg_catalog.pg_roles AS r ON r.oid = a.grantee
        WHERE c.relnamespace = 'lockstep'::regnamespace
            AND a.grantee <> c.relowner
    LOOP
        EXECUTE format('REVOKE ALL ON ALL FUNCTIONS IN SCHEMA lockstep FROM %I', v_grantee);
        EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA lockstep FROM %I', v_grantee);
    END LOOP;
END
$$;

-- sql/90_extension.sql

-- What only an extension can do: have pg_dump save the rows of its tables. A
-- table that is missing here comes back empty from a restore, without a warning.
SELECT pg_catalog.pg_extension_config_dump('lockstep.workflow_status', '');
SELECT pg_catalog.pg_extension_config_dump('lockstep.operation_outputs', '');
SELECT pg_catalog.pg_extension_config_dump('lockstep.notifications', '');
SELECT pg_catalog.pg_extension_config_dump('lockstep.workflow_events', '');
SELECT pg_catalog.pg_extension_config_dump('lockstep.workflow_streams', '');
SELECT pg_catalog.pg_extension_config_dump('lockstep.waiter', '');
SELECT pg_catalog.pg_extension_config_dump('lockstep.queue', '');
SELECT pg_catalog.pg_extension_config_dump('lockstep.queue_start', '');
SELECT pg_catalog.pg_extension_config_dump('lockstep.executor', '');
SELECT pg_catalog.pg_extension_config_dump('lockstep.state_machine', '');
SELECT pg_catalog.pg_extension_config_dump('lockstep.state_transition', '');
SELECT pg_catalog.pg_extension_config_dump('lockstep.state_history', '');
SELECT pg_catalog.pg_extension_config_dump('lockstep.state_move', '');
SELECT pg_catalog.pg_extension_config_dump('lockstep.schedule', '');
SELECT pg_catalog.pg_extension_config_dump('lockstep.pending_grant', '');
SELECT pg_catalog.pg_extension_config_dump('lockstep.tenant_isolation', '');
