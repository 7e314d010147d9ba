-- Makes pg_cron have a job for a schedule, or none, as the schedule wants it.
--
-- The job belongs to the owner of Lockstep. Dynamic SQL, because pg_cron need not be
-- there; was it dropped, its jobs are gone with it. In pg_cron 1.4 a job's name ends
-- after 63 bytes, and a second job of a name replaces the first: long names are hashed.
CREATE OR REPLACE FUNCTION lockstep._adjust_cron_job(p_schedule lockstep.schedule)
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
