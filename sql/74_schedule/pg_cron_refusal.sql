-- Says why pg_cron cannot start a schedule's ticks; NULL if it can.
--
-- Called as the owner of Lockstep, whose job it would be. pg_cron is looked for anew each
-- time: it may be installed or dropped while schedules exist. It is given what its
-- parser and the library that computes the ticks read alike, and no more.
CREATE OR REPLACE FUNCTION lockstep._pg_cron_refusal(p_cron text, p_time_zone text)
RETURNS text
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_may_use constant boolean := lockstep._may_use_pg_cron();
    v_utc constant text[] := ARRAY['UTC', 'GMT', 'UCT', 'Zulu', 'Etc/UTC', 'Etc/GMT', 'Etc/UCT', 'Etc/Zulu'];
    v_its_zone constant text := coalesce(nullif(current_setting('cron.timezone', true), ''), 'GMT');
    v_term text;
BEGIN
    IF v_may_use IS NULL THEN
        RETURN 'The extension pg_cron, 1.4 or newer, is not in this database.';
    ELSIF NOT v_may_use THEN
        RETURN format('Role "%s", which owns Lockstep, may not use pg_cron.', current_user);
    ELSIF p_time_zone <> v_its_zone
        AND NOT (p_time_zone = ANY (v_utc) AND v_its_zone = ANY (v_utc))
    THEN
        RETURN format('pg_cron runs in time zone %s, the schedule in %s.', v_its_zone, p_time_zone);
    ELSIF btrim(p_cron, E' \t') LIKE '@%' THEN
        RETURN NULL;
    ELSIF EXISTS (SELECT FROM lockstep._cron_terms(p_cron) AS t WHERE t.field = 0) THEN
        RETURN 'The expression has seconds, which pg_cron does not know.';
    END IF;

    SELECT t.term
    INTO v_term
    FROM lockstep._cron_terms(p_cron) AS t
    WHERE t.term !~ '^([*](/[0-9]{1,2})?|([0-9]{1,2}|[A-Z]{3})(-([0-9]{1,2}|[A-Z]{3}))?|[0-9]{1,2}-[0-9]{1,2}/[0-9]{1,2})$'
        -- "50-50/5" is 50 for pg_cron, 50 and 55 for the library
        OR t.term ~ E'^0*([0-9]*)-0*\\1/'
    LIMIT 1;

    RETURN 'The expression has "' || v_term || '", which pg_cron does not know.';
END
$$;
COMMENT ON FUNCTION lockstep._pg_cron_refusal(text, text) IS
    'Says why pg_cron cannot start a schedule''s ticks; NULL if it can.';
