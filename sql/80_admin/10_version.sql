-- Tells the version of Lockstep in this database, also without the extension.
CREATE OR REPLACE FUNCTION lockstep.version()
RETURNS text
LANGUAGE sql
IMMUTABLE
PARALLEL SAFE
BEGIN ATOMIC
    SELECT '@VERSION@';
END;
COMMENT ON FUNCTION lockstep.version() IS
    'Tells the version of Lockstep in this database.';
