-- Reads values of a stream in their order, from an offset on.
--
-- Returns up to max_count rows; the row with is_end, without a value, is the last
-- of a stream that was closed. A workflow that ended writes no more, closed or not.
CREATE OR REPLACE FUNCTION lockstep.read_stream(
    workflow_id text,
    key text,
    from_offset bigint DEFAULT 0,
    max_count int DEFAULT 1000
)
RETURNS TABLE (value_offset bigint, value jsonb, is_end boolean, written_at timestamptz)
LANGUAGE plpgsql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
#variable_conflict use_column
BEGIN
    IF read_stream.max_count < 0 THEN
        RAISE EXCEPTION 'max_count must not be negative'
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = format('It is %s.', read_stream.max_count),
                  HINT = 'Pass null to read all of the stream.';
    END IF;

    PERFORM
    FROM lockstep.workflow_status AS w
    WHERE w.workflow_id = read_stream.workflow_id
        AND lockstep._may_see(w.enqueued_by);

    IF NOT FOUND THEN
        PERFORM lockstep._refuse_unknown_workflow(read_stream.workflow_id);
    END IF;

    RETURN QUERY
    SELECT s."offset", s.value, s.is_end, s.written_at
    FROM lockstep.workflow_streams AS s
    WHERE s.workflow_id = read_stream.workflow_id
        AND s.key = read_stream.key
        AND s."offset" >= read_stream.from_offset
    ORDER BY s."offset"
    LIMIT read_stream.max_count;
END
$$;
COMMENT ON FUNCTION lockstep.read_stream(text, text, bigint, int) IS
    'Reads values of a stream in their order, from an offset on.';
