-- Tells whether an executor may write: nobody declared it dead, and the database is the one
-- where it registered, or has all that was committed there.
--
-- A promoted standby, a server restored to a moment, or a database restored from a dump may
-- lack the last commits that the executor knows of. What it runs has gone on from them: a later
-- step would be recorded, and its writes committed, without the earlier one. The first two are on
-- a timeline of their own; in the last the table is another one, or the server is. Which server
-- it is, is read once after each start of it. The planner inlines this.
CREATE OR REPLACE FUNCTION lockstep._is_alive(p_executor lockstep.executor)
RETURNS boolean
LANGUAGE sql
VOLATILE
BEGIN ATOMIC
    SELECT p_executor.expires_at > '-infinity' -- noqa: LT01
        AND CASE
            WHEN p_executor.timeline IS NULL THEN true
            ELSE p_executor.timeline = lockstep._timeline()
        END
        AND CASE
            WHEN p_executor.table_id IS NULL THEN true
            ELSE p_executor.table_id = 'lockstep.executor'::regclass
        END
        AND CASE
            WHEN p_executor.system_id IS NULL THEN true
            WHEN p_executor.server_started_at = pg_postmaster_start_time() THEN true
            ELSE p_executor.system_id = lockstep._system_id()
        END;
END;
COMMENT ON FUNCTION lockstep._is_alive(lockstep.executor) IS
    'Tells whether an executor may write: not declared dead, and no failover or restore since it registered.';
