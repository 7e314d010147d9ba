-- The tables that follow a state machine, as their triggers say.
CREATE OR REPLACE VIEW lockstep.attached_state_machines AS
SELECT
    t.tgrelid::regclass AS table_name,
    a.machine_name,
    a.state_column,
    a.version_column,
    t.tgenabled <> 'D' AS is_enabled
FROM pg_catalog.pg_trigger AS t
CROSS JOIN LATERAL lockstep._state_machine_of(t.tgfoid, t.tgargs) AS a
WHERE t.tgname = 'lockstep_state_machine'
    AND t.tgparentid = 0
    AND a.machine_name IS NOT NULL;
COMMENT ON VIEW lockstep.attached_state_machines IS
    'The tables that follow a state machine, as their triggers say.';
COMMENT ON COLUMN lockstep.attached_state_machines.table_name IS 'Table whose rows follow it.';
COMMENT ON COLUMN lockstep.attached_state_machines.machine_name IS 'State machine that they follow.';
COMMENT ON COLUMN lockstep.attached_state_machines.state_column IS 'Column that holds the state.';
COMMENT ON COLUMN lockstep.attached_state_machines.version_column IS
    'Column that holds the version that a row follows; without one it is the newest.';
COMMENT ON COLUMN lockstep.attached_state_machines.is_enabled IS
    'Whether the trigger is enabled; a disabled one checks and records nothing.';
