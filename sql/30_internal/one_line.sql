-- Makes one line of a text of any origin, shortened to p_length characters.
--
-- Control characters and the line separators of Unicode become blanks, so that a name or a
-- message cannot look like lines of ours.
CREATE OR REPLACE FUNCTION lockstep._one_line(p_text text, p_length int DEFAULT 200)
RETURNS text
LANGUAGE sql
IMMUTABLE
BEGIN ATOMIC
    SELECT CASE
        WHEN length(t.line) > p_length THEN left(t.line, p_length - 1) || '…'
        ELSE t.line
    END
    FROM (
        SELECT regexp_replace(
            p_text, E'[\\u0001-\\u001f\\u007f-\\u009f\\u2028-\\u202e\\u2066-\\u2069]+', ' ', 'g'
        ) AS line
    ) AS t;
END;
COMMENT ON FUNCTION lockstep._one_line(text, int) IS
    'Makes one line of a text of any origin.';
