-- GRANTs that an update leaves for the end of its transaction; empty at all other times.
-- What the script of an extension grants itself belongs to the extension: pg_dump leaves it
-- out, and before Postgres 17 a role that is dropped leaves a trace in pg_init_privs.
CREATE TABLE lockstep.pending_grant (
    grant_statement text NOT NULL,

    CONSTRAINT pending_grant_pkey PRIMARY KEY (grant_statement),

    CONSTRAINT pending_grant_is_a_grant_check CHECK (grant_statement LIKE 'GRANT %')
);

COMMENT ON TABLE lockstep.pending_grant IS
    'Grants that an update has left for the end of its transaction.';
COMMENT ON COLUMN lockstep.pending_grant.grant_statement IS
    'The GRANT, whole.';
