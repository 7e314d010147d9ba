-- Wakes idle workers after workflows gave up their places in limited queues.
--
-- What keeps a workflow of such a queue waiting is the limit and not the lack
-- of an enqueue, so its end must ring as an enqueue does. A place in one worker is
-- that worker's to fill: it claims as it gives it up, and is told only of what others
-- cancel. Does nothing while no queue has a limit.
CREATE OR REPLACE FUNCTION lockstep._ring_for_free_places(p_workflow_ids text[])
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_limited text[];
    v_shared text[];
    v_queues text[];
BEGIN
    SELECT
        array_agg(q.queue_name),
        array_agg(q.queue_name) FILTER (WHERE num_nonnulls(q.concurrency, q.partition_concurrency) > 0)
    INTO v_limited, v_shared
    FROM lockstep.queue AS q
    WHERE num_nonnulls(q.concurrency, q.worker_concurrency, q.partition_concurrency) > 0;

    IF v_limited IS NOT NULL THEN
        v_queues := ARRAY(
            SELECT DISTINCT w.queue_name
            FROM lockstep.workflow_status AS w
            INNER JOIN unnest(p_workflow_ids) AS f (workflow_id)
                ON w.workflow_id = ANY (ARRAY[f.workflow_id])
            WHERE w.queue_name = ANY (v_limited)
                AND (w.queue_name = ANY (v_shared) OR w.status = 'CANCELLED')
        );
    END IF;

    IF cardinality(v_queues) > 0 THEN
        PERFORM lockstep._ring_doorbell(v_queues);
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep._ring_for_free_places(text[]) IS
    'Wakes idle workers after workflows gave up their places in limited queues.';
