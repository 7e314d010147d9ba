-- What the server checks for an extension: the version that is there, and that no other
-- update runs. One that waited for the lock finds the new version, and stops.
SET LOCAL search_path TO pg_catalog, pg_temp;

DO $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('update of lockstep', 0));

    IF EXISTS (SELECT FROM pg_catalog.pg_extension AS e WHERE e.extname = 'lockstep') THEN
        RAISE EXCEPTION 'lockstep is an extension in this database'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Update it with ALTER EXTENSION lockstep UPDATE.';
    ELSIF lockstep.version() <> '@PREVIOUS@' THEN
        RAISE EXCEPTION 'this script updates lockstep @PREVIOUS@ to @VERSION@'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = format('The database has lockstep %s.', lockstep.version());
    END IF;
END
$$;
