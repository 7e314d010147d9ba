-- Moves what a queue started in the future to now: the clock was set back since.
--
-- Else a rate limit would count these starts, and start nothing more, until the clock has
-- come to them. They become one row: as if all had started now, so that they are counted
-- for one period more at the most. The caller holds the queue row.
CREATE OR REPLACE FUNCTION lockstep._pull_back_starts(p_queue_name text, p_now timestamptz)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- _log_starts() itself puts starts some microseconds after each other
    IF NOT EXISTS (
        SELECT
        FROM lockstep.queue_start AS s
        WHERE s.queue_name = p_queue_name
            AND s.is_partition = ANY ('{t,f}')
            AND s.started_at > p_now + interval '1 s'
    ) THEN
        RETURN;
    END IF;

    WITH removed AS (
        DELETE FROM lockstep.queue_start AS s
        WHERE s.queue_name = p_queue_name
            AND s.started_at > p_now
        RETURNING s.is_partition, s.partition_key, s.count_before, s.count_after
    )

    INSERT INTO lockstep.queue_start (
        queue_name, is_partition, partition_key, started_at, count_before, count_after
    )
    SELECT
        p_queue_name, r.is_partition, r.partition_key, p_now, min(r.count_before), max(r.count_after)
    FROM removed AS r
    GROUP BY r.is_partition, r.partition_key;
END
$$;
COMMENT ON FUNCTION lockstep._pull_back_starts(text, timestamptz) IS
    'Moves what a queue started in the future to now: the clock was set back since.';
