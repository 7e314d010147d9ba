-- Executors that outlive a failover, or a clock that is set back, are not trusted.
BEGIN;
SELECT no_plan();

\ir failure_of.psql

SELECT lockstep.register_executor('{q}', '{greet}', '1 min') AS alice \gset
SELECT lockstep.register_executor('{q}', '{greet}', '1 min') AS bob \gset
SELECT lockstep.enqueue_workflow('greet', 'q', workflow_id => 'w');
SELECT c.workflow_id FROM lockstep.claim_workflows(:'alice', 1) AS c;

CREATE FUNCTION pg_temp.lease_left(p_executor_id text)
RETURNS interval
LANGUAGE sql
AS $$
    SELECT e.expires_at - clock_timestamp() FROM lockstep.executor AS e WHERE e.executor_id = p_executor_id
$$;

-- failover

SELECT is(
    (SELECT e.timeline FROM lockstep.executor AS e WHERE e.executor_id = :'alice'),
    (SELECT c.timeline_id FROM pg_control_checkpoint() AS c),
    'an executor registers on the timeline of the server'
);
SELECT lives_ok(format('SELECT lockstep.heartbeat(%L)', :'alice'), 'there it lives');

SAVEPOINT before_restore;
UPDATE lockstep.executor AS e SET table_id = 'pg_class'::regclass WHERE e.executor_id = :'alice';
SELECT throws_ok(
    format('SELECT lockstep.heartbeat(%L)', :'alice'), 'WF001',
    format('executor "%s" has lost its lease', :'alice'),
    'in a table that a restored dump made anew it does not'
);
SELECT is(
    (SELECT r.recovered_count FROM lockstep.recover_workflows() AS r), 1, 'what it held is put back at once'
);
ROLLBACK TO before_restore;

UPDATE lockstep.executor AS e SET server_started_at = '2026-01-01' WHERE e.executor_id = :'alice';
SELECT lives_ok(format('SELECT lockstep.heartbeat(%L)', :'alice'), 'a restart of the server changes nothing');
SELECT is(
    (SELECT e.server_started_at FROM lockstep.executor AS e WHERE e.executor_id = :'alice'),
    pg_postmaster_start_time(), 'and which server it is, is asked once'
);
SAVEPOINT before_move;
UPDATE lockstep.executor AS e SET server_started_at = '2026-01-01', system_id = 1 WHERE e.executor_id = :'alice';
SELECT throws_ok(
    format('SELECT lockstep.record_step(%L, %L, 1, 1, %L)', :'alice', 'w', 's'), 'WF001',
    format('executor "%s" has lost workflow "w"', :'alice'), 'on another server it is dead'
);
ROLLBACK TO before_move;

SAVEPOINT before_failover;
UPDATE lockstep.executor AS e SET timeline = e.timeline - 1 WHERE e.executor_id = :'alice';

SELECT results_eq(
    format('SELECT * FROM pg_temp.failure_of(%L)', call.statement),
    format(
        $$VALUES ('WF001', %L, %L, 'Drop what is running and call register_executor() again.')$$,
        format('executor "%s" has lost its lease', :'alice'),
        'The server was promoted or restored since it registered.'
    ),
    format('after a failover %s is refused', call.statement)
)
FROM (
    VALUES
        (format('SELECT lockstep.heartbeat(%L)', :'alice')),
        (format('SELECT lockstep.pulse(%L)', :'alice')),
        (format('SELECT lockstep.claim_workflows(%L, 1)', :'alice')),
        (format('SELECT lockstep.advance_workflows(%L)', :'alice'))
) AS call (statement);
SELECT throws_ok(
    format('SELECT lockstep.record_step(%L, %L, 1, 1, %L)', :'alice', 'w', 's'), 'WF001',
    format('executor "%s" has lost workflow "w"', :'alice'),
    'and so is the checkpoint of a transaction'
);
SELECT is(
    (SELECT r.recovered_count FROM lockstep.recover_workflows() AS r), 1,
    'what it held is put back at once, though its lease has not ended'
);
SELECT results_eq(
    'SELECT e.executor_id FROM lockstep.executor AS e', ARRAY[:'bob'], 'and it is gone, unlike others'
);
SELECT results_eq(
    format('SELECT c.workflow_id, c.attempt FROM lockstep.claim_workflows(%L, 1) AS c', :'bob'),
    $$VALUES ('w', 1)$$, 'another executor makes the attempt again, for nothing that ran is to blame'
);
ROLLBACK TO before_failover;

UPDATE lockstep.executor AS e SET timeline = NULL WHERE e.executor_id = :'alice';
SELECT lives_ok(
    format('SELECT lockstep.record_step(%L, %L, 1, 1, %L)', :'alice', 'w', 's'),
    'an executor of a server that does not tell its timeline may write'
);
SELECT is((SELECT r.recovered_count FROM lockstep.recover_workflows() AS r), 0, 'and is not dead');

-- a restart that lasted longer than the lease

SAVEPOINT before_restart;
UPDATE lockstep.executor AS e
SET expires_at = clock_timestamp() - interval '1 s', server_started_at = '2026-01-01', lease_duration = '1 year'
WHERE e.executor_id = :'alice';
SELECT results_eq(
    'SELECT * FROM lockstep.recover_workflows()', $$VALUES (0, 1::double precision)$$,
    'an executor that was not heard since the server started is given the length of its lease'
);
SELECT lives_ok(format('SELECT lockstep.heartbeat(%L)', :'alice'), 'in which its heartbeat revives it');
UPDATE lockstep.executor AS e SET expires_at = clock_timestamp() - interval '1 s' WHERE e.executor_id = :'alice';
SELECT is(
    (SELECT r.recovered_count FROM lockstep.recover_workflows() AS r), 1, 'one that was heard is dead at its end'
);
ROLLBACK TO before_restart;
UPDATE lockstep.executor AS e
SET expires_at = clock_timestamp() - interval '1 s', server_started_at = '2026-01-01', lease_duration = '1 ms'
WHERE e.executor_id = :'alice';
SELECT is(
    (SELECT r.recovered_count FROM lockstep.recover_workflows() AS r), 1, 'and so is one that came not back in time'
);
ROLLBACK TO before_restart;

-- a clock that is set back

UPDATE lockstep.executor AS e SET expires_at = e.expires_at + interval '1 hour' WHERE e.executor_id = :'alice';
SELECT ok(
    (SELECT r.next_expiry_in FROM lockstep.recover_workflows() AS r) <= 60,
    'a lease from before the clock was set back'
);
SELECT ok(
    pg_temp.lease_left(:'alice') BETWEEN interval '55 s' AND interval '1 min', 'is cut to its length'
);
UPDATE lockstep.executor AS e SET expires_at = e.expires_at - interval '1 min' WHERE e.executor_id = :'alice';
SELECT is((SELECT r.recovered_count FROM lockstep.recover_workflows() AS r), 1, 'and then ends');

-- compensation, by whose time a resume knows that there was one

UPDATE lockstep.executor AS e SET timeline = NULL;
SELECT lockstep.record_steps(c.executor_id, format(
    '[{"workflow_id": "w", "attempt": %s, "step_id": 2, "step_name": "compensate",
       "output": {"step": "undo", "positionalArgs": [], "namedArgs": {}}}]', c.attempt
)::jsonb)
FROM (
    SELECT :'bob' AS executor_id, c.attempt FROM lockstep.claim_workflows(:'bob', 1) AS c
) AS c;
UPDATE lockstep.workflow_status AS w SET started_at = w.started_at + interval '1 hour' WHERE w.workflow_id = 'w';
SELECT lockstep.cancel_workflow('w');
SELECT throws_ok(
    $$SELECT lockstep.resume_workflow('w')$$, '55000', NULL,
    'a workflow that started before the clock was set back, and was compensated after, is not resumed'
);

SELECT * FROM finish();
ROLLBACK;
