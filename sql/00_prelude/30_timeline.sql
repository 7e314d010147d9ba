-- Returns the timeline that the server writes: a promotion or a restore to a moment begins a
-- new one.
--
-- The control file has it too, but only after the first checkpoint of the new timeline.
-- The planner inlines it.
CREATE OR REPLACE FUNCTION lockstep._timeline()
RETURNS int
LANGUAGE sql
VOLATILE
BEGIN ATOMIC
    SELECT ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int; -- noqa: LT01
END;
COMMENT ON FUNCTION lockstep._timeline() IS
    'Returns the timeline that the server writes.';
