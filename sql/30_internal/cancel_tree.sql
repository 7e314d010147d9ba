-- Cancels unfinished workflows and, level by level, their unfinished descendants.
--
-- Returns the ids of all that it cancelled. Lock order: workflow rows by id, from
-- parents to children. start_children() locks the parent's row FOR SHARE, so of a
-- child that is being started either the start fails or its row is found here.
CREATE OR REPLACE FUNCTION lockstep._cancel_tree(p_workflow_ids text[])
RETURNS text[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    v_level text[] := p_workflow_ids;
    v_cancelled text[] := ARRAY[]::text[];
BEGIN
    WHILE cardinality(v_level) > 0 LOOP
        PERFORM
        FROM lockstep.workflow_status AS w
        WHERE w.workflow_id = ANY (v_level)
        ORDER BY w.workflow_id
        FOR NO KEY UPDATE;

        WITH cancelled AS (
            UPDATE lockstep.workflow_status AS w
            SET status = 'CANCELLED', error = NULL, completed_at = clock_timestamp(), waiting_for = NULL
            WHERE w.workflow_id = ANY (v_level)
                AND w.completed_at IS NULL
            RETURNING w.workflow_id
        )

        SELECT coalesce(array_agg(c.workflow_id), '{}')
        INTO v_level
        FROM cancelled AS c;

        v_cancelled := v_cancelled || v_level;

        v_level := ARRAY(
            SELECT w.workflow_id
            FROM lockstep.workflow_status AS w
            WHERE w.parent_workflow_id = ANY (v_level)
                AND w.completed_at IS NULL
        );
    END LOOP;

    PERFORM lockstep._settle_ended(v_cancelled, v_cancelled);
    RETURN v_cancelled;
END
$$;
COMMENT ON FUNCTION lockstep._cancel_tree(text[]) IS
    'Cancels unfinished workflows and their unfinished descendants; returns their ids.';
