-- Removes a schedule's job of pg_cron, if there is one and pg_cron still has it.
--
-- One that cannot be removed any more does no harm: it finds nothing to start. After a
-- restore without pg_cron's tables the id may be that of somebody else's job, also of
-- another schedule's.
CREATE OR REPLACE FUNCTION lockstep._drop_cron_job(p_schedule_name text, p_job_id bigint)
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
