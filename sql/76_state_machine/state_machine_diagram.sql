-- Draws a state machine as a Mermaid state diagram, the newest version unless one is named.
--
-- States have short names of their own, since Mermaid reserves words and quotes nothing but
-- a description. An arrow says the event, and after a slash the workflow that it starts.
CREATE OR REPLACE FUNCTION lockstep.state_machine_diagram(machine_name text, version int DEFAULT NULL)
RETURNS text
LANGUAGE plpgsql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v_version constant int := lockstep._state_machine_version(
        state_machine_diagram.machine_name, state_machine_diagram.version
    );
    v_lines text;
BEGIN
    WITH transition AS (
        SELECT t.*
        FROM lockstep.state_transition AS t
        WHERE t.machine_name = state_machine_diagram.machine_name
            AND t.version = v_version
    ),

    state AS (
        SELECT s.state, row_number() OVER (ORDER BY s.state COLLATE "C") AS number
        FROM (
            SELECT t.from_state AS state FROM transition AS t WHERE t.from_state IS NOT NULL
            UNION
            SELECT t.to_state FROM transition AS t
        ) AS s
    ),

    line AS (
        SELECT 1 AS part, s.number, '' AS label, format('state "%%s" as s%s', s.number) AS form, s.state AS text
        FROM state AS s
        UNION ALL
        SELECT
            2, coalesce(f.number, 0), t.event,
            format('%s --> s%s: %%s', coalesce('s' || f.number, '[*]'), g.number),
            concat_ws(' / ', t.event, t.workflow_name)
        FROM transition AS t
        LEFT JOIN state AS f ON f.state = t.from_state
        INNER JOIN state AS g ON g.state = t.to_state
        UNION ALL
        SELECT 3, s.number, '', format('s%s --> [*]', s.number), ''
        FROM state AS s
        WHERE NOT EXISTS (SELECT FROM transition AS t WHERE t.from_state = s.state)
    )

    SELECT string_agg('    ' || format(l.form, e.text), E'\n' ORDER BY l.part, l.number, l.label COLLATE "C", l.form)
    INTO v_lines
    FROM line AS l
    -- a semicolon would end the label, and the entities of the rest end with one
    CROSS JOIN LATERAL replace(lockstep._one_line(l.text, 512), ';', chr(1)) AS o (text)
    CROSS JOIN LATERAL replace(replace(replace(
        lockstep._mermaid_text(o.text), chr(1), '#59;'), ':', '#58;'), '%', '#37;'
    ) AS e (text);

    RETURN concat_ws(E'\n', 'stateDiagram-v2', v_lines);
END
$$;
COMMENT ON FUNCTION lockstep.state_machine_diagram(text, int) IS
    'Draws a state machine as a Mermaid state diagram.';
