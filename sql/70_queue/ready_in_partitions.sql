-- Locks the workflows of a queue with limits per partition that may start now.
--
-- The partitions take turns: one workflow of each that has work and room, from behind
-- the one that had the last turn on, and, if all have had theirs, two of each, four and
-- so on. So a partition with one workflow waits for one round, however many wait in
-- others. Priority counts within a partition. Workflows without a key are one too.
--
-- Cost: a look into an index for each partition with work that is passed, at most a
-- thousand in vain in a call; the next call goes on behind them.
--
-- The caller holds the queue row. Locks workflow rows, skipping locked ones.
CREATE OR REPLACE FUNCTION lockstep._ready_in_partitions(
    p_queue lockstep.queue,
    p_executor lockstep.executor,
    p_max_count int,
    p_now timestamptz,
    OUT ready tid[],
    OUT look_again_in double precision
)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
-- the order of partitions is to be read from their index and nowhere else
SET enable_sort = off
AS $$
DECLARE
    v_start constant text := coalesce(p_queue.partition_cursor, '');
    v_last_depth constant int := p_max_count + 1000;
    v_running jsonb;
    v_keys text[];
    v_rooms int[];
    v_counts int[];
    v_open int[];
    v_still_open int[];
    v_portion int := 1;
    v_room int;
    v_place int;
    v_taken tid[];
BEGIN
    v_running := (
        SELECT coalesce(jsonb_object_agg(r.partition_key, r.running_count), '{}')
        FROM (
            SELECT coalesce(w.queue_partition_key, '') AS partition_key, count(*) AS running_count
            FROM lockstep.workflow_status AS w
            WHERE w.status = 'PENDING'
                AND w.queue_name = p_queue.queue_name
            GROUP BY 1
        ) AS r
    );

    -- The first round. The partitions follow each other as in a ring, where '' stands for the
    -- workflows without a key. Where the ring is cut short, a row without a workflow names the
    -- partition behind which the next call goes on.
    WITH RECURSIVE ring AS (
        SELECT v_start AS partition_key, NULL AS previous_key, 0 AS depth, false AS is_second_lap
        UNION ALL
        SELECT n.partition_key, r.partition_key, r.depth + 1, n.is_second_lap
        FROM ring AS r
        CROSS JOIN LATERAL (
            SELECT
                r.is_second_lap OR (r.partition_key = '' AND r.depth > 0) AS is_second_lap,
                coalesce((
                    SELECT w.queue_partition_key
                    FROM lockstep.workflow_status AS w
                    WHERE w.queue_name = p_queue.queue_name
                        AND w.queue_partition_key > r.partition_key
                        AND w.status = 'ENQUEUED'
                    ORDER BY w.queue_partition_key
                    LIMIT 1
                ), '') AS partition_key
        ) AS n
        WHERE r.depth < v_last_depth
            AND NOT (n.is_second_lap AND (n.partition_key = '' OR n.partition_key > v_start))
    ),

    turn AS (
        SELECT
            r.depth, head.row_id,
            CASE WHEN r.depth = v_last_depth THEN r.previous_key ELSE r.partition_key END AS partition_key,
            CASE WHEN r.depth < v_last_depth THEN room.room - (head.row_id IS NOT NULL)::int END AS room
        FROM ring AS r
        CROSS JOIN LATERAL (
            SELECT least(
                p_queue.partition_concurrency - coalesce((v_running ->> r.partition_key)::int, 0),
                CASE
                    WHEN p_queue.partition_rate_limit IS NOT NULL
                        THEN (lockstep._rate_room(
                            p_queue.queue_name, true, r.partition_key, p_queue.partition_rate_limit,
                            p_queue.partition_rate_period, p_now
                        )).room
                END
            ) AS room
            OFFSET 0  -- else the planner puts all this wherever the room is mentioned
        ) AS room
        CROSS JOIN LATERAL (
            -- what _ready_in_partition() says, whose call would cost 8 us for each partition
            SELECT one.row_id
            FROM (
                SELECT w.ctid AS row_id
                FROM lockstep.workflow_status AS w
                WHERE room.room > 0
                    AND r.depth < v_last_depth
                    AND w.queue_name = p_queue.queue_name
                    -- not "=": this order only the index by partitions has
                    AND w.queue_partition_key BETWEEN r.partition_key AND r.partition_key
                    AND w.status = 'ENQUEUED'
                    AND w.workflow_name = ANY (p_executor.workflow_names)
                    AND (w.app_version IS NULL OR w.app_version = p_executor.app_version)
                    AND NOT lockstep._is_suspect(w.attempts, w.max_attempts)
                ORDER BY w.queue_partition_key, w.priority, w.available_at
                LIMIT 1
                FOR NO KEY UPDATE SKIP LOCKED
            ) AS one
            UNION ALL
            SELECT keyless.row_id
            FROM unnest(
                CASE
                    WHEN room.room > 0 AND r.partition_key = '' AND r.depth < v_last_depth
                        THEN lockstep._ready_in_partition(p_queue.queue_name, NULL, p_executor, 1, '{}')
                END
            ) AS keyless (row_id)
            UNION ALL
            SELECT NULL
            WHERE r.depth = v_last_depth
        ) AS head
        WHERE r.depth > 0
        LIMIT p_max_count
    )

    SELECT
        coalesce(array_agg(t.row_id) FILTER (WHERE t.row_id IS NOT NULL), '{}'),
        array_agg(t.partition_key ORDER BY t.depth), array_agg(t.room ORDER BY t.depth),
        array_agg((t.row_id IS NOT NULL)::int ORDER BY t.depth)
    INTO ready, v_keys, v_rooms, v_counts
    FROM turn AS t;

    IF v_keys IS NOT NULL THEN
        UPDATE lockstep.queue AS q
        SET partition_cursor = v_keys[cardinality(v_keys)]
        WHERE q.queue_name = p_queue.queue_name
            AND q.partition_cursor IS DISTINCT FROM v_keys[cardinality(v_keys)];
    END IF;

    v_open := ARRAY(
        SELECT p.place
        FROM unnest(v_keys, v_rooms) WITH ORDINALITY AS p (partition_key, room, place)
        WHERE p.room > 0
        ORDER BY p.place
    );
    WHILE cardinality(ready) < p_max_count AND cardinality(v_open) > 0 LOOP
        v_portion := v_portion * 2;
        v_still_open := ARRAY[]::int[];
        FOREACH v_place IN ARRAY v_open LOOP
            v_room := least(v_portion, v_rooms[v_place], p_max_count - cardinality(ready));
            CONTINUE WHEN v_room <= 0;

            v_taken := lockstep._ready_in_partition(
                p_queue.queue_name, nullif(v_keys[v_place], ''), p_executor, v_room, ready
            );
            ready := ready || v_taken;
            v_counts[v_place] := v_counts[v_place] + cardinality(v_taken);
            v_rooms[v_place] := v_rooms[v_place] - cardinality(v_taken);
            IF cardinality(v_taken) = v_room THEN
                v_still_open := v_still_open || v_place;
            END IF;
        END LOOP;
        v_open := v_still_open;
    END LOOP;

    IF p_queue.partition_rate_limit IS NOT NULL THEN
        PERFORM lockstep._log_starts(
            p_queue.queue_name, true, v_keys, v_counts, p_queue.partition_rate_period, p_now
        );
    END IF;

    IF cardinality(ready) < p_max_count THEN
        look_again_in := CASE
            WHEN cardinality(v_keys) > 0 AND v_rooms[cardinality(v_keys)] IS NULL  -- cut short
                THEN CASE WHEN ready = '{}' THEN 0.05 ELSE 0.01 END
            ELSE lockstep._next_partition_in(p_queue, p_now)
        END;
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep._ready_in_partitions(lockstep.queue, lockstep.executor, int, timestamptz) IS
    'Locks the workflows of a queue with limits per partition that may start now.';
