-- Says what send_message() cannot take: NULL, or message, detail and hint of the error.
CREATE OR REPLACE FUNCTION lockstep._send_problem(
    p_destination_id text,
    p_message jsonb,
    p_topic text,
    p_idempotency_key text
)
RETURNS text[]
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF p_destination_id IS NULL OR btrim(p_destination_id) = '' OR length(p_destination_id) > 512 THEN
        RETURN lockstep._name_problem('destination_id', p_destination_id);
    ELSIF btrim(p_topic) = '' OR length(p_topic) > 512 THEN
        RETURN lockstep._name_problem('topic', p_topic);
    ELSIF btrim(p_idempotency_key) = '' OR length(p_idempotency_key) > 512 THEN
        RETURN lockstep._name_problem('idempotency_key', p_idempotency_key);
    ELSIF p_message IS NULL THEN
        RETURN ARRAY[
            'message must not be null', 'It is null.', 'Pass ''null''::jsonb to send a JSON null.'
        ];
    ELSIF lockstep._is_too_large(p_message) THEN
        RETURN lockstep._size_problem('message', p_message);
    END IF;

    RETURN NULL;
END
$$;
COMMENT ON FUNCTION lockstep._send_problem(text, jsonb, text, text) IS
    'Says what send_message() cannot take: NULL, or message, detail and hint of the error.';
