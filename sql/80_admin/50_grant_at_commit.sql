-- Executes a pending grant, when the transaction of an update commits.
--
-- A deferred trigger is what runs after the script of the extension and in its transaction.
-- It grants as the owner, whoever commits. Nobody else can write to the table, and it is
-- empty when a dump is restored.
CREATE OR REPLACE FUNCTION lockstep._grant_at_commit()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE new.grant_statement;

    DELETE FROM lockstep.pending_grant AS g
    WHERE g.grant_statement = new.grant_statement;

    RETURN NULL;
END
$$;
COMMENT ON FUNCTION lockstep._grant_at_commit() IS
    'Executes a pending grant, when the transaction of an update commits.';
