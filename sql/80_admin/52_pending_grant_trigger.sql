-- The only trigger on a table of Lockstep: the table is empty outside of updates.
CREATE CONSTRAINT TRIGGER pending_grant_at_commit
AFTER INSERT ON lockstep.pending_grant
DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW
EXECUTE FUNCTION lockstep._grant_at_commit();
COMMENT ON TRIGGER pending_grant_at_commit ON lockstep.pending_grant IS
    'Grants when the transaction of the update commits.';
