-- Identifies the history that the database is in: it is another one after a restore, after a
-- recovery to an earlier moment, and after a failover.
--
-- A worker asks at each new connection. If the answer is not the one of its registration, the
-- database may have forgotten what the worker knows that it recorded, while the executor's row is
-- there and looks alive. So the worker ends that executor and begins anew. A restart or a crash
-- of the server changes nothing.
--
-- The parts: which cluster, since when on a path of its own, and the table, which a restored
-- dump made anew. Where a service keeps the first two to itself, the third must do.
CREATE OR REPLACE FUNCTION lockstep.incarnation()
RETURNS text
LANGUAGE plpgsql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_table constant oid := 'lockstep.executor'::regclass;
BEGIN
    RETURN (
        SELECT format('%s-%s-%s', c.system_identifier, left(pg_walfile_name(pg_current_wal_lsn()), 8), v_table)
        FROM pg_control_system() AS c
    );
EXCEPTION
    WHEN insufficient_privilege OR feature_not_supported THEN
        RETURN v_table::text;
END
$$;
COMMENT ON FUNCTION lockstep.incarnation() IS
    'Identifies the history that the database is in: a restore, a recovery or a failover begins another.';
