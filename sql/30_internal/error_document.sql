-- Builds the error of a workflow that no user code raised.
CREATE OR REPLACE FUNCTION lockstep._error_document(p_type text, p_message text)
RETURNS jsonb
LANGUAGE sql
IMMUTABLE
PARALLEL SAFE
BEGIN ATOMIC
    SELECT jsonb_build_object('type', p_type, 'message', p_message);
END;
COMMENT ON FUNCTION lockstep._error_document(text, text) IS
    'Builds the error of a workflow that no user code raised.';
