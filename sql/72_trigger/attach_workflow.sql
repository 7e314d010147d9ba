-- Attaches a workflow to a table: each row of a statement enqueues one.
--
-- condition, named_args, workflow_id, deduplication_id and queue_partition_key are SQL
-- expressions over the row as new and, as it was, old; with columns, an UPDATE counts that
-- changes one of them. Without named_args the arguments are the columns of the primary key.
--
-- Creates one AFTER … FOR EACH STATEMENT trigger per event, with transition tables, that
-- calls enqueue_rows(), and returns their names. Attached again with the same settings it
-- adds only what is missing, for partitions that came later; with other settings it
-- replaces them, and says so.
--
-- SECURITY INVOKER, like what it calls: it takes the right to create triggers on the
-- table, and parses expressions with no more rights than the caller has. The default of
-- search_path is evaluated by the caller: it is the one in which they were written.
--
-- Locks: those of _place_triggers().
CREATE OR REPLACE FUNCTION lockstep.attach_workflow(
    table_name regclass,
    workflow_name text,
    queue_name text,
    events text[] DEFAULT '{INSERT}',
    columns text[] DEFAULT NULL,
    condition text DEFAULT NULL,
    named_args text DEFAULT NULL,
    workflow_id text DEFAULT NULL,
    deduplication_id text DEFAULT NULL,
    on_duplicate text DEFAULT 'return',
    priority int DEFAULT 0,
    queue_partition_key text DEFAULT NULL,
    debounce interval DEFAULT NULL,
    debounce_max_delay interval DEFAULT NULL,
    search_path name[] DEFAULT pg_catalog.current_schemas(false)
)
RETURNS text[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_events constant text[] := upper(attach_workflow.events::text)::text[];
    v_search_path constant text := concat_ws(', ', (
        SELECT string_agg(quote_ident(s.name), ', ' ORDER BY s.place)
        FROM unnest(attach_workflow.search_path) WITH ORDINALITY AS s (name, place)
        WHERE s.name NOT LIKE 'pg\_temp%'
    ), 'pg_temp');
    v_primary_key text[];
    v_problem text[];
    v_arguments text[];
    r_triggers record;
BEGIN
    -- enqueues nothing, and refuses what it would refuse later
    PERFORM lockstep.enqueue_workflows(
        attach_workflow.workflow_name, attach_workflow.queue_name, '{}',
        on_duplicate => attach_workflow.on_duplicate, priority => attach_workflow.priority,
        debounce => attach_workflow.debounce, debounce_max_delay => attach_workflow.debounce_max_delay
    );
    IF attach_workflow.debounce IS NOT NULL AND attach_workflow.deduplication_id IS NULL THEN
        RAISE EXCEPTION 'debounce needs a deduplication_id'
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = format('debounce is %s, deduplication_id is null.', attach_workflow.debounce),
                  HINT = 'Rows with the same queue and deduplication_id become one workflow.';
    END IF;

    v_problem := lockstep._attachment_problem(
        attach_workflow.table_name, v_events, attach_workflow.columns, attach_workflow.condition,
        attach_workflow.named_args, attach_workflow.workflow_id, attach_workflow.deduplication_id,
        attach_workflow.queue_partition_key, v_search_path
    );
    IF v_problem IS NOT NULL THEN
        RAISE EXCEPTION '%', v_problem[1]
            USING ERRCODE = 'invalid_parameter_value', DETAIL = v_problem[2], HINT = v_problem[3];
    END IF;

    IF attach_workflow.named_args IS NULL THEN
        v_primary_key := (
            SELECT array_agg(a.attname::text ORDER BY array_position(x.indkey::int2[], a.attnum))
            FROM pg_index AS x
            INNER JOIN pg_attribute AS a ON a.attrelid = x.indrelid AND a.attnum = ANY ((x.indkey::int2[])[0:x.indnkeyatts - 1])
            WHERE x.indrelid = attach_workflow.table_name
                AND x.indisprimary
        );
    END IF;

    -- what has its default is left out, for the sake of who reads \d
    SELECT array_agg(p.text ORDER BY a.place, p.place)
    INTO v_arguments
    FROM (
        VALUES
            (1, 'workflow_name', attach_workflow.workflow_name),
            (2, 'queue_name', attach_workflow.queue_name),
            (3, 'columns', attach_workflow.columns::text),
            (4, 'condition', attach_workflow.condition),
            (5, 'primary_key', v_primary_key::text),
            (6, 'named_args', attach_workflow.named_args),
            (7, 'workflow_id', attach_workflow.workflow_id),
            (8, 'deduplication_id', attach_workflow.deduplication_id),
            (9, 'on_duplicate', nullif(attach_workflow.on_duplicate, 'return')),
            (10, 'priority', nullif(attach_workflow.priority, 0)::text),
            (11, 'queue_partition_key', attach_workflow.queue_partition_key),
            (12, 'debounce', attach_workflow.debounce::text),
            (13, 'debounce_max_delay', attach_workflow.debounce_max_delay::text),
            (14, 'search_path', v_search_path)
    ) AS a (place, key, value)
    CROSS JOIN LATERAL (VALUES (1, a.key), (2, a.value)) AS p (place, text)
    WHERE a.value IS NOT NULL;

    SELECT t.*
    INTO r_triggers
    FROM lockstep._place_triggers(attach_workflow.table_name, v_events, v_arguments) AS t;

    IF r_triggers.changed_count > 0 THEN
        RAISE NOTICE 'workflow "%" was attached to % with other settings, which are replaced',
            attach_workflow.workflow_name, attach_workflow.table_name;
    END IF;

    RETURN r_triggers.trigger_names;
END
$$;
COMMENT ON FUNCTION lockstep.attach_workflow(
    regclass, text, text, text[], text[], text, text, text, text, text, int, text, interval, interval, name[]
) IS
    'Attaches a workflow to a table: each row of a statement enqueues one; returns the triggers.';
