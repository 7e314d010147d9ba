-- Raises the error for a deduplication id that an unfinished workflow has.
--
-- The hint is for a caller who may see that workflow. To another tenant it is not described.
CREATE OR REPLACE FUNCTION lockstep._refuse_rival(
    p_queue_name text,
    p_deduplication_id text,
    p_rival_id text,
    p_hint text
)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_rival constant text := (
        SELECT format('It is workflow "%s", %s, and runs "%s".', w.workflow_id, w.status, w.workflow_name)
        FROM lockstep.workflow_status AS w
        WHERE w.workflow_id = p_rival_id
            AND lockstep._may_see(w.enqueued_by)
    );
BEGIN
    RAISE EXCEPTION 'queue "%" has an unfinished workflow with deduplication_id "%"',
        p_queue_name, p_deduplication_id
        USING ERRCODE = 'unique_violation',
              DETAIL = coalesce(v_rival, 'It is not visible to this role.'),
              HINT = CASE
                  WHEN v_rival IS NULL THEN 'Use another deduplication_id, or a queue of your own.'
                  ELSE p_hint
              END;
END
$$;
COMMENT ON FUNCTION lockstep._refuse_rival(text, text, text, text) IS
    'Raises the error for a deduplication id that an unfinished workflow has.';
