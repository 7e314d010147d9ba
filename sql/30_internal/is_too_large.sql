-- Tells whether a JSON value is larger than what callers may store, 16 MB.
--
-- Postgres holds up to 256 MB, but a claim hands many workflows over in one answer, which
-- ends at 1 GB, and a worker makes objects of ten times the size of them. The size is that of
-- jsonb; what comes compressed out of a table counts as that. The planner inlines it.
CREATE OR REPLACE FUNCTION lockstep._is_too_large(p_value jsonb)
RETURNS boolean
LANGUAGE sql
STABLE
BEGIN ATOMIC
    SELECT pg_column_size(p_value) > 16777216;
END;
COMMENT ON FUNCTION lockstep._is_too_large(jsonb) IS
    'Tells whether a JSON value is larger than what callers may store, 16 MB.';
