-- The trigger function of attach_workflow(): enqueues a workflow for each row of a statement.
--
-- The arguments of the trigger are keys and values, so that \d of the table says what
-- happens: what attach_workflow() was given, primary_key where it was given no
-- named_args, and the search_path of the expressions. Expressions see the row as new, and
-- as it was as old; a row that the event does not have is one of nulls.
--
-- SECURITY INVOKER: expressions run with the rights of who writes the rows, as triggers
-- do. Their search_path may hold a schema in which others create functions and operators
-- that fit better than those of Postgres, so what is written here names pg_catalog, and
-- columns are compared as records, by the equality of their types. No type is named: who
-- writes through a view may not know the schema of the table.
--
-- The statement that evaluates them is planned anew each time, because a plan made for few
-- rows would join the transition tables of a large UPDATE with a nested loop.
--
-- Postgres fills both transition tables of an UPDATE row by row, so the n-th old row
-- belongs to the n-th new one. Only a trigger of a partition that suppresses a row
-- which was moved there leaves an old row alone. IS TRUE keeps the planner from turning
-- a condition into a join, so that rows keep their order.
CREATE OR REPLACE FUNCTION lockstep.enqueue_rows()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_settings constant jsonb := jsonb_object(TG_ARGV);
    v_row constant text := CASE WHEN TG_OP = 'DELETE' THEN 'old' ELSE 'new' END;
    v_absent constant text := CASE WHEN TG_OP = 'DELETE' THEN 'new' ELSE 'old' END;
    v_named_args text := v_settings ->> 'named_args';
    v_workflow_id constant text := v_settings ->> 'workflow_id';
    v_deduplication_id constant text := v_settings ->> 'deduplication_id';
    v_partition_key constant text := v_settings ->> 'queue_partition_key';
    v_condition text := E'(\n' || (v_settings ->> 'condition') || E'\n)';
    v_columns constant text[] := CASE WHEN TG_OP = 'UPDATE' THEN (v_settings ->> 'columns')::text[] END;
    v_uses_absent constant boolean := v_columns IS NOT NULL OR concat_ws(
        ' ', v_named_args, v_workflow_id, v_deduplication_id, v_partition_key, v_condition
    ) ~* format(E'\\m%s\\M', v_absent);
    v_source text := format('%1$s_rows AS %1$s', v_row);
    v_statement text;
    v_new_count bigint;
    v_old_count bigint;
    v_all_named_args jsonb[];
    v_workflow_ids text[];
    v_deduplication_ids text[];
    v_partition_keys text[];
BEGIN
    IF TG_OP = 'UPDATE' AND v_uses_absent THEN
        v_new_count := (SELECT count(*) FROM new_rows);
        v_old_count := (SELECT count(*) FROM old_rows);

        IF v_old_count = 0 THEN
            RETURN NULL;
        ELSIF v_new_count <> v_old_count THEN
            RAISE EXCEPTION 'cannot tell which old row of "%" belongs to which new one', TG_TABLE_NAME
                USING ERRCODE = 'object_not_in_prerequisite_state',
                      DETAIL = format('The UPDATE has %s old rows and %s new ones.', v_old_count, v_new_count),
                      HINT = 'A trigger of a partition suppressed a row that was moved there. '
                          'Let it raise instead, or attach the workflow without columns and without old.';
        END IF;

        -- pairing by place costs 100 us of planning, which a statement of one row can do without;
        -- of a subquery a whole row has no dropped columns
        v_source := CASE WHEN v_new_count = 1 THEN 'new_rows AS new CROSS JOIN old_rows AS old' ELSE '(
                SELECT n.new_row, o.old_row
                FROM (
                    SELECT pg_catalog.row_number() OVER () AS place, r.*::record AS new_row
                    FROM (SELECT * FROM new_rows) AS r
                ) AS n
                INNER JOIN (
                    SELECT pg_catalog.row_number() OVER () AS place, r.*::record AS old_row
                    FROM (SELECT * FROM old_rows) AS r
                ) AS o ON o.place OPERATOR(pg_catalog.=) n.place
                ORDER BY n.place
            ) AS pair
            CROSS JOIN LATERAL (SELECT (pair.new_row).*) AS new
            CROSS JOIN LATERAL (SELECT (pair.old_row).*) AS old'
        END;
    ELSIF v_uses_absent THEN
        v_source := format('%1$s LEFT JOIN %2$s_rows AS %3$s ON false', v_source, v_row, v_absent);
    END IF;

    IF v_columns IS NOT NULL THEN
        SELECT concat_ws(
            ' AND ', format(
                'ROW(%s)::record OPERATOR(pg_catalog.<>) ROW(%s)::record',
                string_agg(format('new.%I', c.name), ', '), string_agg(format('old.%I', c.name), ', ')
            ),
            v_condition
        )
        INTO v_condition
        FROM unnest(v_columns) AS c (name);
    END IF;

    IF v_named_args IS NULL THEN
        SELECT format('pg_catalog.jsonb_build_object(%s)', string_agg(format('%L, %s.%I', c.name, v_row, c.name), ', '))
        INTO v_named_args
        FROM unnest((v_settings ->> 'primary_key')::text[]) AS c (name);
    END IF;

    -- an expression may end with a comment; the first line is for who reads an error;
    -- enqueue_workflows() would take a null for no arguments
    v_statement := format(
        E'-- workflow %s\nSELECT %s, %s, %s, %s\nFROM %s%s',
        v_settings -> 'workflow_name',
        E'pg_catalog.array_agg(coalesce((\n' || v_named_args || E'\n)::pg_catalog.jsonb, ''null''))',
        coalesce(E'pg_catalog.array_agg((\n' || v_workflow_id || E'\n)::pg_catalog.text)', 'NULL::text[]'),
        coalesce(E'pg_catalog.array_agg((\n' || v_deduplication_id || E'\n)::pg_catalog.text)', 'NULL::text[]'),
        coalesce(E'pg_catalog.array_agg((\n' || v_partition_key || E'\n)::pg_catalog.text)', 'NULL::text[]'),
        v_source, E'\nWHERE (' || v_condition || ') IS TRUE'
    );
    PERFORM set_config('search_path', v_settings ->> 'search_path', true);
    EXECUTE v_statement INTO v_all_named_args, v_workflow_ids, v_deduplication_ids, v_partition_keys;
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);

    IF v_all_named_args IS NOT NULL THEN
        PERFORM lockstep.enqueue_workflows(
            v_settings ->> 'workflow_name', v_settings ->> 'queue_name', v_all_named_args,
            workflow_ids => v_workflow_ids, deduplication_ids => v_deduplication_ids,
            on_duplicate => coalesce(v_settings ->> 'on_duplicate', 'return'),
            priority => coalesce((v_settings ->> 'priority')::int, 0),
            queue_partition_keys => v_partition_keys,
            debounce => (v_settings ->> 'debounce')::interval,
            debounce_max_delay => (v_settings ->> 'debounce_max_delay')::interval
        );
    END IF;

    RETURN NULL;
END
$$;
COMMENT ON FUNCTION lockstep.enqueue_rows() IS
    'The trigger function of attach_workflow(): enqueues a workflow for each row of a statement.';
