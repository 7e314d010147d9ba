-- Wakes the idle workers of some queues when the caller's transaction commits.
--
-- Notifies only if an executor says that it is idle: NOTIFY serialises commits,
-- so under load, when nobody is idle, enqueueing issues none. A worker that
-- goes idle at this moment is not missed for long: it polls again after it
-- said so. p_reason is 'due' if there is nothing to claim now but something that
-- falls due, so that sleepers need only look when.
CREATE OR REPLACE FUNCTION lockstep._ring_doorbell(p_queues text[], p_reason text DEFAULT '')
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF EXISTS (
        SELECT
        FROM lockstep.executor AS e
        WHERE e.is_idle
            AND e.queues && p_queues
    ) THEN
        PERFORM pg_notify('lockstep', p_reason);
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep._ring_doorbell(text[], text) IS
    'Wakes the idle workers of some queues when the transaction commits.';
