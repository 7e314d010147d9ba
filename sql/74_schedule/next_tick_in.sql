-- Tells in how many seconds a schedule wants a worker: 0 if one does now, NULL if none will.
CREATE OR REPLACE FUNCTION lockstep._next_tick_in()
RETURNS double precision
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    v_now constant timestamptz := clock_timestamp();
    v_next_tick_at constant timestamptz := (
        SELECT min(s.next_tick_at)
        FROM lockstep.schedule AS s
        WHERE NOT s.is_paused
    );
BEGIN
    RETURN CASE
        WHEN v_next_tick_at <= v_now THEN 0::double precision
        WHEN v_next_tick_at < 'infinity' THEN extract(EPOCH FROM v_next_tick_at - v_now)::double precision
    END;
END
$$;
COMMENT ON FUNCTION lockstep._next_tick_in() IS
    'Tells in how many seconds a schedule wants a worker: 0 if now, NULL if never.';
