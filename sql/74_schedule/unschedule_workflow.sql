-- Removes a schedule; workflows that it started go on.
CREATE OR REPLACE FUNCTION lockstep.unschedule_workflow(schedule_name text)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_job_id bigint;
BEGIN
    DELETE FROM lockstep.schedule AS s
    WHERE s.schedule_name = unschedule_workflow.schedule_name
    RETURNING s.cron_job_id
    INTO v_job_id;

    IF NOT FOUND THEN
        PERFORM lockstep._refuse_unknown_schedule(unschedule_workflow.schedule_name);
    END IF;

    PERFORM lockstep._drop_cron_job(unschedule_workflow.schedule_name, v_job_id);
END
$$;
COMMENT ON FUNCTION lockstep.unschedule_workflow(text) IS
    'Removes a schedule; workflows that it started go on.';
