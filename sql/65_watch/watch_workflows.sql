-- Enters a client as waiting for workflows: it is notified on its channel.
--
-- watches: [{"workflow_id"} for its end, {"workflow_id", "event_key"} for an event or
-- {"workflow_id", "stream_key"} for values of a stream, …]. When it comes, or the
-- workflow ends, channel is notified once, with the workflow's id, and the watch is
-- gone. given_up lists watches that are not wanted any more. The channel's name must be
-- "lockstep_" and 32 hexadecimal digits, so that nobody can be made to ring elsewhere.
--
-- What came before the call commits is not notified: a client commits, then looks with
-- check_watches(watches, tells_busy => true), which says why none is missed. Waits for
-- nobody: a watch whose removal is under way is left alone, and reported as busy. Joins and
-- subqueries are written so that they can only look rows up, as _is_held() explains.
CREATE OR REPLACE FUNCTION lockstep.watch_workflows(
    channel text,
    watches jsonb,
    given_up jsonb DEFAULT '[]'
)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
BEGIN
    IF watch_workflows.channel IS NULL OR watch_workflows.channel !~ '^lockstep_[0-9a-f]{32}$' THEN
        RAISE EXCEPTION 'channel must be "lockstep_" and 32 hexadecimal digits'
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = format('It is %s.', quote_nullable(left(watch_workflows.channel, 64))),
                  HINT = 'Take a random one, such as ''lockstep_'' || replace(gen_random_uuid()::text, ''-'', '''').';
    END IF;

    DELETE FROM lockstep.waiter AS gone
    WHERE gone.ctid = ANY (
        ARRAY(
            SELECT held.ctid
            FROM jsonb_to_recordset(watch_workflows.given_up)
                AS g (workflow_id text, event_key text, stream_key text)
            INNER JOIN lockstep.waiter AS held ON held.awaited_id = ANY (ARRAY[g.workflow_id])
            WHERE (held.awaited_what, held.is_client, held.waiter) IS NOT DISTINCT FROM (
                coalesce('event:' || g.event_key, 'stream:' || g.stream_key, ''), true, watch_workflows.channel
            )
            FOR UPDATE OF held SKIP LOCKED
        )
    );

    INSERT INTO lockstep.waiter (awaited_id, awaited_what, is_client, waiter)
    SELECT DISTINCT w.workflow_id, a.what, true, watch_workflows.channel
    FROM (
        SELECT r.workflow_id, coalesce('event:' || r.event_key, 'stream:' || r.stream_key, '') AS what
        FROM jsonb_to_recordset(watch_workflows.watches)
            AS r (workflow_id text, event_key text, stream_key text)
    ) AS a
    INNER JOIN lockstep.workflow_status AS w ON w.workflow_id = ANY (ARRAY[a.workflow_id])
    WHERE w.completed_at IS NULL
        AND lockstep._may_see(w.enqueued_by)
        AND (
            SELECT true
            FROM lockstep.waiter AS known
            WHERE known.awaited_id = a.workflow_id
                AND known.awaited_what = a.what
                AND known.is_client
                AND known.waiter = watch_workflows.channel
        ) IS NULL
    ON CONFLICT DO NOTHING;
END
$$;
COMMENT ON FUNCTION lockstep.watch_workflows(text, jsonb, jsonb) IS
    'Enters a client as waiting for workflows: it is notified on its channel.';
