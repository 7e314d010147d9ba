-- Schedules: what is refused, which ticks start what, and who may change them.
BEGIN;
SELECT no_plan();

\ir failure_of.psql

CREATE FUNCTION pg_temp.schedule(p_schedule_name text)
RETURNS lockstep.schedule
LANGUAGE sql
AS $$ SELECT s FROM lockstep.schedule AS s WHERE s.schedule_name = p_schedule_name $$;

-- what a worker sends that computed ticks from the schedule as it is now
CREATE FUNCTION pg_temp.change(p_schedule_name text, p_ticks text[], p_next text)
RETURNS jsonb
LANGUAGE sql
AS $$
    SELECT jsonb_build_object(
        'schedule_name', p_schedule_name, 'revision', (pg_temp.schedule(p_schedule_name)).revision,
        'ticks', p_ticks, 'handled_until', p_ticks[cardinality(p_ticks)], 'next_tick_at', p_next
    )
$$;

-- refused arguments

CREATE TEMPORARY TABLE refused_call (call text, code text, thing text);
INSERT INTO refused_call
VALUES
    ($$schedule_workflow(NULL, '@daily', 'w', 'q')$$, '22023', 'schedule_name'),
    ($$schedule_workflow(' ', '@daily', 'w', 'q')$$, '22023', 'schedule_name'),
    ($$schedule_workflow(repeat('x', 401), '@daily', 'w', 'q')$$, '22023', '1 to 400'),
    ($$schedule_workflow('s', NULL, 'w', 'q')$$, '22023', 'cron expression null'),
    ($$schedule_workflow('s', '', 'w', 'q')$$, '22023', 'cron expression'),
    ($$schedule_workflow('s', '* * * *', 'w', 'q')$$, '22023', 'cron expression "* * * *"'),
    ($$schedule_workflow('s', '60 * * * *', 'w', 'q')$$, '22023', '60 * * * *'),
    ($$schedule_workflow('s', '0 0 31 2 *', 'w', 'q')$$, '22023', '0 0 31 2 *'),
    ($$schedule_workflow('s', '@reboot', 'w', 'q')$$, '22023', '@reboot'),
    ($$schedule_workflow('s', '@daily', NULL, 'q')$$, '22023', 'workflow_name'),
    ($$schedule_workflow('s', '@daily', 'w', '')$$, '22023', 'queue_name'),
    ($$schedule_workflow('s', '@daily', 'w', 'q', named_args => '[]')$$, '22023', 'named_args'),
    ($$schedule_workflow('s', '@daily', 'w', 'q', named_args => NULL)$$, '22023', 'named_args'),
    ($$schedule_workflow('s', '@daily', 'w', 'q', time_zone => NULL)$$, '22023', 'time zone null'),
    ($$schedule_workflow('s', '@daily', 'w', 'q', time_zone => 'Mars')$$, '22023', 'time zone "Mars"'),
    ($$schedule_workflow('s', '@daily', 'w', 'q', time_zone => 'europe/berlin')$$, '22023', 'europe/berlin'),
    ($$schedule_workflow('s', '@daily', 'w', 'q', time_zone => 'posix/UTC')$$, '22023', 'posix/UTC'),
    ($$schedule_workflow('s', '@daily', 'w', 'q', on_missed => 'none')$$, '22023', 'on_missed'),
    ($$schedule_workflow('s', '@daily', 'w', 'q', on_missed => NULL)$$, '22023', 'on_missed'),
    ($$schedule_workflow('s', '@daily', 'w', 'q', engine => 'cron')$$, '22023', 'engine'),
    ($$schedule_workflow('s', '@daily', 'w', 'q', engine => 'pg_cron')$$, '22023', 'pg_cron cannot'),
    ($$schedule_workflow('s', '@daily', 'w', 'q', time_arg => '')$$, '22023', 'time_arg'),
    ($$schedule_workflow('s', '@daily', 'w', 'q', '{"scheduled_at": 1}')$$, '22023', 'time_arg'),
    ($$schedule_workflow('s', '@daily', 'w', 'q', priority => -1)$$, '22023', 'priority'),
    ($$schedule_workflow('s', '@daily', 'w', 'q', timeout => '0 s')$$, '22023', 'timeout'),
    ($$schedule_workflow('s', '@daily', 'w', 'q', max_attempts => 0)$$, '22023', 'max_attempts'),
    ($$schedule_workflow('s', '@daily', 'w', 'q', headers => '1')$$, '22023', 'headers'),
    ($$schedule_workflow('s', '@daily', 'w', 'q', retries => '[]')$$, '22023', 'retries'),
    ($$declare_schedules('[{"schedule_name": "s", "cron": "x", "workflow_name": "w"}]')$$, '22023', 'cron'),
    ($$unschedule_workflow('nowhere')$$, 'P0002', 'schedule "nowhere"'),
    ($$pause_schedule('nowhere')$$, 'P0002', 'schedule "nowhere"'),
    ($$unpause_schedule('nowhere')$$, 'P0002', 'schedule "nowhere"'),
    ($$trigger_schedule('nowhere')$$, 'P0002', 'schedule "nowhere"'),
    ($$backfill_schedule('nowhere', '2026-01-01', '2026-01-02')$$, 'P0002', 'schedule "nowhere"'),
    ($$backfill_schedule('s', NULL, '2026-01-02')$$, '22023', 'from_time'),
    ($$backfill_schedule('s', '2026-01-02', '2026-01-01')$$, '22023', 'from_time'),
    ($$backfill_schedule('s', '-infinity', '2026-01-01')$$, '22023', 'from_time'),
    ($$backfill_schedule('s', '1969-12-31', '2026-01-01')$$, '22023', 'from_time'),
    ($$backfill_schedule('s', '2026-01-01', clock_timestamp() + interval '1 hour')$$, '22023', 'to_time'),
    ($$start_backfill('nowhere', '{}', 'b')$$, 'P0002', 'schedule "nowhere"');
SELECT is(f.code, r.code, format('%s is refused with %s', r.call, r.code))
FROM refused_call AS r
CROSS JOIN LATERAL pg_temp.failure_of('SELECT lockstep.' || r.call) AS f;
SELECT matches(f.message, regexp_replace(r.thing, '([*])', '\\\1', 'g'), format('the error for %s names %s', r.call, r.thing))
FROM refused_call AS r
CROSS JOIN LATERAL pg_temp.failure_of('SELECT lockstep.' || r.call) AS f;
SELECT isnt(coalesce(f.hint, ''), '', format('the error for %s has a hint', r.call))
FROM refused_call AS r
CROSS JOIN LATERAL pg_temp.failure_of('SELECT lockstep.' || r.call) AS f;
SELECT is_empty('SELECT FROM lockstep.schedule', 'a refused call leaves no row');

SELECT is(
    (lockstep._cron_problem(b.cron))[2], b.detail, format('%s is refused because: %s', b.cron, b.detail)
)
FROM (
    VALUES
        ('', 'It has 0 fields.'),
        ('* * * * * * *', 'It has 7 fields.'),
        ('* 24 * * *', 'The field for the hour has "24".'),
        ('* * * * * 8', 'The field for the day of week has "8".'),
        ('60 * * * * *', 'The field for the second has "60".'),
        ('1,,2 * * * *', 'The field for the minute has "".'),
        ('0 0 31 2,apr *', 'None of its months has 31 days.'),
        ('0 0 30 2 */2', 'None of its months has 30 days.'),
        (repeat('0', 513), 'It has 513 characters, more than 512.')
) AS b (cron, detail);

-- what a schedule is made of

SELECT lockstep.schedule_workflow(
    'nightly', '0 3 * * *', 'close_books', 'office', '{"a": 1}', 'Europe/Berlin', 'all',
    time_arg => 'day', priority => 2, deduplication_id => 'd', queue_partition_key => 'p',
    timeout => '1 h', max_attempts => 7, app_version => '2', headers => '{"team": "ops"}',
    retries => '{"max_attempts": 3}'
);
SELECT is(s.engine, 'workers', 'without pg_cron the workers start the ticks')
FROM lockstep.list_schedules() AS s;
SELECT is(
    row(s.created_by, s.last_tick_at, s.next_tick_at)::text, row(session_user, NULL, NULL)::text,
    'a new schedule has no ticks yet, and says who made it'
)
FROM lockstep.list_schedules() AS s;

SELECT lives_ok($$SELECT lockstep.start_ticks(jsonb_build_array(
    pg_temp.change('nightly', '{2026-11-20T02:00:00Z}', '2026-11-21T02:00:00Z')
))$$, 'a worker starts a tick');
SELECT results_eq(
    $$
    SELECT w.workflow_id, w.workflow_name, w.queue_name, w.inputs, w.priority, w.deduplication_id,
        w.queue_partition_key, w.timeout, w.max_attempts, w.app_version, w.headers, w.retries
    FROM lockstep.workflow_status AS w
    $$,
    $$VALUES (
        'nightly:2026-11-20T02:00:00Z', 'close_books', 'office',
        '{"positionalArgs": [], "namedArgs": {"a": 1, "day": "2026-11-20T02:00:00Z"}}'::jsonb, 2, 'd', 'p',
        '1 h'::interval, 7, '2',
        '{"team": "ops", "schedule_name": "nightly", "scheduled_at": "2026-11-20T02:00:00Z"}'::jsonb,
        '{"max_attempts": 3}'::jsonb
    )$$,
    'its workflow has an id of the schedule and the tick, the time, and all options'
);
SELECT is(
    row(s.last_tick_at, s.next_tick_at)::text,
    row('2026-11-20T02:00:00Z'::timestamptz, '2026-11-21T02:00:00Z'::timestamptz)::text,
    'the list shows the last tick and the next'
)
FROM lockstep.list_schedules() AS s;
SELECT lockstep.unschedule_workflow('nightly');
DELETE FROM lockstep.workflow_status;

-- who is late

SELECT lockstep.schedule_workflow('s', '* * * * *', 'w', 'q', time_arg => NULL);
UPDATE lockstep.schedule SET handled_until = '2026-11-20';
CREATE TEMPORARY TABLE sent AS
SELECT pg_temp.change('s', '{2026-11-20T02:00:00Z,2026-11-20T02:01:00Z}', '2026-11-20T02:02:00Z') AS change;
SELECT is(
    (lockstep.start_ticks(jsonb_build_array(s.change))).started_count, 2, 'the first worker starts the ticks'
)
FROM sent AS s;
SELECT is(
    (lockstep.start_ticks(jsonb_build_array(s.change))).started_count, 0, 'the second is late'
)
FROM sent AS s;
DELETE FROM lockstep.workflow_status;
SELECT is(
    (lockstep.start_ticks(jsonb_build_array(s.change))).started_count, 0,
    'and starts nothing either when the workflows were purged'
)
FROM sent AS s;
SELECT is_empty('SELECT FROM lockstep.workflow_status', 'so there is none');

INSERT INTO lockstep.workflow_status (workflow_id, workflow_name, queue_name)
VALUES ('s:2026-11-20T02:02:00Z', 'something else', 'elsewhere');
SELECT is(
    (lockstep.start_ticks(jsonb_build_array(pg_temp.change('s', '{2026-11-20T02:02:00Z}', NULL)))).started_count,
    0, 'a workflow that has the id of a tick counts as the tick'
);
SELECT is(
    (pg_temp.schedule('s')).next_tick_at, 'infinity', 'no next tick is infinity'
);
SELECT is(l.next_tick_at, NULL, 'which the list shows as none') FROM lockstep.list_schedules() AS l;

SELECT is(
    (lockstep.start_ticks(jsonb_build_array(
        pg_temp.change('s', '{}', NULL) || '{"handled_until": null, "problem": "no zone"}'
    ))).next_tick_in BETWEEN 55 AND 60, true, 'a problem is tried again in a minute'
);
SELECT is(row(l.problem, l.next_tick_at)::text, row('no zone'::text, NULL)::text, 'and is shown')
FROM lockstep.list_schedules() AS l;
SELECT is(
    (pg_temp.schedule('s')).handled_until, '2026-11-20T02:02:00Z', 'ticks of the time of a problem are not handled'
);

-- changes

SELECT lockstep.schedule_workflow('s', '* * * * *', 'w', 'q', time_arg => NULL, on_missed => 'all');
SELECT is(
    row(s.handled_until, s.next_tick_at, s.problem, s.last_tick_at)::text,
    row('2026-11-20T02:02:00Z'::timestamptz, '-infinity', NULL, '2026-11-20T02:02:00Z'::timestamptz)::text,
    'a change that leaves the ticks as they are forgets none'
)
FROM pg_temp.schedule('s') AS s;
SELECT lockstep.schedule_workflow('s', '*/2 * * * *', 'w', 'q', time_arg => NULL, on_missed => 'all');
SELECT ok(
    s.handled_until > now(), 'another expression ticks from now on'
)
FROM pg_temp.schedule('s') AS s;
UPDATE lockstep.schedule SET handled_until = '2126-01-01';
SELECT lockstep.schedule_workflow('s', '*/3 * * * *', 'w', 'q', time_arg => NULL, on_missed => 'all');
SELECT is(s.handled_until, '2126-01-01', 'but never from a moment before the last')
FROM pg_temp.schedule('s') AS s;

CREATE TEMPORARY TABLE before AS SELECT s.*, s.ctid AS place FROM lockstep.schedule AS s;
SELECT lockstep.schedule_workflow('s', '*/3 * * * *', 'w', 'q', time_arg => NULL, on_missed => 'all');
SELECT results_eq(
    'SELECT s.*, s.ctid FROM lockstep.schedule AS s', 'SELECT * FROM before', 'a call that changes nothing writes nothing'
);

-- pauses

SELECT lockstep.pause_schedule('s');
SELECT is_empty('SELECT FROM lockstep.due_schedules()', 'a paused schedule is never due');
SELECT is(lockstep._next_tick_in(), NULL, 'nor waits a worker for it');
SELECT is(
    (lockstep.start_ticks(jsonb_build_array(pg_temp.change('s', '{2026-11-20T02:03:00Z}', NULL)))).started_count,
    0, 'and what a worker computed before the pause is dropped'
);
SELECT lockstep.schedule_workflow('s', '*/5 * * * *', 'w', 'q');
SELECT ok((pg_temp.schedule('s')).is_paused, 'a replaced schedule stays paused');
UPDATE lockstep.schedule SET handled_until = '2026-01-01';
SELECT lockstep.unpause_schedule('s');
SELECT ok(s.handled_until > now() AND NOT s.is_paused, 'after a pause the ticks count from now on')
FROM pg_temp.schedule('s') AS s;
SELECT results_eq(
    'SELECT d.schedule_name, d.cron FROM lockstep.due_schedules() AS d', $$VALUES ('s', '*/5 * * * *')$$,
    'and a worker is to compute the next'
);
SELECT is(lockstep._next_tick_in(), 0::double precision, 'at once');

SELECT lockstep.schedule_workflow('late', '* * * * *', 'w', 'q', on_missed => 'all');
UPDATE lockstep.schedule AS s
SET next_tick_at = CASE WHEN s.schedule_name = 'late' THEN '2026-01-01' ELSE clock_timestamp() END;
SELECT results_eq(
    'SELECT d.schedule_name FROM lockstep.due_schedules(max_count => 1) AS d', $$VALUES ('s')$$,
    'ticks on time do not wait for missed ones'
);
SELECT lockstep.unschedule_workflow('late');
UPDATE lockstep.schedule SET handled_until = '2026-01-01';
SELECT lockstep.unpause_schedule('s');
SELECT is((pg_temp.schedule('s')).handled_until, '2026-01-01', 'unpausing what is not paused changes nothing');

-- by hand

SELECT isnt(lockstep.trigger_schedule('s'), lockstep.trigger_schedule('s'), 'each trigger starts another workflow');
SELECT is((pg_temp.schedule('s')).handled_until, '2026-01-01', 'a trigger is no tick');
SELECT is(
    lockstep.start_backfill('s', '{2026-01-01T00:00:00Z,2026-01-01T00:05:00Z}', 'b'), 2, 'a backfill starts past ticks'
);
SELECT is(
    lockstep.start_backfill('s', '{2026-01-01T00:05:00Z,2026-01-01T00:10:00Z}', 'c'), 1, 'that were not started before'
);
SELECT is(
    lockstep.start_backfill('s', '{2026-01-01T00:00:00Z,2026-01-01T00:05:00Z}', 'b'), 2,
    'those that it started itself count, or a worker that died would be missing them'
);
SELECT lives_ok(
    $$SELECT lockstep.backfill_schedule('s', '2026-01-01', '2026-01-01')$$, 'a backfill may be empty'
);
SELECT results_eq(
    $$
    SELECT w.inputs -> 'namedArgs' ->> 'cron', w.queue_name
    FROM lockstep.workflow_status AS w WHERE w.workflow_name = 'lockstep.backfill'
    $$,
    $$VALUES ('*/5 * * * *', 'q')$$, 'its workflow knows the expression as it is now'
);

-- the current tick of pg_cron

DELETE FROM lockstep.workflow_status;
SELECT lockstep.schedule_workflow('c', '* * * * *', 'w', 'q');
CREATE TEMPORARY TABLE minute AS SELECT date_trunc('minute', clock_timestamp()) AS starts_at;
CREATE FUNCTION pg_temp.started_by_job(p_handled_until timestamptz, p_next_tick_at timestamptz)
RETURNS text[]
LANGUAGE plpgsql
AS $$
BEGIN
    DELETE FROM lockstep.workflow_status;
    UPDATE lockstep.schedule AS s
    SET handled_until = p_handled_until, next_tick_at = p_next_tick_at
    WHERE s.schedule_name = 'c';
    PERFORM lockstep._start_tick_of_job('c');
    RETURN ARRAY(SELECT w.workflow_id FROM lockstep.workflow_status AS w);
END
$$;
SELECT is(
    pg_temp.started_by_job(m.starts_at - interval '1 min', m.starts_at), ARRAY['c:' || lockstep._tick_text(m.starts_at)],
    'a job of pg_cron starts the tick that is due'
)
FROM minute AS m;
SELECT is(row(s.handled_until, s.next_tick_at)::text, row(m.starts_at, '-infinity')::text, 'and has the next computed')
FROM pg_temp.schedule('c') AS s, minute AS m;
SELECT is(
    pg_temp.started_by_job(m.starts_at - interval '1 h', '-infinity'), ARRAY['c:' || lockstep._tick_text(m.starts_at)],
    'or the minute, if nobody computed which one that is'
)
FROM minute AS m;
SELECT is(s.handled_until, m.starts_at - interval '1 h', 'and leaves what was missed before to the workers')
FROM pg_temp.schedule('c') AS s, minute AS m;
SELECT is(
    pg_temp.started_by_job(m.starts_at - interval '1 h', m.starts_at + interval '1 min'), '{}',
    'but nothing if the next tick is still to come'
)
FROM minute AS m;
SELECT is(pg_temp.started_by_job(m.starts_at, '-infinity'), '{}', 'nor if a worker started it')
FROM minute AS m;
SELECT lockstep.pause_schedule('c');
SELECT is(pg_temp.started_by_job('2026-01-01', '-infinity'), '{}', 'nor if the schedule is paused');

SELECT * FROM finish();
ROLLBACK;
