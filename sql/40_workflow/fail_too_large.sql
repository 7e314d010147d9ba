-- Fails the workflow that an executor would claim next if no answer can hold it.
--
-- A worker calls it when a claim of one workflow failed with 54000: what the steps of the
-- workflow recorded, or its inputs written out (a number of a few bytes may have 131,072 digits),
-- is more than the 1 GB of an answer. As the failed claim is rolled back, every next one would
-- meet it again. It ends in ERROR and has the type TooLarge; what it recorded stays. Takes
-- low_water as the claim did. Returns the ids of what it failed.
--
-- The limit is a quarter of an answer, as making one needs copies of it. The exception block is
-- for what cannot even be measured.
--
-- Lock order: as claim_workflows(), then as _settle_ended().
CREATE OR REPLACE FUNCTION lockstep.fail_too_large(executor_id text, low_water jsonb DEFAULT NULL)
RETURNS SETOF text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $$
DECLARE
    v_is_alone boolean;
    v_size bigint;
    v_ended text[] := ARRAY[]::text[];
    r_executor lockstep.executor;
    r_workflow lockstep.workflow_status;
BEGIN
    PERFORM lockstep._hold_executor(fail_too_large.executor_id);

    SELECT e.*
    INTO r_executor
    FROM lockstep.executor AS e
    WHERE e.executor_id = fail_too_large.executor_id;

    -- the claim may have been one of a suspect
    FOREACH v_is_alone IN ARRAY '{t,f}'::boolean[]
    LOOP
        SELECT w.*
        INTO r_workflow
        FROM lockstep._ready(r_executor, 1, fail_too_large.low_water, v_is_alone) AS r
        INNER JOIN lockstep.workflow_status AS w ON w.ctid = r.ready[1];

        CONTINUE WHEN NOT FOUND;

        BEGIN
            v_size := (
                octet_length(r_workflow.inputs::text)::bigint
                + coalesce(octet_length(lockstep._recorded_steps(r_workflow.workflow_id)::text), 0)
            );
        EXCEPTION
            WHEN program_limit_exceeded THEN
                v_size := NULL;
        END;
        CONTINUE WHEN v_size < 268435456;

        UPDATE lockstep.workflow_status AS w
        SET
            status = 'ERROR',
            error = lockstep._error_document(
                'TooLarge',
                format(
                    'its inputs and what its steps recorded take %s as text, more than a worker can be given',
                    coalesce(pg_size_pretty(v_size), 'more than 1 GB')
                )
            ),
            failures = w.failures + 1,
            completed_at = clock_timestamp()
        WHERE w.workflow_id = r_workflow.workflow_id;
        v_ended := v_ended || r_workflow.workflow_id;
    END LOOP;

    PERFORM lockstep._settle_ended(v_ended, v_ended);

    RETURN QUERY
    SELECT unnest(v_ended);
END
$$;
COMMENT ON FUNCTION lockstep.fail_too_large(text, jsonb) IS
    'Fails the workflow that an executor would claim next if no answer can hold it.';
