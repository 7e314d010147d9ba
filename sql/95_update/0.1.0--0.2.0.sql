-- By hand: what changed in the tables of 0.1.0, and what went. New tables, and all
-- functions and views, are added by make.

-- All that is altered, indexed or given policies below, at once: the fewer moments in
-- which the update has some of the locks and waits for others, the fewer transactions wait with it.
LOCK TABLE
    lockstep.workflow_status, lockstep.operation_outputs, lockstep.notifications,
    lockstep.workflow_events, lockstep.workflow_streams, lockstep.executor,
    lockstep.state_transition, lockstep.state_move
IN ACCESS EXCLUSIVE MODE;

ALTER TABLE lockstep.executor
ADD COLUMN timeline int,
ADD COLUMN table_id oid,
ADD COLUMN suspect_id text,
ADD COLUMN alone_until timestamptz,
ADD COLUMN system_id bigint,
ADD COLUMN server_started_at timestamptz,
ADD COLUMN connection_number int NOT NULL DEFAULT 0,
ADD CONSTRAINT executor_alone_with_a_suspect_check CHECK ((suspect_id IS NULL) = (alone_until IS NULL));
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

-- tables without a primary key, in databases that publish all tables
ALTER TABLE lockstep.state_transition REPLICA IDENTITY FULL;
ALTER TABLE lockstep.state_move REPLICA IDENTITY FULL;

-- internal functions that take another argument now: who was about to call the old ones waits for
-- executor before, and finds their callers replaced
DROP FUNCTION lockstep._ready_in_limited_queue(lockstep.queue, lockstep.executor, int, timestamptz);
DROP FUNCTION lockstep._ready_in_queues(text[], lockstep.executor, int, jsonb);
