-- Finds what is wrong with the limits of a queue: NULL, or message, detail and hint.
CREATE OR REPLACE FUNCTION lockstep._queue_problem(p_queue lockstep.queue)
RETURNS text[]
LANGUAGE plpgsql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r_limit record;
BEGIN
    IF p_queue.queue_name IS NULL OR btrim(p_queue.queue_name) = '' OR length(p_queue.queue_name) > 512 THEN
        RETURN lockstep._name_problem('queue_name', p_queue.queue_name);
    END IF;

    SELECT l.*
    INTO r_limit
    FROM (
        VALUES
            ('concurrency', p_queue.concurrency),
            ('worker_concurrency', p_queue.worker_concurrency),
            ('rate_limit', p_queue.rate_limit),
            ('partition_concurrency', p_queue.partition_concurrency),
            ('partition_rate_limit', p_queue.partition_rate_limit)
    ) AS l (name, value)
    WHERE l.value < 1
    LIMIT 1;

    IF FOUND THEN
        RETURN ARRAY[
            format('%s must be 1 or greater', r_limit.name),
            format('It is %s.', r_limit.value),
            'Leave a limit out for none; pause_queue() stops a queue.'
        ];
    END IF;

    SELECT l.*
    INTO r_limit
    FROM (
        VALUES
            ('rate_limit', p_queue.rate_limit, 'rate_period', p_queue.rate_period),
            (
                'partition_rate_limit', p_queue.partition_rate_limit,
                'partition_rate_period', p_queue.partition_rate_period
            )
    ) AS l (name, value, period_name, period)
    WHERE (l.value IS NULL) <> (l.period IS NULL)
        OR l.period NOT BETWEEN interval '1 us' AND interval '1000 years'
    LIMIT 1;

    IF NOT FOUND THEN
        RETURN NULL;
    ELSIF (r_limit.value IS NULL) <> (r_limit.period IS NULL) THEN
        RETURN ARRAY[
            format('%s and %s belong together', r_limit.name, r_limit.period_name),
            format('They are %s and %s.', coalesce(r_limit.value::text, 'null'), coalesce(r_limit.period::text, 'null')),
            'Say how many workflows may start, and in which time.'
        ];
    END IF;

    RETURN ARRAY[
        format('%s must be positive, and at most 1000 years', r_limit.period_name),
        format('It is %s.', r_limit.period),
        'Say how many workflows may start, and in which time.'
    ];
END
$$;
COMMENT ON FUNCTION lockstep._queue_problem(lockstep.queue) IS
    'Finds what is wrong with the limits of a queue: NULL, or message, detail and hint.';
