-- Tells how long a failed workflow waits for its next try; NULL if there is none.
--
-- p_policy is {"max_attempts", "delay", "backoff", "max_delay", "jitter"}, times in
-- seconds; what it leaves out is 3, 1, 2, an hour and 0. p_failures counts from 1. A
-- function's own policy was never checked: it is held to the limits of
-- _retries_problem(), because a failure must be recorded whatever is in it.
CREATE OR REPLACE FUNCTION lockstep._retry_pause(p_policy jsonb, p_failures int)
RETURNS interval
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_delay constant double precision := coalesce((p_policy ->> 'delay')::double precision, 1);
    v_backoff constant double precision := coalesce((p_policy ->> 'backoff')::double precision, 2);
    v_max_delay constant double precision := coalesce((p_policy ->> 'max_delay')::double precision, 3600);
    v_jitter constant double precision := coalesce((p_policy ->> 'jitter')::double precision, 0);
    v_pause double precision;
BEGIN
    IF p_policy IS NULL OR p_failures >= coalesce((p_policy ->> 'max_attempts')::numeric, 3) THEN
        RETURN NULL;
    END IF;

    -- the exponent is bounded, because a double overflows with an error
    v_pause := least(v_delay, 31536000) * power(greatest(least(v_backoff, 1000), 1), least(p_failures - 1, 100));
    v_pause := v_pause * (1 + greatest(least(v_jitter, 1), 0) * (2 * random() - 1));
    RETURN make_interval(secs => greatest(least(v_pause, v_max_delay, 31536000), 0));
END
$$;
COMMENT ON FUNCTION lockstep._retry_pause(jsonb, int) IS
    'Tells how long a failed workflow waits for its next try; NULL if there is none.';
