-- Returns what the job of a schedule runs; it is also how a job is known to be its own.
CREATE OR REPLACE FUNCTION lockstep._cron_job_command(p_schedule_name text)
RETURNS text
LANGUAGE sql
IMMUTABLE
BEGIN ATOMIC
    SELECT 'SELECT lockstep._start_tick_of_job(' || quote_literal(p_schedule_name) || ')';
END;
COMMENT ON FUNCTION lockstep._cron_job_command(text) IS
    'Returns what the job of a schedule runs.';
