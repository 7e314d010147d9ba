-- Tells whether the caller may see a workflow that this role enqueued.
--
-- What one enqueued oneself is seen at once: the planner inlines this, and who asks for its
-- own workflows, as nearly everybody does, pays for a comparison.
CREATE OR REPLACE FUNCTION lockstep._may_see(p_enqueued_by text)
RETURNS boolean
LANGUAGE sql
STABLE
BEGIN ATOMIC
    SELECT p_enqueued_by = lockstep._caller() OR lockstep._is_open_to_caller(p_enqueued_by);
END;
COMMENT ON FUNCTION lockstep._may_see(text) IS
    'Tells whether the caller may see a workflow that this role enqueued.';
