-- Sends many messages with one INSERT; returns their ids in order.
--
-- destination_ids and messages have one element per message, idempotency_keys as many or
-- is NULL; topic is that of all. Each message is treated as send_message() treats it; one
-- that it refuses refuses them all. Those for one workflow are received in the order
-- of the arrays.
--
-- Lock order: the workflow rows by id (FOR KEY SHARE), then notifications by destination
-- and key, then the rows of those that wait, by id: two calls for the same workflows do
-- not deadlock. Who holds a row FOR UPDATE, such as a restart, is waited for, and so is
-- another sender of the same key.
CREATE OR REPLACE FUNCTION lockstep.send_messages(
    destination_ids text[],
    messages jsonb[],
    topic text DEFAULT NULL,
    idempotency_keys text[] DEFAULT NULL
)
RETURNS SETOF text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    v_now constant timestamptz := clock_timestamp();
    v_topic constant text := coalesce(send_messages.topic, '');
    v_counts constant int[] := ARRAY[
        cardinality(send_messages.messages), cardinality(send_messages.idempotency_keys)
    ];
    v_problem text[];
    v_known text[];
    v_waiting text[];
    v_unknown text;
    v_ids text[];
    v_reached text[];
BEGIN
    IF send_messages.destination_ids IS NULL OR send_messages.messages IS NULL
        OR cardinality(send_messages.destination_ids) <> ANY (v_counts)
    THEN
        v_problem := ARRAY[
            'destination_ids and messages must have one element per message, and idempotency_keys if it is given',
            format(
                'destination_ids has %s, messages and idempotency_keys have %s.',
                coalesce(cardinality(send_messages.destination_ids)::text, 'none'),
                array_to_string(v_counts, ', ', 'none')
            ),
            'Repeat the id of a workflow that several messages are for.'
        ];
    ELSE
        SELECT lockstep._send_problem(n.destination_id, n.message, send_messages.topic, n.idempotency_key)
        INTO v_problem
        FROM unnest(send_messages.destination_ids, send_messages.messages, send_messages.idempotency_keys)
            WITH ORDINALITY AS n (destination_id, message, idempotency_key, place)
        WHERE n.destination_id IS NULL OR btrim(n.destination_id) = '' OR length(n.destination_id) > 512
            OR btrim(send_messages.topic) = '' OR length(send_messages.topic) > 512
            OR btrim(n.idempotency_key) = '' OR length(n.idempotency_key) > 512
            OR n.message IS NULL OR lockstep._is_too_large(n.message)
        ORDER BY n.place
        LIMIT 1;
    END IF;
    IF v_problem IS NOT NULL THEN
        RAISE EXCEPTION '%', v_problem[1]
            USING ERRCODE = 'invalid_parameter_value', DETAIL = v_problem[2], HINT = v_problem[3];
    END IF;

    WITH held AS (
        SELECT w.workflow_id, w.waiting_for
        FROM lockstep.workflow_status AS w
        WHERE w.workflow_id = ANY (send_messages.destination_ids)
            AND lockstep._may_see(w.enqueued_by)
        ORDER BY w.workflow_id
        FOR KEY SHARE
    )

    SELECT
        array_agg(h.workflow_id),
        array_agg(h.workflow_id) FILTER (WHERE 'message:' || v_topic = ANY (h.waiting_for))
    INTO v_known, v_waiting
    FROM held AS h;

    SELECT n.destination_id
    INTO v_unknown
    FROM unnest(send_messages.destination_ids) WITH ORDINALITY AS n (destination_id, place)
    WHERE n.destination_id NOT IN (SELECT unnest(v_known))
    ORDER BY n.place
    LIMIT 1;

    IF FOUND THEN
        PERFORM lockstep._refuse_unknown_workflow(v_unknown);
    END IF;

    -- created_at is the same for all: they are received in the order of their ids
    v_ids := ARRAY(
        SELECT lockstep._generate_id(v_now + n.place * interval '1 us')
        FROM unnest(send_messages.destination_ids) WITH ORDINALITY AS n (destination_id, place)
        ORDER BY n.place
    );

    WITH inserted AS (
        INSERT INTO lockstep.notifications AS m (
            message_id, destination_id, topic, message, idempotency_key, created_at
        )
        SELECT
            n.message_id, n.destination_id, v_topic, n.message, n.idempotency_key, v_now
        FROM unnest(v_ids, send_messages.destination_ids, send_messages.messages, send_messages.idempotency_keys)
            WITH ORDINALITY AS n (message_id, destination_id, message, idempotency_key, place)
        ORDER BY n.destination_id COLLATE "C", n.idempotency_key COLLATE "C", n.place
        ON CONFLICT (destination_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
        RETURNING m.destination_id
    )

    SELECT array_agg(i.destination_id)
    INTO v_reached
    FROM inserted AS i;

    IF v_waiting IS NOT NULL THEN
        PERFORM lockstep._wake_workflows(ARRAY(
            SELECT r.workflow_id FROM unnest(v_reached) AS r (workflow_id)
            INTERSECT
            SELECT w.workflow_id FROM unnest(v_waiting) AS w (workflow_id)
        ));
    END IF;

    IF cardinality(v_reached) IS DISTINCT FROM cardinality(v_ids) THEN
        RETURN QUERY
        SELECT coalesce(m.message_id, n.message_id)
        FROM unnest(v_ids, send_messages.destination_ids, send_messages.idempotency_keys)
            WITH ORDINALITY AS n (message_id, destination_id, idempotency_key, place)
        LEFT JOIN lockstep.notifications AS m
            ON m.destination_id = n.destination_id
            AND m.idempotency_key = n.idempotency_key
        ORDER BY n.place;
    ELSE
        RETURN QUERY
        SELECT n.message_id
        FROM unnest(v_ids) AS n (message_id);
    END IF;
END
$$;
COMMENT ON FUNCTION lockstep.send_messages(text[], jsonb[], text, text[]) IS
    'Sends many messages at once; returns their ids in order.';
