-- Tells whether a workflow that waits is suspected of killing its workers.
--
-- While it waits, attempts counts the workers that died under it, and perhaps under many
-- others at the same time. One is suspected from the third death on, and before its last
-- attempt in any case.
CREATE OR REPLACE FUNCTION lockstep._is_suspect(p_attempts int, p_max_attempts int)
RETURNS boolean
LANGUAGE sql
IMMUTABLE
BEGIN ATOMIC
    SELECT p_attempts > 0 AND p_attempts >= least(3, p_max_attempts - 1);
END;
COMMENT ON FUNCTION lockstep._is_suspect(int, int) IS
    'Tells whether a workflow that waits is suspected of killing its workers.';
