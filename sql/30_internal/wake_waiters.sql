-- Wakes who waits for workflows: for anything of them, or for what is named.
--
-- Workflows become claimable, clients are notified on their channel with the id.
-- p_whats has one element per id, as waiter.awaited_what, or is NULL. Costs next to
-- nothing while nobody waits for any workflow, else a look into an index per id.
--
-- Lock order: waiter, then workflow rows by id.
CREATE OR REPLACE FUNCTION lockstep._wake_waiters(p_awaited_ids text[], p_whats text[] DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_woken_ids text[];
    v_channels text[];
    v_notes text[];
BEGIN
    IF NOT EXISTS (SELECT FROM lockstep.waiter) THEN
        RETURN;
    END IF;

    WITH gone AS (
        DELETE FROM lockstep.waiter AS w
        USING unnest(p_awaited_ids, p_whats) AS a (awaited_id, what)
        WHERE w.awaited_id = ANY (ARRAY[a.awaited_id])
            AND (a.what IS NULL OR w.awaited_what = a.what)
        RETURNING w.awaited_id, w.is_client, w.waiter
    )

    SELECT
        array_agg(DISTINCT g.waiter) FILTER (WHERE NOT g.is_client),
        array_agg(g.waiter) FILTER (WHERE g.is_client),
        array_agg(g.awaited_id) FILTER (WHERE g.is_client)
    INTO v_woken_ids, v_channels, v_notes
    FROM gone AS g;

    IF v_channels IS NOT NULL THEN
        PERFORM pg_notify(c.channel, c.note)
        FROM unnest(v_channels, v_notes) AS c (channel, note);
    END IF;

    IF v_woken_ids IS NOT NULL THEN
        PERFORM lockstep._wake_workflows(v_woken_ids);
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep._wake_waiters(text[], text[]) IS
    'Wakes who waits for workflows: for anything of them, or for what is named.';
