-- Says, until the transaction ends, that values are being published.
--
-- Closes the race between who publishes a value, and then looks who waits for it,
-- and who begins to wait, and then looks for the value: neither would see the other
-- before both have committed. The one who waits needs the same locks for itself
-- (_is_announced()) and tries again later when it does not get them. The locks are
-- shared: who publishes waits only for a suspension that is about to commit.
CREATE OR REPLACE FUNCTION lockstep._announce(p_awaited_ids text[], p_whats text[])
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(k.lock_key)
    FROM (
        SELECT DISTINCT hashtextextended(a.what || ' of ' || a.awaited_id, 0) AS lock_key
        FROM unnest(p_awaited_ids, p_whats) AS a (awaited_id, what)
        ORDER BY lock_key
    ) AS k;
END
$$;
COMMENT ON FUNCTION lockstep._announce(text[], text[]) IS
    'Says, until the transaction ends, that values are being published.';
