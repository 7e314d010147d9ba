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
