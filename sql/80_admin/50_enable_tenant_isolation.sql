-- Shows each client the workflows that it enqueued, and no others.
--
-- A tenant is a role. It sees a workflow if the role that enqueued it is its own, or one whose
-- rights it has, and with the workflow its children, forks, messages, events and streams.
-- Any other workflow does not exist for it: functions that a client may call answer for
-- both alike (_may_see()). An id or deduplication id of another's is refused as taken. Workers,
-- viewers and admins see everything, as before.
--
-- Row-level security is turned on for who was granted SELECT on tables by hand. Functions go
-- by the row of tenant_isolation, which a dump brings back; it does not bring back whether
-- row-level security of an extension's table is on: register_executor() turns it on again.
--
-- Locks as _switch_row_security().
CREATE OR REPLACE FUNCTION lockstep.enable_tenant_isolation()
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO lockstep.tenant_isolation (enabled_by)
    VALUES (lockstep._caller())
    ON CONFLICT DO NOTHING;

    PERFORM lockstep._switch_row_security(true);
END
$$;
COMMENT ON FUNCTION lockstep.enable_tenant_isolation() IS
    'Shows each client the workflows that it enqueued, and no others.';
