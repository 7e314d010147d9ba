-- What the soak adds to the bank: what was purged, so that the oracle can judge it at the end.
CREATE EXTENSION pgstattuple;

CREATE FUNCTION bank.keep_purged()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
AS $$
BEGIN
    EXECUTE format('INSERT INTO bank.%I SELECT * FROM gone', 'purged_' || tg_table_name);
    RETURN NULL;
END
$$;

DO $$
DECLARE
    v_table text;
BEGIN
    FOREACH v_table IN ARRAY ARRAY[
        'workflow_status', 'operation_outputs', 'notifications', 'workflow_events'
    ] LOOP
        EXECUTE format('CREATE TABLE bank.%I (LIKE lockstep.%I)', 'purged_' || v_table, v_table);
        EXECUTE format(
            'CREATE TRIGGER keep_purged AFTER DELETE ON lockstep.%I REFERENCING OLD TABLE AS gone'
            ' FOR EACH STATEMENT WHEN (current_setting(''bank.is_purging'', true) = ''on'')'
            ' EXECUTE FUNCTION bank.keep_purged()',
            v_table
        );
    END LOOP;
END
$$;
