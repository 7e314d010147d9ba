-- Tells whether an executor may write: nobody declared it dead, and the server is the one
-- where it registered, or has all that was committed there.
--
-- A promoted standby, or a server restored to a moment, may lack the last commits that the
-- executor knows of. What it runs has gone on from them: a later step would be recorded, and
-- its writes committed, without the earlier one. The planner inlines it.
CREATE OR REPLACE FUNCTION lockstep._is_alive(p_executor lockstep.executor)
RETURNS boolean
LANGUAGE sql
VOLATILE
BEGIN ATOMIC
    SELECT p_executor.expires_at > '-infinity' -- noqa: LT01
        AND CASE
            WHEN p_executor.timeline IS NULL THEN true
            ELSE p_executor.timeline = lockstep._timeline()
        END;
END;
COMMENT ON FUNCTION lockstep._is_alive(lockstep.executor) IS
    'Tells whether an executor may write: not declared dead, and no failover since it registered.';
