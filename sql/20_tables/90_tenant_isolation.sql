-- One row if clients are tenants that see their own workflows only; none if they see all.
CREATE TABLE lockstep.tenant_isolation (
    is_enabled boolean NOT NULL DEFAULT true,
    enabled_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    enabled_by text NOT NULL DEFAULT current_user,

    CONSTRAINT tenant_isolation_pkey PRIMARY KEY (is_enabled),

    CONSTRAINT tenant_isolation_is_there_or_not_check CHECK (is_enabled)
);

COMMENT ON TABLE lockstep.tenant_isolation IS
    'One row if clients are tenants that see their own workflows only; none if they see all.';
COMMENT ON COLUMN lockstep.tenant_isolation.is_enabled IS 'Always true.';
COMMENT ON COLUMN lockstep.tenant_isolation.enabled_at IS 'When tenants were isolated.';
COMMENT ON COLUMN lockstep.tenant_isolation.enabled_by IS 'Role that did it.';
