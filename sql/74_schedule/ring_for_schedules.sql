-- Wakes idle workers when the caller's transaction commits: a schedule was changed.
--
-- Any worker may start the ticks of any schedule, so all of them look when the next is.
CREATE OR REPLACE FUNCTION lockstep._ring_for_schedules()
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF EXISTS (SELECT FROM lockstep.executor AS e WHERE e.is_idle) THEN
        PERFORM pg_notify('lockstep', 'due');
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep._ring_for_schedules() IS
    'Wakes idle workers when the transaction commits: a schedule was changed.';
