-- Finds what attach_workflow() cannot take: NULL, or message, detail and hint.
--
-- Expressions are parsed, and LIMIT 0 evaluates none of them, with the caller's rights
-- and the search_path that they will have. The cursor of the loop takes no second
-- statement, WHERE neither aggregates nor sets, and what fits between parentheses and
-- between THEN and END is one expression and no more. The exception block is for their
-- errors. INTERSECT refuses the types that enqueue_rows() cannot compare.
CREATE OR REPLACE FUNCTION lockstep._attachment_problem(
    p_table regclass,
    p_events text[],
    p_columns text[],
    p_condition text,
    p_named_args text,
    p_workflow_id text,
    p_deduplication_id text,
    p_queue_partition_key text,
    p_search_path text
)
RETURNS text[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_table text;
    v_kind "char";
    v_source text;
    v_statement text;
    v_hint text;
    r_expression record;
    r_nothing record;
BEGIN
    SELECT format('%I.%I', n.nspname, c.relname), c.relkind
    INTO v_table, v_kind
    FROM pg_class AS c
    INNER JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.oid = p_table;

    IF v_kind IS NULL OR v_kind NOT IN ('r', 'p') THEN
        RETURN ARRAY[
            'table_name must be a table', coalesce(v_table || ' is none.', 'It is null.'),
            'Postgres collects the rows of a statement for tables and partitioned tables only.'
        ];
    ELSIF (p_events <> '{}' AND p_events <@ ARRAY['INSERT', 'UPDATE', 'DELETE']) IS NOT TRUE THEN
        RETURN ARRAY[
            'events must be some of INSERT, UPDATE and DELETE',
            format('They are %s.', coalesce(p_events::text, 'null')),
            'Pass for example ''{INSERT,UPDATE}''. Postgres collects no rows for TRUNCATE.'
        ];
    ELSIF p_columns = '{}' OR array_position(p_columns, NULL) IS NOT NULL
        OR (p_columns IS NOT NULL AND NOT 'UPDATE' = ANY (p_events))
    THEN
        RETURN ARRAY[
            'columns must name columns, and UPDATE must be an event',
            format('They are %s, and the events %s.', p_columns, p_events),
            'Leave columns out, or pass events => ''{UPDATE}''.'
        ];
    ELSIF p_named_args IS NULL
        AND NOT EXISTS (SELECT FROM pg_index AS x WHERE x.indrelid = p_table AND x.indisprimary)
    THEN
        RETURN ARRAY[
            format('%s has no primary key, so named_args is needed', v_table),
            'Without named_args a workflow gets the columns of the primary key.',
            'Pass an expression, for example named_args => ''to_jsonb(new)''.'
        ];
    END IF;

    v_source := format(concat_ws(
        ' CROSS JOIN ',
        CASE WHEN p_events && ARRAY['INSERT', 'UPDATE'] THEN '(SELECT * FROM pg_catalog.unnest(NULL::%1$s[])) AS new' END,
        CASE WHEN p_events && ARRAY['UPDATE', 'DELETE'] THEN '(SELECT * FROM pg_catalog.unnest(NULL::%1$s[])) AS old' END
    ), v_table);

    FOR r_expression IN
        SELECT e.argument, e.text, e.suffix
        FROM (
            VALUES
                ('columns', (
                    SELECT string_agg(format('EXISTS (SELECT new.%1$I INTERSECT SELECT old.%1$I)', c.name), ' OR ')
                    FROM unnest(p_columns) AS c (name)
                ), ''),
                ('condition', p_condition, ''),
                ('named_args', p_named_args, '::jsonb IS NULL'),
                ('workflow_id', p_workflow_id, '::text IS NULL'),
                ('deduplication_id', p_deduplication_id, '::text IS NULL'),
                ('queue_partition_key', p_queue_partition_key, '::text IS NULL')
        ) AS e (argument, text, suffix)
        WHERE e.text IS NOT NULL
    LOOP
        BEGIN
            v_statement := format(
                E'SELECT FROM %1$s WHERE (\n%2$s\n)%3$s AND CASE WHEN true THEN\n%2$s\nEND%3$s LIMIT 0',
                v_source, r_expression.text, r_expression.suffix
            );
            PERFORM set_config('search_path', p_search_path, true);
            FOR r_nothing IN EXECUTE v_statement LOOP
                NULL;
            END LOOP;
            PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
        EXCEPTION
            WHEN syntax_error_or_access_rule_violation OR data_exception OR feature_not_supported THEN
                GET STACKED DIAGNOSTICS v_hint = PG_EXCEPTION_HINT;

                RETURN ARRAY[
                    format('%s cannot be evaluated', r_expression.argument), SQLERRM,
                    CASE
                        WHEN r_expression.argument = 'columns'
                            THEN 'Name columns of types that have an equality operator; compare others in condition.'
                        WHEN v_hint <> '' THEN v_hint
                        ELSE 'Pass one SQL expression over new (of INSERT, UPDATE) and old (of UPDATE, DELETE).'
                    END
                ];
        END;
    END LOOP;

    RETURN NULL;
END
$$;
COMMENT ON FUNCTION lockstep._attachment_problem(
    regclass, text[], text[], text, text, text, text, text, text
) IS
    'Finds what attach_workflow() cannot take: NULL, or message, detail and hint.';
