-- Finds how many workflows may start now by a rate limit, and if none, in how many
-- seconds the next.
--
-- Exact for every window of the period: what began within the last one is the last count
-- that queue_start has less the count before the first row in the window, so two looks
-- into its primary key tell, whatever the limit. The caller holds the queue row.
CREATE OR REPLACE FUNCTION lockstep._rate_room(
    p_queue_name text,
    p_is_partition boolean,
    p_partition_key text,
    p_limit int,
    p_period interval,
    p_now timestamptz,
    OUT room int,
    OUT next_in double precision
)
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_count bigint;
    r_first record;
BEGIN
    SELECT s.count_before, s.started_at
    INTO r_first
    FROM lockstep.queue_start AS s
    WHERE s.queue_name = p_queue_name
        AND s.is_partition = p_is_partition
        -- not "=": this order only the primary key has
        AND s.partition_key BETWEEN p_partition_key AND p_partition_key
        AND s.started_at > p_now - p_period
    ORDER BY s.partition_key, s.started_at
    LIMIT 1;

    IF NOT FOUND THEN
        room := p_limit;
        RETURN;
    END IF;

    SELECT s.count_after - r_first.count_before
    INTO v_count
    FROM lockstep.queue_start AS s
    WHERE s.queue_name = p_queue_name
        AND s.is_partition = p_is_partition
        AND s.partition_key BETWEEN p_partition_key AND p_partition_key
    ORDER BY s.partition_key DESC, s.started_at DESC
    LIMIT 1;

    room := greatest(p_limit - v_count, 0)::int;
    IF room = 0 THEN
        next_in := extract(EPOCH FROM r_first.started_at + p_period - p_now)::double precision;
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep._rate_room(text, boolean, text, int, interval, timestamptz) IS
    'Finds how many workflows may start now by a rate limit, or when the next may.';
