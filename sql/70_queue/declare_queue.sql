-- Creates a queue that an application declares, unless it exists; returns in what the
-- database says otherwise.
--
-- Workers call it when they start. Of a queue that has a row, the row holds: somebody may
-- have changed its limits since, for a reason that the code does not know. The
-- differences are returned, for the worker to log. With overwrite => true the declaration
-- holds. A paused queue stays paused.
--
-- Lock order: writes only what differs, then as _write_queue(), so that workers that start
-- do not wait for claims. Of two that create a queue at once the second waits and compares.
CREATE OR REPLACE FUNCTION lockstep.declare_queue(
    queue_name text,
    concurrency int DEFAULT NULL,
    worker_concurrency int DEFAULT NULL,
    rate_limit int DEFAULT NULL,
    rate_period interval DEFAULT NULL,
    partition_concurrency int DEFAULT NULL,
    partition_rate_limit int DEFAULT NULL,
    partition_rate_period interval DEFAULT NULL,
    overwrite boolean DEFAULT false
)
RETURNS TABLE (limit_name text, declared text, actual text)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    -- json keeps the order, in which a worker logs what differs
    v_limits constant json := json_build_object(
        'concurrency', declare_queue.concurrency,
        'worker_concurrency', declare_queue.worker_concurrency,
        'rate_limit', declare_queue.rate_limit,
        'rate_period', declare_queue.rate_period,
        'partition_concurrency', declare_queue.partition_concurrency,
        'partition_rate_limit', declare_queue.partition_rate_limit,
        'partition_rate_period', declare_queue.partition_rate_period
    );
    v_declared constant lockstep.queue := jsonb_populate_record(
        NULL::lockstep.queue, v_limits::jsonb || jsonb_build_object('queue_name', declare_queue.queue_name)
    );
    v_problem constant text[] := lockstep._queue_problem(v_declared);
    v_actual jsonb;
BEGIN
    IF v_problem IS NOT NULL THEN
        RAISE EXCEPTION '%', v_problem[1]
            USING ERRCODE = 'invalid_parameter_value', DETAIL = v_problem[2], HINT = v_problem[3];
    END IF;

    INSERT INTO lockstep.queue (queue_name)
    VALUES (declare_queue.queue_name)
    ON CONFLICT (queue_name) DO NOTHING;

    IF FOUND THEN
        PERFORM lockstep._write_queue(v_declared);
        RETURN;
    END IF;

    SELECT to_jsonb(q)
    INTO v_actual
    FROM lockstep.queue AS q
    WHERE q.queue_name = declare_queue.queue_name;

    FOR limit_name, declared, actual IN
        SELECT l.key, l.value, v_actual ->> l.key
        FROM json_each_text(v_limits) AS l
        WHERE CASE
            -- a day is 24 hours
            WHEN l.key LIKE '%period' THEN l.value::interval IS DISTINCT FROM (v_actual ->> l.key)::interval
            ELSE l.value IS DISTINCT FROM v_actual ->> l.key
        END
    LOOP
        IF declare_queue.overwrite THEN
            PERFORM lockstep._write_queue(v_declared);
            RETURN;
        END IF;
        RETURN NEXT;
    END LOOP;
END
$$;
COMMENT ON FUNCTION lockstep.declare_queue(text, int, int, int, interval, int, int, interval, boolean) IS
    'Creates a queue that an application declares, unless it exists; returns in what it differs.';
