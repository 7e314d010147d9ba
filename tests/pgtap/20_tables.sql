-- Impossible states are impossible rows; possible ones are rows.
BEGIN;
SELECT no_plan();

-- A complete, valid row of each table; a case below changes a few columns of it.
CREATE TEMPORARY TABLE valid_row (table_name text, columns jsonb);
INSERT INTO valid_row
VALUES
    ('workflow_status', jsonb_build_object(
        'workflow_id', 'w', 'workflow_name', 'greet', 'queue_name', 'q', 'status', 'ENQUEUED',
        'inputs', '{"positionalArgs": [], "namedArgs": {}}'::jsonb, 'priority', 0, 'attempts', 0,
        'max_attempts', 50, 'failures', 0, 'created_at', now(), 'available_at', now(), 'enqueued_by', 'me'
    )),
    ('operation_outputs', jsonb_build_object(
        'workflow_id', 'w', 'step_id', 1, 'step_name', 's', 'attempts', 1,
        'started_at', now(), 'completed_at', now()
    )),
    ('notifications', jsonb_build_object(
        'message_id', 'm', 'destination_id', 'w', 'topic', '', 'message', 1, 'created_at', now()
    )),
    ('workflow_events', jsonb_build_object('workflow_id', 'w', 'key', 'k', 'value', 1, 'updated_at', now())),
    ('workflow_streams', jsonb_build_object(
        'workflow_id', 'w', 'key', 'k', 'offset', 0, 'value', 1, 'is_end', false, 'written_at', now()
    )),
    ('waiter', jsonb_build_object('awaited_id', 'w', 'awaited_what', '', 'is_client', false, 'waiter', 'v')),
    ('queue', jsonb_build_object('queue_name', 'q', 'is_paused', false, 'created_at', now())),
    ('queue_start', jsonb_build_object(
        'queue_name', 'q', 'is_partition', true, 'partition_key', 'a', 'started_at', now(),
        'count_before', 0, 'count_after', 1
    )),
    ('pending_grant', '{"grant_statement": "GRANT SELECT ON TABLE t TO r"}'),
    ('executor', jsonb_build_object(
        'executor_id', 'e', 'queues', '["q"]'::jsonb, 'workflow_names', '[]'::jsonb, 'lease_duration', '30 s',
        'pins_version', false, 'is_idle', false, 'registered_at', now(), 'expires_at', now(),
        'connection_number', 0
    )),
    ('state_machine', jsonb_build_object('machine_name', 'm', 'version', 1, 'created_at', now(), 'created_by', 'me')),
    ('state_transition', jsonb_build_object(
        'machine_name', 'm', 'version', 1, 'from_state', 'a', 'event', 'e', 'to_state', 'b'
    )),
    ('state_history', jsonb_build_object(
        'transition_id', 't', 'table_name', 'o', 'key', '{"id": 1}'::jsonb, 'machine_name', 'm', 'version', 1,
        'from_state', 'a', 'event', 'e', 'to_state', 'b', 'changed_at', now(), 'changed_by', 'me',
        'transaction_id', 1
    )),
    ('tenant_isolation', '{"is_enabled": true, "enabled_at": "2026-01-01", "enabled_by": "me"}'),
    ('state_move', '{"transaction_id": 1, "table_name": "o", "previous_key": {"id": 1}, "key": {"id": 2}}'),
    ('schedule', jsonb_build_object(
        'schedule_name', 's', 'cron', '* * * * *', 'time_zone', 'UTC', 'workflow_name', 'greet', 'queue_name', 'q',
        'named_args', '{}'::jsonb, 'on_missed', 'skip', 'is_paused', false, 'priority', 0, 'revision', 1,
        'handled_until', now(), 'next_tick_at', now(), 'created_at', now(), 'created_by', 'me'
    ));

CREATE FUNCTION pg_temp.insert_changed(p_table text, p_changes jsonb)
RETURNS text
LANGUAGE sql
AS $$
    SELECT format(
        'INSERT INTO lockstep.%1$I SELECT * FROM jsonb_populate_record(NULL::lockstep.%1$I, %2$L)',
        v.table_name, v.columns || p_changes
    )
    FROM valid_row AS v
    WHERE v.table_name = p_table
$$;

CREATE FUNCTION pg_temp.ended(p_status text)
RETURNS jsonb
LANGUAGE sql
AS $$ SELECT jsonb_build_object('status', p_status, 'completed_at', now()) $$;

CREATE FUNCTION pg_temp.running()
RETURNS jsonb
LANGUAGE sql
AS $$ SELECT jsonb_build_object('status', 'PENDING', 'executor_id', 'e', 'attempts', 1, 'started_at', now()) $$;

CREATE TEMPORARY TABLE bad_row (table_name text, constraint_name text, changes jsonb);
INSERT INTO bad_row
VALUES
    ('workflow_status', 'completed_or_completed_at_null', '{"status": "RUNNING"}'),
    ('workflow_status', 'completed_or_completed_at_null', '{"status": "enqueued"}'),
    ('workflow_status', 'names_have_a_length', '{"workflow_id": ""}'),
    ('workflow_status', 'names_have_a_length', '{"workflow_name": ""}'),
    ('workflow_status', 'names_have_a_length', '{"queue_name": ""}'),
    ('workflow_status', 'names_have_a_length', '{"deduplication_id": ""}'),
    ('workflow_status', 'names_have_a_length', '{"queue_partition_key": ""}'),
    ('workflow_status', 'names_have_a_length', '{"app_version": ""}'),
    ('workflow_status', 'names_have_a_length', jsonb_build_object('workflow_id', repeat('x', 513))),
    ('workflow_status', 'names_have_a_length', jsonb_build_object('queue_name', repeat('x', 513))),
    ('workflow_status', 'inputs_are_arguments', '{"inputs": {}}'),
    ('workflow_status', 'inputs_are_arguments', '{"inputs": []}'),
    ('workflow_status', 'inputs_are_arguments', '{"inputs": {"positionalArgs": []}}'),
    ('workflow_status', 'inputs_are_arguments', '{"inputs": {"namedArgs": {}}}'),
    ('workflow_status', 'inputs_are_arguments', '{"inputs": {"positionalArgs": {}, "namedArgs": {}}}'),
    ('workflow_status', 'inputs_are_arguments', '{"inputs": {"positionalArgs": [], "namedArgs": null}}'),
    ('workflow_status', 'headers_are_an_object', '{"headers": []}'),
    ('workflow_status', 'headers_are_an_object', '{"headers": "trace"}'),
    ('workflow_status', 'counts_not_negative', '{"priority": -1}'),
    ('workflow_status', 'counts_not_negative', '{"attempts": -1}'),
    ('workflow_status', 'counts_not_negative', '{"max_attempts": 0}'),
    ('workflow_status', 'counts_not_negative', '{"failures": -1}'),
    ('workflow_status', 'retries_are_a_policy', '{"retries": []}'),
    ('workflow_status', 'timeout_is_positive', '{"timeout": "0 s"}'),
    ('workflow_status', 'timeout_is_positive', '{"timeout": "-1 s"}'),
    -- a timeout that no timestamp can hold would break every claim from its queue
    ('workflow_status', 'timeout_not_endless', '{"timeout": "300000 years"}'),
    -- the next due moment is counted in seconds from now
    ('workflow_status', 'times_are_finite', '{"status": "DELAYED", "available_at": "infinity"}'),
    ('workflow_status', 'times_are_finite', '{"deadline_at": "-infinity"}'),
    ('workflow_status', 'completed_or_completed_at_null', '{"completed_at": "2026-01-01"}'),
    ('workflow_status', 'completed_or_completed_at_null', '{"status": "SUCCESS"}'),
    ('workflow_status', 'completed_or_completed_at_null', '{"status": "ERROR", "error": {}}'),
    ('workflow_status', 'completed_or_completed_at_null', '{"status": "CANCELLED"}'),
    (
        'workflow_status', 'completed_or_completed_at_null',
        '{"status": "MAX_RECOVERY_ATTEMPTS_EXCEEDED", "error": {}}'
    ),
    ('workflow_status', 'output_only_of_success', '{"output": 1}'),
    ('workflow_status', 'output_only_of_success', pg_temp.running() || '{"output": 1}'),
    ('workflow_status', 'output_only_of_success', pg_temp.ended('CANCELLED') || '{"output": 1}'),
    ('workflow_status', 'output_only_of_success', pg_temp.ended('ERROR') || '{"output": 1, "error": {}}'),
    ('workflow_status', 'error_only_of_failure', '{"error": {}}'),
    ('workflow_status', 'error_only_of_failure', pg_temp.running() || '{"error": {}}'),
    ('workflow_status', 'error_only_of_failure', pg_temp.ended('SUCCESS') || '{"error": {}}'),
    ('workflow_status', 'error_only_of_failure', pg_temp.ended('SUCCESS') || '{"error": {}, "failures": 1}'),
    ('workflow_status', 'error_only_of_failure', pg_temp.ended('ERROR')),
    ('workflow_status', 'error_only_of_failure', pg_temp.ended('MAX_RECOVERY_ATTEMPTS_EXCEEDED')),
    ('workflow_status', 'executor_while_it_runs', pg_temp.running() || '{"executor_id": null}'),
    ('workflow_status', 'pending_has_started', pg_temp.running() || '{"started_at": null}'),
    ('workflow_status', 'pending_has_started', pg_temp.running() || '{"attempts": 0}'),
    ('workflow_status', 'executor_while_it_runs', '{"executor_id": "e"}'),
    ('workflow_status', 'executor_while_it_runs', '{"status": "DELAYED", "executor_id": "e"}'),
    (
        'workflow_status', 'executor_while_it_runs',
        '{"status": "WAITING", "waiting_for": ["message:"], "executor_id": "e"}'
    ),
    ('workflow_status', 'waiting_waits_for_something', '{"status": "WAITING"}'),
    ('workflow_status', 'waiting_waits_for_something', '{"status": "WAITING", "waiting_for": []}'),
    ('workflow_status', 'waiting_waits_for_something', '{"waiting_for": ["message:"]}'),
    ('workflow_status', 'waiting_waits_for_something', pg_temp.ended('CANCELLED') || '{"waiting_for": ["message:"]}'),
    ('workflow_status', 'only_waiting_lacks_a_time', '{"available_at": null}'),
    ('workflow_status', 'only_waiting_lacks_a_time', '{"status": "DELAYED", "available_at": null}'),
    ('workflow_status', 'only_waiting_lacks_a_time', pg_temp.running() || '{"available_at": null}'),
    ('operation_outputs', 'step_id_is_positive', '{"step_id": 0}'),
    ('operation_outputs', 'step_id_is_positive', '{"step_id": -1}'),
    ('operation_outputs', 'step_name_has_a_length', '{"step_name": ""}'),
    ('operation_outputs', 'step_name_has_a_length', jsonb_build_object('step_name', repeat('x', 513))),
    ('operation_outputs', 'attempts_not_negative', '{"attempts": -1}'),
    ('operation_outputs', 'either_output_or_error', '{"output": 1, "error": {}}'),
    ('operation_outputs', 'unfinished_waits', '{"completed_at": null, "output": 1}'),
    ('workflow_streams', 'key_has_a_length', '{"key": ""}'),
    ('workflow_streams', 'offset_not_negative', '{"offset": -1}'),
    ('workflow_streams', 'only_end_lacks_a_value', '{"value": null}'),
    ('workflow_streams', 'only_end_lacks_a_value', '{"is_end": true}'),
    ('notifications', 'names_have_a_length', '{"message_id": ""}'),
    ('notifications', 'names_have_a_length', '{"destination_id": ""}'),
    ('notifications', 'names_have_a_length', '{"idempotency_key": ""}'),
    ('notifications', 'names_have_a_length', jsonb_build_object('topic', repeat('x', 513))),
    ('notifications', 'consumed_by_a_step', '{"consumed_at": "2026-01-01"}'),
    ('notifications', 'consumed_by_a_step', '{"consumed_by_step": 1}'),
    ('workflow_events', 'key_has_a_length', '{"key": ""}'),
    ('workflow_events', 'key_has_a_length', jsonb_build_object('key', repeat('x', 513))),
    ('queue', 'name_has_a_length', '{"queue_name": ""}'),
    ('queue', 'limits_are_positive', '{"worker_concurrency": 0}'),
    ('queue', 'rate_limit_has_a_period', '{"rate_limit": 1}'),
    ('queue', 'rate_limit_has_a_period', '{"partition_rate_period": "1 s"}'),
    ('queue', 'rate_periods_are_positive', '{"rate_limit": 1, "rate_period": "0 s"}'),
    ('queue_start', 'key_only_of_partition', '{"is_partition": false, "partition_key": "a"}'),
    ('queue_start', 'count_grows', '{"count_after": 0}'),
    ('pending_grant', 'is_a_grant', '{"grant_statement": "DROP TABLE t"}'),
    ('queue', 'limits_are_positive', '{"concurrency": 0}'),
    ('queue', 'limits_are_positive', '{"partition_concurrency": 0}'),
    ('queue', 'limits_are_positive', '{"concurrency": 1, "partition_concurrency": -1}'),
    ('state_machine', 'name_has_a_length', '{"machine_name": ""}'),
    ('state_machine', 'version_is_positive', '{"version": 0}'),
    ('state_transition', 'names_have_a_length', '{"machine_name": ""}'),
    ('state_transition', 'names_have_a_length', '{"from_state": ""}'),
    ('state_transition', 'names_have_a_length', jsonb_build_object('event', repeat('x', 513))),
    ('state_transition', 'names_have_a_length', '{"to_state": ""}'),
    ('state_transition', 'names_have_a_length', '{"workflow_name": "", "queue_name": "q"}'),
    ('state_transition', 'names_have_a_length', '{"workflow_name": "w", "queue_name": ""}'),
    ('state_transition', 'leads_elsewhere', '{"to_state": "a"}'),
    ('state_transition', 'queue_of_a_workflow', '{"workflow_name": "w"}'),
    ('state_transition', 'queue_of_a_workflow', '{"queue_name": "q"}'),
    ('state_history', 'key_is_an_object', '{"key": 1}'),
    ('state_move', 'keys_are_objects', '{"key": 1}'),
    ('state_move', 'keys_are_objects', '{"previous_key": 1}'),
    ('state_history', 'has_a_state', '{"from_state": null, "to_state": null}'),
    ('executor', 'serves_a_queue', '{"queues": []}'),
    ('executor', 'lease_is_positive', '{"lease_duration": "0 s"}'),
    ('executor', 'alone_with_a_suspect', '{"suspect_id": "w"}'),
    ('schedule', 'name_has_a_length', '{"schedule_name": ""}'),
    ('schedule', 'name_has_a_length', jsonb_build_object('schedule_name', repeat('x', 401))),
    ('schedule', 'named_args_are_an_object', '{"named_args": []}'),
    ('schedule', 'headers_are_an_object', '{"headers": []}'),
    ('schedule', 'on_missed_is_known', '{"on_missed": "some"}'),
    ('schedule', 'engine_is_known', '{"engine": "cron"}'),
    ('schedule', 'paused_has_no_job', '{"is_paused": true, "cron_job_id": 1}'),
    ('schedule', 'priority_not_negative', '{"priority": -1}'),
    ('tenant_isolation', 'is_there_or_not', '{"is_enabled": false}');

SELECT throws_ok(
    pg_temp.insert_changed(b.table_name, b.changes),
    '23514',
    format('new row for relation "%1$s" violates check constraint "%1$s_%2$s_check"', b.table_name, b.constraint_name),
    format('a row of %s with %s is refused: %s', b.table_name, left(b.changes::text, 80), b.constraint_name)
)
FROM bad_row AS b;

SELECT ok(
    EXISTS (
        SELECT
        FROM bad_row AS b
        WHERE k.conname = format('%s_%s_check', b.table_name, b.constraint_name)
            AND k.conrelid = format('lockstep.%I', b.table_name)::regclass
    ),
    format('a bad row above is refused by %s', k.conname)
)
FROM pg_constraint AS k
WHERE k.connamespace = 'lockstep'::regnamespace
    AND k.contype = 'c'
ORDER BY k.conname;

CREATE TEMPORARY TABLE good_row (table_name text, changes jsonb);
INSERT INTO good_row
SELECT v.table_name, '{}'
FROM valid_row AS v;
INSERT INTO good_row
VALUES
    ('workflow_status', '{"workflow_id": "delayed", "status": "DELAYED"}'),
    ('workflow_status', pg_temp.running() || '{"workflow_id": "pending"}'),
    ('workflow_status', '{"workflow_id": "waiting", "status": "WAITING", "waiting_for": ["message:"]}'),
    (
        'workflow_status',
        '{"workflow_id": "waiting for ever", "status": "WAITING", "waiting_for": ["message:a"], "available_at": null}'
    ),
    ('workflow_status', pg_temp.ended('SUCCESS') || '{"workflow_id": "success", "output": 1}'),
    ('workflow_status', pg_temp.ended('SUCCESS') || '{"workflow_id": "success of nothing"}'),
    ('workflow_status', pg_temp.ended('ERROR') || '{"workflow_id": "error", "error": {}}'),
    ('workflow_status', pg_temp.ended('CANCELLED') || '{"workflow_id": "cancelled by hand"}'),
    ('workflow_status', pg_temp.ended('CANCELLED') || '{"workflow_id": "cancelled by deadline", "error": {}}'),
    (
        'workflow_status',
        pg_temp.ended('MAX_RECOVERY_ATTEMPTS_EXCEEDED') || '{"workflow_id": "dead letter", "error": {}}'
    ),
    ('workflow_status', jsonb_build_object('workflow_id', repeat('x', 512), 'queue_name', repeat('x', 512))),
    ('operation_outputs', '{"step_id": 2, "output": 1}'),
    ('operation_outputs', '{"step_id": 3, "error": {}}'),
    ('operation_outputs', '{"step_id": 5, "completed_at": null}'),
    ('workflow_streams', '{"offset": 1, "value": null, "is_end": true}'),
    ('workflow_status', '{"workflow_id": "retried", "status": "DELAYED", "error": {}, "failures": 1, "retries": {}}'),
    ('operation_outputs', '{"step_id": 4, "completed_at": null, "available_at": "2026-01-01", "error": {}}'),
    ('notifications', '{"message_id": "n", "consumed_at": "2026-01-01", "consumed_by_step": 1}'),
    ('state_machine', '{"version": 2}'),
    ('state_transition', '{"from_state": null}'),
    ('state_transition', '{"event": "f", "workflow_name": "w", "queue_name": "q"}'),
    ('state_history', '{"transition_id": "u", "from_state": null, "event": null}'),
    ('state_history', '{"transition_id": "v", "event": null, "to_state": null}'),
    ('queue', '{"queue_name": "r", "concurrency": 1, "partition_concurrency": 1}');

SELECT lives_ok(
    pg_temp.insert_changed(g.table_name, g.changes),
    format('a row of %s with %s is accepted', g.table_name, left(g.changes::text, 80))
)
FROM good_row AS g;

-- unique truths

SELECT throws_ok(
    pg_temp.insert_changed('workflow_status', '{"workflow_id": "w"}'), '23505', NULL,
    'a workflow_id names one workflow'
);
SELECT lives_ok(
    pg_temp.insert_changed(
        'workflow_status', pg_temp.ended('SUCCESS') || '{"workflow_id": "first", "deduplication_id": "d"}'
    ),
    'a finished workflow keeps its deduplication_id'
);
SELECT lives_ok(
    pg_temp.insert_changed('workflow_status', '{"workflow_id": "second", "deduplication_id": "d"}'),
    'an unfinished workflow may have the deduplication_id of a finished one'
);
SELECT throws_ok(
    pg_temp.insert_changed('workflow_status', '{"workflow_id": "third", "deduplication_id": "d"}'), '23505', NULL,
    'two unfinished workflows of a queue cannot share a deduplication_id'
);
SELECT lives_ok(
    pg_temp.insert_changed(
        'workflow_status', '{"workflow_id": "fourth", "queue_name": "other", "deduplication_id": "d"}'
    ),
    'unfinished workflows of two queues may share a deduplication_id'
);
SELECT throws_ok(
    pg_temp.insert_changed('operation_outputs', '{}'), '23505', NULL,
    'a step of a workflow has one outcome'
);

-- a row written by hand

DELETE FROM lockstep.workflow_status;
DELETE FROM lockstep.executor;
DELETE FROM lockstep.queue;
SELECT lives_ok(
    $$INSERT INTO lockstep.workflow_status (workflow_name, queue_name) VALUES ('greet', 'by_hand')$$,
    'a hand-written INSERT of a name and a queue is a workflow'
);
SELECT lockstep.register_executor('{by_hand}', '{greet}') AS executor_id \gset
SELECT results_eq(
    format('SELECT c.workflow_name, c.inputs, c.attempt FROM lockstep.claim_workflows(%L, 10) AS c', :'executor_id'),
    $$VALUES ('greet', '{"positionalArgs": [], "namedArgs": {}}'::jsonb, 1)$$,
    'a hand-written workflow is claimed with empty arguments'
);

-- ids

CREATE TEMPORARY TABLE generated AS
SELECT g.place, lockstep._generate_id() AS id
FROM generate_series(1, 2000) AS g (place);

SELECT results_eq(
    'SELECT g.id FROM generated AS g ORDER BY g.id COLLATE "C"',
    'SELECT g.id FROM generated AS g ORDER BY g.place',
    'ids generated in one transaction sort in the order of their generation'
);
SELECT is(count(DISTINCT g.id::uuid), 2000::bigint, 'generated ids are distinct valid UUIDs') FROM generated AS g;
SELECT is_empty(
    $$
    SELECT g.id
    FROM generated AS g
    WHERE g.id !~ '^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$'
    $$,
    'generated ids are UUIDs of version 7 and the variant of RFC 9562'
);
SELECT is(
    left(lockstep._generate_id('2026-01-02 03:04:05.6785+00'), 18),
    '019b7ca9-8f2e-7800',
    'a generated id begins with the milliseconds of its time and their fraction'
);
SELECT is(
    (SELECT w.workflow_id::uuid::text FROM lockstep.workflow_status AS w),
    (SELECT w.workflow_id FROM lockstep.workflow_status AS w),
    'the default workflow_id is a UUID'
);

SELECT * FROM finish();
ROLLBACK;
