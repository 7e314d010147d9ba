-- Shows each client the workflows that it enqueued, and no others.
--
-- A tenant is a role. It sees a workflow if the role that enqueued it is its own, or one whose
-- rights it has, and with the workflow its children, forks, steps, messages, events and
-- streams. Any other workflow does not exist for it: functions that a client may call
-- answer for both alike (_may_see()). An id or deduplication id of another's is refused as
-- taken. Workers, viewers and admins see everything, as before.
--
-- Row-level security is the switch. Its policies do for who has SELECT on tables what
-- _is_open_to_caller() does in functions; the owner of Lockstep, as whom functions run,
-- is not subject to them. They are made here and not by the install script, because
-- pg_dump saves policies of an extension's tables, and a restore could not make them twice.
--
-- Locks the tables in ACCESS EXCLUSIVE, in the order of the list, for a moment.
CREATE OR REPLACE FUNCTION lockstep.enable_tenant_isolation()
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM lockstep.disable_tenant_isolation();

    ALTER TABLE lockstep.workflow_status ENABLE ROW LEVEL SECURITY;
    ALTER TABLE lockstep.operation_outputs ENABLE ROW LEVEL SECURITY;
    ALTER TABLE lockstep.notifications ENABLE ROW LEVEL SECURITY;
    ALTER TABLE lockstep.workflow_events ENABLE ROW LEVEL SECURITY;
    ALTER TABLE lockstep.workflow_streams ENABLE ROW LEVEL SECURITY;

    CREATE POLICY lockstep_tenant ON lockstep.workflow_status FOR SELECT USING (
        (SELECT has_table_privilege('lockstep.executor', 'SELECT'))
        OR enqueued_by = current_user
        OR pg_has_role(to_regrole(quote_ident(enqueued_by)), 'USAGE')
    );
    -- whose workflow one sees, the policy above says
    CREATE POLICY lockstep_tenant ON lockstep.operation_outputs FOR SELECT USING (
        EXISTS (SELECT FROM lockstep.workflow_status AS w WHERE w.workflow_id = operation_outputs.workflow_id)
    );
    CREATE POLICY lockstep_tenant ON lockstep.notifications FOR SELECT USING (
        EXISTS (SELECT FROM lockstep.workflow_status AS w WHERE w.workflow_id = destination_id)
    );
    CREATE POLICY lockstep_tenant ON lockstep.workflow_events FOR SELECT USING (
        EXISTS (SELECT FROM lockstep.workflow_status AS w WHERE w.workflow_id = workflow_events.workflow_id)
    );
    CREATE POLICY lockstep_tenant ON lockstep.workflow_streams FOR SELECT USING (
        EXISTS (SELECT FROM lockstep.workflow_status AS w WHERE w.workflow_id = workflow_streams.workflow_id)
    );
END
$$;
COMMENT ON FUNCTION lockstep.enable_tenant_isolation() IS
    'Shows each client the workflows that it enqueued, and no others.';
