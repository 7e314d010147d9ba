-- Enqueues workflows that start when calls for their deduplication id have paused;
-- returns their ids, in the order of the arrays.
--
-- A workflow that has the deduplication id and has not started takes everything from the
-- newest call, except its id and created_at, and starts p_debounce after that call, but
-- not later than p_max_delay after created_at. If the id is repeated in the arrays, the
-- last element is the newest call.
--
-- A workflow that has started has read its inputs, so it cannot take the newest ones, and
-- they must not be lost. Only one unfinished workflow may have the deduplication id, so
-- that one gives it up and runs on without, and a new workflow has it: later calls find
-- the one that can still take their inputs.
--
-- Lock order: the holders of the ids (FOR NO KEY UPDATE) and the new rows, in one statement,
-- by deduplication id: calls for the same ids do not deadlock. One that another
-- transaction holds, or is about to insert, is waited for. What INSERT does not change,
-- it has locked, so that nobody else takes the id between the two rounds of the loop.
CREATE OR REPLACE FUNCTION lockstep._debounce_workflows(
    p_workflow_name text,
    p_queue_name text,
    p_inputs jsonb[],
    p_workflow_ids text[],
    p_deduplication_ids text[],
    p_queue_partition_keys text[],
    p_priority int,
    p_timeout interval,
    p_deadline timestamptz,
    p_max_attempts int,
    p_app_version text,
    p_headers jsonb,
    p_retries jsonb,
    p_debounce interval,
    p_max_delay interval
)
RETURNS text[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    v_now constant timestamptz := clock_timestamp();
    v_done jsonb := jsonb '{}';
    v_is_claimable boolean := false;
    v_open text[];
    r_rival record;
BEGIN
    IF p_workflow_ids IS NOT NULL THEN
        SELECT w.workflow_id, w.workflow_name, w.queue_name, lockstep._may_see(w.enqueued_by) AS is_visible
        INTO r_rival
        FROM unnest(p_workflow_ids, p_deduplication_ids) AS n (workflow_id, deduplication_id)
        INNER JOIN lockstep.workflow_status AS w ON w.workflow_id = n.workflow_id
        WHERE (w.queue_name, w.deduplication_id, w.started_at, w.completed_at)
            IS DISTINCT FROM (p_queue_name, n.deduplication_id, NULL, NULL)
            OR NOT lockstep._may_see(w.enqueued_by)
        LIMIT 1;

        IF FOUND THEN
            RAISE EXCEPTION 'workflow "%" exists already', r_rival.workflow_id
                USING ERRCODE = 'unique_violation',
                      DETAIL = CASE
                          WHEN r_rival.is_visible
                              THEN format('It runs "%s" in queue "%s".', r_rival.workflow_name, r_rival.queue_name)
                          ELSE 'It is not visible to this role.'
                      END,
                      HINT = 'Leave workflow_id out: with debounce, calls are told apart by deduplication_id.';
        END IF;
    END IF;

    LOOP
        WITH newest AS (
            SELECT DISTINCT ON (n.deduplication_id COLLATE "C")
                n.inputs, n.deduplication_id, n.queue_partition_key, n.place,
                first_value(n.workflow_id) OVER (PARTITION BY n.deduplication_id ORDER BY n.place) AS workflow_id
            FROM unnest(p_inputs, p_workflow_ids, p_deduplication_ids, p_queue_partition_keys) WITH ORDINALITY
                AS n (inputs, workflow_id, deduplication_id, queue_partition_key, place)
            WHERE NOT v_done ? n.deduplication_id
            ORDER BY n.deduplication_id COLLATE "C", n.place DESC
        ),

        enqueued AS (
            INSERT INTO lockstep.workflow_status AS w (
                workflow_id, workflow_name, queue_name, status, inputs, priority,
                deduplication_id, queue_partition_key, app_version, max_attempts,
                created_at, available_at, deadline_at, timeout, enqueued_by, headers, retries
            )
            SELECT
                coalesce(n.workflow_id, lockstep._generate_id(v_now + n.place * interval '1 us')),
                p_workflow_name, p_queue_name, 'DELAYED', n.inputs, p_priority,
                n.deduplication_id, n.queue_partition_key, p_app_version, coalesce(p_max_attempts, 50),
                v_now + n.place * interval '1 us',
                v_now + least(p_debounce, p_max_delay) + n.place * interval '1 us',
                p_deadline, p_timeout, lockstep._caller(), p_headers, p_retries
            FROM newest AS n
            ORDER BY n.deduplication_id COLLATE "C"
            ON CONFLICT (queue_name, deduplication_id)
            WHERE deduplication_id IS NOT NULL AND completed_at IS NULL
            DO UPDATE SET
                status = CASE
                    WHEN w.created_at + p_max_delay <= v_now THEN 'ENQUEUED' ELSE 'DELAYED'
                END,
                inputs = excluded.inputs,
                priority = excluded.priority,
                queue_partition_key = excluded.queue_partition_key,
                app_version = excluded.app_version,
                -- a restarted workflow has used attempts
                max_attempts = least(w.attempts::bigint + excluded.max_attempts, 2147483647),
                available_at = least(excluded.available_at, w.created_at + p_max_delay),
                deadline_at = excluded.deadline_at,
                timeout = excluded.timeout,
                enqueued_by = excluded.enqueued_by,
                headers = excluded.headers,
                retries = excluded.retries
            WHERE w.workflow_name = excluded.workflow_name
                AND w.started_at IS NULL
                AND lockstep._may_see(w.enqueued_by)
            RETURNING w.deduplication_id, w.workflow_id, w.status
        )

        SELECT
            v_done || coalesce(jsonb_object_agg(e.deduplication_id, e.workflow_id), '{}'),
            v_is_claimable OR coalesce(bool_or(e.status = 'ENQUEUED'), false)
        INTO v_done, v_is_claimable
        FROM enqueued AS e;

        v_open := ARRAY(
            SELECT n.deduplication_id
            FROM unnest(p_deduplication_ids) AS n (deduplication_id)
            WHERE NOT v_done ? n.deduplication_id
        );
        EXIT WHEN v_open = '{}';

        SELECT w.workflow_id, w.deduplication_id
        INTO r_rival
        FROM lockstep.workflow_status AS w
        WHERE w.queue_name = p_queue_name
            AND w.deduplication_id = ANY (v_open)
            AND w.completed_at IS NULL
            AND (w.workflow_name <> p_workflow_name OR NOT lockstep._may_see(w.enqueued_by))
        LIMIT 1;

        IF FOUND THEN
            PERFORM lockstep._refuse_rival(
                p_queue_name, r_rival.deduplication_id, r_rival.workflow_id,
                'Use another deduplication_id for another workflow_name.'
            );
        END IF;

        UPDATE lockstep.workflow_status AS w
        SET deduplication_id = NULL
        WHERE w.queue_name = p_queue_name
            AND w.deduplication_id = ANY (v_open)
            AND w.completed_at IS NULL;
    END LOOP;

    PERFORM lockstep._ring_doorbell(
        ARRAY[p_queue_name], CASE WHEN v_is_claimable THEN '' ELSE 'due' END
    );

    RETURN ARRAY(
        SELECT v_done ->> n.deduplication_id
        FROM unnest(p_deduplication_ids) WITH ORDINALITY AS n (deduplication_id, place)
        ORDER BY n.place
    );
END
$$;
COMMENT ON FUNCTION lockstep._debounce_workflows(
    text, text, jsonb[], text[], text[], text[], int, interval, timestamptz, int, text, jsonb, jsonb,
    interval, interval
) IS
    'Enqueues workflows that start when calls for their deduplication id have paused.';
