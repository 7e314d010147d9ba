-- Closes every update.

-- Nothing is PUBLIC's. Only what is new is touched: in an extension a REVOKE makes all
-- grants of the object part of the extension, and pg_dump would leave them out.
DO $$
DECLARE
    v_before constant jsonb := current_setting('lockstep.before_update');
    v_object text;
BEGIN
    FOR v_object IN
        SELECT format('FUNCTION %s', p.oid::regprocedure)
        FROM pg_catalog.pg_proc AS p
        WHERE p.pronamespace = 'lockstep'::regnamespace
            AND NOT v_before ? p.oid::text
        UNION ALL
        SELECT format('TABLE %s', c.oid::regclass)
        FROM pg_catalog.pg_class AS c
        WHERE c.relnamespace = 'lockstep'::regnamespace
            AND c.relkind IN ('r', 'v')
            AND NOT v_before ? c.oid::text
    LOOP
        EXECUTE format('REVOKE ALL ON %s FROM public', v_object);
    END LOOP;
END
$$;
