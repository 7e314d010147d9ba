-- Looks for what a client waits for, however many watches there are.
--
-- watches: as for watch_workflows(), where one of a stream may have "from_offset". Returns
-- a row, with the place of the watch in the array from 1, for each that is
--   published  the event is set, and output is its value; or the stream has values from
--              the offset on, for read_stream();
--   ended      nothing more will be published: the workflow has ended with status, and,
--              where the end itself is watched, with output or error; or the stream is
--              closed before the offset;
--   unknown    there is no such workflow, or it is another tenant's;
--   busy       it may be coming at this moment: look again soon (only with tells_busy).
-- Of the others nothing has come, and with tells_busy nothing that comes later is
-- missed by a watch that was committed before this call.
--
-- The reason: who ends a workflow, or publishes, looks for watches. If that look came
-- before the watch was committed, then what it did to the workflow's row, or the lock of
-- _announce(), was there before too, and is found here, unless it is committed or rolled
-- back by now, which the last statement sees. A lock left by one who is gone looks like one
-- of somebody at work, so such rows are locked FOR SHARE for a moment, skipping those that
-- are held: this function never waits. Rows without any are not touched, or a claim,
-- which skips locked rows, would pass over the workflows that are awaited most. Joins
-- and subqueries are written so that they can only look rows up (_is_held()).
CREATE OR REPLACE FUNCTION lockstep.check_watches(watches jsonb, tells_busy boolean DEFAULT false)
RETURNS TABLE (place int, outcome text, status text, output jsonb, error jsonb)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    v_changing text[] := ARRAY[]::text[];
    v_settled text[] := ARRAY[]::text[];
    v_announced int[] := ARRAY[]::int[];
BEGIN
    IF check_watches.tells_busy THEN
        v_changing := ARRAY(
            SELECT w.workflow_id
            FROM jsonb_to_recordset(check_watches.watches) AS a (workflow_id text)
            INNER JOIN lockstep.workflow_status AS w ON w.workflow_id = ANY (ARRAY[a.workflow_id])
            WHERE w.completed_at IS NULL
                AND w.xmax <> 0
                AND lockstep._may_see(w.enqueued_by)
        );

        IF v_changing <> '{}' THEN
            v_settled := ARRAY(
                SELECT w.workflow_id
                FROM lockstep.workflow_status AS w
                WHERE w.workflow_id = ANY (v_changing)
                FOR SHARE SKIP LOCKED
            );
        END IF;

        v_announced := ARRAY(
            WITH missing AS MATERIALIZED (
                SELECT
                    a.place, a.workflow_id,
                    coalesce('event:' || a.event_key, 'stream:' || a.stream_key) AS what
                FROM ROWS FROM (
                    jsonb_to_recordset(check_watches.watches)
                        AS (workflow_id text, event_key text, stream_key text, from_offset bigint)
                ) WITH ORDINALITY AS a (workflow_id, event_key, stream_key, from_offset, place)
                WHERE num_nonnulls(a.event_key, a.stream_key) > 0
                    AND (
                        SELECT lockstep._may_see(w.enqueued_by)
                        FROM lockstep.workflow_status AS w
                        WHERE w.workflow_id = a.workflow_id
                    )
                    AND (
                        SELECT true
                        FROM lockstep.workflow_events AS v
                        WHERE v.workflow_id = a.workflow_id
                            AND v.key = a.event_key
                    ) IS NULL
                    AND (
                        SELECT true
                        FROM lockstep.workflow_streams AS s
                        WHERE s.workflow_id = a.workflow_id
                            AND s.key = a.stream_key
                            AND s."offset" >= coalesce(a.from_offset, 0)
                        LIMIT 1
                    ) IS NULL
            )

            SELECT m.place
            FROM missing AS m
            WHERE lockstep._is_announced(m.workflow_id, m.what)
        );
    END IF;

    RETURN QUERY
    WITH seen AS (
        SELECT
            a.place::int AS place, w.workflow_id, w.status, w.completed_at,
            a.event_key IS NULL AND a.stream_key IS NULL AS is_of_end,
            v.workflow_id IS NOT NULL OR (
                SELECT true
                FROM lockstep.workflow_streams AS s
                WHERE s.workflow_id = w.workflow_id
                    AND s.key = a.stream_key
                    AND s."offset" >= coalesce(a.from_offset, 0)
                LIMIT 1
            ) IS NOT NULL AS is_published,
            w.completed_at IS NOT NULL OR coalesce((
                SELECT s.is_end
                FROM lockstep.workflow_streams AS s
                WHERE s.workflow_id = w.workflow_id
                    AND s.key = a.stream_key
                ORDER BY s."offset" DESC
                LIMIT 1
            ), false) AS is_over,
            v.value, w.output, w.error
        FROM ROWS FROM (
            jsonb_to_recordset(check_watches.watches)
                AS (workflow_id text, event_key text, stream_key text, from_offset bigint)
        ) WITH ORDINALITY AS a (workflow_id, event_key, stream_key, from_offset, place)
        LEFT JOIN lockstep.workflow_status AS w
            ON w.workflow_id = ANY (ARRAY[a.workflow_id])
            AND lockstep._may_see(w.enqueued_by)
        LEFT JOIN lockstep.workflow_events AS v
            ON v.workflow_id = ANY (ARRAY[w.workflow_id])
            AND v.key = ANY (ARRAY[a.event_key])
    )

    SELECT
        s.place,
        CASE
            WHEN s.workflow_id IS NULL THEN 'unknown'
            WHEN s.is_published THEN 'published'
            WHEN s.is_over THEN 'ended'
            ELSE 'busy'
        END,
        s.status,
        CASE WHEN s.is_of_end THEN s.output ELSE s.value END,
        CASE WHEN s.is_of_end AND s.completed_at IS NOT NULL THEN s.error END
    FROM seen AS s
    WHERE s.workflow_id IS NULL
        OR s.is_published
        OR s.is_over
        OR s.place = ANY (v_announced)
        OR (s.workflow_id = ANY (v_changing) AND s.workflow_id <> ALL (v_settled));
END
$$;
COMMENT ON FUNCTION lockstep.check_watches(jsonb, boolean) IS
    'Looks for what a client waits for: ends, events and streams of workflows.';
