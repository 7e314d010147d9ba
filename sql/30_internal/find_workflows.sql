-- Finds the newest workflows that meet a filter, of those statuses that are allowed.
--
-- Newest first by (created_at, workflow_id), after the workflow p_before_id if one is
-- given. The filter, which _checked_filter() has passed, has keys as list_workflows() has
-- parameters. Takes the shortest way to
-- candidates: the children of a parent; the ids with a prefix, if no more than 2000 have
-- it; else the newest by status, queue, name and time (_newest_workflows()). What that
-- way does not look at is tested on its candidates, in growing numbers of them until
-- p_count are found: an error text, headers, and the prefix if more ids have it.
CREATE OR REPLACE FUNCTION lockstep._find_workflows(
    p_filter jsonb,
    p_statuses text[],
    p_before_id text,
    p_count int
)
RETURNS TABLE (workflow_id text, created_at timestamptz)
LANGUAGE plpgsql
STABLE
ROWS 100
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan
SET enable_seqscan = off
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    v_max_candidates constant int := 2000;
    v_statuses text[] := coalesce(p_statuses, ARRAY[
        'ENQUEUED', 'DELAYED', 'PENDING', 'WAITING', 'SUCCESS', 'ERROR', 'CANCELLED',
        'MAX_RECOVERY_ATTEMPTS_EXCEEDED'
    ]);
    v_queue_name constant text := p_filter ->> 'queue_name';
    v_workflow_name constant text := p_filter ->> 'workflow_name';
    v_parent_id constant text := p_filter ->> 'parent_workflow_id';
    v_error_text constant text := lower(p_filter ->> 'error_text');
    v_headers constant jsonb := p_filter -> 'headers';
    v_from constant timestamptz := coalesce((p_filter ->> 'created_after')::timestamptz, '-infinity');
    v_to constant timestamptz := coalesce((p_filter ->> 'created_before')::timestamptz, 'infinity');
    v_pattern constant text := regexp_replace(p_filter ->> 'id_prefix', E'([\\\\%_])', E'\\\\\\1', 'g') || '%';
    v_before_at timestamptz := timestamptz 'infinity';
    v_before_id text := coalesce(p_before_id, '');
    v_chunk int := greatest(p_count, 100);
    v_left int := p_count;
    v_row_count int;
    v_prefixed_ids text[];
    v_ids text[];
    v_times timestamptz[];
BEGIN
    IF jsonb_typeof(p_filter -> 'status') = 'array' THEN
        v_statuses := ARRAY(
            SELECT DISTINCT s.status
            FROM jsonb_array_elements_text(p_filter -> 'status') AS s (status)
            WHERE s.status = ANY (v_statuses)
        );
    ELSIF p_filter ? 'status' THEN
        v_statuses := ARRAY(
            SELECT s.status FROM unnest(v_statuses) AS s (status) WHERE s.status = p_filter ->> 'status'
        );
    END IF;

    IF v_error_text IS NOT NULL THEN
        v_statuses := array_remove(v_statuses, 'SUCCESS');
    END IF;

    IF p_before_id IS NOT NULL THEN
        SELECT w.created_at
        INTO v_before_at
        FROM lockstep.workflow_status AS w
        WHERE w.workflow_id = p_before_id;

        IF NOT FOUND THEN
            PERFORM lockstep._refuse_unknown_workflow(p_before_id);
        END IF;
    END IF;

    IF v_to <= v_before_at THEN
        v_before_at := v_to;
        v_before_id := '';  -- no id is smaller: created_before itself is left out
    END IF;

    IF v_parent_id IS NULL AND v_pattern IS NOT NULL THEN
        v_prefixed_ids := ARRAY(
            SELECT w.workflow_id
            FROM lockstep.workflow_status AS w
            WHERE (w.status <> 'PENDING') IS TRUE
                AND w.workflow_id LIKE v_pattern
            UNION ALL
            SELECT w.workflow_id
            FROM lockstep.workflow_status AS w
            WHERE w.status = 'PENDING'
                AND w.workflow_id LIKE v_pattern
            LIMIT v_max_candidates + 1
        );
    END IF;

    LOOP
        IF v_parent_id IS NOT NULL THEN
            SELECT array_agg(c.workflow_id), array_agg(c.created_at)
            INTO v_ids, v_times
            FROM (
                SELECT w.workflow_id, w.created_at
                FROM lockstep.workflow_status AS w
                WHERE w.parent_workflow_id = v_parent_id
                    AND w.created_at >= v_from
                    AND w.created_at <= v_before_at
                    AND (w.created_at, w.workflow_id) < (v_before_at, v_before_id)
                ORDER BY w.created_at DESC, w.workflow_id DESC
                LIMIT v_chunk
            ) AS c;
        ELSIF cardinality(v_prefixed_ids) <= v_max_candidates THEN
            v_ids := v_prefixed_ids;
            v_chunk := v_max_candidates + 1;
        ELSE
            SELECT array_agg(c.workflow_id), array_agg(c.created_at)
            INTO v_ids, v_times
            FROM lockstep._newest_workflows(
                v_statuses, v_queue_name, v_workflow_name, v_from, v_before_at, v_before_id, v_chunk
            ) AS c;
        END IF;

        EXIT WHEN v_ids IS NULL;

        RETURN QUERY
        SELECT w.workflow_id, w.created_at
        FROM lockstep.workflow_status AS w
        WHERE w.workflow_id = ANY (v_ids)
            AND w.status = ANY (v_statuses)
            AND w.created_at >= v_from
            AND (w.created_at, w.workflow_id) < (v_before_at, v_before_id)
            AND (v_queue_name IS NULL OR w.queue_name = v_queue_name)
            AND (v_workflow_name IS NULL OR w.workflow_name = v_workflow_name)
            AND (v_pattern IS NULL OR w.workflow_id LIKE v_pattern)
            AND (v_headers IS NULL OR w.headers @> v_headers)
            AND (
                v_error_text IS NULL
                OR strpos(lower(concat(w.error ->> 'type', ': ', w.error ->> 'message')), v_error_text) > 0
            )
        ORDER BY w.created_at DESC, w.workflow_id DESC
        LIMIT v_left;

        GET DIAGNOSTICS v_row_count = ROW_COUNT;
        v_left := v_left - v_row_count;
        EXIT WHEN v_left = 0 OR cardinality(v_ids) < v_chunk;

        v_before_at := v_times[cardinality(v_ids)];
        v_before_id := v_ids[cardinality(v_ids)];
        v_chunk := least(4 * v_chunk, greatest(v_chunk, 10000));
    END LOOP;
END
$$;
COMMENT ON FUNCTION lockstep._find_workflows(jsonb, text[], text, int) IS
    'Finds the newest workflows that meet a filter, of those statuses that are allowed.';
