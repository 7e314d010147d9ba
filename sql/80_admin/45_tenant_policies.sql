-- Which rows a role may read that has SELECT on tables, but is no viewer, where tenants are
-- isolated: its own workflows, and those of roles whose rights it has.
--
-- grant_usage() grants SELECT to viewers and admins, on all tables, and they read all rows. The
-- owner of Lockstep, as whom functions run, is not subject to policies.
--
-- The policies are in the install script, because pg_dump does not save those of an extension's
-- tables; enable_tenant_isolation() turns them on.
CREATE POLICY workflow_status_tenant_policy ON lockstep.workflow_status FOR SELECT USING (
    (SELECT has_table_privilege('lockstep.executor', 'SELECT'))
    OR enqueued_by = current_user
    OR pg_has_role(to_regrole(quote_ident(enqueued_by)), 'USAGE')
);

-- who was granted INSERT enqueues by hand, in its own name
CREATE POLICY workflow_status_tenant_insert_policy ON lockstep.workflow_status FOR INSERT WITH CHECK (
    enqueued_by = current_user
    OR pg_has_role(to_regrole(quote_ident(enqueued_by)), 'USAGE')
);

-- of the workflows that the first policy lets one see; a viewer, who sees all, is spared the look
CREATE POLICY operation_outputs_tenant_policy ON lockstep.operation_outputs FOR SELECT USING (
    (SELECT has_table_privilege('lockstep.executor', 'SELECT'))
    OR EXISTS (SELECT FROM lockstep.workflow_status AS w WHERE w.workflow_id = operation_outputs.workflow_id)
);

CREATE POLICY notifications_tenant_policy ON lockstep.notifications FOR SELECT USING (
    (SELECT has_table_privilege('lockstep.executor', 'SELECT'))
    OR EXISTS (SELECT FROM lockstep.workflow_status AS w WHERE w.workflow_id = notifications.destination_id)
);

CREATE POLICY workflow_events_tenant_policy ON lockstep.workflow_events FOR SELECT USING (
    (SELECT has_table_privilege('lockstep.executor', 'SELECT'))
    OR EXISTS (SELECT FROM lockstep.workflow_status AS w WHERE w.workflow_id = workflow_events.workflow_id)
);

CREATE POLICY workflow_streams_tenant_policy ON lockstep.workflow_streams FOR SELECT USING (
    (SELECT has_table_privilege('lockstep.executor', 'SELECT'))
    OR EXISTS (SELECT FROM lockstep.workflow_status AS w WHERE w.workflow_id = workflow_streams.workflow_id)
);
