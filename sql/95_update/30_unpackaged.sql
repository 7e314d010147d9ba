-- CREATE EXTENSION lockstep VERSION 'unpackaged': an extension that is empty yet, where
-- plain SQL put Lockstep. ALTER EXTENSION lockstep UPDATE takes in what is there.

SET LOCAL search_path TO pg_catalog, pg_temp;

DO $$
BEGIN
    IF to_regprocedure('lockstep.version()') IS NULL THEN
        RAISE EXCEPTION 'lockstep is not in this database'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Install it with CREATE EXTENSION lockstep.';
    ELSIF lockstep.version() <> '@VERSION@' THEN
        RAISE EXCEPTION 'the extension takes over lockstep @VERSION@'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = format('The database has lockstep %s.', lockstep.version()),
                  HINT = 'Update it first, as plain SQL.';
    END IF;
END
$$;
