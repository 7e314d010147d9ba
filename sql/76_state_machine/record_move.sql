-- Notes that an UPDATE changes the key of a row of a partitioned table.
--
-- If that takes the row to another partition, Postgres tells triggers of a deletion and of an
-- insertion, and no more of the update. record_transition(), which the same statement calls
-- after either, then knows them for one row, and takes the note away.
CREATE OR REPLACE FUNCTION lockstep.record_move(table_name regclass, previous_key jsonb, key jsonb)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO lockstep.state_move (table_name, previous_key, key)
    VALUES (pg_partition_root(record_move.table_name)::text, record_move.previous_key, record_move.key);
END
$$;
COMMENT ON FUNCTION lockstep.record_move(regclass, jsonb, jsonb) IS
    'Notes that an UPDATE changes the key of a row of a partitioned table.';
