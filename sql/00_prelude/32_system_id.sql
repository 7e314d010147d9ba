-- Returns the number that initdb drew for this server and its copies.
--
-- Reads a file: 20 us.
CREATE OR REPLACE FUNCTION lockstep._system_id()
RETURNS bigint
LANGUAGE sql
VOLATILE
BEGIN ATOMIC
    SELECT c.system_identifier
    FROM pg_control_system() AS c;
END;
COMMENT ON FUNCTION lockstep._system_id() IS
    'Returns the number that initdb drew for this server and its copies.';
