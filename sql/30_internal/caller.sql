-- Names the role that called a SECURITY DEFINER function.
--
-- current_user is the owner in there. SET ROLE shows in the setting, a plain
-- login or SET SESSION AUTHORIZATION in session_user. The planner inlines it.
CREATE OR REPLACE FUNCTION lockstep._caller()
RETURNS text
LANGUAGE sql
STABLE
BEGIN ATOMIC
    SELECT coalesce(nullif(current_setting('role'), 'none'), session_user); -- noqa: LT01
END;
COMMENT ON FUNCTION lockstep._caller() IS
    'Names the role that called a SECURITY DEFINER function.';
