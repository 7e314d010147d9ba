-- Tells the version of Lockstep in this database, also without the extension.
-- The column has a name, so that a restored function reads as the dumped one.
CREATE OR REPLACE FUNCTION lockstep.version()
RETURNS text
LANGUAGE sql
IMMUTABLE
PARALLEL SAFE
BEGIN ATOMIC
    SELECT '@VERSION@' AS version;
END;
COMMENT ON FUNCTION lockstep.version() IS
    'Tells the version of Lockstep in this database.';
