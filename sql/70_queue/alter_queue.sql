-- Changes limits of a queue and leaves the others as they are.
--
-- A limit that is given is set; one that reset names is removed:
-- alter_queue('mail', concurrency => 20, reset => '{rate_limit}'). A rate limit goes with
-- its period. Workers heed the change at their next claim, within a second.
--
-- Lock order: the queue row, so that of two changes at once the second sees the first.
CREATE OR REPLACE FUNCTION lockstep.alter_queue(
    queue_name text,
    concurrency int DEFAULT NULL,
    worker_concurrency int DEFAULT NULL,
    rate_limit int DEFAULT NULL,
    rate_period interval DEFAULT NULL,
    partition_concurrency int DEFAULT NULL,
    partition_rate_limit int DEFAULT NULL,
    partition_rate_period interval DEFAULT NULL,
    reset text[] DEFAULT '{}'
)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_given constant jsonb := jsonb_strip_nulls(jsonb_build_object(
        'concurrency', alter_queue.concurrency,
        'worker_concurrency', alter_queue.worker_concurrency,
        'rate_limit', alter_queue.rate_limit,
        'rate_period', alter_queue.rate_period,
        'partition_concurrency', alter_queue.partition_concurrency,
        'partition_rate_limit', alter_queue.partition_rate_limit,
        'partition_rate_period', alter_queue.partition_rate_period
    ));
    v_limits constant text[] := ARRAY[
        'concurrency', 'worker_concurrency', 'rate_limit', 'partition_concurrency', 'partition_rate_limit'
    ];
    v_wrong text;
    r_queue lockstep.queue;
BEGIN
    SELECT q.*
    INTO r_queue
    FROM lockstep.queue AS q
    WHERE q.queue_name = alter_queue.queue_name
    FOR NO KEY UPDATE;

    IF NOT FOUND THEN
        PERFORM lockstep._refuse_unknown_queue(alter_queue.queue_name);
    END IF;

    v_wrong := (
        SELECT coalesce(l.name, 'null')
        FROM unnest(alter_queue.reset) AS l (name)
        WHERE l.name IS NULL OR l.name <> ALL (v_limits)
            OR v_given ?| ARRAY[l.name, replace(l.name, '_limit', '_period')]
        LIMIT 1
    );
    IF v_wrong IS NOT NULL THEN
        RAISE EXCEPTION 'cannot reset "%"', v_wrong
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = CASE WHEN v_wrong = ANY (v_limits) THEN 'A value is given for it too.' ELSE 'It is no limit.' END,
                  HINT = format('Limits are %s.', array_to_string(v_limits, ', '));
    END IF;

    r_queue := jsonb_populate_record(r_queue, v_given);
    r_queue := jsonb_populate_record(r_queue, (
        SELECT jsonb_object_agg(n.name, NULL::text)
        FROM unnest(alter_queue.reset || ARRAY(
            SELECT replace(l.name, '_limit', '_period')
            FROM unnest(alter_queue.reset) AS l (name)
        )) AS n (name)
    ));
    PERFORM lockstep._write_queue(r_queue);
END
$$;
COMMENT ON FUNCTION lockstep.alter_queue(text, int, int, int, interval, int, int, interval, text[]) IS
    'Changes limits of a queue and leaves the others as they are.';
