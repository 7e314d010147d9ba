-- JSON values beyond 16 MB are refused by the functions that take them.
BEGIN;
SELECT no_plan();

CREATE FUNCTION pg_temp.large() RETURNS jsonb
LANGUAGE sql AS $$ SELECT to_jsonb(repeat('x', 16 * 1024 * 1024)) $$;

SELECT lockstep.enqueue_workflow('a', 'b', workflow_id => 'w');

SELECT throws_ok(
    c.statement, '22023', c.argument || ' must not be larger than 16 MB', c.statement || ' is refused'
)
FROM (VALUES
    ('SELECT lockstep.enqueue_workflow(''a'', ''b'', jsonb_build_array(pg_temp.large()))', 'positional_args'),
    ('SELECT lockstep.enqueue_workflow(''a'', ''b'', named_args => jsonb_build_object(''a'', pg_temp.large()))', 'named_args'),
    ('SELECT lockstep.enqueue_workflow(''a'', ''b'', headers => jsonb_build_object(''a'', pg_temp.large()))', 'headers'),
    ('SELECT lockstep.enqueue_workflows(''a'', ''b'', ARRAY[''{}'', jsonb_build_object(''a'', pg_temp.large())])', 'named_args'),
    ('SELECT lockstep.send_message(''w'', pg_temp.large())', 'message'),
    ('SELECT lockstep.send_messages(ARRAY[''w'', ''w''], ARRAY[''1'', pg_temp.large()])', 'message')
) AS c (statement, argument);

SELECT is(count(*), 1::bigint, 'nothing of it is kept') FROM lockstep.workflow_status;
SELECT lives_ok(
    'SELECT lockstep.send_message(''w'', to_jsonb(repeat(''x'', 15 * 1024 * 1024)))', '15 MB are taken'
);

SELECT throws_ok(
    'SELECT lockstep.enqueue_workflow(''a'', ''b'', run_at => ''10000-01-01'')',
    '22023', 'run_at must be in the years 1 to 9999', 'a time that programs cannot read is refused'
);
SELECT throws_ok(
    'SELECT lockstep.enqueue_workflow(''a'', ''b'', deadline => ''infinity'')',
    '22023', 'deadline must be in the years 1 to 9999', 'so is a deadline that never comes'
);
SELECT throws_ok(
    'SELECT lockstep.read_stream(''w'', ''a'', max_count => -1)',
    '22023', 'max_count must not be negative', 'a negative count is refused'
);
SELECT throws_ok(
    'SELECT lockstep.purge_workflows(''200000 years'')',
    '22023', 'older_than must not be negative, nor over 1000 years', 'so is an age that no time has'
);

SELECT * FROM finish();
ROLLBACK;
