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
