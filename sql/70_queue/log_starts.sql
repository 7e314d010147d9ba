-- Adds to queue_start what a claim starts in a queue, or in partitions of it.
--
-- The caller holds the queue row, so the counts run on without a gap. A clock that was
-- set back cannot put a start before an earlier one.
CREATE OR REPLACE FUNCTION lockstep._log_starts(
    p_queue_name text,
    p_is_partition boolean,
    p_partition_keys text[],
    p_counts int[],
    p_period interval,
    p_now timestamptz
)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO lockstep.queue_start (
        queue_name, is_partition, partition_key, started_at, count_before, count_after
    )
    SELECT
        p_queue_name, p_is_partition, n.partition_key,
        greatest(p_now, last.started_at + interval '1 us'),
        coalesce(last.count_after, 0), coalesce(last.count_after, 0) + n.start_count
    FROM unnest(p_partition_keys, p_counts) AS n (partition_key, start_count)
    LEFT JOIN LATERAL (
        SELECT s.started_at, s.count_after
        FROM lockstep.queue_start AS s
        WHERE s.queue_name = p_queue_name
            AND s.is_partition = p_is_partition
            -- not "=": this order only the primary key has
            AND s.partition_key BETWEEN n.partition_key AND n.partition_key
        ORDER BY s.partition_key DESC, s.started_at DESC
        LIMIT 1
    ) AS last ON true
    WHERE n.start_count > 0;

    DELETE FROM lockstep.queue_start AS s
    WHERE s.queue_name = p_queue_name
        AND s.is_partition = p_is_partition
        AND s.started_at <= p_now - p_period;
END
$$;
COMMENT ON FUNCTION lockstep._log_starts(text, boolean, text[], int[], interval, timestamptz) IS
    'Adds to queue_start what a claim starts in a queue, or in partitions of it.';
