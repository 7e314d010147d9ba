-- Makes the commit wait for a synchronous standby though the transaction writes nothing.
--
-- For who answers that something is there already. It may have been committed just before a crash
-- of the server, which cut off the wait for the standby: then it is visible, and not replicated.
-- Postgres waits only for transactions that wrote WAL, so this writes a message that nobody reads.
CREATE OR REPLACE FUNCTION lockstep._wait_for_standby()
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pg_logical_emit_message(true, 'lockstep', '');
END
$$;
COMMENT ON FUNCTION lockstep._wait_for_standby() IS
    'Makes the commit wait for a synchronous standby though the transaction writes nothing.';
